//! Filled topics: one transaction that inserts every row, one that updates every row, written by the real connector.
//!
//! A fill takes longer than what is measured with it, so it is kept with the broker's data and used again.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use e2e::wait;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::connect::{self, Settings};
use crate::system::{DATABASE, System};

/// The connector needs about a minute for 600 000 events with schemas on two cores.
const PATIENCE: Duration = Duration::from_secs(600);

/// How events look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// JSON alone.
    Plain,
    /// JSON with its schema in every event, which the JDBC sink needs.
    Schema,
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Schema => "schema",
        }
    }
}

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

    /// The topic of the measured table.
    pub(crate) fn topic(&self) -> String {
        table_topic(&self.prefix)
    }

    async fn is_complete(&self, system: &System) -> bool {
        let ends = ends(system, &self.prefix).await;
        ends.is_ok_and(|ends| ends == wanted(self.rows))
    }
}

fn table_topic(prefix: &str) -> String {
    format!("{prefix}.bench.accounts")
}

/// Records in the table's topic and in the transaction topic.
fn wanted(rows: i64) -> (i64, i64) {
    (2 * rows, 4)
}

async fn ends(system: &System, prefix: &str) -> anyhow::Result<(i64, i64)> {
    let (table, transactions) = (table_topic(prefix), format!("{prefix}.transaction"));
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
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?.as_secs();
    // Never the name of an earlier fill: Connect keeps a deleted connector's offsets.
    let prefix = format!("bench-{}-{rows}-{seconds}", format.name());
    println!("topics {prefix}*: filling them with 2 x {rows} events");
    system.reset(0).await.context("empty the leader")?;
    let leader = system.connect(0, DATABASE).await?;
    let slot = prefix.replace('-', "_");
    let mut settings = source(format, &prefix, &slot)?;
    // A finished fill stays as it is: nothing comes after the two transactions.
    settings.retain(|key, _| !key.starts_with("heartbeat."));
    connect::create(system, &prefix, &settings).await?;
    await_streaming(&leader, &slot).await?;

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
    connect::delete(system, &prefix).await?;
    drop_slot(&leader, &slot).await?;
    Ok(Fill { format, rows, prefix, expected })
}

/// The product's connector, for the measured table.
pub(crate) fn source(format: Format, prefix: &str, slot: &str) -> anyhow::Result<Settings> {
    let mut settings = connect::source_settings()?;
    let with_schema = (format == Format::Schema).to_string();
    for (key, value) in [
        ("database.dbname", DATABASE),
        ("topic.prefix", prefix),
        ("slot.name", slot),
        ("publication.name", "bench"),
        ("table.include.list", "bench\\.accounts"),
        ("key.converter.schemas.enable", &with_schema),
        ("value.converter.schemas.enable", &with_schema),
    ] {
        ensure!(settings.contains_key(key), "the connector's registration has no {key}");
        settings.insert(key.to_owned(), value.to_owned());
    }
    Ok(settings)
}

/// The slot is in use once the snapshot of the empty table is over: what is written from then on is streamed.
pub(crate) async fn await_streaming(leader: &Client, slot: &str) -> anyhow::Result<()> {
    let query = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND active";
    wait::until("the connector to stream", Duration::from_secs(60), async || {
        let row = leader.query_one(query, &[&slot]).await.map_err(|error| error.to_string())?;
        if row.get::<_, i64>(0) == 1 { Ok(()) } else { Err(format!("slot {slot} is not in use")) }
    })
    .await
}

/// A slot that nobody reads would keep the leader's WAL for ever. Its reader leaves a little after the connector.
pub(crate) async fn drop_slot(leader: &Client, slot: &str) -> anyhow::Result<()> {
    wait::until(&format!("slot {slot} to be dropped"), Duration::from_secs(60), async || {
        let dropped = leader.execute("SELECT pg_drop_replication_slot($1::text::name)", &[&slot]).await;
        dropped.map(drop).map_err(|error| format!("{error}: {:?}", error.as_db_error()))
    })
    .await
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
