//! Where the topics end, on the status page: as the broker has it, and moving with what is written.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::wait;
use serde_json::{Value, json};

use super::web;
use crate::system::{Login, PATIENCE, System};

/// Posts that are written: records of their topic, one each.
const WRITES: i64 = 5;

/// How often the replicator and then the web application learn where topics end.
const TOLD_EVERY: Duration = Duration::from_secs(1);

const POSTS: &str = "app.public.posts";

pub(super) async fn ends(system: Rc<System>) -> anyhow::Result<()> {
    system.await_replicas().await?;
    // Nobody writes now, but the end may have been told before the last record of an earlier check came.
    tokio::time::sleep(3 * TOLD_EVERY).await;
    let before = await_all_read(&system, 0).await?;
    for n in 0..WRITES {
        let post = json!({ "user_id": "topics", "content": format!("number {n}") });
        let (status, body) = web::send(&system, "POST", "/api/posts", &post).await?;
        ensure!(status == 201, "POST /api/posts answered {status}: {body}");
    }
    let after = await_all_read(&system, before + WRITES).await?;
    ensure!(after == before + WRITES, "{WRITES} posts moved the end from {before} to {after}");
    println!("  {POSTS} ended at {before}, and at {after} after {WRITES} posts; nothing waits");
    let delete = "DELETE FROM posts WHERE user_id = 'topics'";
    system.connect("leader", Login::Writer).await?.batch_execute(delete).await.context("delete the posts")?;
    system.assert_equal().await.map(drop)
}

/// Waits until every partition has an end that is known, and the posts' is at least this and read by all; returns it.
async fn await_all_read(system: &System, at_least: i64) -> anyhow::Result<i64> {
    wait::until("the ends to be told", PATIENCE, async || {
        let (_, status) = system.get("webapp", "/api/status").await.map_err(|error| format!("{error:#}"))?;
        let topics = status["topics"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_any_unknown = topics.is_empty() || topics.iter().any(|topic| topic["end"].is_null());
        let posts = topics.iter().find(|topic| topic["topic"] == POSTS).unwrap_or(&Value::Null);
        match posts["end"].as_i64() {
            Some(end) if !is_any_unknown && end >= at_least && posts["waiting_at_least"] == 0 => Ok(end),
            _ => Err(status["topics"].to_string()),
        }
    })
    .await
}
