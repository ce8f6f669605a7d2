-- One transaction of a steady load: new rows $1 to $2, and as many updates of rows that are 20 000 older. Returns its xid.
WITH updated AS (
    UPDATE bench.accounts SET balance = balance + 1, note = 'updated ' || md5(note)
    WHERE id BETWEEN $1::bigint - 20000 AND $2::bigint - 20000
), inserted AS (
    INSERT INTO bench.accounts (id, owner, balance, note, created, flags)
    SELECT g, 'owner ' || g, (g % 1000000) / 100.0, 'inserted ' || md5(g::text), clock_timestamp(),
           jsonb_build_object('active', g % 2 = 0, 'level', g % 100)
    FROM generate_series($1::bigint, $2::bigint) AS g
)
SELECT pg_current_xact_id()::xid::text
