//! A running source connector on the measured tables: the product's own, with a slot and topics of its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, ensure};
use clap::ValueEnum;
use e2e::wait;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataTopic;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::connect::{self, Settings, Verb};
use crate::system::{DATABASE, System};

/// How long a connector may take to start, and its slot to be left.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// A connector that writes the measured table's changes into Kafka.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The connector's name and its `topic.prefix`.
    prefix: String,
    slot: String,
}

impl Stream {
    /// Creates the connector, with some settings of its own, and waits until it streams: what is written on the leader from
    /// then on is no part of a snapshot. The leader has been reset before.
    ///
    /// `kind` begins the name of its topics.
    pub(crate) async fn start(
        system: &System,
        kind: &str,
        format: Format,
        own: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?.as_millis();
        // Never the name of an earlier one: Connect keeps a deleted connector's offsets.
        let prefix = format!("{kind}-{}-{now}", format.name());
        let stream = Self { slot: prefix.replace('-', "_"), prefix };
        let mut settings = settings(format, &stream.prefix, &stream.slot)?;
        settings.extend(own.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())));
        connect::create(system, &stream.prefix, &settings).await?;
        stream.await_streaming(&system.connect(0, DATABASE).await?).await?;
        Ok(stream)
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Ends the connector's task until it is resumed: its slot keeps what is written meanwhile.
    pub(crate) async fn pause(&self, system: &System) -> anyhow::Result<()> {
        connect::tell(system, &self.prefix, Verb::Stop).await
    }

    /// Goes on after a pause. Returns before it streams.
    pub(crate) async fn resume(&self, system: &System) -> anyhow::Result<()> {
        connect::tell(system, &self.prefix, Verb::Resume).await
    }

    /// Deletes the connector and its slot; the topics stay.
    pub(crate) async fn stop(self, system: &System) -> anyhow::Result<()> {
        connect::delete(system, &self.prefix).await?;
        let leader = system.connect(0, DATABASE).await?;
        // A slot that nobody reads would keep the leader's WAL for ever. Its reader leaves a little after the connector.
        wait::until(&format!("slot {} to be dropped", self.slot), PATIENCE, async || {
            let dropped =
                leader.execute("SELECT pg_drop_replication_slot($1::text::name)", &[&self.slot]).await;
            dropped.map(drop).map_err(|error| format!("{error}: {:?}", error.as_db_error()))
        })
        .await
    }

    /// Deletes the topics too, for what is measured once.
    pub(crate) async fn discard(self, system: &System) -> anyhow::Result<()> {
        let own = format!("{}.", self.prefix);
        self.stop(system).await?;
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", system.brokers());
        let admin: AdminClient<_> = client.create().context("reach the broker")?;
        let consumer: BaseConsumer = client.set("group.id", "bench").create().context("reach the broker")?;
        let list = move || consumer.fetch_metadata(None, Duration::from_secs(10));
        let metadata = tokio::task::spawn_blocking(list).await?.context("list the topics")?;
        let names: Vec<_> =
            metadata.topics().iter().map(MetadataTopic::name).filter(|name| name.starts_with(&own)).collect();
        if names.is_empty() {
            return Ok(());
        }
        for deleted in admin.delete_topics(&names, &AdminOptions::new()).await.context("delete topics")? {
            deleted.map_err(|(topic, error)| anyhow!("delete topic {topic}: {error}"))?;
        }
        Ok(())
    }

    /// The slot is in use once the snapshot of the empty table is over.
    async fn await_streaming(&self, leader: &Client) -> anyhow::Result<()> {
        let query = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND active";
        wait::until("the connector to stream", PATIENCE, async || {
            let row = leader.query_one(query, &[&self.slot]).await.map_err(|error| error.to_string())?;
            if row.get::<_, i64>(0) == 1 { Ok(()) } else { Err(format!("slot {} is not in use", self.slot)) }
        })
        .await
    }
}

/// The topic of the measured table.
pub(crate) fn table_topic(prefix: &str) -> String {
    format!("{prefix}.bench.accounts")
}

/// The topic of BEGIN and END.
pub(crate) fn transaction_topic(prefix: &str) -> String {
    format!("{prefix}.transaction")
}

/// The product's settings, for the measured tables.
fn settings(format: Format, prefix: &str, slot: &str) -> anyhow::Result<Settings> {
    let mut settings = connect::source_settings()?;
    let with_schema = (format == Format::Schema).to_string();
    for (key, value) in [
        ("database.dbname", DATABASE),
        ("topic.prefix", prefix),
        ("slot.name", slot),
        ("publication.name", "bench"),
        ("table.include.list", "bench\\..*"),
        ("key.converter.schemas.enable", &with_schema),
        ("value.converter.schemas.enable", &with_schema),
    ] {
        ensure!(settings.contains_key(key), "the connector's registration has no {key}");
        settings.insert(key.to_owned(), value.to_owned());
    }
    // Its action query writes a table that is not measured, and a finished fill has to stay as it is.
    settings.retain(|key, _| !key.starts_with("heartbeat."));
    Ok(settings)
}
