-- Do the measured tables take more than $1 bytes, as in size.sql? Or is the row with the key $2 there?
SELECT sum(pg_table_size(oid)) > $1::bigint OR EXISTS (SELECT FROM bench.accounts WHERE id = $2::bigint)
FROM pg_class WHERE relnamespace = 'bench'::regnamespace AND relkind = 'r'
