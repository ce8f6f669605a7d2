//! What the replicator pushes wakes who waits and tells where time went; and nobody depends on it.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::ensure;
use axum::Router;
use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::routing::get;
use futures_util::{Stream, stream};
use reqwest::Method;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use webapp::db::token::Token;

use crate::site::{PATIENCE, REPLICAS, Reply, Site};

/// A replicator as far as its stream goes.
struct Replicator {
    url: String,
    events: broadcast::Sender<(&'static str, String)>,
    server: JoinHandle<()>,
}

impl Replicator {
    async fn start() -> anyhow::Result<Self> {
        type Events = broadcast::Sender<(&'static str, String)>;
        async fn stream(State(events): State<Events>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
            Sse::new(stream::unfold(events.subscribe(), async |mut events| {
                let (name, data) = events.recv().await.ok()?;
                Some((Ok(Event::default().event(name).data(data)), events))
            }))
        }
        let events = Events::new(64);
        let router = Router::new().route("/v1/events", get(stream)).with_state(events.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let server = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { url, events, server })
    }

    /// Tells the application where a replica stands until it has heard it.
    async fn tell(&self, site: &Site, replica: &str, watermark: &str) -> anyhow::Result<()> {
        let data =
            serde_json::json!({ "replica": replica, "state": "live", "watermark": watermark, "xid": 1 });
        e2e::wait::until("the application to hear it", PATIENCE, async || {
            drop(self.events.send(("watermark", data.to_string())));
            let set = site.state().database().replicas();
            let is_heard = set.find(replica).is_some_and(webapp::db::replica::Replica::is_heard);
            if is_heard { Ok(()) } else { Err(format!("{} listen", self.events.receiver_count())) }
        })
        .await
    }
}

/// An application that looks at replicas every five seconds only, however many wait, and waits for eight.
async fn site(replicator: &Replicator) -> anyhow::Result<Site> {
    let settings = [
        ("WEBAPP__STATUS__REPLICATOR_URL", replicator.url.as_str()),
        ("WEBAPP__CONSISTENCY__WAIT_MAX_MS", "8000"),
        ("WEBAPP__HEALTH__PROBE_MS", "5000"),
        ("WEBAPP__HEALTH__AWAITED_PROBE_MS", "5000"),
    ];
    let site = Site::start_empty(&settings).await?;
    site.replicate(&[0, 1, 2]).await?;
    site.await_rotation(3).await?;
    Ok(site)
}

async fn read(site: &Site, written: &Reply) -> anyhow::Result<Reply> {
    let path = format!("/api/posts/{}", written.body()["id"].as_str().unwrap_or_default());
    let token = written.header("x-consistency-token");
    Reply::of(site.request(Method::GET, &path).header("x-consistency-token", token)).await
}

#[tokio::test]
async fn a_read_that_waits_is_woken_by_what_is_pushed() -> anyhow::Result<()> {
    let replicator = Replicator::start().await?;
    let site = site(&replicator).await?;
    for replica in REPLICAS {
        replicator.tell(&site, replica, "0/0").await?;
    }
    let written = site.post("on its way").await?;
    let token: Token = written.header("x-consistency-token").parse()?;
    let arrive = async {
        e2e::wait::until("the read to wait", PATIENCE, async || {
            let waits = site.state().database().replicas().is_awaited();
            if waits { Ok(()) } else { Err("nobody waits".to_owned()) }
        })
        .await?;
        site.replicate(&[2]).await?;
        let pushed = Instant::now();
        replicator.tell(&site, "replica-3", &token.lsn.to_string()).await?;
        anyhow::Ok(pushed)
    };
    let (reply, pushed) = tokio::join!(async { (read(&site, &written).await, Instant::now()) }, arrive);
    let (reply, answered) = (reply.0?, reply.1);
    let took = answered.saturating_duration_since(pushed?);
    ensure!(reply.code() == 200 && reply.served_by() == "replica-3", "{reply:?}");
    ensure!(took < Duration::from_secs(2), "it took {took:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_pushed_is_not_believed_against_the_replica_itself() -> anyhow::Result<()> {
    let replicator = Replicator::start().await?;
    let site = site(&replicator).await?;
    let written = site.post("on the second only").await?;
    site.replicate(&[1]).await?;
    for replica in REPLICAS {
        replicator.tell(&site, replica, "FFFFFFFF/0").await?;
    }
    for _ in 0..6 {
        let reply = read(&site, &written).await?;
        ensure!(reply.code() == 200 && reply.served_by() == "replica-2", "{reply:?}");
    }
    // The replicator goes away: replicas are asked again.
    replicator.server.abort();
    e2e::wait::until("the silence to be noticed", PATIENCE, async || {
        let set = site.state().database().replicas();
        let heard = set.iter().filter(|replica| replica.is_heard()).count();
        if heard == 0 { Ok(()) } else { Err(format!("{heard} are heard")) }
    })
    .await?;
    let written = site.post("asked for").await?;
    site.replicate(&[0]).await?;
    let reply = read(&site, &written).await?;
    ensure!(reply.code() == 200 && reply.served_by() == "replica-1", "{reply:?}");
    Ok(())
}

#[tokio::test]
async fn a_replicas_page_tells_where_its_delay_comes_from() -> anyhow::Result<()> {
    let replicator = Replicator::start().await?;
    let site = site(&replicator).await?;
    let page = "/status/replicas/replica-2";
    site.await_text(page, "The replicator has told of no transaction").await?;
    replicator.tell(&site, "replica-2", "0/0").await?;
    let push = |name, data: serde_json::Value| replicator.events.send((name, data.to_string()));
    let transaction = |lsn: &str| {
        serde_json::json!({ "xid": 7, "lsn": lsn, "committed_at_ms": 1000, "tables": {}, "complete": true,
            "left_out": 0 })
    };
    let applied = |lsn: &str, replica: &str, sent: Option<i64>, read: i64, at: i64| {
        serde_json::json!({ "lsn": lsn, "replica": replica, "sent_at_ms": sent, "read_at_ms": read,
            "applied_at_ms": at })
    };
    push("transaction", transaction("0/1"))?;
    push("applied", applied("0/1", "replica-2", None, 1011, 1040))?;
    // What nobody tells is no zero.
    site.await_text(page, "the replicator does not tell").await?;
    site.await_text(page, "29 ms").await?;
    let text = site.get(page).await?.text;
    ensure!(text.contains("40 ms") && !text.contains("stage-bar"), "{text}");

    for lsn in ["0/2", "0/3"] {
        push("transaction", transaction(lsn))?;
        push("applied", applied(lsn, "replica-1", Some(1003), 1006, 1007))?;
        push("applied", applied(lsn, "replica-2", Some(1004), 1011, 1040))?;
    }
    site.await_text(page, "the latest 3 transactions").await?;
    let text = site.get(page).await?.text;
    for part in [
        "stage-bar",
        "<strong>4 ms</strong>",
        "<strong>7 ms</strong>",
        "<strong>29 ms</strong>",
        "33 ms earlier",
    ] {
        ensure!(text.contains(part), "{part} is not in {text}");
    }
    ensure!(!text.contains("clocks differ"), "{text}");
    push("transaction", transaction("0/4"))?;
    push("applied", applied("0/4", "replica-2", Some(988), 1000, 1001))?;
    site.await_text(page, "The clocks differ by 12 ms or more").await
}
