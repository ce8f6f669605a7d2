-- Forty comments in one statement, then one statement that changes them all.
\set user random(1, 50)
BEGIN;
INSERT INTO comments (post_id, user_id, content)
SELECT p.id, 'batch-' || :user, 'one of many ' || g
FROM (SELECT id FROM posts WHERE id >= (SELECT gen_random_uuid()) ORDER BY id LIMIT 1 FOR KEY SHARE) AS p,
     generate_series(1, 40) AS g;
UPDATE comments SET content = content || ', edited' WHERE user_id = 'batch-' || :user AND created_at = now();
COMMIT;
