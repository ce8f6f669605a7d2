-- Tables of users that are not captured ($1) nor left out on purpose ($2): neither themselves, nor as a partition of one that is,
-- nor as the whole of such partitions.
SELECT n.nspname || '.' || c.relname AS name
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p')
  AND c.relpersistence = 'p'
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'replicator')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  AND NOT EXISTS (
      SELECT FROM (SELECT c.oid AS relid
                   UNION ALL SELECT a.relid FROM pg_partition_ancestors(c.oid) a
                   UNION ALL SELECT t.relid FROM pg_partition_tree(c.oid) t) family
      JOIN pg_class k ON k.oid = family.relid
      JOIN pg_namespace s ON s.oid = k.relnamespace
      WHERE s.nspname || '.' || k.relname = ANY ($1::text[] || $2::text[]))
ORDER BY 1
