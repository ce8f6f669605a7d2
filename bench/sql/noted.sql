-- When the transaction that wrote the row with the key $1 committed, in microseconds since 1970; no row before it did.
SELECT (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint FROM bench.accounts WHERE id = $1
