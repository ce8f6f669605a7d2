-- $1 new rows in one transaction.
INSERT INTO bench.accounts (id, owner, balance, note, created, flags)
SELECT g, 'owner ' || g, (g % 1000000) / 100.0, 'inserted ' || md5(g::text),
       timestamptz '2026-01-01 00:00:00Z' + g * interval '1 second',
       jsonb_build_object('active', g % 2 = 0, 'level', g % 100)
FROM generate_series(1, $1::bigint) AS g
