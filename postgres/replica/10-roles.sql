-- Login roles of a replica. psql variables: replicator_password, app_reader_password.
SELECT format('CREATE ROLE %I LOGIN', r)
FROM unnest(ARRAY['replicator', 'app_reader']) AS r
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r)
\gexec
ALTER ROLE replicator PASSWORD :'replicator_password';
ALTER ROLE app_reader PASSWORD :'app_reader_password';

-- Applying with session_replication_role=replica keeps triggers and foreign keys silent, as PostgreSQL's own logical
-- replication does: the leader has already run them and their effects are in the stream. Since PostgreSQL 15 this can be
-- granted; on 14 the replicator's role must be a superuser.
GRANT SET ON PARAMETER session_replication_role TO replicator;
