//! What those hear who listen to the daemon.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use replicator::admin::events::Streams;
use replicator::admin::{self, AdminState, Managed};
use replicator::events::Feed;
use replicator::replica::apply::Applied;
use replicator::source::kafka::ends::Ends;
use replicator::status::{StatusCell, WorkerState};
use replicator::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use replicator::vocabulary::offset::TopicPartition;
use replicator::vocabulary::parcel::{CommitPoint, Committed, Parcel, ParcelEnd, Passage, ReplicaPhase};
use serde_json::Value;
use tokio::net::TcpListener;

/// The process's recorder of metrics: there is one, whichever test comes first.
pub(crate) fn recorder() -> anyhow::Result<PrometheusHandle> {
    static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut recorder = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if recorder.is_none() {
        *recorder = Some(replicator::metrics::install()?);
    }
    recorder.clone().context("it was just installed")
}

/// A daemon's HTTP server and a listener on it.
struct Listener {
    cells: Vec<StatusCell>,
    feed: Feed,
    ends: Ends,
    origin: String,
    response: reqwest::Response,
    buffer: String,
}

impl Listener {
    async fn new() -> anyhow::Result<Self> {
        let cells: Vec<_> = ["replica-1", "replica-2"].into_iter().map(StatusCell::new).collect();
        let managed =
            |status: &StatusCell| Managed { status: status.clone(), url: tokio_postgres::Config::new() };
        let (feed, ends) = (Feed::default(), Ends::default());
        let router = admin::router(AdminState {
            replicas: cells.iter().map(managed).collect(),
            metrics: recorder()?,
            streams: Streams::new(feed.clone()),
            token: None,
            leader: None,
            ends: Some(ends.clone()),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let http = reqwest::Client::builder().no_proxy().build()?;
        let response = http.get(format!("{origin}/v1/events")).send().await?.error_for_status()?;
        Ok(Self { cells, feed, ends, origin, response, buffer: String::new() })
    }

    /// The next event: its name and its data.
    async fn next(&mut self) -> anyhow::Result<(String, Value)> {
        loop {
            while let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                let found = field("event: ").zip(field("data: "));
                let parsed =
                    found.map(|(name, data)| serde_json::from_str(data).map(|data| (name.to_owned(), data)));
                self.buffer = rest.to_owned();
                // Without a name it is a sign of life.
                if let Some(parsed) = parsed {
                    return Ok(parsed?);
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(10), self.response.chunk()).await??;
            self.buffer.push_str(std::str::from_utf8(&chunk.context("the stream ended")?)?);
        }
    }
}

fn committed(lsn: u64) -> Committed {
    Committed { xid: Xid(7), lsn: CommitLsn(Lsn(lsn)), committed_at_ms: 5 }
}

fn applied(lsn: u64) -> Applied {
    Applied {
        last: Some(committed(lsn)),
        reached: None,
        phase: ReplicaPhase::Live,
        transactions: 1,
        changes: 1,
        inserted_for_missing: 0,
        quarantined: 0,
        fetched_for_missing: 0,
        in_source_order: false,
    }
}

#[tokio::test]
async fn watermarks_are_told_at_once_and_what_moves_fast_is_told_together() -> anyhow::Result<()> {
    let mut listener = Listener::new().await?;
    let mut states = Vec::new();
    for _ in 0..2 {
        let (name, data) = listener.next().await?;
        assert_eq!(
            (name.as_str(), &data["state"], &data["watermark"]),
            ("watermark", &"starting".into(), &Value::Null)
        );
        states.push(data["replica"].as_str().unwrap_or_default().to_owned());
    }
    states.sort();
    assert_eq!(states, ["replica-1", "replica-2"]);
    for lsn in 1..=1000 {
        listener.cells[1].applied(&applied(lsn));
    }
    let mut told = 0;
    loop {
        let (_, data) = listener.next().await?;
        told += 1;
        assert_eq!((&data["replica"], &data["state"]), (&"replica-2".into(), &"live".into()));
        if data["watermark"] == "0/3E8" {
            break;
        }
    }
    assert!(told < 100, "{told} events for a thousand groups");
    listener.cells[0].enter(WorkerState::Halted, None);
    let (_, data) = listener.next().await?;
    assert_eq!((&data["replica"], &data["state"]), (&"replica-1".into(), &"halted".into()));
    Ok(())
}

#[tokio::test]
async fn transactions_are_told_with_their_arrivals() -> anyhow::Result<()> {
    let mut listener = Listener::new().await?;
    let passage = Passage { sent_at_ms: Some(6), read_at_ms: Some(8) };
    let point = CommitPoint { transaction: Some(committed(16)), passage, ..CommitPoint::default() };
    let parcel = Parcel::new(vec![], 0, ParcelEnd::Commit(Box::new(point)));
    for replica in ["replica-2", "replica-1"] {
        listener.feed.applied(replica, [&parcel].into_iter(), true);
    }
    let mut names = Vec::new();
    while names.len() < 3 {
        let (name, data) = listener.next().await?;
        if name != "watermark" {
            assert_eq!(data["lsn"], "0/10", "{data}");
            let (who, sent, read) = (&data["replica"], &data["sent_at_ms"], &data["read_at_ms"]);
            names.push(format!("{name} {} {sent} {read}", who.as_str().unwrap_or("7")));
        }
    }
    assert_eq!(names, ["transaction 7 null null", "applied replica-2 6 8", "applied replica-1 6 8"]);
    Ok(())
}

#[tokio::test]
async fn the_ends_of_topics_are_told_with_the_replicas() -> anyhow::Result<()> {
    let listener = Listener::new().await?;
    let ask = async || -> anyhow::Result<Value> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(http.get(format!("{}/v1/replicas", listener.origin)).send().await?.json().await?)
    };
    let told = ask().await?;
    assert_eq!(
        (told["replicas"][1]["name"].as_str(), &told["topics"]),
        (Some("replica-2"), &Value::Array(vec![]))
    );
    let partition = TopicPartition { topic: "app.public.posts".into(), partition: 2 };
    listener.ends.note([(partition, 71)].into(), replicator::status::now_ms());
    let topic = ask().await?["topics"][0].take();
    assert_eq!(
        (&topic["topic"], &topic["partition"], &topic["end"]),
        (&"app.public.posts".into(), &2.into(), &71.into())
    );
    assert!(topic["age_ms"].as_i64().is_some_and(|age| (0..10_000).contains(&age)), "{topic}");
    Ok(())
}
