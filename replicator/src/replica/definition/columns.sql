-- The columns of one table ($1, $2), as they have to be said in a CREATE TABLE or ADD COLUMN, and what can be known of the
-- rows that were there before a column was added.
SELECT a.attname::text AS column_name,
       format_type(a.atttypid, a.atttypmod) AS type_name,
       a.attnotnull AS not_null,
       a.attidentity <> '' AS identity,
       a.attgenerated <> '' AS generated,
       pg_get_expr(d.adbin, d.adrelid) AS expression,
       CASE WHEN a.attcollation <> t.typcollation
            THEN (SELECT format('%I.%I', n.nspname, o.collname)
                    FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace
                   WHERE o.oid = a.attcollation) END AS collation_name,
       -- A value that ADD COLUMN gave to the rows of then. Text, as the type prints it; an array has this one element.
       old.value AS old_value,
       -- Each row may have got a value of its own, or the one value was forgotten when the table was written anew.
       coalesce(old.unknown, false) AS old_value_unknown,
       -- The catalog's row for a column that was there from the beginning is as old as that of the table's system columns.
       a.xmin <> (SELECT s.xmin FROM pg_attribute s WHERE s.attrelid = c.oid AND s.attname = 'ctid') AS altered
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
-- A partitioned table stores nothing itself: its partitions do.
LEFT JOIN LATERAL (
    SELECT min(array_to_string(m.attmissingval, '')) AS value,
           bool_or(NOT m.atthasmissing AND pg_relation_filenode(m.attrelid) <> m.attrelid)
               OR count(DISTINCT array_to_string(m.attmissingval, '')) > 1 AS unknown
    FROM pg_attribute m
    WHERE m.attname = a.attname AND NOT m.attisdropped
      AND m.attrelid IN (SELECT c.oid WHERE c.relkind = 'r'
                         UNION ALL SELECT p.relid FROM pg_partition_tree(c.oid) p WHERE c.relkind = 'p' AND p.isleaf)
) old ON true
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')
ORDER BY a.attnum
