-- Writes and takes everything back: nothing of it may reach a replica.
\set a random(1, 100)
BEGIN;
UPDATE accounts SET balance = balance + 1000000 WHERE id = :a;
INSERT INTO posts (user_id, content) VALUES ('nobody', 'rolled back');
ROLLBACK;
