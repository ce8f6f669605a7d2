-- The statement of the web application's page of one post, with its comments and likes.
\set n random(1, :posts)
SELECT p.id, p.user_id, p.content, p.created_at, p.updated_at, p.version,
         (SELECT count(*) FROM comments c WHERE c.post_id = p.id) AS comment_count,
         (SELECT count(*) FROM likes l WHERE l.post_id = p.id) AS like_count,
           (SELECT coalesce(json_agg(x ORDER BY x.created_at, x.id), '[]') FROM (
              SELECT c.id, c.post_id, c.user_id, c.content, c.created_at FROM comments c
              WHERE c.post_id = p.id ORDER BY c.created_at DESC, c.id DESC LIMIT 500) x) AS comments,
           (SELECT coalesce(json_agg(x ORDER BY x.created_at, x.id), '[]') FROM (
              SELECT l.id, l.post_id, l.user_id, l.created_at FROM likes l
              WHERE l.post_id = p.id ORDER BY l.created_at DESC, l.id DESC LIMIT 500) x) AS likes
         FROM posts p WHERE p.id = ('00000000-0000-4000-8000-' || lpad(to_hex(:n::int), 12, '0'))::uuid;
