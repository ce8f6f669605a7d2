-- Read-only for everyone but the replicator. psql variable: database.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public, cdc, replicator TO app_reader, replicator;
GRANT SELECT ON ALL TABLES IN SCHEMA public, cdc, replicator TO app_reader, replicator;

-- The replicator owns the tables it fills: it truncates them when the leader does.
SELECT format('ALTER TABLE %I.%I OWNER TO replicator', schemaname, tablename)
FROM pg_tables WHERE schemaname IN ('public', 'cdc', 'replicator')
\gexec
GRANT CREATE ON SCHEMA public, cdc TO replicator;
-- Tables that the leader gets later, and that the replicator then makes here, can be read, too.
ALTER DEFAULT PRIVILEGES FOR ROLE replicator IN SCHEMA public GRANT SELECT ON TABLES TO app_reader;

-- Every session starts read-only, the superuser's too: a write by mistake fails instead of making the replica differ.
-- To write on purpose: SET default_transaction_read_only = off;
ALTER DATABASE :"database" SET default_transaction_read_only = on;
ALTER ROLE replicator IN DATABASE :"database" SET default_transaction_read_only = off;
