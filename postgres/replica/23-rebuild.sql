-- The contract's part about copies from the leader: what is to be copied, and where the stream has to go on from it.
--
-- A copy is fenced by the leader's own snapshot. The stream is still behind it when it becomes visible: changes that the
-- copy holds are left out by their transaction ids until the watermark has passed the copy's position.

ALTER TABLE replicator.checkpoint
    -- Of the copy that gave the replica its offsets: pg_current_snapshot() on the leader, and the position after it. Means
    -- nothing any more once the watermark has reached it.
    ADD COLUMN IF NOT EXISTS copied_snapshot text,
    ADD COLUMN IF NOT EXISTS copied_lsn pg_lsn;

-- The same of one table's copy, whose position is snapshot_lsn; none for a snapshot that came through the stream.
ALTER TABLE replicator.table_state ADD COLUMN IF NOT EXISTS snapshot text;

-- The tables that have yet to be copied. Each goes in the transaction that brings its rows.
CREATE TABLE IF NOT EXISTS replicator.rebuild (
    table_schema text        NOT NULL,
    table_name   text        NOT NULL,
    asked_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (table_schema, table_name)
);

-- Asks for a copy, of the whole replica when no table is named. Asking twice is asking once. The wish's detail says how much:
-- {"scope": "tables"} are those of replicator.rebuild, "all" is the replica as a whole, with a new position in the stream.
CREATE OR REPLACE FUNCTION replicator.ask_rebuild(p_by text, p_schemas text[], p_tables text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_detail jsonb := jsonb_build_object('scope', CASE WHEN cardinality(p_tables) = 0 THEN 'all' ELSE 'tables' END);
BEGIN
    -- First the row that whoever copies updates, too: nothing ends between the two statements.
    PERFORM FROM replicator.checkpoint FOR UPDATE;
    INSERT INTO replicator.rebuild (table_schema, table_name)
    SELECT * FROM unnest(p_schemas, p_tables) ON CONFLICT DO NOTHING;
    IF NOT replicator.request('rebuild', p_by, v_detail) AND v_detail ->> 'scope' = 'all' THEN
        -- A copy that has begun stays begun: until its tables are all there, nothing but a copy mends the replica.
        UPDATE replicator.control SET detail = detail || v_detail WHERE kind = 'rebuild';
    END IF;
END $$;

-- Begins the copy of the whole replica: the position that its stream goes on from, which was taken before the snapshot,
-- and the tables. From here on the replica is copying, and a restart goes on with the tables that are left.
CREATE OR REPLACE FUNCTION replicator.begin_rebuild(
    p_epoch bigint, p_snapshot text, p_lsn pg_lsn, p_offsets jsonb, p_schemas text[], p_tables text[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE replicator.checkpoint
       SET state = 'copying',
           copied_snapshot = p_snapshot,
           copied_lsn = p_lsn,
           offsets = p_offsets,
           -- Above the leader's own position it is another leader's, and would hold this one's commits for repetitions.
           watermark = CASE WHEN watermark <= p_lsn THEN watermark ELSE '0/0' END,
           -- The copy is of the leader as it is, whatever became of the transactions that the replica had.
           commit_lsn = NULL, commit_at = NULL, history = NULL, leader_started_at = NULL
     WHERE epoch = p_epoch;
    IF NOT FOUND THEN
        PERFORM replicator.refuse(p_epoch);
    END IF;
    DELETE FROM replicator.table_state;
    DELETE FROM replicator.rebuild;
    INSERT INTO replicator.rebuild (table_schema, table_name) SELECT * FROM unnest(p_schemas, p_tables);
    -- An empty replica whose daemon fills it of its own accord has no wish yet.
    PERFORM replicator.request('rebuild', 'snapshot.mode');
    UPDATE replicator.control SET detail = '{"scope": "tables", "begun": true}' WHERE kind = 'rebuild';
    PERFORM replicator.end_rebuild();
END $$;

-- Ends the transaction that has replaced a table's rows.
CREATE OR REPLACE FUNCTION replicator.copied(
    p_epoch bigint, p_schema text, p_table text, p_snapshot text, p_lsn pg_lsn, p_rows bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE replicator.checkpoint SET state = 'copying' WHERE epoch = p_epoch;
    IF NOT FOUND THEN
        PERFORM replicator.refuse(p_epoch);
    END IF;
    DELETE FROM replicator.rebuild WHERE table_schema = p_schema AND table_name = p_table;
    INSERT INTO replicator.table_state (table_schema, table_name, state, snapshot_lsn, rows_copied, snapshot)
    VALUES (p_schema, p_table, 'copying', p_lsn, p_rows, p_snapshot)
    ON CONFLICT (table_schema, table_name) DO UPDATE
       SET state = excluded.state, snapshot_lsn = excluded.snapshot_lsn, rows_copied = excluded.rows_copied,
           snapshot = excluded.snapshot;
    -- Its rows are the leader's: what is kept aside for it matters no more.
    PERFORM replicator.settle(p_schema, p_table, 'repaired', 'rebuild');
    PERFORM replicator.end_rebuild();
END $$;

-- Takes the wish back; false when there was none. Not once the whole replica has been moved to a new position: without the
-- tables that are left it would lack what lies in between.
CREATE OR REPLACE FUNCTION replicator.cancel_rebuild() RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM replicator.checkpoint FOR UPDATE;
    IF EXISTS (SELECT FROM replicator.control WHERE kind = 'rebuild' AND detail ? 'begun') THEN
        RAISE EXCEPTION 'the copy of the whole replica has begun' USING ERRCODE = 'RP006',
            HINT = 'Mend what it complains of (replicator status); it goes on with the tables that are left.';
    END IF;
    DELETE FROM replicator.rebuild;
    RETURN replicator.withdraw('rebuild');
END $$;

-- Fulfils the wish when no table is left; one for the whole replica, made meanwhile, stays, and has not begun.
CREATE OR REPLACE FUNCTION replicator.end_rebuild() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM replicator.rebuild) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM replicator.control WHERE kind = 'rebuild' AND detail ->> 'scope' = 'tables') THEN
        PERFORM replicator.withdraw('rebuild');
    END IF;
    UPDATE replicator.control SET detail = detail - 'begun' WHERE kind = 'rebuild';
END $$;
