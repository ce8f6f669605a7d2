-- Changes that this replica could not take, kept with all that applying them later needs (promise P6). Only a daemon whose
-- policy says so ([failure] data = "quarantine") writes here; the others stop instead.
CREATE TABLE IF NOT EXISTS replicator.quarantine (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The record it came from.
    topic          text        NOT NULL,
    partition      integer     NOT NULL,
    "offset"       bigint      NOT NULL,
    -- The leader's transaction; NULL for a row of a snapshot.
    xid            bigint,
    commit_lsn     pg_lsn,
    table_schema   text        NOT NULL,
    table_name     text        NOT NULL,
    -- insert, copy, fill, update, rekey, delete.
    operation      text        NOT NULL,
    -- Column -> value as text, without the columns that the event doesn't carry. json, not jsonb: jsonb refuses U+0000, which
    -- may be the very reason why the row is here. key: by which the row is found. before: of rows without a key.
    key            json,
    before         json,
    after          json,
    -- Why: what PostgreSQL said, or nothing where a row is missing or an earlier change of the same row is here.
    sqlstate       text,
    message        text        NOT NULL,
    constraint_name text,
    -- How often and when it was last tried again, in vain.
    retries        integer     NOT NULL DEFAULT 0,
    retried_at     timestamptz,
    -- NULL: open. skipped: somebody decided to live without it; the table stays diverged. superseded: the leader emptied the
    -- table. repaired: the table was copied or repaired since.
    resolution     text        CHECK (resolution IN ('skipped', 'superseded', 'repaired')),
    resolved_at    timestamptz,
    resolved_by    text,
    CHECK ((resolution IS NULL) = (resolved_at IS NULL))
);
-- Empty on a healthy replica, so that looking costs nothing.
CREATE INDEX IF NOT EXISTS quarantine_diverging ON replicator.quarantine (table_schema, table_name)
    WHERE resolution IS NULL OR resolution = 'skipped';

-- Tables whose rows are known to differ from the leader's.
CREATE OR REPLACE VIEW replicator.diverged AS
SELECT table_schema, table_name, min(quarantined_at) AS since,
       count(*) FILTER (WHERE resolution IS NULL) AS quarantined,
       count(*) FILTER (WHERE resolution = 'skipped') AS skipped
FROM replicator.quarantine
WHERE resolution IS NULL OR resolution = 'skipped'
GROUP BY table_schema, table_name;

-- Ends what the quarantine says about a table, because all its rows have become the leader's: p_resolution tells how
-- ('superseded' | 'repaired'). Returns how many changes that concerns.
CREATE OR REPLACE FUNCTION replicator.settle(p_schema text, p_table text, p_resolution text, p_by text) RETURNS bigint
LANGUAGE sql AS $$
    WITH settled AS (
        UPDATE replicator.quarantine
           SET resolution = p_resolution, resolved_at = clock_timestamp(), resolved_by = p_by
         WHERE table_schema = p_schema AND table_name = p_table AND (resolution IS NULL OR resolution = 'skipped')
        RETURNING 1)
    SELECT count(*) FROM settled
$$;

-- Makes the present owner start again from what stands in the database: its next advance() is refused. For whoever changes
-- what the owner keeps in memory. Waits for the commit that is under way, and holds the next one up until this transaction
-- ends.
CREATE OR REPLACE FUNCTION replicator.fence() RETURNS void
LANGUAGE sql AS $$
    UPDATE replicator.checkpoint SET epoch = epoch + 1
$$;
