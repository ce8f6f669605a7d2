-- The statement of the web application's answer with one post alone.
\set n random(1, :posts)
SELECT id, user_id, content, created_at, updated_at, version FROM posts WHERE id = ('00000000-0000-4000-8000-' || lpad(to_hex(:n::int), 12, '0'))::uuid;
