-- What people want of this replica. It stands in the replica itself, so that it holds for any daemon, and whether one runs
-- or not. The checkpoint's row counts the wishes: advance() sees them without another look, and whoever makes a wish waits
-- for the commit that is under way. When request() has returned, nothing more becomes visible.
CREATE TABLE IF NOT EXISTS replicator.control (
    -- pause: nothing is applied until it is withdrawn (resume). rebuild: the daemon is to copy the replica afresh; it
    -- withdraws the wish itself.
    kind         text        PRIMARY KEY CHECK (kind IN ('pause', 'rebuild')),
    requested_by text        NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- What the kind needs to know, e.g. the tables of a rebuild.
    detail       jsonb       NOT NULL DEFAULT '{}'
);

-- Makes a wish; false when it is there already, and then it stays as it was.
CREATE OR REPLACE FUNCTION replicator.request(p_kind text, p_by text, p_detail jsonb DEFAULT '{}') RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_new boolean;
BEGIN
    -- First the row that every commit updates: what is under way ends before the wish counts.
    PERFORM FROM replicator.checkpoint FOR UPDATE;
    INSERT INTO replicator.control (kind, requested_by, detail) VALUES (p_kind, p_by, p_detail) ON CONFLICT DO NOTHING;
    v_new := FOUND;
    UPDATE replicator.checkpoint SET wishes = (SELECT count(*) FROM replicator.control);
    RETURN v_new;
END $$;

-- Takes a wish back, or fulfils it; false when there was none.
CREATE OR REPLACE FUNCTION replicator.withdraw(p_kind text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_found boolean;
BEGIN
    PERFORM FROM replicator.checkpoint FOR UPDATE;
    DELETE FROM replicator.control WHERE kind = p_kind;
    v_found := FOUND;
    UPDATE replicator.checkpoint SET wishes = (SELECT count(*) FROM replicator.control);
    RETURN v_found;
END $$;

-- Refuses to go on against a wish; acquire() asks about pausing only, since it is the owner who rebuilds.
CREATE OR REPLACE FUNCTION replicator.refuse_against(p_kinds text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_wish replicator.control;
BEGIN
    -- 'pause' before 'rebuild'.
    SELECT * INTO v_wish FROM replicator.control WHERE kind = ANY (p_kinds) ORDER BY kind LIMIT 1;
    IF v_wish.kind = 'pause' THEN
        RAISE EXCEPTION 'paused by % since %', v_wish.requested_by,
                to_char(v_wish.requested_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
            USING ERRCODE = 'RP004',
                  HINT = 'To end it: `replicator resume REPLICA`, or here SELECT replicator.withdraw(''pause'').';
    ELSIF v_wish.kind = 'rebuild' THEN
        RAISE EXCEPTION 'a rebuild was asked for by %', v_wish.requested_by
            USING ERRCODE = 'RP005', HINT = 'Nothing to do: the daemon begins it.';
    END IF;
END $$;
