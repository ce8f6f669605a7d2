-- Comments on a post. The key-share lock keeps a concurrent delete from breaking the reference.
\set user random(1, 50)
INSERT INTO comments (post_id, user_id, content)
SELECT id, 'user-' || :user, 'comment ' || md5(random()::text)
FROM posts WHERE id >= (SELECT gen_random_uuid()) ORDER BY id LIMIT 1 FOR KEY SHARE;
