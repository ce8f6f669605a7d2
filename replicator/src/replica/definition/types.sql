-- The types of one table's ($1, $2) columns that users have made, and those that these are made of; those first that
-- others need.
WITH RECURSIVE used (oid, depth) AS (
    SELECT a.atttypid, 0
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped
  UNION
    SELECT part.oid, used.depth + 1
    FROM used JOIN pg_type t ON t.oid = used.oid
    CROSS JOIN LATERAL (
        SELECT t.typelem WHERE t.typcategory = 'A' AND t.typelem <> 0
        UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL SELECT a.atttypid FROM pg_attribute a
                   WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) part (oid)
)
SELECT n.nspname::text AS type_schema,
       t.typname::text AS type_name,
       t.typtype::text AS sort,
       (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid) AS labels,
       CASE t.typtype WHEN 'd' THEN concat_ws(' ',
           format_type(t.typbasetype, t.typtypmod),
           'DEFAULT ' || t.typdefault,
           CASE WHEN t.typnotnull THEN 'NOT NULL' END,
           (SELECT string_agg(format('CONSTRAINT %I %s', k.conname, pg_get_constraintdef(k.oid)), ' ' ORDER BY k.conname)
              FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c')) END AS domain_of,
       (SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
          FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
       ) AS attributes,
       (SELECT x.extname::text FROM pg_depend p JOIN pg_extension x ON x.oid = p.refobjid
         WHERE p.classid = 'pg_type'::regclass AND p.objid = t.oid AND p.deptype = 'e') AS extension
FROM (SELECT oid, max(depth) AS depth FROM used GROUP BY oid) u
JOIN pg_type t ON t.oid = u.oid
JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname <> 'pg_catalog' AND t.typcategory <> 'A'
ORDER BY u.depth DESC, 1, 2
