-- Who may do what on the leader.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO app_writer, debezium, replicator;
GRANT USAGE ON SCHEMA cdc TO debezium, replicator;

GRANT SELECT, INSERT, UPDATE, DELETE ON posts, comments, likes, accounts, transfers TO app_writer;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app_writer;

GRANT SELECT ON ALL TABLES IN SCHEMA public TO debezium, replicator;
GRANT SELECT ON cdc.heartbeat TO replicator;
GRANT SELECT, INSERT, UPDATE ON cdc.heartbeat TO debezium;
