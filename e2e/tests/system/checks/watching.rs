//! A status page that stays open costs what one that was just opened costs: one stream, memory that stays flat, no question
//! to a database for each further viewer, and nothing at all while its tab is hidden.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::{process, wait};
use serde_json::json;
use tokio_postgres::Client;

use crate::settings;
use crate::system::{Login, PATIENCE, REPLICAS, System};
use crate::webdriver::Browser;

/// Further viewers, whose streams are read by this process.
const VIEWERS: u32 = 20;

/// How long the databases' transactions are counted at least: a session tells what it did a second later.
const COUNTED: Duration = Duration::from_secs(8);

/// How long a hidden tab must be silent.
const HIDDEN: Duration = Duration::from_secs(5);

/// What may be held more at the end than after a quarter of the time. The web application keeps an hour of lags, some 100 bytes a
/// second; a page that kept each of its updates would grow by a megabyte in 10 minutes.
const WEB_GROWTH_KIB: u64 = 2048;
const PAGE_GROWTH_KIB: u64 = 512;

pub(super) async fn costs_nothing_more(system: Rc<System>) -> anyhow::Result<()> {
    let open_for = Duration::from_secs(settings::number("E2E_WATCH_SECONDS", 20)?);
    let alone = quietest(&system, 2, 0.0).await?;
    let browser = Browser::open().await?;
    browser.visit(&system.http_url("webapp", "/status")?).await?;
    browser.await_text("Live.").await?;
    await_streams(&system, 1).await?;

    tokio::time::sleep(open_for / 4).await;
    let early = Held::now(&system, &browser).await?;
    tokio::time::sleep(open_for - open_for / 4).await;
    let late = Held::now(&system, &browser).await?;
    println!("  open for {open_for:.0?}: after a quarter {early:?}, at the end {late:?}");
    late.ensure_flat_since(&early)?;
    ensure!(streams(&system).await? == 1, "the page has another number of streams than one");

    let mut viewers = Vec::new();
    for _ in 0..VIEWERS {
        let stream = system.http().get(system.http_url("webapp", "/live/status")?).send().await?;
        viewers.push(tokio::spawn(read_to_its_end(stream)));
    }
    await_streams(&system, u64::from(VIEWERS) + 1).await?;
    // One question of each viewer in ten seconds would be seen.
    let bound = alone + f64::from(VIEWERS) / 10.0;
    let together = quietest(&system, 4, bound).await?;
    viewers.iter().for_each(tokio::task::JoinHandle::abort);
    println!(
        "  transactions per second on all databases: {alone:.1} without a viewer, {together:.1} with {}",
        VIEWERS + 1
    );
    ensure!(together < bound, "viewers cost the databases questions");

    await_streams(&system, 1).await?;
    browser.minimize().await?;
    ensure!(browser.run("return document.hidden").await? == true, "the tab is not hidden");
    await_streams(&system, 0).await?;
    let before = requests(&system).await?;
    tokio::time::sleep(HIDDEN).await;
    let made = requests(&system).await? - before;
    ensure!(made == 0, "a hidden tab made {made} requests in {HIDDEN:?}");
    browser.restore().await?;
    await_streams(&system, 1).await?;
    browser.await_text("Live.").await?;
    println!("  a hidden tab: no stream and no request in {HIDDEN:.0?}; one stream again when it is shown");
    browser.close().await
}

/// How often garbage is collected before what is held is counted.
const COLLECTIONS: u32 = 5;

/// What the page and its server hold.
#[derive(Debug)]
struct Held {
    /// Resident memory of the web application.
    web_kib: u64,
    /// The page's scripts, after what is garbage was collected.
    page_kib: u64,
    nodes: u64,
}

impl Held {
    async fn now(system: &System, browser: &Browser) -> anyhow::Result<Self> {
        let mut held = Self::after_collecting(system, browser).await?;
        // What one collection lets go of in the page's scripts, such as the handle of an element that was replaced, is what keeps
        // others until the next: once 1437 elements were counted where 646 to 790 were shown.
        for _ in 1..COLLECTIONS {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let again = Self::after_collecting(system, browser).await?;
            held.page_kib = held.page_kib.min(again.page_kib);
            held.nodes = held.nodes.min(again.nodes);
        }
        Ok(held)
    }

