//! Posts: the three lists, one post with everything about it, and the writes.

use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::db::statement::{Params, Read, Write};
use crate::model::input::{PostContent, SearchWords, UserId};
use crate::model::listing::{Cursor, Listing, PageSize};
use crate::model::post::{Post, PostDetail, PostSummary};

/// The columns of a post in a list. Correlated counts rather than joins: they are made for the rows of one page only.
macro_rules! summary_columns {
    () => {
        "p.id, p.user_id, p.content, p.created_at, p.updated_at, p.version,
         (SELECT count(*) FROM comments c WHERE c.post_id = p.id) AS comment_count,
         (SELECT count(*) FROM likes l WHERE l.post_id = p.id) AS like_count"
    };
}

/// The page after ($1, $2), with ($3) rows at most. `coalesce` keeps one statement for the first page and for the others;
/// the comparison of rows is one range of the index on (created_at, id).
macro_rules! page_after {
    () => {
        "(p.created_at, p.id) < (coalesce($1, 'infinity'::timestamptz),
                                 coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
         ORDER BY p.created_at DESC, p.id DESC LIMIT $3"
    };
}

/// The page of a list that is wanted.
pub struct PageOf {
    created_at: Option<jiff::Timestamp>,
    id: Option<Uuid>,
    size: PageSize,
    /// One more than the page holds, to know whether there is another page.
    limit: i64,
}

impl PageOf {
    /// The page of `size` posts after `cursor`, or the first one.
    pub fn new(cursor: Option<Cursor>, size: PageSize) -> Self {
        // A page has at most 100 posts, so the conversion can't fail.
        let limit = i64::try_from(size.get() + 1).unwrap_or(i64::MAX);
        Self { created_at: cursor.map(|c| c.created_at), id: cursor.map(|c| c.id), size, limit }
    }

    fn params(&self) -> Params<'_> {
        vec![&self.created_at, &self.id, &self.limit]
    }

    fn decode(&self, rows: &[Row]) -> Result<Listing, tokio_postgres::Error> {
        Ok(Listing::cut(rows.iter().map(summary).collect::<Result<_, _>>()?, self.size))
    }
}

/// All posts, newest first.
pub struct NewestPosts {
    /// Which page.
    pub page: PageOf,
}

impl Read for NewestPosts {
    type Output = Listing;
    const SQL: &'static str = concat!("SELECT ", summary_columns!(), " FROM posts p WHERE ", page_after!());

    fn params(&self) -> Params<'_> {
        self.page.params()
    }

    fn decode(&self, rows: &[Row]) -> Result<Listing, tokio_postgres::Error> {
        self.page.decode(rows)
    }
}

/// The posts that hold certain words, newest first. The replicas have an index for it; the leader, if it must answer,
/// reads all posts.
pub struct SearchPosts<'a> {
    /// Which page.
    pub page: PageOf,
    /// In the notation of web searches: `"a phrase" this or that -without`.
    pub words: &'a SearchWords,
}

impl Read for SearchPosts<'_> {
    type Output = Listing;
    const SQL: &'static str = concat!(
        "SELECT ",
        summary_columns!(),
        " FROM posts p
         WHERE to_tsvector('english', p.content) @@ websearch_to_tsquery('english', $4::text) AND ",
        page_after!(),
    );

    fn params(&self) -> Params<'_> {
        let mut params = self.page.params();
        params.push(self.words.text());
        params
    }

    fn decode(&self, rows: &[Row]) -> Result<Listing, tokio_postgres::Error> {
        self.page.decode(rows)
    }
}

/// The posts of one user, newest first.
pub struct PostsOfUser<'a> {
    /// Which page.
    pub page: PageOf,
    /// Whose posts.
    pub user: &'a UserId,
}

impl Read for PostsOfUser<'_> {
    type Output = Listing;
    const SQL: &'static str = concat!(
        "SELECT ",
        summary_columns!(),
        " FROM posts p WHERE p.user_id = $4::text AND ",
        page_after!()
    );

    fn params(&self) -> Params<'_> {
        let mut params = self.page.params();
        params.push(self.user.text());
        params
    }

    fn decode(&self, rows: &[Row]) -> Result<Listing, tokio_postgres::Error> {
        self.page.decode(rows)
    }
}

/// One post with its comments and likes, all of one snapshot. The newest 500 of each are shown, oldest first: who has
/// just written must see it. The counts say whether there are more.
pub struct PostById(
    /// The post's id.
    pub Uuid,
);

