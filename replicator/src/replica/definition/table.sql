-- One table ($1, $2) apart from its columns.
SELECT c.relkind = 'p' AS partitioned,
       c.relreplident::text AS identity,
       (SELECT array_agg(a.attname::text ORDER BY array_position(i.indkey::int2[], a.attnum))
          FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid
               AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
         WHERE i.indrelid = c.oid AND i.indisprimary) AS primary_key,
       (SELECT pg_get_indexdef(i.indexrelid)
          FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND NOT i.indisprimary) AS identity_index,
       (SELECT x.relname::text FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
         WHERE i.indrelid = c.oid AND i.indisreplident AND NOT i.indisprimary) AS identity_index_name,
       pg_get_partkeydef(c.oid) AS partition_key,
       pg_get_expr(c.relpartbound, c.oid) AS partition_bound,
       (SELECT n2.nspname::text FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent
               JOIN pg_namespace n2 ON n2.oid = p.relnamespace WHERE h.inhrelid = c.oid AND c.relispartition) AS parent_schema,
       (SELECT p.relname::text FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent
         WHERE h.inhrelid = c.oid AND c.relispartition) AS parent_name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')
