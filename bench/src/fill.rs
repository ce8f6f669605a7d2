//! Filled topics: one transaction that inserts every row, one that updates every row, written by the real connector.
//!
//! A fill takes longer than what is measured with it, so it is kept with the broker's data and used again.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::wait;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::stream::{Format, Stream, table_topic, transaction_topic};
use crate::system::{DATABASE, REPLICAS, System, server_name};

/// The connector needs about a minute for 600 000 events with schemas on two cores.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a server must hold, to be equal to another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    rows: i64,
    balances: String,
    hashes: String,
}

impl Fingerprint {
    pub(crate) async fn of(client: &Client) -> anyhow::Result<Self> {
        let row = client.query_one(include_str!("../sql/fingerprint.sql"), &[]).await?;
        Ok(Self { rows: row.get(0), balances: row.get(1), hashes: row.get(2) })
    }
}

/// An error when a replica does not hold what the leader holds.
pub(crate) async fn ensure_equal(system: &System) -> anyhow::Result<()> {
    let mut servers = JoinSet::new();
    for server in 0..=REPLICAS {
        let client = system.connect(server, DATABASE).await?;
        servers.spawn(async move { Fingerprint::of(&client).await.map(|found| (server, found)) });
    }
    let mut found = BTreeMap::new();
    while let Some(one) = servers.join_next().await {
        found.extend([one??]);
    }
    let leader = found.remove(&0).context("look at the leader")?;
    for (server, replica) in found {
        ensure!(replica == leader, "{} holds {replica:?} and not {leader:?}", server_name(server));
    }
    Ok(())
}

/// Topics that hold everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fill {
    pub(crate) format: Format,
    pub(crate) rows: i64,
    /// The connector's `topic.prefix`.
    pub(crate) prefix: String,
    /// What the leader held after the second transaction.
    pub(crate) expected: Fingerprint,
}

impl Fill {
    /// The topics of an earlier run, or new ones.
    pub(crate) async fn obtain(system: &System, format: Format, rows: i64) -> anyhow::Result<Self> {
        let mut fills = read(system)?;
        let kept = fills.iter().find(|fill| fill.format == format && fill.rows == rows).cloned();
        if let Some(fill) = kept
            && fill.is_complete(system).await
        {
            println!("topics {}*: filled by an earlier run", fill.prefix);
            return Ok(fill);
        }
        let fill = make(system, format, rows).await?;
        fills.retain(|other| other.format != format || other.rows != rows);
        fills.push(fill.clone());
        write(system, &fills)?;
        Ok(fill)
    }

    async fn is_complete(&self, system: &System) -> bool {
        let ends = ends(system, &self.prefix).await;
        ends.is_ok_and(|ends| ends == wanted(self.rows))
    }
}

/// Records in the table's topic and in the transaction topic.
fn wanted(rows: i64) -> (i64, i64) {
    (2 * rows, 4)
}

async fn ends(system: &System, prefix: &str) -> anyhow::Result<(i64, i64)> {
    let (table, transactions) = (table_topic(prefix), transaction_topic(prefix));
    let brokers = system.brokers();
    let ask = move || {
        // A new handle for each question: one that has asked for a topic too early keeps not knowing it.
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "bench").create()?;
        let end =
            |topic: &str| consumer.fetch_watermarks(topic, 0, Duration::from_secs(5)).map(|(_, end)| end);
        anyhow::Ok((end(&table)?, end(&transactions)?))
    };
    tokio::task::spawn_blocking(ask).await?
}

async fn make(system: &System, format: Format, rows: i64) -> anyhow::Result<Fill> {
    println!("{}: filling topics with 2 x {rows} events", format.name());
    system.reset(0).await.context("empty the leader")?;
    let leader = system.connect(0, DATABASE).await?;
    let stream = Stream::start(system, "fill", format, &[]).await?;
    let prefix = stream.prefix().to_owned();

    let started = Instant::now();
    leader.execute(include_str!("../sql/insert.sql"), &[&rows]).await.context("insert the rows")?;
    leader.batch_execute(include_str!("../sql/update.sql")).await.context("update the rows")?;
    let expected = Fingerprint::of(&leader).await?;
    wait::until("the connector to write every event", PATIENCE, async || {
        let ends = ends(system, &prefix).await.map_err(|error| format!("{error:#}"))?;
        if ends == wanted(rows) { Ok(()) } else { Err(format!("{ends:?} of {:?} events", wanted(rows))) }
    })
    .await?;
    println!("  filled in {:.1} s", started.elapsed().as_secs_f64());
    stream.stop(system).await?;
    Ok(Fill { format, rows, prefix, expected })
}

fn read(system: &System) -> anyhow::Result<Vec<Fill>> {
    match fs::read_to_string(system.state_file("fills.json")) {
        Ok(text) => serde_json::from_str(&text).context("read fills.json"),
        Err(_) => Ok(Vec::new()),
    }
}

fn write(system: &System, fills: &[Fill]) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(fills)?;
    fs::write(system.state_file("fills.json"), text).context("write fills.json")
}
