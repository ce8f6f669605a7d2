//! The demo counts what really happened.

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::Value;

use crate::site::{Reply, Site};

fn counts(run: &Value) -> Vec<u64> {
    let servers = run["servers"].as_array().cloned().unwrap_or_default();
    servers.iter().map(|server| server["count"].as_u64().unwrap_or_default()).collect()
}

async fn start(site: &Site, body: &'static str, accept: &str) -> anyhow::Result<Reply> {
    let request = site.request(Method::POST, "/demo/runs").body(body).header("accept", accept);
    Reply::of(request.header("content-type", "application/x-www-form-urlencoded")).await
}

#[tokio::test]
async fn a_thousand_reads_are_334_333_333_whatever_else_is_read_meanwhile() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let others = async {
        for _ in 0..50 {
            site.get("/posts").await?;
        }
        anyhow::Ok(())
    };
    let (run, others) = tokio::join!(site.get("/api/demo"), others);
    others?;
    let run = run?.body();
    ensure!(counts(&run) == [334, 333, 333, 0], "{run}");
    ensure!(run["mismatches"] == 0 && run["errors"] == 0 && run["state"] == "complete", "{run}");
    ensure!(run["spread"] == 1 && run["elapsed_ms"].as_f64().unwrap_or(1e9) < 5000.0, "{run}");
    let sequence = run["sequence"].as_array().context("a sequence")?;
    let turn = |i: usize| sequence[i] == format!("replica-{}", i % 3 + 1);
    ensure!(sequence.len() == 1000 && (0..1000).all(turn), "not in turn: {sequence:?}");
    Ok(())
}

#[tokio::test]
async fn with_one_replica_down_it_is_500_500_and_nobody_sees_an_error() -> anyhow::Result<()> {
    let site = Site::start().await?;
    site.replica(2).cut();
    site.await_rotation(2).await?;
    let run = site.get("/api/demo").await?.body();
    ensure!(counts(&run) == [500, 500, 0, 0] && run["errors"] == 0 && run["mismatches"] == 0, "{run}");
    ensure!(run["verdict"].as_str().unwrap_or_default().contains("Without replica-3"), "{run}");
    Ok(())
}

#[tokio::test]
async fn a_replica_that_fails_during_the_run_costs_no_read() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let run = site.get("/api/demo?reads=3000");
    let fail = async {
        e2e::wait::until("a run", crate::site::PATIENCE, async || {
            let done = site.state().runs().all().first().map_or(0, |run| run.progress().done);
            if done > 0 { Ok(()) } else { Err("not begun".to_owned()) }
        })
        .await?;
        site.replica(0).cut();
        anyhow::Ok(())
    };
    let (run, failed) = tokio::join!(run, fail);
    failed?;
    let run = run?.body();
    ensure!(run["errors"] == 0 && run["mismatches"] == 0 && run["done"] == 3000, "{run}");
    let counts = counts(&run);
    ensure!(counts[0] < 1000 && counts[1] > 1000 && counts[2] > 1000 && counts[3] == 0, "{counts:?}");
    // Whether a read met the broken connection first, or the monitor did, is a matter of luck; that nobody saw it is not.
    Ok(())
}

#[tokio::test]
async fn a_replica_that_is_taken_away_is_missed_by_nobody_and_returns() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let drain = "drain=replica-2&drain_after=100&drain_back=300";
    let run = site.get(&format!("/api/demo?experiment=failure&reads=400&{drain}")).await?.body();
    ensure!(counts(&run) == [167, 67, 166, 0], "{run}");
    ensure!(run["errors"] == 0 && run["mismatches"] == 0 && run["retried"] == 0, "{run}");
    let sequence = run["sequence"].as_array().context("a sequence")?;
    let is_there = |reads: &[Value]| reads.iter().any(|name| name == "replica-2");
    ensure!(
        is_there(&sequence[97..100]) && !is_there(&sequence[100..300]) && is_there(&sequence[300..303]),
        "{sequence:?}"
    );
    let verdict = run["verdict"].as_str().unwrap_or_default();
    let told = "replica-2 left the rotation after 100 reads and returned after 300; meanwhile the others answered 100 / 100.";
    ensure!(verdict.starts_with(told), "{verdict}");
    // It was this run's only: the next one has all three.
    let next = site.get("/api/demo?reads=300").await?.body();
    ensure!(counts(&next) == [100, 100, 100, 0], "{next}");
    Ok(())
}

