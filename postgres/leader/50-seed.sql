-- A little data that is there before the connector, so that its snapshot has something to copy and the first page is
-- not empty. Fixed ids: running it again changes nothing.
INSERT INTO accounts (id, owner, balance)
SELECT g, 'account ' || g, 1000 FROM generate_series(1, 100) AS g
ON CONFLICT DO NOTHING;

INSERT INTO posts (id, user_id, content, created_at, updated_at) VALUES
('018f0000-0000-7000-8000-000000000001', 'ada',
 'Writes go to the leader. Debezium reads its WAL, Kafka carries the changes, the replicator applies whole transactions to three replicas.',
 '2026-01-01 09:00+00', '2026-01-01 09:00+00'),
('018f0000-0000-7000-8000-000000000002', 'grace',
 'Reads go to the replicas, round-robin. The badge on each page says which one answered, and how fresh it was.',
 '2026-01-01 10:00+00', '2026-01-01 10:00+00'),
('018f0000-0000-7000-8000-000000000003', 'edsger',
 'Search runs on a full-text index that only the replicas carry: the leader never pays for it.',
 '2026-01-01 11:00+00', '2026-01-01 11:00+00')
ON CONFLICT DO NOTHING;

INSERT INTO comments (id, post_id, user_id, content, created_at) VALUES
('018f0000-0000-7000-8000-0000000000c1', '018f0000-0000-7000-8000-000000000001', 'grace',
 'And a replica never shows half of a transaction.', '2026-01-01 09:05+00')
ON CONFLICT DO NOTHING;

INSERT INTO likes (id, post_id, user_id, created_at) VALUES
('018f0000-0000-7000-8000-0000000000a1', '018f0000-0000-7000-8000-000000000001', 'edsger', '2026-01-01 09:06+00')
ON CONFLICT DO NOTHING;
