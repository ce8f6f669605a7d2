//! Who carries changes from the leader to the replicas.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use e2e::wait;
use serde::Deserialize;
use serde_json::Value;

use super::servers;
use super::stage::Stage;
use super::subscriptions::{Start, Subscriptions};
use crate::daemon::{Daemon, Source};
use crate::sink::{self, SinkKind, Sinks};
use crate::stream::{Format, Stream};
use crate::system::server_name;

/// How long a system may take until everything arrives: a connector's first snapshot included.
const PATIENCE: Duration = Duration::from_secs(180);

/// Key of the row that makes the topics, before anybody reads them.
const FIRST_KEY: i64 = -1;

/// Rows that a sink writes with one statement.
const SINK_BATCH: u32 = 500;

/// A system that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Carrier {
    /// PostgreSQL's logical replication with default settings: one subscription per replica.
    Native,
    /// The same with `streaming = on, binary = true`.
    NativeStreaming,
    /// The replicator on the leader's own stream.
    Direct,
    /// The replicator on the topics that Debezium writes.
    Kafka,
    /// Debezium's JDBC sink on those topics, one connector per replica.
    Sink,
    /// The same with its fastest dialect setting, which needs helper casts on the replicas.
    SinkUnnest,
}

impl Carrier {
    /// In a fixed order, by which plots give them colours.
    pub(crate) const NAMES: &[&str] =
        &["native", "native-streaming", "direct", "kafka", "sink", "sink-unnest"];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::NativeStreaming => "native-streaming",
            Self::Direct => "direct",
            Self::Kafka => "kafka",
            Self::Sink => "sink",
            Self::SinkUnnest => "sink-unnest",
        }
    }

    /// Whether a broker and Connect take part.
    pub(crate) fn uses_broker(self) -> bool {
        match self {
            Self::Native | Self::NativeStreaming | Self::Direct => false,
            Self::Kafka | Self::Sink | Self::SinkUnnest => true,
        }
    }

    /// Whether it is Debezium's sink.
    pub(crate) fn is_sink(self) -> bool {
        matches!(self, Self::Sink | Self::SinkUnnest)
    }

    /// Starts it on servers that were made anew. Returns before anything arrives: [`Carrying::await_live`] waits for that.
    ///
    /// Only native replication distinguishes starts: the others always bring what the leader has.
    pub(crate) async fn start<'a>(self, stage: &Stage<'a>, start: Start) -> anyhow::Result<Carrying<'a>> {
        let work = match self {
            Self::Native => Work::Native(Subscriptions::create(stage, start, "").await?),
            Self::NativeStreaming => {
                let options = ", streaming = on, binary = true";
                Work::Native(Subscriptions::create(stage, start, options).await?)
            }
            Self::Direct => Work::Direct(Some(daemon(stage, Source::Leader)?)),
            Self::Kafka => {
                let stream = topics(stage, Format::Plain).await?;
                let daemon = daemon(stage, Source::Topics(stream.prefix()))?;
                Work::Kafka { stream, daemon: Some(daemon) }
            }
            Self::Sink | Self::SinkUnnest => {
                let kind = SinkKind { unnest: self == Self::SinkUnnest, batch: SINK_BATCH };
                if kind.unnest {
                    for replica in 1..=stage.replicas {
                        sink::add_casts(stage.system, replica).await?;
                    }
                }
                let stream = topics(stage, Format::Schema).await?;
                let sinks = Sinks::start(stage.system, kind, stream.prefix(), stage.replicas).await?;
                Work::Sinks { stream, sinks }
            }
        };
        Ok(Carrying { carrier: self, stage: *stage, work })
    }
}

fn daemon(stage: &Stage<'_>, source: Source<'_>) -> anyhow::Result<Daemon> {
    Daemon::start(stage.system, stage.program, source, stage.replicas)
}

/// A connector that streams, and topics that exist.
async fn topics(stage: &Stage<'_>, format: Format) -> anyhow::Result<Stream> {
    let stream = Stream::start(stage.system, "peers", format, &[]).await?;
    let leader = stage.leader().await?;
    leader.execute(include_str!("../../sql/probe.sql"), &[&FIRST_KEY]).await.context("make the topics")?;
    Ok(stream)
}

/// A system at work.
#[derive(Debug)]
pub(crate) struct Carrying<'a> {
    carrier: Carrier,
    stage: Stage<'a>,
    work: Work,
}

/// What works. A daemon is `None` while it is paused.
#[derive(Debug)]
enum Work {
    Native(Subscriptions),
    Direct(Option<Daemon>),
    Kafka { stream: Stream, daemon: Option<Daemon> },
    Sinks { stream: Stream, sinks: Sinks },
}

