//! The status page: how everything is, in every state, without asking a database per reader.

use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::wait;
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::{PATIENCE, Reply, Site};

/// Waits until the status says so, for programs and on the page, and returns both.
async fn await_verdict(site: &Site, part: &str) -> anyhow::Result<(Value, String)> {
    wait::until(&format!("the verdict to have '{part}'"), PATIENCE, async || {
        // The leader's log is shared with other tests' databases and moves on, so to be caught up is work.
        if part.contains("caught up") || part.contains("attention") {
            site.replicate(&[0, 1, 2]).await.map_err(|error| error.to_string())?;
        }
        let status = site.get("/api/status").await.map_err(|error| error.to_string())?;
        let mut page = site.get("/status").await.map_err(|error| error.to_string())?;
        page.text = page.text.replace("&#39;", "'");
        let said = status.body()["verdict"].as_str().unwrap_or_default().to_owned();
        if status.code() == 200 && page.code() == 200 && said.contains(part) && page.text.contains(part) {
            Ok((status.body(), page.text))
        } else {
            Err(format!("{} {said}", page.code()))
        }
    })
    .await
}

fn check<'a>(status: &'a Value, slug: &str) -> anyhow::Result<&'a Value> {
    let checks = status["checks"].as_array().context("read the checks")?;
    checks.iter().find(|check| check["slug"] == slug).with_context(|| format!("no check {slug} in {status}"))
}

