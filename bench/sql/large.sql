-- One transaction of $1 rows, each with a note of 32 times $2 bytes. Keys are negative, so that a load's keys stay dense.
INSERT INTO bench.accounts (id, owner, balance, note, created, flags)
SELECT -g, 'owner ' || g, (g % 1000000) / 100.0, repeat(md5(g::text), $2::integer), clock_timestamp(),
       jsonb_build_object('active', g % 2 = 0, 'level', g % 100)
FROM generate_series(1, $1::bigint) AS g
