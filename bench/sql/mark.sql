-- One row with the key $1; returns the transaction's id.
INSERT INTO bench.accounts VALUES ($1::bigint, 'owner', 1, 'note', now(), '{}') RETURNING pg_current_xact_id()::xid::text
