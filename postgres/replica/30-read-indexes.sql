-- Why CQRS pays: these serve the reads and live on the replicas only. The leader, which would have to maintain them in
-- every write, does not carry them.
CREATE INDEX IF NOT EXISTS posts_search ON posts USING gin (to_tsvector('english', content));
CREATE INDEX IF NOT EXISTS posts_newest ON posts (created_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS posts_of_user ON posts (user_id, created_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS comments_of_post ON comments (post_id, created_at, id);
CREATE INDEX IF NOT EXISTS comments_of_user ON comments (user_id);
CREATE INDEX IF NOT EXISTS likes_of_user ON likes (user_id);
