//! The read that a demo run repeats.

use tokio_postgres::Row;
use uuid::Uuid;

use crate::db::statement::{Params, Read};

/// Finds the newest post, and lets the database say who it is.
pub struct WhoAnswers;

/// What a database says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Its `cluster_name`.
    pub name: String,
    /// The port it listens on; none on a Unix socket.
    pub port: Option<i32>,
    /// The newest post: a read of the application's own data, not only of a setting.
    pub newest: Option<Uuid>,
}

impl Read for WhoAnswers {
    type Output = Introduction;
    const SQL: &'static str = "
        SELECT current_setting('cluster_name') AS name, inet_server_port() AS port,
               (SELECT id FROM posts ORDER BY created_at DESC, id DESC LIMIT 1) AS newest";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<Introduction, tokio_postgres::Error> {
        // A SELECT without FROM has exactly one row.
        let row = &rows[0];
        Ok(Introduction {
            name: row.try_get("name")?,
            port: row.try_get("port")?,
            newest: row.try_get("newest")?,
        })
    }
}