impl Carrying<'_> {
    pub(crate) fn carrier(&self) -> Carrier {
        self.carrier
    }

    /// The replicator's process, where there is one.
    pub(crate) fn daemon(&self) -> Option<&Daemon> {
        match &self.work {
            Work::Direct(daemon) | Work::Kafka { daemon, .. } => daemon.as_ref(),
            Work::Native(_) | Work::Sinks { .. } => None,
        }
    }

    /// An error when it has ended or failed.
    pub(crate) async fn ensure_runs(&mut self) -> anyhow::Result<()> {
        match &mut self.work {
            Work::Direct(Some(daemon)) | Work::Kafka { daemon: Some(daemon), .. } => daemon.ensure_runs(),
            Work::Direct(None) | Work::Kafka { daemon: None, .. } | Work::Native(_) => Ok(()),
            Work::Sinks { sinks, .. } => sinks.ensure_run(self.stage.system).await,
        }
    }

    /// Waits until every replica is filled and follows.
    pub(crate) async fn await_live(&mut self) -> anyhow::Result<()> {
        let wanted = self.stage.replicas;
        match &mut self.work {
            Work::Native(subscriptions) => return subscriptions.await_ready().await,
            Work::Direct(Some(daemon)) | Work::Kafka { daemon: Some(daemon), .. } => {
                wait::until("the replicator's replicas to be live", PATIENCE, async || {
                    daemon.ensure_runs().map_err(|error| format!("{error:#}"))?;
                    let found = replicas(&daemon.status_url()).await.map_err(|error| format!("{error:#}"))?;
                    let all = found.len() == wanted && found.iter().all(|replica| replica.state == "live");
                    if all { Ok(()) } else { Err(format!("{found:?}")) }
                })
                .await?;
            }
            Work::Direct(None) | Work::Kafka { daemon: None, .. } => bail!("the replicator is paused"),
            Work::Sinks { .. } => {}
        }
        if self.carrier.uses_broker() {
            self.await_first_row().await?;
        }
        Ok(())
    }

    /// What comes through topics is there when its first row is.
    async fn await_first_row(&mut self) -> anyhow::Result<()> {
        for (index, client) in self.stage.replicas().await?.iter().enumerate() {
            let what = format!("{} to show the first row", server_name(index + 1));
            wait::until(&what, PATIENCE, async || {
                let query = "SELECT EXISTS (SELECT FROM bench.accounts WHERE id = $1)";
                let row = client.query_one(query, &[&FIRST_KEY]).await.map_err(|error| error.to_string())?;
                if row.get(0) {
                    return Ok(());
                }
                match self.ensure_runs().await {
                    Ok(()) => Err("it does not".to_owned()),
                    Err(error) => Err(format!("{error:#}")),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// One of the replicator's counters, on average over its replicas; none for others.
    pub(crate) async fn counter(&self, name: &str) -> anyhow::Result<Option<f64>> {
        let Some(daemon) = self.daemon() else { return Ok(None) };
        let metrics = reqwest::get(daemon.metrics_url()).await.context("ask the replicator")?.text().await?;
        let start = format!("{name}{{");
        let counters = metrics.lines().filter(|line| line.starts_with(&start));
        let counts = counters.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        #[expect(clippy::cast_precision_loss, reason = "there are but a few replicas")]
        let replicas = self.stage.replicas as f64;
        Ok(Some(counts.sum::<f64>() / replicas))
    }

    /// Stops applying, and the connector too, so that the leader has to keep what is written from now on.
    pub(crate) async fn pause(&mut self) -> anyhow::Result<()> {
        let system = self.stage.system;
        match &mut self.work {
            Work::Native(subscriptions) => subscriptions.disable().await?,
            Work::Direct(daemon) => stop(daemon.take()).await?,
            Work::Kafka { stream, daemon } => {
                stop(daemon.take()).await?;
                stream.pause(system).await?;
            }
            Work::Sinks { stream, sinks } => {
                sinks.pause(system).await?;
                stream.pause(system).await?;
            }
        }
        servers::await_idle_slots(&self.stage).await
    }

    /// Goes on after a pause. Returns before anything arrives.
    pub(crate) async fn resume(&mut self) -> anyhow::Result<()> {
        let stage = &self.stage;
        match &mut self.work {
            Work::Native(subscriptions) => subscriptions.enable().await?,
            Work::Direct(paused) => *paused = Some(daemon(stage, Source::Leader)?),
            Work::Kafka { stream, daemon: paused } => {
                stream.resume(stage.system).await?;
                *paused = Some(daemon(stage, Source::Topics(stream.prefix()))?);
            }
            Work::Sinks { stream, sinks } => {
                stream.resume(stage.system).await?;
                sinks.resume(stage.system).await?;
            }
        }
        Ok(())
    }

    /// Ends it for good.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let system = self.stage.system;
        match self.work {
            Work::Native(subscriptions) => subscriptions.disable().await?,
            Work::Direct(daemon) => stop(daemon).await?,
            Work::Kafka { stream, daemon } => {
                stop(daemon).await?;
                stream.discard(system).await?;
            }
            Work::Sinks { stream, sinks } => {
                sinks.stop(system).await?;
                stream.discard(system).await?;
            }
        }
        servers::clear(&self.stage).await
    }
}

async fn stop(daemon: Option<Daemon>) -> anyhow::Result<()> {
    match daemon {
        Some(daemon) => daemon.stop().await,
        None => Ok(()),
    }
}

/// What the replicator says of a replica.
#[derive(Debug, Deserialize)]
struct Replica {
    state: String,
}

async fn replicas(url: &str) -> anyhow::Result<Vec<Replica>> {
    let mut answer: Value = reqwest::get(url).await.context("ask the replicator")?.json().await?;
    serde_json::from_value(answer["replicas"].take()).context("read the replicator's answer")
}
