-- One row with the key $1.
INSERT INTO bench.accounts VALUES ($1::bigint, 'owner', 1, 'note', now(), '{}')
