//! Another application on the same reading layer: notes that are written and counted, in fifty lines of code. Its callers read
//! from the replicas, never miss what they wrote, and are never shown an older state than before.
//!
//! `WEBAPP__LEADER__URL=… WEBAPP__REPLICAS__0__NAME=… WEBAPP__REPLICAS__0__URL=… cargo run -p webapp --example notes`

use std::sync::Arc;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum_extra::extract::cookie::Key;
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;
use webapp::config::Config;
use webapp::db::Database;
use webapp::db::error::DbError;
use webapp::db::statement::{Params, Read, Write};
use webapp::session::{Session, Sessions, attach};

struct Count;

impl Read for Count {
    type Output = i64;
    const SQL: &'static str = "SELECT count(*) FROM comments";
    fn params(&self) -> Params<'_> {
        vec![]
    }
    fn decode(&self, rows: &[Row]) -> Result<i64, tokio_postgres::Error> {
        rows[0].try_get(0)
    }
}

struct Note(String);

impl Write for Note {
    type Output = ();
    const SQL: &'static str = "INSERT INTO comments (id, post_id, user_id, content)
                               SELECT gen_random_uuid(), min(id::text)::uuid, 'notes', $1 FROM posts";
    fn params(&self) -> Params<'_> {
        vec![&self.0]
    }
    fn decode(&self, _: &[Row]) -> Result<(), tokio_postgres::Error> {
        Ok(())
    }
}

fn problem(error: &DbError) -> (StatusCode, &'static str) {
    (StatusCode::SERVICE_UNAVAILABLE, error.words())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::load(None)?;
    let database = Arc::new(Database::new(&config)?);
    database.start_monitors(&config, &CancellationToken::new()).await;
    let read =
        async |session: Session| session.read(&Count).await.map(|n| n.to_string()).map_err(|e| problem(&e));
    let write = async |session: Session, Path(text): Path<String>| {
        session.write(&Note(text)).await.map_err(|e| problem(&e))
    };
    let sessions = Sessions::new(database, Key::generate(), config.bind.port());
    let app = axum::Router::new().route("/", get(read)).route("/{text}", axum::routing::post(write));
    let listener = tokio::net::TcpListener::bind(config.bind).await?;
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    tracing::info!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app.layer(from_fn_with_state(sessions, attach))).await?)
}
