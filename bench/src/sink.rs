//! The peer: Debezium's JDBC sink, one connector per replica in the Connect worker.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};

use crate::connect::{self, Settings, Verb};
use crate::stream;
use crate::system::{System, place};

/// How the sink is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SinkKind {
    /// Its fastest dialect setting, which needs helper casts that no stock replica has.
    pub(crate) unnest: bool,
    /// `batch.size`.
    pub(crate) batch: u32,
}

impl std::fmt::Display for SinkKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", if self.unnest { "sink-unnest" } else { "sink" }, self.batch)
    }
}

impl FromStr for SinkKind {
    type Err = anyhow::Error;

    /// `sink-500` or `sink-unnest-500`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let Some(rest) = text.strip_prefix("sink-") else {
            bail!("'{text}' is no sink: sink-500, sink-unnest-500")
        };
        let (unnest, batch) = rest.strip_prefix("unnest-").map_or((false, rest), |batch| (true, batch));
        Ok(Self { unnest, batch: batch.parse().context("read the sink's batch size")? })
    }
}

/// Running sinks.
#[derive(Debug)]
pub(crate) struct Sinks(Vec<String>);

impl Sinks {
    /// Creates one sink for each of the first `replicas` replicas, on the topics of `prefix`. They begin with the first
    /// record.
    pub(crate) async fn start(
        system: &System,
        kind: SinkKind,
        prefix: &str,
        replicas: usize,
    ) -> anyhow::Result<Self> {
        let moment = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?.as_millis();
        let mut sinks = Self(Vec::new());
        for replica in 1..=replicas {
            // A name of its own: another run's consumer group has offsets.
            let name = format!("{kind}-{replica}-{moment}");
            sinks.0.push(name.clone());
            let created = connect::put(system, &name, &settings(system, kind, prefix, replica)?).await;
            if created.is_err() {
                sinks.stop(system).await.ok();
                return created.map(|()| sinks);
            }
        }
        Ok(sinks)
    }

    /// An error when one of them has failed.
    pub(crate) async fn ensure_run(&self, system: &System) -> anyhow::Result<()> {
        for name in &self.0 {
            connect::ensure_not_failed(system, name).await?;
        }
        Ok(())
    }

    /// Ends their tasks until they are resumed.
    pub(crate) async fn pause(&self, system: &System) -> anyhow::Result<()> {
        self.tell(system, Verb::Stop).await
    }

    pub(crate) async fn resume(&self, system: &System) -> anyhow::Result<()> {
        self.tell(system, Verb::Resume).await
    }

    async fn tell(&self, system: &System, verb: Verb) -> anyhow::Result<()> {
        for name in &self.0 {
            connect::tell(system, name, verb).await?;
        }
        Ok(())
    }

    pub(crate) async fn stop(&self, system: &System) -> anyhow::Result<()> {
        for name in &self.0 {
            connect::delete(system, name).await?;
        }
        Ok(())
    }
}

/// The casts without which its UNNEST statements are refused: they send every column as text.
pub(crate) async fn add_casts(system: &System, replica: usize) -> anyhow::Result<()> {
    let client = system.connect_replica(replica).await?;
    for to in ["numeric", "timestamptz", "jsonb"] {
        client.batch_execute(&format!("CREATE CAST (text AS {to}) WITH INOUT AS ASSIGNMENT")).await?;
    }
    Ok(())
}

fn settings(system: &System, kind: SinkKind, prefix: &str, replica: usize) -> anyhow::Result<Settings> {
    let (server, database) = place(replica);
    let port = system.postgres_port(server)?;
    let batch = kind.batch.to_string();
    let poll = kind.batch.max(500).to_string();
    let unnest = kind.unnest.to_string();
    let pairs = [
        ("connector.class", "io.debezium.connector.jdbc.JdbcSinkConnector".to_owned()),
        ("tasks.max", "1".to_owned()),
        ("topics", stream::table_topic(prefix)),
        // Without `stringtype` it can't write a text into a numeric column.
        ("connection.url", format!("jdbc:postgresql://127.0.0.1:{port}/{database}?stringtype=unspecified")),
        ("connection.username", "replicator".to_owned()),
        ("connection.password", system.replicator_password.clone()),
        ("insert.mode", "upsert".to_owned()),
        ("delete.enabled", "true".to_owned()),
        ("primary.key.mode", "record_key".to_owned()),
        ("schema.evolution", "none".to_owned()),
        ("collection.name.format", "bench.accounts".to_owned()),
        ("dialect.postgres.unnest.insert.enabled", unnest),
        ("batch.size", batch),
        ("consumer.override.max.poll.records", poll),
        ("consumer.override.auto.offset.reset", "earliest".to_owned()),
        ("key.converter", "org.apache.kafka.connect.json.JsonConverter".to_owned()),
        ("key.converter.schemas.enable", "true".to_owned()),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter".to_owned()),
        ("value.converter.schemas.enable", "true".to_owned()),
    ];
    Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_is_read_as_it_is_written() {
        for text in ["sink-500", "sink-unnest-3000"] {
            assert_eq!(text.parse::<SinkKind>().unwrap().to_string(), text);
        }
        assert!("sink".parse::<SinkKind>().is_err());
        assert!("sink-unnest-many".parse::<SinkKind>().is_err());
    }
}
