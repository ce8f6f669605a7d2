//! Databases fail; people do not notice, or are told what is the matter.

use std::time::{Duration, Instant};

use anyhow::ensure;
use reqwest::Method;
use serde_json::json;

use crate::site::{PATIENCE, Reply, SEED, Site};

const BANNER: &str = "Reading from the leader: no replica can be reached";

async fn servers_of(site: &Site, reads: usize) -> anyhow::Result<Vec<String>> {
    let mut servers = Vec::new();
    for _ in 0..reads {
        let reply = site.get("/posts").await?;
        ensure!(reply.code() == 200 && !reply.text.contains(BANNER), "{reply:?}");
        servers.push(reply.served_by().to_owned());
    }
    servers.sort();
    servers.dedup();
    Ok(servers)
}

#[tokio::test]
async fn a_replica_that_goes_down_is_left_out_and_returns() -> anyhow::Result<()> {
    let site = Site::start().await?;
    ensure!(servers_of(&site, 6).await? == ["replica-1", "replica-2", "replica-3"], "all take part");
    // At once, before any monitor has looked: the reads themselves must cope.
    site.replica(1).cut();
    ensure!(servers_of(&site, 6).await? == ["replica-1", "replica-3"], "a failed read was shown");
    site.await_text("/", "replica-2: Down").await?;
    site.replica(1).restore();
    site.await_rotation(3).await?;
    ensure!(servers_of(&site, 6).await? == ["replica-1", "replica-2", "replica-3"], "it did not return");
    let metrics = site.get("/metrics").await?.text;
    for name in [
        // Whoever noticed first, a read or the monitor: that it was left out is told, with the reason.
        "web_replica_ejections_total{replica=\"replica-2\",reason=\"",
        "web_replica_in_rotation{replica=\"replica-1\"}",
        "http_server_request_duration_seconds_bucket{method=\"GET\",route=\"/posts\",status=\"200\"",
    ] {
        ensure!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn a_frozen_replica_costs_one_time_out_and_no_error() -> anyhow::Result<()> {
    let site = Site::start().await?;
    servers_of(&site, 3).await?;
    site.replica(0).pause();
    let started = Instant::now();
    ensure!(servers_of(&site, 6).await? == ["replica-2", "replica-3"], "the frozen one answered");
    ensure!(started.elapsed() < Duration::from_secs(2), "reads took {:?}", started.elapsed());
    site.replica(0).restore();
    site.await_rotation(3).await
}

#[tokio::test]
async fn a_slow_statement_does_not_take_its_replica_out() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let lock = site.lock_posts(0).await?;
    for _ in 0..5 {
        let page = site.get("/posts").await?;
        ensure!(page.code() == 200 && page.served_by() != "replica-1", "{page:?}");
        // Looked at right behind the read: the monitor would bring it back soon.
        ensure!(site.state().database().replicas().get(0).view().in_rotation, "it was taken out");
    }
    drop(lock);
    Ok(())
}

#[tokio::test]
async fn readiness_says_what_was_found_out_and_no_causes() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let ready = site.get("/readyz").await?.text;
    ensure!(ready.contains("ok   leader: answers, not in recovery"), "{ready}");
    site.leader().cut();
    site.replica(0).cut();
    site.await_rotation(2).await?;
    site.await_text("/", "be reached").await?;
    for text in [site.get("/readyz").await?.text, site.get("/").await?.text] {
        ensure!(text.contains("be reached") && !text.contains("onnection"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn without_any_replica_the_leader_reads_with_a_banner() -> anyhow::Result<()> {
    let site = Site::start().await?;
    (0..3).for_each(|index| site.replica(index).cut());
    site.await_rotation(0).await?;
    let page = site.get("/posts").await?;
    ensure!(page.code() == 200 && page.served_by() == "leader" && page.text.contains(BANNER), "{page:?}");
    ensure!(site.get("/readyz").await?.code() == 200, "pages can still be read");
    let run = site.get("/api/demo?reads=10").await?.body();
    ensure!(run["servers"][3]["count"] == 10 && run["mismatches"] == 0 && run["errors"] == 0, "{run}");
    (0..3).for_each(|index| site.replica(index).restore());
    site.await_rotation(3).await?;
    servers_of(&site, 3).await.map(drop)
}

#[tokio::test]
async fn replicas_that_are_being_copied_do_not_answer() -> anyhow::Result<()> {
    let site = Site::start_empty(&[]).await?;
    let page = site.get("/posts").await?;
    ensure!(page.code() == 200 && page.served_by() == "leader", "{page:?}");
    ensure!(page.text.contains("the replicas are still being copied"), "{page:?}");
    // The first page says so too.
    site.await_text("/", "Waiting for its first copy").await?;

    site.replicate(&[0, 1]).await?;
    site.await_rotation(2).await?;
    ensure!(servers_of(&site, 4).await? == ["replica-1", "replica-2"], "a half-copied replica answered");
    // A replica that is copied afresh leaves at once: the state comes with each read, not with the next probe.
    site.set_state(0, "copying").await?;
    ensure!(servers_of(&site, 4).await? == ["replica-2"], "a half-copied replica answered");
    Ok(())
}

#[tokio::test]
async fn without_the_leader_reading_goes_on_and_forms_keep_what_was_typed() -> anyhow::Result<()> {
    let site = Site::start().await?;
    site.leader().cut();
    servers_of(&site, 6).await?;
    ensure!(site.get("/readyz").await?.code() == 200, "pages can still be read");

    let body = json!({ "user_id": "ada", "content": "x" });
    for (method, path) in [(Method::POST, "/api/posts"), (Method::PUT, &*format!("/api/posts/{SEED}"))] {
        let reply = site.json(method, path, &body).await?;
        ensure!(reply.code() == 503 && reply.header("retry-after") == "2", "{reply:?}");
        ensure!(reply.body()["error"]["code"] == "leader_unavailable", "{reply:?}");
    }
    for path in ["/posts".to_owned(), format!("/posts/{SEED}/comments"), format!("/posts/{SEED}")] {
        let form = site.request(Method::POST, &path).body("version=1&user_id=ada&content=long+and+precious");
        let reply = Reply::of(form.header("content-type", "application/x-www-form-urlencoded")).await?;
        ensure!(reply.code() == 503 && reply.header("retry-after") == "2", "{path}: {reply:?}");
        ensure!(
            reply.text.contains("long and precious") && reply.text.contains("does not answer"),
            "{path}: {reply:?}"
        );
    }
    site.leader().restore();
    site.post("again").await.map(drop)
}

#[tokio::test]
async fn without_any_database_every_page_says_so_and_recovers() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let all = || (0..3).map(|index| site.replica(index)).chain([site.leader()]);
    all().for_each(e2e::proxy::ChaosProxy::cut);
    let started = Instant::now();
    let page = site.get("/posts").await?;
    ensure!(page.code() == 503 && page.header("retry-after") == "2", "{page:?}");
    ensure!(page.text.contains("Neither a replica nor the leader answers"), "{page:?}");
    ensure!(started.elapsed() < Duration::from_secs(2), "the page took {:?}", started.elapsed());
    let api = site.get("/api/posts").await?;
    ensure!(api.code() == 503 && api.body()["error"]["code"] == "no_database", "{api:?}");
    for path in ["/", "/Home/Demo", "/livez", "/metrics", "/posts/new"] {
        ensure!(site.get(path).await?.code() == 200, "{path} needs no database");
    }
    ensure!(site.get("/readyz").await?.code() == 503, "nothing can be read");
    all().for_each(e2e::proxy::ChaosProxy::restore);
    site.await_rotation(3).await?;
    e2e::wait::until("a write", PATIENCE, async || site.post("x").await.map(drop).map_err(|e| e.to_string()))
        .await
}