impl Read for PostById {
    type Output = Option<PostDetail>;
    const SQL: &'static str = concat!(
        "SELECT ",
        summary_columns!(),
        ",
           (SELECT coalesce(json_agg(x ORDER BY x.created_at, x.id), '[]') FROM (
              SELECT c.id, c.post_id, c.user_id, c.content, c.created_at FROM comments c
              WHERE c.post_id = p.id ORDER BY c.created_at DESC, c.id DESC LIMIT 500) x) AS comments,
           (SELECT coalesce(json_agg(x ORDER BY x.created_at, x.id), '[]') FROM (
              SELECT l.id, l.post_id, l.user_id, l.created_at FROM likes l
              WHERE l.post_id = p.id ORDER BY l.created_at DESC, l.id DESC LIMIT 500) x) AS likes
         FROM posts p WHERE p.id = $1",
    );

    fn params(&self) -> Params<'_> {
        vec![&self.0]
    }

    fn decode(&self, rows: &[Row]) -> Result<Option<PostDetail>, tokio_postgres::Error> {
        let detail = |row: &Row| {
            Ok(PostDetail {
                summary: summary(row)?,
                comments: row.try_get::<_, Json<_>>("comments")?.0,
                likes: row.try_get::<_, Json<_>>("likes")?.0,
            })
        };
        rows.first().map(detail).transpose()
    }
}

/// One post without what people said about it: what is stored under an id.
pub struct StoredPost(
    /// The post's id.
    pub Uuid,
);

impl Read for StoredPost {
    type Output = Option<Post>;
    const SQL: &'static str =
        "SELECT id, user_id, content, created_at, updated_at, version FROM posts WHERE id = $1";
    const IS_BRIEF: bool = true;

    fn params(&self) -> Params<'_> {
        vec![&self.0]
    }

    fn decode(&self, rows: &[Row]) -> Result<Option<Post>, tokio_postgres::Error> {
        rows.first().map(post).transpose()
    }
}

/// A new post. Making the same one again (a form sent twice) changes nothing and returns none.
pub struct CreatePost {
    /// Made before the form was shown, or for this call.
    pub id: Uuid,
    /// Who writes.
    pub user: UserId,
    /// What.
    pub content: PostContent,
}

impl Write for CreatePost {
    type Output = Option<Post>;
    const SQL: &'static str = "
        INSERT INTO posts (id, user_id, content) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING
        RETURNING id, user_id, content, created_at, updated_at, version";

    fn params(&self) -> Params<'_> {
        vec![&self.id, self.user.text(), self.content.text()]
    }

    fn decode(&self, rows: &[Row]) -> Result<Option<Post>, tokio_postgres::Error> {
        rows.first().map(post).transpose()
    }
}

/// Posts to try things with, 200 of them. Their ids are fixed: doing it again brings back what was deleted, and nothing twice.
pub struct SeedPosts;

impl Write for SeedPosts {
    /// How many were not there.
    type Output = usize;
    const SQL: &'static str = "
        INSERT INTO posts (id, user_id, content, created_at, updated_at)
        SELECT ('018f0000-0000-7000-8000-5eed' || lpad(n::text, 8, '0'))::uuid,
               (ARRAY['ada', 'grace', 'edsger', 'barbara', 'donald'])[n % 5 + 1],
               'Row ' || n || ' of 200. It was written on the leader, in one transaction with the others; which replica showed it to you?',
               at, at
        FROM generate_series(1, 200) AS n, LATERAL (SELECT timestamptz '2026-01-02 00:00+00' + n * interval '1 minute') AS t (at)
        ON CONFLICT (id) DO NOTHING
        RETURNING id";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<usize, tokio_postgres::Error> {
        Ok(rows.len())
    }
}

/// A new text for a post: only if it still has the version that was edited, when one is given.
pub struct EditPost {
    /// Which post.
    pub id: Uuid,
    /// Its new text.
    pub content: PostContent,
    /// The version that the new text was made from; without one the edit wins over any other.
    pub version: Option<i64>,
}

impl Write for EditPost {
    /// None when there is no such post, or not in that version.
    type Output = Option<Post>;
    const SQL: &'static str = "
        UPDATE posts SET content = $2, version = version + 1, updated_at = now()
        WHERE id = $1 AND version = coalesce($3, version)
        RETURNING id, user_id, content, created_at, updated_at, version";

    fn params(&self) -> Params<'_> {
        vec![&self.id, self.content.text(), &self.version]
    }

    fn decode(&self, rows: &[Row]) -> Result<Option<Post>, tokio_postgres::Error> {
        rows.first().map(post).transpose()
    }
}

/// Removes a post, and with it its comments and likes.
pub struct DeletePost(
    /// Which post.
    pub Uuid,
);

impl Write for DeletePost {
    /// Whether there was one.
    type Output = bool;
    const SQL: &'static str = "DELETE FROM posts WHERE id = $1 RETURNING id";

    fn params(&self) -> Params<'_> {
        vec![&self.0]
    }

    fn decode(&self, rows: &[Row]) -> Result<bool, tokio_postgres::Error> {
        Ok(!rows.is_empty())
    }
}

fn post(row: &Row) -> Result<Post, tokio_postgres::Error> {
    Ok(Post {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        content: row.try_get("content")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

fn summary(row: &Row) -> Result<PostSummary, tokio_postgres::Error> {
    Ok(PostSummary {
        post: post(row)?,
        comment_count: row.try_get("comment_count")?,
        like_count: row.try_get("like_count")?,
    })
}
