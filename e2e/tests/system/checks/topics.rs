//! Where the topics end, on the status page: as the broker has it, and moving with what is written.

use std::rc::Rc;

use anyhow::{Context, ensure};
use e2e::wait;
use serde_json::{Value, json};

use super::web;
use crate::system::{Login, PATIENCE, System};
use crate::topic::Topic;

/// Posts that are written: records of their topic, one each.
const WRITES: i64 = 5;

const POSTS: &str = "app.public.posts";

pub(super) async fn ends(system: Rc<System>) -> anyhow::Result<()> {
    system.await_replicas().await?;
    // Nobody writes now.
    let topic = Topic::open(&system, POSTS)?;
    let before = topic.end().await?;
    await_all_read(&system, before).await?;
    for n in 0..WRITES {
        let post = json!({ "user_id": "topics", "content": format!("number {n}") });
        let (status, body) = web::send(&system, "POST", "/api/posts", &post).await?;
        ensure!(status == 201, "POST /api/posts answered {status}: {body}");
    }
    let after = before + WRITES;
    await_all_read(&system, after).await?;
    ensure!(topic.end().await? == after, "the broker has another end than {after}");
    println!("  {POSTS} ended at {before}, and at {after} after {WRITES} posts; nothing waits");
    let delete = "DELETE FROM posts WHERE user_id = 'topics'";
    system.connect("leader", Login::Writer).await?.batch_execute(delete).await.context("delete the posts")?;
    system.assert_equal().await.map(drop)
}

/// Waits until every partition has an end that is known, and the posts' is this and read by all.
async fn await_all_read(system: &System, expected: i64) -> anyhow::Result<()> {
    wait::until("the ends to be told", PATIENCE, async || {
        let (_, status) = system.get("webapp", "/api/status").await.map_err(|error| format!("{error:#}"))?;
        let topics = status["topics"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_any_unknown = topics.is_empty() || topics.iter().any(|topic| topic["end"].is_null());
        let posts = topics.iter().find(|topic| topic["topic"] == POSTS).unwrap_or(&Value::Null);
        let is_read = posts["end"] == expected && posts["waiting_at_least"] == 0;
        if is_read && !is_any_unknown {
            Ok(())
        } else {
            Err(format!("{POSTS} ends at {expected}: {}", status["topics"]))
        }
    })
    .await
}
