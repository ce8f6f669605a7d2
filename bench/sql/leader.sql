-- What the connector needs on the leader.
GRANT USAGE ON SCHEMA bench TO debezium, replicator;
GRANT SELECT ON bench.accounts TO debezium, replicator;
CREATE PUBLICATION bench FOR TABLE bench.accounts;
