-- Of these tables, those that the session's role does not own, and whether it may write them all the same.
SELECT format('%I.%I', n.nspname, c.relname), quote_ident(current_user),
       has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
       AND has_table_privilege(c.oid, 'DELETE') AND has_table_privilege(c.oid, 'TRUNCATE')
       AND has_schema_privilege(n.oid, 'USAGE')
FROM unnest($1::text[], $2::text[]) AS wanted(schema, name)
JOIN pg_namespace n ON n.nspname = wanted.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
WHERE NOT pg_has_role(c.relowner, 'USAGE')
ORDER BY 1
