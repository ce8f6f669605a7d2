//! The pages, in a real browser: what a person does, and what the demo promises.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, ensure};
use e2e::wait;
use serde_json::Value;

use crate::system::{Login, PATIENCE, REPLICAS, System};
use crate::webdriver::Browser;

/// Reads of a demo run, as the page proposes them.
const READS: u64 = 1000;

/// Opens a browser, does `steps` in it, and demands that its console shows no error.
async fn in_browser<T>(steps: impl AsyncFnOnce(&Browser) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let browser = Browser::open().await?;
    let value = steps(&browser).await?;
    browser.close().await?;
    Ok(value)
}

/// Every page after a write is read from a replica, so each step also is a read of one's own write.
pub(super) async fn posts(system: Rc<System>) -> anyhow::Result<()> {
    let posts = system.http_url("webapp", "/posts")?;
    let title = format!("Hello from a browser, run {}", std::process::id());
    in_browser(async |browser| {
        browser.visit(&posts).await?;
        browser.click_text("Write a post").await?;
        browser.fill("#user_id", "browser").await?;
        browser.fill("#content", &format!("{title}\n<script>alert('escaped')</script>")).await?;
        browser.click_text("Save").await?;
        browser.await_text(&title).await?;
        browser.await_text("<script>alert('escaped')</script>").await?;
        let post = browser.url().await?;

        browser.click_text("Edit").await?;
        browser.fill("#content", &format!("{title}, edited")).await?;
        browser.click_text("Save").await?;
        browser.await_text(&format!("{title}, edited")).await?;
        browser.await_text("version 2").await?;

        browser.fill("#like-user", "browser").await?;
        browser.click_text("Like").await?;
        browser.await_text("1 like").await?;

        browser.fill("#user_id", "browser").await?;
        browser.fill("#content", "A comment from a browser").await?;
        browser.click_text("Add the comment").await?;
        browser.await_text("A comment from a browser").await?;
        browser.await_text("1 comment").await?;
        system.assert_equal().await.context("compare the replicas after the writes of the browser")?;

        browser.visit(&posts).await?;
        browser.await_text(&format!("{title}, edited")).await?;

        browser.visit(&post).await?;
        browser.click_text("Delete…").await?;
        browser.click_text("Delete the post of browser").await?;
        browser.await_text("The post and everything about it is deleted.").await?;
        let left = browser.text().await?;
        ensure!(!left.contains(&format!("{title}, edited")), "the deleted post is still listed: {left}");
        Ok(())
    })
    .await?;
    system.assert_equal().await?;
    for name in REPLICAS {
        let replica = system.connect(name, Login::Reader).await?;
        let row = replica.query_one("SELECT count(*) FROM posts WHERE user_id = 'browser'", &[]).await?;
        ensure!(row.get::<_, i64>(0) == 0, "{name} still has the deleted post");
    }
    println!(
        "  written, read, edited, liked, commented and deleted in Chromium, with no error in its console"
    );
    Ok(())
}

pub(super) async fn demo(system: Rc<System>) -> anyhow::Result<()> {
    let run = run_demo(&system).await?;
    let counts = sorted_counts(&run)?;
    ensure!(counts == [0, 333, 333, 334], "the servers answered {counts:?}: {run}");
    // Not only the sums: no replica answers twice in a row.
    let sequence = run["sequence"].as_array().context("read the sequence")?;
    ensure!(sequence.len() == 1000, "the sequence has {} reads", sequence.len());
    let repeated = sequence.windows(2).filter(|pair| pair[0] == pair[1]).count();
    ensure!(repeated == 0, "{repeated} reads went to the replica of the read before");
    Ok(())
}

pub(super) async fn demo_with_an_outage(system: Rc<System>) -> anyhow::Result<()> {
    system.service("stop", REPLICAS[2]).await?;
    let run = run_demo(&system).await;
    system.service("start", REPLICAS[2]).await?;
    let counts = sorted_counts(&run?)?;
    ensure!(counts == [0, 0, 500, 500], "with a replica stopped, the servers answered {counts:?}");

    // It returns as soon as it is measured healthy, without anybody's help.
    system.await_replicas().await?;
    let started = Instant::now();
    wait::until("the replica to be read from again", PATIENCE, async || {
        let (_, run) =
            system.get("webapp", "/api/demo?reads=30").await.map_err(|error| format!("{error:#}"))?;
        let counts = sorted_counts(&run).map_err(|error| format!("{error:#}"))?;
        if counts == [0, 10, 10, 10] { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await?;
    println!("  back in rotation {:.1?} after it had caught up", started.elapsed());
    Ok(())
}

/// Runs the demo by its button, reads what the page says and returns the same run as the API tells it.
async fn run_demo(system: &System) -> anyhow::Result<Value> {
    let page = system.http_url("webapp", "/Home/Demo")?;
    let (address, shown) = in_browser(async |browser| {
        browser.visit(&page).await?;
        browser.click_text("Run").await?;
        browser.await_text("Belief = truth").await?;
        Ok((browser.url().await?, browser.text().await?))
    })
    .await?;
    let verdict = shown.lines().find(|line| line.contains("reads in")).unwrap_or_default();
    println!("  the page says: {verdict}");
    ensure!(shown.contains("✓ every time"), "belief and truth differ: {shown}");

    let id = address.rsplit('/').next().context("find the run's id")?;
    let (status, run) = system.get("webapp", &format!("/demo/runs/{id}.json")).await?;
    ensure!(status == 200 && run["done"] == READS, "the run answered {status}: {run}");
    ensure!(
        run["mismatches"] == 0 && run["errors"] == 0,
        "{} mismatches, {} errors",
        run["mismatches"],
        run["errors"]
    );
    for count in counts(&run)? {
        ensure!(count == 0 || shown.contains(&count.to_string()), "the page does not show {count}: {shown}");
    }
    println!(
        "  {} ms for {READS} reads: {}, p50/p95/p99 {} ms",
        run["elapsed_ms"],
        names_and_counts(&run),
        run["milliseconds"]
    );
    Ok(run)
}

fn counts(run: &Value) -> anyhow::Result<Vec<u64>> {
    let servers = run["servers"].as_array().with_context(|| format!("read the servers of {run}"))?;
    servers.iter().map(|server| server["count"].as_u64().context("read a count")).collect()
}

/// The counts of the replicas and the leader in ascending order: which replica is first is chance.
fn sorted_counts(run: &Value) -> anyhow::Result<Vec<u64>> {
    let mut counts = counts(run)?;
    counts.sort_unstable();
    Ok(counts)
}

fn names_and_counts(run: &Value) -> String {
    let servers = run["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = servers
        .iter()
        .map(|server| format!("{} {}", server["name"].as_str().unwrap_or_default(), server["count"]));
    names.collect::<Vec<_>>().join(", ")
}
