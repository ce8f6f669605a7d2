-- Do the measured tables take more than $1 bytes? As in size.sql.
SELECT sum(pg_table_size(oid)) > $1::bigint FROM pg_class WHERE relnamespace = 'bench'::regnamespace AND relkind = 'r'
