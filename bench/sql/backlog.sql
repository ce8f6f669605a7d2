-- A writer on the leader: inserts as many rows as it is told, in transactions of as many rows as it is told. It does not wait
-- for the disk: how fast a backlog is written is not measured.
CREATE PROCEDURE bench.write_backlog(rows bigint, size bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', false);
    FOR low IN 1 .. rows BY size LOOP
        INSERT INTO bench.accounts (id, owner, balance, note, created, flags)
        SELECT g, 'owner ' || g, (g % 1000000) / 100.0, 'inserted ' || md5(g::text),
               timestamptz '2026-01-01 00:00:00Z' + g * interval '1 second',
               jsonb_build_object('active', g % 2 = 0, 'level', g % 100)
        FROM generate_series(low, least(low + size - 1, rows)) AS g;
        COMMIT;
    END LOOP;
END
$$
