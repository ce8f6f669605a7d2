-- A new post: short, or with up to 9.6 kB that don't compress and so are stored out of line.
\set user random(1, 50)
\set size random(1, 300)
INSERT INTO posts (user_id, content)
SELECT 'user-' || :user, string_agg(md5(random()::text), '') FROM generate_series(1, CASE WHEN :size > 200 THEN :size ELSE 2 END);
