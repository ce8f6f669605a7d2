-- What is read: posts with texts of about 200 bytes, numbered by their ids so that a reader can name one.
ALTER PUBLICATION bench ADD TABLE public.posts, public.comments, public.likes, public.accounts;
INSERT INTO public.posts (id, user_id, content, created_at)
SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'user-' || n % 100, 'post ' || n || repeat(' lorem ipsum', 16),
       timestamptz '2026-01-01' + n * interval '1 second'
FROM generate_series(1, {posts}) AS n;
