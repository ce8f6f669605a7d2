//! Posts, comments and likes as people see them. The `Serialize` forms are the JSON API's.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Post {
    /// Made by the web application (version 7: later ids sort later).
    pub id: Uuid,
    /// Who wrote it.
    pub user_id: String,
    /// Its text.
    pub content: String,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it was last edited.
    pub updated_at: Timestamp,
    /// Counts the edits; an edit names the version it was made from.
    pub version: i64,
}

impl Post {
    /// Whether it was changed after it was written.
    pub fn is_edited(&self) -> bool {
        self.version > 1
    }
}

/// A post in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PostSummary {
    /// The post itself.
    #[serde(flatten)]
    pub post: Post,
    /// How many comments it has.
    pub comment_count: i64,
    /// How many people like it.
    pub like_count: i64,
}

/// A comment on a post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// The comment's id.
    pub id: Uuid,
    /// The post it belongs to.
    pub post_id: Uuid,
    /// Who wrote it.
    pub user_id: String,
    /// Its text.
    pub content: String,
    /// When it was written.
    pub created_at: Timestamp,
}

/// One person's like of one post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Like {
    /// The like's id.
    pub id: Uuid,
    /// The post that is liked.
    pub post_id: Uuid,
    /// Who likes it.
    pub user_id: String,
    /// Since when.
    pub created_at: Timestamp,
}

/// A post with what people said about it, all of one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PostDetail {
    /// The post and its counts.
    #[serde(flatten)]
    pub summary: PostSummary,
    /// The newest comments, oldest first; `comment_count` says whether there are more.
    pub comments: Vec<Comment>,
    /// The newest likes, oldest first; `like_count` says whether there are more.
    pub likes: Vec<Like>,
}

/// What one user did and got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserStats {
    /// The user.
    pub user_id: String,
    /// Posts written.
    pub posts: i64,
    /// Comments written.
    pub comments: i64,
    /// Likes given to posts.
    pub likes_given: i64,
    /// Likes that the user's posts got.
    pub likes_received: i64,
}
