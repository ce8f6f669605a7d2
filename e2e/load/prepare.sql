-- Run once before a load. Every account starts with 1000, so the sum of all balances is 1000 times their number.
-- Some notes are longer than 2 kB and don't compress: TOAST values that balance updates leave unchanged.
UPDATE accounts SET note = (SELECT string_agg(md5(random()::text || n || accounts.id), '') FROM generate_series(1, 250) AS n)
WHERE id <= 30 AND note IS NULL;

-- Accounts without transfers, whose keys change during the load.
INSERT INTO accounts (id, owner, balance, note)
SELECT g, 'traveller ' || g, 1000, (SELECT string_agg(md5(random()::text || n || g), '') FROM generate_series(1, 250) AS n)
FROM generate_series(1001, 1020) AS g
WHERE NOT EXISTS (SELECT FROM accounts WHERE id IN (g, g + 5000))
ON CONFLICT DO NOTHING;
