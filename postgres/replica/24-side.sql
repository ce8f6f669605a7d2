-- The contract's part about transactions that are applied while they still run on the leader: each through a side session,
-- beside the owner's own, which goes on with other transactions meanwhile.
--
-- A side session holds row locks for as long as the leader's transaction takes, so none may outlive its owner: they would
-- stand in the way of the next one. Each holds an advisory lock, shared, by which the next owner finds and ends it.

-- "side" in ASCII.
CREATE OR REPLACE FUNCTION replicator.side_lock() RETURNS bigint
LANGUAGE sql IMMUTABLE AS 'SELECT 1936286821::bigint';

-- Makes the session that asks a side session of the owner of this epoch, for as long as it lives.
CREATE OR REPLACE FUNCTION replicator.assist(p_epoch bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- Before the look at the epoch: whoever takes the replica over holds this lock alone until its new epoch can be seen.
    PERFORM pg_advisory_lock_shared(replicator.side_lock());
    IF NOT EXISTS (SELECT FROM replicator.checkpoint WHERE epoch = p_epoch) THEN
        PERFORM pg_advisory_unlock_shared(replicator.side_lock());
        PERFORM replicator.refuse(p_epoch);
    END IF;
END $$;

-- Ends the side sessions of former owners; what they have open rolls back. False when one of them does not end. Until the
-- caller's transaction does, there will be no other.
CREATE OR REPLACE FUNCTION replicator.dismiss() RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_terminate_backend(l.pid, 5000)
    FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
    WHERE d.datname = current_database() AND l.locktype = 'advisory'
      -- How a bigint's lock is shown: its two halves, and 1.
      AND l.classid = 0 AND l.objid = replicator.side_lock()::oid AND l.objsubid = 1;
    RETURN pg_try_advisory_xact_lock(replicator.side_lock());
END $$;
