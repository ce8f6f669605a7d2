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
    -- empty: never filled; copying: a snapshot is being loaded, rows of several tables may disagree; live; degraded: fed
    -- without transactions, each table by itself: the watermark stands still and says nothing of what is visible.
    state        text        NOT NULL DEFAULT 'empty'
                 CONSTRAINT checkpoint_state_check CHECK (state IN ('empty', 'copying', 'live', 'degraded')),
    -- Every leader transaction whose commit LSN is at or below this is visible here, and no other (promise P4).
    watermark    pg_lsn      NOT NULL DEFAULT '0/0',
    -- Of the transaction at the watermark: its xid (32 bits) and the leader's commit time.
    xid          bigint,
    committed_at timestamptz,
    applied_at   timestamptz,
    -- The first offset still needed, per 'topic/partition'.
    offsets      jsonb       NOT NULL DEFAULT '{}',
    transactions bigint      NOT NULL DEFAULT 0,
    changes      bigint      NOT NULL DEFAULT 0,
    -- How many wishes stand in replicator.control; advance() refuses while there are any.
    wishes       integer     NOT NULL DEFAULT 0
) WITH (fillfactor = 10);   -- updated at every commit: leave room for HOT updates on one page
-- Contracts that were made before a column was, get it here.
ALTER TABLE replicator.checkpoint
    ADD COLUMN IF NOT EXISTS wishes integer NOT NULL DEFAULT 0,
    -- Of the transaction in xid: its commit LSN, and when the leader committed it; a sign of life may have moved the watermark
    -- and committed_at on since.
    ADD COLUMN IF NOT EXISTS commit_lsn pg_lsn,
    ADD COLUMN IF NOT EXISTS commit_at timestamptz,
    -- Of which history of WAL positions the watermark is: the leader's system identifier and timeline, 'ID/TIMELINE'. NULL
    -- where the source does not tell (topics don't).
    ADD COLUMN IF NOT EXISTS history text,
    -- When the leader's server was started that had the last transaction for certain. One that was started at another time
    -- may have been restored to an older state, and is asked for that transaction again.
    ADD COLUMN IF NOT EXISTS leader_started_at timestamptz;
INSERT INTO replicator.checkpoint DEFAULT VALUES ON CONFLICT DO NOTHING;
-- A contract of before 'degraded' existed.
ALTER TABLE replicator.checkpoint
    DROP CONSTRAINT checkpoint_state_check,
    ADD CONSTRAINT checkpoint_state_check CHECK (state IN ('empty', 'copying', 'live', 'degraded'));

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

-- Until when the owner is believed to live. Its process renews this every few seconds on a session of its own, whatever
-- its apply transaction is doing. All times are this server's, so it doesn't matter how the daemons' clocks go.
CREATE TABLE IF NOT EXISTS replicator.lease (
    singleton     boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch         bigint      NOT NULL,
    owner         text        NOT NULL,
    -- The session that applies and holds the lock. A pid is used again some day; together with its start it is not.
    pid           integer     NOT NULL,
    backend_start timestamptz NOT NULL,
    renewed_at    timestamptz NOT NULL,
    until         timestamptz NOT NULL
) WITH (fillfactor = 10);   -- as the checkpoint

-- Takes the ownership of this replica for the session that asks: the epoch it returns must come with every advance().
-- NULL: another session owns it. The advisory lock keeps two live daemons apart and goes with the session; the lease
-- makes a standby notice an owner that lives and does nothing (a paused process); the epoch stops such an owner when it
-- wakes up. Lock and lease are taken in one statement: nobody can be stopped between them and hold a lock without lease.
DROP FUNCTION IF EXISTS replicator.acquire(text, text);
CREATE OR REPLACE FUNCTION replicator.acquire(
    p_source text, p_owner text, p_lease_seconds double precision DEFAULT 10) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    -- "repl" in ASCII. One database holds one replica.
    c_lock   CONSTANT bigint := 1919250540;
    v_source text;
    v_epoch  bigint;
BEGIN
    PERFORM replicator.refuse_against('{pause}');
    IF NOT pg_try_advisory_lock(c_lock) THEN
        RETURN NULL;
    END IF;
    -- The last owner's session is gone; those beside it may not have noticed yet.
    IF NOT replicator.dismiss() THEN
        PERFORM pg_advisory_unlock(c_lock);
        RETURN NULL;
    END IF;
    SELECT source INTO v_source FROM replicator.checkpoint FOR UPDATE;
    IF v_source IS NOT NULL AND v_source <> p_source THEN
        PERFORM pg_advisory_unlock(c_lock);
        RAISE EXCEPTION 'this replica was fed from %, not from %', v_source, p_source
            USING ERRCODE = 'RP003',
                  HINT = 'Positions of one stream mean nothing in another. Empty the replica to feed it from a new source.';
    END IF;
    UPDATE replicator.checkpoint
       SET source = p_source, epoch = epoch + 1, owner = p_owner, owned_since = clock_timestamp()
    RETURNING epoch INTO v_epoch;
    INSERT INTO replicator.lease (epoch, owner, pid, backend_start, renewed_at, until)
    SELECT v_epoch, p_owner, pid, backend_start, clock_timestamp(),
           clock_timestamp() + make_interval(secs => p_lease_seconds)
    FROM pg_stat_activity WHERE pid = pg_backend_pid()
    ON CONFLICT (singleton) DO UPDATE
       SET epoch = excluded.epoch, owner = excluded.owner, pid = excluded.pid, backend_start = excluded.backend_start,
           renewed_at = excluded.renewed_at, until = excluded.until;
    RETURN v_epoch;
END $$;

-- Prolongs the lease of this epoch's owner. It concerns the lease alone: an owner whose epoch was raised (fence()) keeps
-- the lock until its next advance().
CREATE OR REPLACE FUNCTION replicator.renew(p_epoch bigint, p_lease_seconds double precision) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_lease replicator.lease;
BEGIN
    UPDATE replicator.lease
       SET renewed_at = clock_timestamp(), until = clock_timestamp() + make_interval(secs => p_lease_seconds)
     WHERE epoch = p_epoch;
    IF NOT FOUND THEN
        SELECT * INTO v_lease FROM replicator.lease;
        RAISE EXCEPTION 'epoch % lost this replica to epoch % (%)', p_epoch, v_lease.epoch, v_lease.owner
            USING ERRCODE = 'RP001';
    END IF;
END $$;

-- Ends the session of an owner whose lease has run out: its open transaction rolls back and its lock is free. Returns who
-- that was; NULL when there is nobody to end. Needs no more than the owner's own role.
CREATE OR REPLACE FUNCTION replicator.evict_expired() RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_lease replicator.lease;
BEGIN
    SELECT l.* INTO v_lease
    FROM replicator.lease AS l JOIN pg_stat_activity AS a ON a.pid = l.pid AND a.backend_start = l.backend_start
    WHERE l.until < clock_timestamp();
    IF FOUND AND pg_terminate_backend(v_lease.pid, 5000) THEN
        RETURN v_lease.owner;
    END IF;
    RETURN NULL;
END $$;

-- Raises what advance() raises for an owner of an older epoch.
CREATE OR REPLACE FUNCTION replicator.refuse(p_epoch bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_now replicator.checkpoint;
BEGIN
    SELECT * INTO v_now FROM replicator.checkpoint;
    RAISE EXCEPTION 'epoch % lost this replica to epoch % (%)', p_epoch, v_now.epoch, v_now.owner
        USING ERRCODE = 'RP001';
END $$;

-- Moves the checkpoint, as the last statement of an apply transaction. Raising, rather than updating no row, lets the
-- replicator send COMMIT behind it without waiting for the answer: a refused checkpoint takes its rows with it.
DROP FUNCTION IF EXISTS replicator.advance(bigint, text, pg_lsn, bigint, timestamptz, jsonb, bigint, bigint);
CREATE OR REPLACE FUNCTION replicator.advance(
    p_epoch bigint, p_state text, p_watermark pg_lsn, p_xid bigint, p_committed_at timestamptz,
    p_offsets jsonb, p_transactions bigint, p_changes bigint, p_commit_lsn pg_lsn DEFAULT NULL,
    p_commit_at timestamptz DEFAULT NULL) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_now replicator.checkpoint;
BEGIN
    UPDATE replicator.checkpoint
       SET state = p_state,
           watermark = coalesce(p_watermark, watermark),
           xid = coalesce(p_xid, xid),
           commit_lsn = coalesce(p_commit_lsn, commit_lsn),
           commit_at = coalesce(p_commit_at, commit_at),
           committed_at = coalesce(p_committed_at, committed_at),
           applied_at = clock_timestamp(),
           offsets = offsets || p_offsets,
           transactions = transactions + p_transactions,
           changes = changes + p_changes
     WHERE epoch = p_epoch AND wishes = 0 AND (p_watermark IS NULL OR p_watermark >= watermark);
    IF NOT FOUND THEN
        SELECT * INTO v_now FROM replicator.checkpoint;
        IF v_now.epoch <> p_epoch THEN
            RAISE EXCEPTION 'epoch % lost this replica to epoch % (%)', p_epoch, v_now.epoch, v_now.owner
                USING ERRCODE = 'RP001';
        END IF;
        PERFORM replicator.refuse_against('{pause,rebuild}');
        RAISE EXCEPTION 'watermark would go back from % to %', v_now.watermark, p_watermark USING ERRCODE = 'RP002';
    END IF;
END $$;

-- The owner has made sure that this run of the leader's server goes on from where the replica stands.
CREATE OR REPLACE FUNCTION replicator.recognise(p_epoch bigint, p_history text, p_leader_started_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE replicator.checkpoint SET history = p_history, leader_started_at = p_leader_started_at WHERE epoch = p_epoch;
    IF NOT FOUND THEN
        PERFORM replicator.refuse(p_epoch);
    END IF;
END $$;

-- Fails unless a statement touched the rows that it names. Like advance() it raises, so that what comes next, the commit
-- above all, can be sent without waiting: the replicator then goes through the same changes one by one.
CREATE OR REPLACE FUNCTION replicator.expect(p_rows bigint, p_touched bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF p_touched <> p_rows THEN
        RAISE EXCEPTION 'a statement touched % rows instead of %', p_touched, p_rows USING ERRCODE = 'RP010';
    END IF;
END $$;
