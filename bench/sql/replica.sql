-- What whoever applies needs on a replica. The sink logs in as the replicator does.
GRANT USAGE, CREATE ON SCHEMA bench TO replicator;
ALTER TABLE bench.accounts OWNER TO replicator;
