-- What readers look at: one row. Columns are only ever added, at the end. Those of the quarantine cost nothing to a reader
-- who does not select them.
CREATE OR REPLACE VIEW replicator.progress AS
SELECT current_setting('cluster_name') AS replica, state, watermark, xid, committed_at, applied_at,
       transactions, changes, owner, epoch, source,
       -- Somebody paused it: since when, and who.
       (SELECT requested_at FROM replicator.control WHERE kind = 'pause') AS paused_since,
       (SELECT requested_by FROM replicator.control WHERE kind = 'pause') AS paused_by,
       -- Changes that are kept aside, and the tables that differ from the leader's because of that.
       (SELECT count(*) FROM replicator.quarantine WHERE resolution IS NULL) AS quarantined,
       ARRAY(SELECT table_schema || '.' || table_name FROM replicator.diverged ORDER BY 1) AS diverged,
       -- Of which history of WAL positions the watermark is; see the checkpoint.
       history
FROM replicator.checkpoint;
