-- Least-privilege login roles of the leader. Idempotent: passwords are set anew, nothing else changes on a second run.
-- psql variables: app_writer_password, debezium_password, replicator_password.
SELECT format('CREATE ROLE %I LOGIN', r)
FROM unnest(ARRAY['app_writer', 'debezium', 'replicator']) AS r
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r)
\gexec
ALTER ROLE app_writer PASSWORD :'app_writer_password';
-- Logical decoding needs REPLICATION; nothing here needs superuser.
ALTER ROLE debezium REPLICATION PASSWORD :'debezium_password';
-- The replicator only reads the leader: catalogs for `check`, rows to fetch again or to compare; and, without a broker, the
-- stream itself.
ALTER ROLE replicator REPLICATION PASSWORD :'replicator_password';
