-- Bytes that the measured tables take, their TOAST included and their indexes not.
SELECT sum(pg_table_size(oid))::bigint FROM pg_class WHERE relnamespace = 'bench'::regnamespace AND relkind = 'r'
