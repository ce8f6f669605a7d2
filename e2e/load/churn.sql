-- Several changes of one row in one transaction: inserted and changed; inserted and deleted; deleted and inserted again.
\set user random(1, 50)
\set id random(1, 1000000000)
BEGIN;
INSERT INTO posts (user_id, content) VALUES ('churn-' || :id, 'first');
UPDATE posts SET content = 'second' WHERE user_id = 'churn-' || :id;
UPDATE posts SET version = version + 1 WHERE user_id = 'churn-' || :id;
INSERT INTO posts (user_id, content) VALUES ('gone-' || :id, 'never seen');
DELETE FROM posts WHERE user_id = 'gone-' || :id;
WITH gone AS (DELETE FROM posts WHERE user_id = 'churn-' || :id RETURNING *)
INSERT INTO posts SELECT gen_random_uuid(), user_id, 'third', created_at, updated_at, version FROM gone;
COMMIT;
