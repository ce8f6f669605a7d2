-- The types whose binary form means the same on every server that has them, each with the type that says which form that is, and
-- whether it is an array. Both servers are asked.
--
-- Left out is what a server numbers itself (composite types, arrays of such types, what extensions bring) or what refers to another
-- row of a catalog (regclass): their binary forms carry the number. An empty int2vector or oidvector is sent as what its receive
-- function refuses (PostgreSQL 15). A domain has the form of what it is made of. An enumeration's is
-- the label, so all of them count as one type, anyenum.
WITH RECURSIVE base (oid, base) AS (
    SELECT oid, oid FROM pg_type WHERE typtype <> 'd'
    UNION ALL
    SELECT d.oid, base.base FROM pg_type d JOIN base ON d.typbasetype = base.oid WHERE d.typtype = 'd'
)
SELECT base.oid::text AS oid,
       CASE WHEN b.typtype = 'e' THEN 'anyenum'::regtype::oid ELSE b.oid END::text AS wire,
       (b.typcategory = 'A')::text AS is_array
FROM base JOIN pg_type b ON b.oid = base.base
WHERE b.typtype = 'e'
   OR b.oid < 16384 AND b.typtype IN ('b', 'r', 'm') AND b.typsend <> 0 AND b.typname !~ '^_?(reg|aclitem|int2vector|oidvector)'
