-- Only what the writes need: each index costs every write, and the reads happen elsewhere.
-- There is none on posts (created_at, id): when no replica answers and the leader must, its lists and searches scan posts.
-- Deleting a post cascades to its comments; without this it would scan them all. (Likes have their unique index.)
CREATE INDEX IF NOT EXISTS comments_post_id ON comments (post_id);
CREATE INDEX IF NOT EXISTS transfers_src ON transfers (src);
CREATE INDEX IF NOT EXISTS transfers_dst ON transfers (dst);
