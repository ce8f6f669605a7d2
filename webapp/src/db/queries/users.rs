//! What one user did.

use tokio_postgres::Row;

use crate::db::statement::{Params, Read};
use crate::model::input::UserId;
use crate::model::post::UserStats;

/// Counts what a user wrote, gave and got. Someone who never wrote has zeros: there is no list of users to be missing from.
pub struct StatsOf<'a>(
    /// Which user.
    pub &'a UserId,
);

impl Read for StatsOf<'_> {
    type Output = UserStats;
    const SQL: &'static str = "
        SELECT (SELECT count(*) FROM posts WHERE user_id = $1::text) AS posts,
               (SELECT count(*) FROM comments WHERE user_id = $1) AS comments,
               (SELECT count(*) FROM likes WHERE user_id = $1) AS likes_given,
               (SELECT count(*) FROM likes l JOIN posts p ON p.id = l.post_id WHERE p.user_id = $1) AS likes_received";

    fn params(&self) -> Params<'_> {
        vec![self.0.text()]
    }

    fn decode(&self, rows: &[Row]) -> Result<UserStats, tokio_postgres::Error> {
        // A SELECT without FROM has exactly one row.
        let row = &rows[0];
        Ok(UserStats {
            user_id: self.0.to_string(),
            posts: row.try_get("posts")?,
            comments: row.try_get("comments")?,
            likes_given: row.try_get("likes_given")?,
            likes_received: row.try_get("likes_received")?,
        })
    }
}