#[tokio::test]
async fn replicas_are_taken_away_by_hand_while_a_run_goes_on() -> anyhow::Result<()> {
    let site = Site::start().await?;
    // Slowed down, so that it still goes on when the form is sent.
    let body = "experiment=failure&reads=300&drain=none&slower=replica-1&slower_ms=20";
    let run = start(&site, body, "application/json").await?.body();
    let away = run["away"].as_str().context("an address")?;
    let change = async |replica: &'static str| {
        let request = site.request(Method::POST, away).body(replica);
        Reply::of(request.header("content-type", "application/x-www-form-urlencoded")).await
    };
    ensure!(change("replica=replica-9").await?.code() == 422, "there is no such replica");
    ensure!(change("replica=leader").await?.code() == 422, "the leader is no replica");
    ensure!(change("replica=replica-2").await?.code() == 303, "a browser is sent to the run's page");
    let page = site.get(run["page"].as_str().unwrap_or_default()).await?;
    for part in ["replica-2 left the rotation after", "did not return", "300 reads in"] {
        ensure!(page.text.contains(part), "{part} is not in {}", page.text);
    }
    Ok(())
}

#[tokio::test]
async fn a_server_with_another_name_is_found_out() -> anyhow::Result<()> {
    // The router believes to read replica-1, and reads replica-2.
    let site = Site::start().await?;
    let other = site.replica_url(1);
    let lying = Site::start_empty(&[("WEBAPP__REPLICAS__0__URL", &other)]).await?;
    lying.replicate(&[1, 2]).await?;
    lying.await_rotation(3).await?;
    let run = lying.get("/api/demo?reads=30").await?.body();
    ensure!(run["mismatches"] == 10 && counts(&run) == [10, 10, 10, 0], "{run}");
    ensure!(run["verdict"].as_str().unwrap_or_default().contains("that is a fault"), "{run}");
    Ok(())
}

#[tokio::test]
async fn the_page_of_a_run_needs_no_script() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let started = start(&site, "reads=100", "text/html").await?;
    ensure!(started.code() == 303, "{started:?}");
    let page = site.get(started.header("location")).await?;
    ensure!(page.code() == 200 && page.text.matches("<use href").count() == 103, "{page:?}");
    for part in [
        "100 reads in",
        "34 / 33 / 33",
        "<caption>",
        "✓ every time",
        "#100 replica-1",
        "All reads as a table",
    ] {
        ensure!(page.text.contains(part), "{part} is not in {}", page.text);
    }
    // The one that all pages share, and the one that lets the arrow keys go through the marks; the result needs neither.
    ensure!(page.text.matches("<script").count() == 2, "{}", page.text);
    ensure!(site.get("/Home/Demo").await?.text.contains(started.header("location")), "the run is not listed");
    ensure!(site.get("/demo/runs/018f0000-0000-7000-8000-000000000001").await?.code() == 404, "unknown run");
    Ok(())
}

#[tokio::test]
async fn progress_is_told_and_told_again_from_where_one_was() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let run = start(&site, "reads=60", "application/json").await?;
    ensure!(run.code() == 201, "{run:?}");
    let run = run.body();
    let events = run["events"].as_str().context("an address")?;
    let all = site.get(events).await?;
    ensure!(all.header("content-type") == "text/event-stream", "{all:?}");
    let cells = |reply: &Reply| {
        let data = reply.text.lines().filter_map(|line| line.strip_prefix("data: "));
        let events = data.map(|data| serde_json::from_str::<Value>(data).unwrap_or_default());
        events.map(|event| event["cells"].as_array().map_or(0, Vec::len)).sum::<usize>()
    };
    ensure!(all.text.contains("event: done") && cells(&all) == 60, "{all:?}");
    let rest = Reply::of(site.request(Method::GET, events).header("last-event-id", "50")).await?;
    ensure!(rest.text.contains("event: done") && cells(&rest) == 10, "{rest:?}");
    Ok(())
}

#[tokio::test]
async fn one_run_at_a_time_and_it_can_be_stopped() -> anyhow::Result<()> {
    // A frozen replica makes the first read of the run last until its time-out.
    let site =
        Site::start_empty(&[("WEBAPP__TIMEOUTS__READ_MS", "5000"), ("WEBAPP__HEALTH__TIMEOUT_MS", "60000")])
            .await?;
    site.replicate(&[0, 1, 2]).await?;
    site.await_rotation(3).await?;
    (0..3).for_each(|index| site.replica(index).pause());
    let first = start(&site, "reads=10000", "application/json").await?.body();
    let second = start(&site, "reads=10", "application/json").await?;
    ensure!(second.code() == 429 && second.header("retry-after") == "1", "{second:?}");
    let stop = site.request(Method::POST, first["stop"].as_str().unwrap_or_default());
    ensure!(Reply::of(stop).await?.code() == 303, "stop");
    let page = site.get(first["page"].as_str().unwrap_or_default()).await?;
    ensure!(page.text.contains("The run ended early"), "{page:?}");
    ensure!(start(&site, "reads=10001", "text/html").await?.code() == 422, "too many");
    ensure!(start(&site, "reads=5", "text/html").await?.code() == 303, "the next one may start");
    Ok(())
}

