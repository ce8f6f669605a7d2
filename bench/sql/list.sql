-- The statement of the web application's list of posts, its first page.
SELECT p.id, p.user_id, p.content, p.created_at, p.updated_at, p.version,
         (SELECT count(*) FROM comments c WHERE c.post_id = p.id) AS comment_count,
         (SELECT count(*) FROM likes l WHERE l.post_id = p.id) AS like_count FROM posts p WHERE (p.created_at, p.id) < (coalesce(NULL, 'infinity'::timestamptz),
                                 coalesce(NULL, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
         ORDER BY p.created_at DESC, p.id DESC LIMIT 21;
