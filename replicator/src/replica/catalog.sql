-- The tables of a replica, a row per column. Domains are followed to what they are made of.
WITH RECURSIVE base (oid, base, modifier) AS (
    SELECT oid, oid, -1 FROM pg_type WHERE typtype <> 'd'
    UNION ALL
    -- Of domains over domains only the innermost may have a modifier, or a later one that has the same.
    SELECT d.oid, base.base, CASE WHEN d.typtypmod <> -1 THEN d.typtypmod ELSE base.modifier END
    FROM pg_type d JOIN base ON d.typbasetype = base.oid WHERE d.typtype = 'd'
)
SELECT n.nspname::text AS table_schema,
       c.relname::text AS table_name,
       a.attname::text AS column_name,
       format_type(a.atttypid, a.atttypmod) AS type_name,
       format_type(a.atttypid, -1) AS cast_name,
       a.atttypid AS type_oid,
       CASE WHEN a.atttypmod <> -1 THEN a.atttypmod ELSE b.modifier END AS modifier,
       greatest(a.attndims, dt.typndims)::int AS dimensions,
       bt.typname::text AS base_name,
       bt.typtype::text AS base_type,
       bn.nspname::text AS base_namespace,
       et.typname::text AS element_name,
       et.typtype::text AS element_type,
       en.nspname::text AS element_namespace,
       a.attgenerated <> '' AS generated,
       a.attidentity = 'a' AS identity_always,
       c.relkind = 'r' AND EXISTS (
           SELECT FROM pg_inherits h JOIN pg_class heir ON heir.oid = h.inhrelid
            WHERE h.inhparent = c.oid
              AND NOT EXISTS (SELECT FROM pg_depend d
                               WHERE d.classid = 'pg_namespace'::regclass AND d.objid = heir.relnamespace AND d.deptype = 'e')
       ) AS inherited,
       -- The position of the column in the index that is the replica identity, else in the primary key: by the former the WAL
       -- names rows, whatever the latter.
       -- Behind its key columns an index lists those that it only includes.
       (SELECT array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], a.attnum)
          FROM pg_index i
         WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)
         ORDER BY i.indisreplident DESC
         LIMIT 1) AS key_position,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND NOT i.indisprimary)
           AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS identity_index
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN base b ON b.oid = a.atttypid
JOIN pg_type dt ON dt.oid = a.atttypid
JOIN pg_type bt ON bt.oid = b.base
JOIN pg_namespace bn ON bn.oid = bt.typnamespace
-- The element as it is declared: a domain stays one.
LEFT JOIN pg_type et ON et.oid = bt.typelem AND bt.typcategory = 'A'
LEFT JOIN pg_namespace en ON en.oid = et.typnamespace
WHERE c.relkind IN ('r', 'p')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'replicator')
  AND n.nspname NOT LIKE 'pg\_toast%' AND n.nspname NOT LIKE 'pg\_temp%'
ORDER BY 1, 2, a.attnum
