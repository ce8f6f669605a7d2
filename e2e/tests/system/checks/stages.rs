//! Where a replica's delay comes from: the time stamps of each stage, as the replicator tells them and as the page shows them.

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Context, ensure};
use e2e::wait;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, timeout_at};

use super::web;
use crate::system::{PATIENCE, REPLICAS, System};

/// Transactions that are followed.
const WRITES: usize = 10;

/// No stage of a lone transaction takes so long on a system that is well, however busy the machine.
const LONGEST_MS: i64 = 20_000;

/// Leader, connector and replicator run on one machine here, with one clock: each stage ends after it began.
pub(super) async fn plausible(system: Rc<System>) -> anyhow::Result<()> {
    let mut stream = system.http().get(system.http_url("replicator", "/v1/events")?).send().await?;
    for n in 0..WRITES {
        let post = json!({ "user_id": "stages", "content": format!("number {n}") });
        let (status, body) = web::send(&system, "POST", "/api/posts", &post).await?;
        ensure!(status == 201, "POST /api/posts answered {status}: {body}");
    }
    let (mut text, mut commits, mut seen) = (String::new(), HashMap::new(), Vec::new());
    let until = Instant::now() + Duration::from_secs(60);
    while seen.len() < WRITES * REPLICAS.len() {
        let chunk = timeout_at(until, stream.chunk()).await.context("wait for what is told")??;
        text.push_str(std::str::from_utf8(&chunk.context("the stream ended")?)?);
        while let Some((event, rest)) = text.split_once("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            let data: Value = data.map(serde_json::from_str).transpose()?.unwrap_or_default();
            let lsn = data["lsn"].as_str().unwrap_or_default().to_owned();
            if data["tables"]["public.posts"].is_object() {
                commits.insert(lsn, moment(&data, "committed_at_ms")?);
            } else if let Some(committed) = commits.get(&lsn) {
                let [sent, read, applied] =
                    ["sent_at_ms", "read_at_ms", "applied_at_ms"].map(|name| moment(&data, name));
                seen.push([*committed, sent?, read?, applied?]);
            }
            text = rest.to_owned();
        }
    }
    let mut stages = [vec![], vec![], vec![]];
    for moments in &seen {
        for (stage, pair) in stages.iter_mut().zip(moments.windows(2)) {
            let took = pair[1] - pair[0];
            ensure!((0..LONGEST_MS).contains(&took), "a stage took {took} ms: {moments:?}");
            stage.push(took);
        }
    }
    let medians = stages.map(|mut stage| {
        stage.sort_unstable();
        stage[stage.len() / 2]
    });
    println!("  {} arrivals; capture, way and apply took {medians:?} ms in the median", seen.len());

    let page = system.http_url("webapp", "/status/replicas/replica-2")?;
    wait::until("the page to tell the stages", PATIENCE, async || {
        let answer = system.http().get(&page).send().await.map_err(|error| error.to_string())?;
        let text = answer.text().await.map_err(|error| error.to_string())?;
        let has_all = ["Capture", "Apply", "stage-bar"].iter().all(|part| text.contains(part));
        if has_all && !text.contains("the replicator does not tell") { Ok(()) } else { Err(text) }
    })
    .await?;
    let delete = "DELETE FROM posts WHERE user_id = 'stages'";
    system.connect("leader", crate::system::Login::Writer).await?.batch_execute(delete).await?;
    system.assert_equal().await.map(drop)
}

fn moment(event: &Value, name: &str) -> anyhow::Result<i64> {
    event[name].as_i64().with_context(|| format!("find {name} in {event}"))
}
