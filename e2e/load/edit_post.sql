-- Changes the content of one post. The unchanged-content case is touch_posts.sql.
UPDATE posts SET content = left(md5(random()::text) || content, 9000), version = version + 1, updated_at = clock_timestamp()
WHERE id = (SELECT id FROM posts WHERE id >= (SELECT gen_random_uuid()) ORDER BY id LIMIT 1);
