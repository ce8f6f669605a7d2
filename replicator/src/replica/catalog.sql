-- The tables of a replica, a row per column. Domains are followed to what they are made of.
WITH RECURSIVE base (oid, base) AS (
    SELECT oid, oid FROM pg_type WHERE typtype <> 'd'
    UNION ALL
    SELECT d.oid, base.base FROM pg_type d JOIN base ON d.typbasetype = base.oid WHERE d.typtype = 'd'
)
SELECT n.nspname::text AS table_schema,
       c.relname::text AS table_name,
       a.attname::text AS column_name,
       format_type(a.atttypid, a.atttypmod) AS type_name,
       format_type(a.atttypid, -1) AS cast_name,
       a.atttypmod AS type_modifier,
       a.attndims::int AS dimensions,
       bt.typname::text AS base_name,
       bt.typtype::text AS base_type,
       et.typname::text AS element_name,
       et.typtype::text AS element_type,
       a.attgenerated <> '' AS generated,
       a.attidentity = 'a' AS identity_always,
       -- The position of the column in the primary key, else in the replica identity's index.
       -- Behind its key columns an index lists those that it only includes.
       (SELECT array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], a.attnum)
          FROM pg_index i
         WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)
         ORDER BY i.indisprimary DESC
         LIMIT 1) AS key_position
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN base b ON b.oid = a.atttypid
JOIN pg_type bt ON bt.oid = b.base
LEFT JOIN base eb ON eb.oid = bt.typelem AND bt.typcategory = 'A'
LEFT JOIN pg_type et ON et.oid = eb.base
WHERE c.relkind IN ('r', 'p')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'replicator')
  AND n.nspname NOT LIKE 'pg\_toast%' AND n.nspname NOT LIKE 'pg\_temp%'
ORDER BY 1, 2, a.attnum
