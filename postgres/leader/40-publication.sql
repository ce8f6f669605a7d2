-- The publication must exist before the replication slot: pgoutput decodes with the catalog as of each change, and a
-- change older than the publication fails with "publication does not exist".
-- Truncates are published, so the connector needs `skipped.operations=none`.
SELECT 'CREATE PUBLICATION cdc FOR TABLE posts, comments, likes, accounts, transfers, cdc.heartbeat
        WITH (publish = ''insert, update, delete, truncate'', publish_via_partition_root = true)'
WHERE NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'cdc')
\gexec