#[tokio::test]
async fn a_healthy_system_is_said_to_be_caught_up() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let (status, page) = await_verdict(&site, "All 3 replicas are caught up").await?;
    for replica in status["replicas"].as_array().context("read the replicas")? {
        ensure!(replica["state"] == "Caught up" && replica["in_rotation"] == true, "{replica}");
        // The leader's log is shared with other tests' databases, so it moves on without anything being missing here.
        ensure!(replica["behind_ms"].as_u64().is_some_and(|ms| ms <= 2500), "{replica}");
        let name = replica["name"].as_str().unwrap_or_default();
        ensure!(check(&status, &format!("{name}-lag"))?["level"] == "ok", "{status}");
    }
    ensure!(check(&status, "leader-reachable")?["level"] == "ok", "{status}");
    ensure!(check(&status, "leader-publication")?["level"] == "ok", "{status}");
    ensure!(
        page.contains("<table") && page.contains("Takes writes") && page.contains("3 of 3 caught up"),
        "{page}"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_down_is_named_with_cause_and_command_and_recovers() -> anyhow::Result<()> {
    let site = Site::start_empty(&[("WEBAPP__STATUS__START_COMMAND", "compose start {service}")]).await?;
    site.replicate(&[0, 1, 2]).await?;
    await_verdict(&site, "All 3 replicas are caught up").await?;

    site.replica(1).cut();
    let (status, page) = await_verdict(&site, "2 of 3 replicas answer reads. replica-2 is left out").await?;
    let down = check(&status, "replica-2-reachable")?;
    ensure!(down["level"] == "error" && down["fix"] == "compose start replica-2", "{down}");
    ensure!(page.contains("replica-2 is down") && page.contains("compose start replica-2"), "{page}");
    // What it said last is shown as such, and is no zero.
    ensure!(page.contains("class=\"old\"") && page.contains("the last that were seen"), "{page}");

    site.leader().cut();
    let (status, page) = await_verdict(&site, "The leader can't be reached: nothing can be written").await?;
    ensure!(check(&status, "leader-reachable")?["fix"] == "compose start leader", "{status}");
    ensure!(status["leader"].is_null() && page.contains("Leader down"), "{status}");

    site.replica(0).cut();
    site.replica(2).cut();
    await_verdict(&site, "No database answers").await?;
    for index in 0..3 {
        site.replica(index).restore();
    }
    site.leader().restore();
    let (status, _) = await_verdict(&site, "All 3 replicas are caught up").await?;
    ensure!(!check(&status, "replica-2-applying")?["since"].is_null(), "{status}");
    Ok(())
}

#[tokio::test]
async fn the_replicator_and_kafka_connect_may_be_away() -> anyhow::Result<()> {
    // Nobody listens on port 9 (discard).
    let site = Site::start_empty(&[
        ("WEBAPP__STATUS__REPLICATOR_URL", "http://127.0.0.1:9"),
        ("WEBAPP__STATUS__CONNECT_URL", "http://127.0.0.1:9"),
        ("WEBAPP__STATUS__BROKER", "127.0.0.1:9"),
    ])
    .await?;
    site.replicate(&[0, 1, 2]).await?;
    let (status, page) =
        await_verdict(&site, "The replicator does not answer. Reads go on from all 3 replicas").await?;
    for slug in ["replicator", "connector", "broker"] {
        ensure!(check(&status, slug)?["level"] == "error", "{status}");
    }
    // The replicas' own contract says how they are, whether or not somebody applies.
    ensure!(
        status["replicas"][0]["watermark"].is_string() && page.contains("Nothing listens there."),
        "{page}"
    );
    Ok(())
}

#[tokio::test]
async fn topics_are_listed_where_there_are_any() -> anyhow::Result<()> {
    let site = Site::start_empty(&[]).await?;
    site.replicate(&[0, 1, 2]).await?;
    let (status, page) = await_verdict(&site, "All 3 replicas are caught up").await?;
    ensure!(status["topics"].is_null() && !page.contains("id=\"topics\""), "not fed from topics: {status}");
    // The leader's own stream is none, and what is no position costs nothing else.
    site.set_offsets(0, &json!({ "wal/0": 4096, "app.odd/0": "five" })).await?;
    site.set_offsets(1, &json!({ "app.public.posts/0": 40, "app.transaction/0": 90 })).await?;
    site.set_offsets(2, &json!({ "app.public.posts/0": 70, "app.transaction/0": 90 })).await?;
    site.await_text("/status", "app.public.posts").await?;
    site.set_offsets(0, &json!({ "app.public.posts/0": 71, "app.transaction/0": 90 })).await?;
    let topics = await_topics(&site, &json!(71)).await?;
    let partitions = topics.as_array().context("read the topics")?;
    ensure!(partitions.len() == 2 && partitions[0]["topic"] == "app.public.posts", "{topics}");
    let posts = &partitions[0];
    ensure!(
        posts["needed_from"] == 40 && posts["waiting_at_least"] == 31 && posts["end"].is_null(),
        "{posts}"
    );
    ensure!(posts["replicas"][2] == json!({ "name": "replica-3", "needed_from": 70 }), "{posts}");
    ensure!(partitions[1]["waiting_at_least"] == 0, "{topics}");
    let page = site.get("/status").await?.text;
    for part in ["71 or later", "at least 31", "replica-2, replica-3", "what waits is not known (—)"] {
        ensure!(page.contains(part), "{part} is not in {page}");
    }
    // A replica that is gone still needs what it needed when it last answered.
    site.replica(1).cut();
    await_verdict(&site, "replica-2 is left out").await?;
    ensure!(await_topics(&site, &json!(71)).await? == topics, "the last that was seen");
    Ok(())
}

/// The topics of the status, once the posts' furthest replica has come so far.
async fn await_topics(site: &Site, reached: &Value) -> anyhow::Result<Value> {
    wait::until("the replicas' positions to be seen", PATIENCE, async || {
        let topics =
            site.get("/api/status").await.map_err(|error| error.to_string())?.body()["topics"].take();
        if topics[0]["end_at_least"] == *reached { Ok(topics) } else { Err(topics.to_string()) }
    })
    .await
}

#[tokio::test]
async fn positions_that_nobody_has_told_are_no_zeros() -> anyhow::Result<()> {
    // Nobody listens on port 9 (discard), so no replica has ever answered.
    let nowhere = "postgres://app_reader:x@127.0.0.1:9/app";
    let site = Site::start_empty(&[
        ("WEBAPP__REPLICAS__0__URL", nowhere),
        ("WEBAPP__REPLICAS__1__URL", nowhere),
        ("WEBAPP__REPLICAS__2__URL", nowhere),
        ("WEBAPP__STATUS__BROKER", "127.0.0.1:9"),
    ])
    .await?;
    site.await_text("/status", "No replica has said yet where it stands in the topics.").await?;
    ensure!(site.get("/api/status").await?.body()["topics"] == json!([]), "nothing is known");
    Ok(())
}

#[tokio::test]
async fn a_page_is_kept_up_to_date_by_one_stream_that_ends_with_the_application() -> anyhow::Result<()> {
    let site = Site::start().await?;
    ensure!(site.get("/live/nothing").await?.code() == 404, "an unknown stream");
    let mut stream = site.request(Method::GET, "/live/status").send().await?;
    ensure!(stream.headers()["content-type"] == "text/event-stream", "{:?}", stream.headers());
    let mut text = String::new();
    while text.matches("\n\n").count() < 3 {
        let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await.context("wait for events")??;
        text.push_str(&String::from_utf8_lossy(&chunk.context("the stream ended")?));
    }
    let events: Vec<&str> = text.split("\n\n").collect();
    for event in &events[..3] {
        let data =
            event.lines().find_map(|line| line.strip_prefix("data: ")).with_context(|| event.to_string())?;
        let parts: Value = serde_json::from_str(data)?;
        ensure!(parts["live-pill"].is_string(), "{event}");
        ensure!(parts["live-status"].as_str().unwrap_or_default().contains("<table"), "{event}");
    }
    ensure!(events[0].contains("id: ") && events[0] != events[1], "each is a sample of its own");
    // The stream is still open: it must not hold up the end.
    tokio::time::timeout(Duration::from_secs(3), site.stop()).await.context("stop with an open stream")?
}

#[tokio::test]
async fn colours_are_chosen_and_kept() -> anyhow::Result<()> {
    let site = Site::start().await?;
    ensure!(!site.get("/status").await?.text.contains("data-theme"), "nothing was chosen");
    let choose = |back: &str| {
        let back = back.replace('?', "%3F").replace('=', "%3D");
        let request = site.request(Method::POST, "/theme").body(format!("theme=dark&back={back}"));
        Reply::of(request.header("content-type", "application/x-www-form-urlencoded"))
    };
    let chosen = choose("/posts?search=x").await?;
    ensure!(chosen.code() == 303 && chosen.header("location") == "/posts?search=x", "{chosen:?}");
    let page = Reply::of(site.request(Method::GET, "/status").header("cookie", chosen.cookies())).await?;
    ensure!(page.text.contains("<html lang=\"en\" data-theme=\"dark\">"), "{}", page.text);
    for elsewhere in ["//example.org/", "https://example.org/", "/\\example.org"] {
        ensure!(choose(elsewhere).await?.header("location") == "/", "sent to {elsewhere}");
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_has_a_page_with_its_tables_and_what_it_refused() -> anyhow::Result<()> {
    let site = Site::start().await?;
    await_verdict(&site, "All 3 replicas are caught up").await?;
    let page = site.get("/status/replicas/replica-2?minutes=60&compare=1").await?.text;
    // The sites of these tests replicate all but the accounts.
    ensure!(page.matches("✓ yes").count() == 4 && page.contains("Some tables differ"), "{page}");
    for part in ["figcaption>It was ", "public.posts", "It took every change. Good."] {
        ensure!(page.contains(part), "{part} is not in {page}");
    }
    ensure!(site.get("/errors").await?.text.contains("Nothing failed. Good."), "nothing was refused");
    let unknown = site.get("/status/replicas/replica-9").await?;
    ensure!(
        unknown.code() == 404 && unknown.text.contains("replica-9 is not configured. There are replica-1"),
        "{unknown:?}"
    );

    // No replicator tells of anything here (tests/it/push.rs has one).
    ensure!(page.contains("Where its delay comes from") && page.contains("status.replicator_url"), "{page}");

    site.refuse_a_change(1).await?;
    let errors = site.get("/errors").await?.text;
    for part in ["23505", "duplicate key", "public.posts", "quarantine retry --replica replica-2"] {
        ensure!(errors.contains(part), "{part} is not in {errors}");
    }
    // Something else may want attention already: there is no slot here.
    wait::until("the quarantine to be seen", PATIENCE, async || {
        let status = site.get("/api/status").await.map_err(|error| error.to_string())?.body();
        let check = check(&status, "replica-2-quarantine").map_err(|error| error.to_string())?;
        if check["level"] == "error" { Ok(()) } else { Err(check.to_string()) }
    })
    .await?;
    await_verdict(&site, "something wants attention").await?;

    site.post("a row more on the leader").await?;
    let page = site.get("/status/replicas/replica-2?compare=1").await?.text;
    ensure!(page.matches("✓ yes").count() == 3, "{page}");
    site.replica(1).cut();
    site.await_text("/status/replicas/replica-2", "its counters are not known").await?;
    site.await_text("/errors", "what it refused is not known now").await
}

#[tokio::test]
async fn a_write_is_shown_arriving_on_each_replica() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let form = site.request(Method::POST, "/posts").body("user_id=ada&content=on%20its%20way");
    let saved = Reply::of(form.header("content-type", "application/x-www-form-urlencoded")).await?;
    let page = saved.header("location").to_owned();
    ensure!(saved.code() == 303 && page.contains("?done=created&write="), "{saved:?}");
    let read = async || Reply::of(site.request(Method::GET, &page).header("cookie", saved.cookies())).await;
    let text = read().await?.text;
    ensure!(text.contains("Saved on the leader") && text.matches("on its way</li>").count() == 3, "{text}");

    // The stream tells of it as it happens, without a question to a database.
    let write = page.rsplit('=').next().unwrap_or_default();
    let mut stream = site.request(Method::GET, &format!("/live/arrival?write={write}")).send().await?;
    site.replicate(&[0]).await?;
    let mut events = String::new();
    while !events.contains("replica-1 has it after") {
        let chunk =
            tokio::time::timeout(PATIENCE, stream.chunk()).await.context("wait for the arrival")??;
        events.push_str(&String::from_utf8_lossy(&chunk.context("the stream ended")?));
    }
    site.replicate(&[1, 2]).await?;
    site.await_rotation(3).await?;
    wait::until("the page to show all three", PATIENCE, async || {
        let text = read().await.map_err(|error| error.to_string())?.text;
        if text.matches("has it after").count() == 3 { Ok(()) } else { Err(text) }
    })
    .await?;
    ensure!(site.get("/live/arrival?write=x").await?.code() == 404, "an unknown write");
    Ok(())
}
