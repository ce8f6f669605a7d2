-- Likes a post, or takes the like back.
\set user random(1, 20)
\set unlike random(0, 2)
BEGIN;
DELETE FROM likes
WHERE id = (SELECT id FROM likes WHERE id >= (SELECT gen_random_uuid()) ORDER BY id LIMIT 1) AND :unlike = 0;
INSERT INTO likes (post_id, user_id)
SELECT id, 'user-' || :user FROM posts WHERE id >= (SELECT gen_random_uuid()) ORDER BY id LIMIT 1 FOR KEY SHARE
ON CONFLICT DO NOTHING;
COMMIT;
