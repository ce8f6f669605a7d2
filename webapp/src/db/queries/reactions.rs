//! What people say about a post: comments and likes.

use tokio_postgres::Row;
use uuid::Uuid;

use crate::db::statement::{Params, Read, Write};
use crate::model::input::{CommentContent, UserId};
use crate::model::post::{Comment, Like};

/// A new comment. Making the same one again (a form sent twice) changes nothing and returns none.
pub struct AddComment {
    /// Made before the form was shown, or for this call.
    pub id: Uuid,
    /// The post.
    pub post_id: Uuid,
    /// Who writes.
    pub user: UserId,
    /// What.
    pub content: CommentContent,
}

impl Write for AddComment {
    type Output = Option<Comment>;
    const SQL: &'static str = "
        INSERT INTO comments (id, post_id, user_id, content) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING
        RETURNING id, post_id, user_id, content, created_at";

    fn params(&self) -> Params<'_> {
        vec![&self.id, &self.post_id, self.user.text(), self.content.text()]
    }

    fn decode(&self, rows: &[Row]) -> Result<Option<Comment>, tokio_postgres::Error> {
        rows.first().map(comment).transpose()
    }
}

fn comment(row: &Row) -> Result<Comment, tokio_postgres::Error> {
    Ok(Comment {
        id: row.try_get("id")?,
        post_id: row.try_get("post_id")?,
        user_id: row.try_get("user_id")?,
        content: row.try_get("content")?,
        created_at: row.try_get("created_at")?,
    })
}

/// One comment, to see what a form saved when it came first.
pub struct CommentById(
    /// The comment's id.
    pub Uuid,
);

impl Read for CommentById {
    type Output = Option<Comment>;
    const SQL: &'static str = "SELECT id, post_id, user_id, content, created_at FROM comments WHERE id = $1";

    fn params(&self) -> Params<'_> {
        vec![&self.0]
    }

    fn decode(&self, rows: &[Row]) -> Result<Option<Comment>, tokio_postgres::Error> {
        rows.first().map(comment).transpose()
    }
}

/// A new like. A second one of the same user and post changes nothing and returns none. That is no error of the database,
/// so it has a token like any write: its caller sees the like that was there.
pub struct AddLike {
    /// Made for this call.
    pub id: Uuid,
    /// The post.
    pub post_id: Uuid,
    /// Who likes it.
    pub user: UserId,
}

impl Write for AddLike {
    type Output = Option<Like>;
    const SQL: &'static str = "
        INSERT INTO likes (id, post_id, user_id) VALUES ($1, $2, $3)
        ON CONFLICT ON CONSTRAINT likes_one_per_user_and_post DO NOTHING
        RETURNING id, post_id, user_id, created_at";

    fn params(&self) -> Params<'_> {
        vec![&self.id, &self.post_id, self.user.text()]
    }

    fn decode(&self, rows: &[Row]) -> Result<Option<Like>, tokio_postgres::Error> {
        let like = |row: &Row| {
            Ok(Like {
                id: row.try_get("id")?,
                post_id: row.try_get("post_id")?,
                user_id: row.try_get("user_id")?,
                created_at: row.try_get("created_at")?,
            })
        };
        rows.first().map(like).transpose()
    }
}

/// Takes a like back; without one it changes nothing.
pub struct RemoveLike {
    /// The post.
    pub post_id: Uuid,
    /// Who no longer likes it.
    pub user: UserId,
}

impl Write for RemoveLike {
    /// Whether there was one.
    type Output = bool;
    const SQL: &'static str = "DELETE FROM likes WHERE post_id = $1 AND user_id = $2 RETURNING id";

    fn params(&self) -> Params<'_> {
        vec![&self.post_id, self.user.text()]
    }

    fn decode(&self, rows: &[Row]) -> Result<bool, tokio_postgres::Error> {
        Ok(!rows.is_empty())
    }
}
