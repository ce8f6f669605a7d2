-- The contract as the first release made it: replicas that have it must be brought up to date.
-- The contract between the replicator, which writes it, and everyone who reads a replica: how far is this replica?
-- It lives in the replica, and is updated in the same transaction as the rows it describes, so it can't be wrong.
CREATE SCHEMA IF NOT EXISTS replicator;

-- One row: where this replica stands.
CREATE TABLE IF NOT EXISTS replicator.checkpoint (
    singleton    boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- Which stream the positions belong to, e.g. 'debezium:app'. A replica never mixes two.
    source       text,
    -- Raised by each new owner; advance() refuses every other one (promise P7).
    epoch        bigint      NOT NULL DEFAULT 0,
    owner        text,
    owned_since  timestamptz,
    -- empty: never filled; copying: a snapshot is being loaded, rows of several tables may disagree; live.
    state        text        NOT NULL DEFAULT 'empty' CHECK (state IN ('empty', 'copying', 'live')),
    -- Every leader transaction whose commit LSN is at or below this is visible here, and no other (promise P4).
    watermark    pg_lsn      NOT NULL DEFAULT '0/0',
    -- Of the transaction at the watermark: its xid (32 bits) and the leader's commit time.
    xid          bigint,
    committed_at timestamptz,
    applied_at   timestamptz,
    -- The first offset still needed, per 'topic/partition'.
    offsets      jsonb       NOT NULL DEFAULT '{}',
    transactions bigint      NOT NULL DEFAULT 0,
    changes      bigint      NOT NULL DEFAULT 0
) WITH (fillfactor = 10);   -- updated at every commit: leave room for HOT updates on one page
INSERT INTO replicator.checkpoint DEFAULT VALUES ON CONFLICT DO NOTHING;

-- How each table got its first rows.
CREATE TABLE IF NOT EXISTS replicator.table_state (
    table_schema text   NOT NULL,
    table_name   text   NOT NULL,
    state        text   NOT NULL CHECK (state IN ('copying', 'live')),
    -- The leader's position at which the snapshot of this table was taken. Another value starts the copy afresh.
    snapshot_lsn pg_lsn NOT NULL,
    rows_copied  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (table_schema, table_name)
);

-- Takes the ownership of this replica: the epoch it returns must come with every advance(). The advisory lock that the
-- caller holds keeps two live daemons apart; the epoch stops one that lost the lock without noticing (a paused process).
CREATE OR REPLACE FUNCTION replicator.acquire(p_source text, p_owner text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_source text;
    v_epoch  bigint;
BEGIN
    SELECT source INTO v_source FROM replicator.checkpoint FOR UPDATE;
    IF v_source IS NOT NULL AND v_source <> p_source THEN
        RAISE EXCEPTION 'this replica was fed from %, not from %', v_source, p_source
            USING ERRCODE = 'RP003',
                  HINT = 'Positions of one stream mean nothing in another. Empty the replica to feed it from a new source.';
    END IF;
    UPDATE replicator.checkpoint
       SET source = p_source, epoch = epoch + 1, owner = p_owner, owned_since = clock_timestamp()
    RETURNING epoch INTO v_epoch;
    RETURN v_epoch;
END $$;

-- Moves the checkpoint, as the last statement of an apply transaction. Raising, rather than updating no row, lets the
-- replicator send COMMIT behind it without waiting for the answer: a refused checkpoint takes its rows with it.
CREATE OR REPLACE FUNCTION replicator.advance(
    p_epoch bigint, p_state text, p_watermark pg_lsn, p_xid bigint, p_committed_at timestamptz,
    p_offsets jsonb, p_transactions bigint, p_changes bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_now replicator.checkpoint;
BEGIN
    UPDATE replicator.checkpoint
       SET state = p_state,
           watermark = coalesce(p_watermark, watermark),
           xid = coalesce(p_xid, xid),
           committed_at = coalesce(p_committed_at, committed_at),
           applied_at = clock_timestamp(),
           offsets = offsets || p_offsets,
           transactions = transactions + p_transactions,
           changes = changes + p_changes
     WHERE epoch = p_epoch AND (p_watermark IS NULL OR p_watermark >= watermark);
    IF NOT FOUND THEN
        SELECT * INTO v_now FROM replicator.checkpoint;
        IF v_now.epoch <> p_epoch THEN
            RAISE EXCEPTION 'epoch % lost this replica to epoch % (%)', p_epoch, v_now.epoch, v_now.owner
                USING ERRCODE = 'RP001';
        END IF;
        RAISE EXCEPTION 'watermark would go back from % to %', v_now.watermark, p_watermark USING ERRCODE = 'RP002';
    END IF;
END $$;

-- What readers look at: one row.
CREATE OR REPLACE VIEW replicator.progress AS
SELECT current_setting('cluster_name') AS replica, state, watermark, xid, committed_at, applied_at,
       transactions, changes, owner, epoch, source
FROM replicator.checkpoint;
