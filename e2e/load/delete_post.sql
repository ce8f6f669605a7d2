-- Deletes a post; its comments and likes go with it.
DELETE FROM posts WHERE id = (SELECT id FROM posts WHERE id >= (SELECT gen_random_uuid()) ORDER BY id LIMIT 1);
