-- Updates several posts in one statement and leaves their content unchanged, also where it is a TOAST value.
UPDATE posts SET version = version + 1, updated_at = clock_timestamp()
WHERE id IN (SELECT id FROM posts WHERE id >= (SELECT gen_random_uuid()) ORDER BY id LIMIT 5 FOR NO KEY UPDATE);