    async fn after_collecting(system: &System, browser: &Browser) -> anyhow::Result<Self> {
        browser.chromium("HeapProfiler.collectGarbage", &json!({})).await?;
        let heap = browser.chromium("Runtime.getHeapUsage", &json!({})).await?;
        let dom = browser.chromium("Memory.getDOMCounters", &json!({})).await?;
        let number = |value: &serde_json::Value| value.as_f64().context("read a figure of Chromium's");
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "sizes and counts, far below 2^53"
        )]
        let whole = |value: f64| value as u64;
        Ok(Self {
            web_kib: process::resident_memory_kib(system.pid("webapp")?)?,
            page_kib: whole(number(&heap["usedSize"])?) / 1024,
            nodes: whole(number(&dom["nodes"])?),
        })
    }

    fn ensure_flat_since(&self, early: &Self) -> anyhow::Result<()> {
        ensure!(self.web_kib <= early.web_kib + WEB_GROWTH_KIB, "the web application's memory grows");
        ensure!(self.page_kib <= early.page_kib + PAGE_GROWTH_KIB, "the page's memory grows");
        ensure!(self.nodes <= early.nodes + early.nodes / 4, "the page's elements become more");
        Ok(())
    }
}

/// The lowest of so many counts, or the first below `enough`. What viewers cost is in each of them; what the servers do for
/// themselves, and what sessions tell late of the check before, is in some: 53 and 23 per second were seen without a viewer.
async fn quietest(system: &System, counts: usize, enough: f64) -> anyhow::Result<f64> {
    let mut lowest = f64::INFINITY;
    for _ in 0..counts {
        lowest = lowest.min(transactions_per_second(system).await?);
        if lowest < enough {
            break;
        }
    }
    Ok(lowest)
}

/// On the leader and on all replicas, whoever made them: the system is idle but for its own signs of life.
async fn transactions_per_second(system: &System) -> anyhow::Result<f64> {
    let mut sessions = Vec::new();
    for server in ["leader"].iter().chain(&REPLICAS) {
        sessions.push(system.connect(server, Login::Owner).await?);
    }
    let began = std::time::Instant::now();
    let before = transactions(&sessions).await?;
    tokio::time::sleep(COUNTED).await;
    let made = transactions(&sessions).await? - before;
    Ok(made / began.elapsed().as_secs_f64())
}

async fn transactions(sessions: &[Client]) -> anyhow::Result<f64> {
    let mut all = 0.0;
    for session in sessions {
        let sum = "SELECT (xact_commit + xact_rollback)::float8 FROM pg_stat_database WHERE datname = current_database()";
        all += session.query_one(sum, &[]).await.context("count transactions")?.get::<_, f64>(0);
    }
    Ok(all)
}

async fn read_to_its_end(mut stream: reqwest::Response) {
    while matches!(stream.chunk().await, Ok(Some(_))) {}
}

async fn await_streams(system: &System, wanted: u64) -> anyhow::Result<()> {
    wait::until(&format!("{wanted} open streams"), PATIENCE, async || {
        let open = streams(system).await.map_err(|error| format!("{error:#}"))?;
        if open == wanted { Ok(()) } else { Err(format!("{open} are open")) }
    })
    .await
}

/// Open streams of pages, as the web application counts them.
async fn streams(system: &System) -> anyhow::Result<u64> {
    sum_of(system, |line| line.starts_with("web_sse_clients{stream=\"live\"}")).await
}

/// Requests that were answered so far, but for those that look at the metrics.
async fn requests(system: &System) -> anyhow::Result<u64> {
    sum_of(system, |line| {
        line.starts_with("http_server_request_duration_seconds_count") && !line.contains("route=\"/metrics\"")
    })
    .await
}

async fn sum_of(system: &System, is_meant: impl Fn(&str) -> bool) -> anyhow::Result<u64> {
    let text = system.http().get(system.http_url("webapp", "/metrics")?).send().await?.text().await?;
    let values = text.lines().filter(|line| is_meant(line)).filter_map(|line| line.rsplit_once(' '));
    values.map(|(name, value)| value.parse::<u64>().with_context(|| format!("read {name}: {value}"))).sum()
}
