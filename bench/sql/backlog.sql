-- A writer on the leader: as many transactions as it is told, each of which inserts one row. It does not wait for the disk:
-- how fast a backlog is written is not measured.
CREATE PROCEDURE bench.write_backlog(transactions bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', false);
    FOR g IN 1 .. transactions LOOP
        INSERT INTO bench.accounts (id, owner, balance, note, created, flags)
        VALUES (g, 'owner ' || g, (g % 1000000) / 100.0, 'inserted ' || md5(g::text),
                timestamptz '2026-01-01 00:00:00Z' + g * interval '1 second',
                jsonb_build_object('active', g % 2 = 0, 'level', g % 100));
        COMMIT;
    END LOOP;
END
$$