#[tokio::test]
async fn an_open_stream_does_not_hold_up_the_end() -> anyhow::Result<()> {
    let site =
        Site::start_empty(&[("WEBAPP__TIMEOUTS__READ_MS", "60000"), ("WEBAPP__HEALTH__TIMEOUT_MS", "60000")])
            .await?;
    site.replicate(&[0, 1, 2]).await?;
    site.await_rotation(3).await?;
    (0..3).for_each(|index| site.replica(index).pause());
    let run = start(&site, "reads=10", "application/json").await?.body();
    let stream = site.request(Method::GET, run["events"].as_str().unwrap_or_default()).send().await?;
    ensure!(stream.status() == 200, "the stream is open");
    site.stop().await
}

#[tokio::test]
async fn experiments_find_what_they_look_for_and_tokens_mend_it() -> anyhow::Result<()> {
    // Nothing replicates here, so whoever asks a replica without a token misses its own write.
    let site = Site::start().await?;
    let run = async |query: &str| anyhow::Ok(site.get(&format!("/api/demo?{query}")).await?.body());
    let without = run("experiment=own-writes&reads=10").await?;
    ensure!(without["odd"] == 10 && without["errors"] == 0 && counts(&without)[3] == 0, "{without}");
    ensure!(
        without["verdict"].as_str().unwrap_or_default().contains("10 reads (100.0 %) missed"),
        "{without}"
    );
    let with = run("experiment=own-writes&reads=3&guarded=on").await?;
    ensure!(with["odd"] == 0 && counts(&with)[3] == 3, "the leader has what was written: {with}");
    ensure!(with["plan"]["guarded"] == true, "{with}");
    let sums = run("experiment=snapshot&reads=30").await?;
    ensure!(sums["odd"] == 0 && sums["verdict"].as_str().unwrap_or_default().contains("same sum"), "{sums}");
    let stale = run("experiment=staleness&reads=200&in_flight=4").await?;
    ensure!(stale["done"] == 200 && stale["errors"] == 0, "{stale}");
    Ok(())
}

#[tokio::test]
async fn strategies_are_chosen_and_a_slow_replica_is_avoided() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let run = async |query: &str| anyhow::Ok(site.get(&format!("/api/demo?{query}")).await?.body());
    let avoided =
        run("strategy=least-in-flight&reads=200&in_flight=6&slower=replica-2&slower_ms=300").await?;
    let of = counts(&avoided);
    // A third of the reads would be 67. How the other two share the rest depends on what else the machine does: reads take tens
    // of microseconds, and whoever is held up for some milliseconds gets none meanwhile.
    ensure!(avoided["errors"] == 0 && of.iter().sum::<u64>() == 200 && of[1] < 20, "{of:?} {avoided}");
    let sticky = run("strategy=sticky&reads=20").await?;
    ensure!(counts(&sticky).contains(&20), "{sticky}");
    for wrong in ["reads=10001", "in_flight=33", "strategy=fastest", "experiment=magic", "slower=replica-9"] {
        ensure!(site.get(&format!("/api/demo?{wrong}")).await?.code() == 400, "{wrong}");
        ensure!(site.get(&format!("/demo?{wrong}")).await?.code() == 400, "{wrong}");
    }
    Ok(())
}

#[tokio::test]
async fn runs_can_be_compared_and_downloaded() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let mut runs = Vec::new();
    for body in ["reads=30", "reads=60&strategy=random"] {
        let started = start(&site, body, "text/html").await?;
        runs.push(started.header("location").rsplit('/').next().unwrap_or_default().to_owned());
        site.get(&format!("/demo/runs/{}", runs[runs.len() - 1])).await?;
    }
    let csv = site.get(&format!("/demo/runs/{}.csv", runs[0])).await?;
    ensure!(csv.header("content-type").starts_with("text/csv") && csv.text.lines().count() == 31, "{csv:?}");
    ensure!(csv.text.starts_with("read,server,milliseconds") && csv.text.contains("\n1,replica-"), "{csv:?}");
    let compared = site.get(&format!("/demo/compare?a={}&b={}", runs[0], runs[1])).await?;
    ensure!(compared.code() == 200 && compared.text.matches("data-waffle").count() == 2, "{compared:?}");
    ensure!(site.get(&format!("/demo/compare?a={}&b=x", runs[0])).await?.code() == 404, "an unknown run");
    ensure!(site.get(&format!("/demo/runs/{}.xml", runs[0])).await?.code() == 404, "an unknown form");
    Ok(())
}
