//! Who carries changes from the leader to the replicas without a broker.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use e2e::wait;
use serde::Deserialize;
use serde_json::Value;

use super::servers;
use super::subscriptions::{Start, Subscriptions};
use crate::daemon::{Daemon, Source};
use crate::system::{REPLICAS, System};

/// How long a system may take until everything arrives.
const PATIENCE: Duration = Duration::from_secs(60);

/// A system that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Carrier {
    /// PostgreSQL's logical replication with default settings: one subscription per replica.
    Native,
    /// The same with `streaming = on, binary = true`.
    NativeStreaming,
    /// The replicator on the leader's own stream.
    Direct,
}

impl Carrier {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::NativeStreaming => "native-streaming",
            Self::Direct => "direct",
        }
    }

    /// Starts it on servers that were made anew. Returns before anything arrives: [`Carrying::await_live`] waits for that.
    pub(crate) async fn start(
        self,
        system: &System,
        program: &Path,
        start: Start,
    ) -> anyhow::Result<Carrying> {
        Ok(match self {
            Self::Native => Carrying::Native(Subscriptions::create(system, start, "").await?),
            Self::NativeStreaming => {
                let options = ", streaming = on, binary = true";
                Carrying::Native(Subscriptions::create(system, start, options).await?)
            }
            // It knows but one start: whatever the leader has is copied.
            Self::Direct => Carrying::Direct(Some(daemon(system, program)?)),
        })
    }
}

fn daemon(system: &System, program: &Path) -> anyhow::Result<Daemon> {
    Daemon::start(system, program, Source::Leader, REPLICAS)
}

/// A system at work.
#[derive(Debug)]
pub(crate) enum Carrying {
    Native(Subscriptions),
    /// `None` while it is paused.
    Direct(Option<Daemon>),
}

impl Carrying {
    /// The replicator's process, where there is one.
    pub(crate) fn daemon(&self) -> Option<&Daemon> {
        match self {
            Self::Native(_) => None,
            Self::Direct(daemon) => daemon.as_ref(),
        }
    }

    /// An error when it has ended.
    pub(crate) fn ensure_runs(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Direct(Some(daemon)) => daemon.ensure_runs(),
            Self::Direct(None) | Self::Native(_) => Ok(()),
        }
    }

    /// Waits until every replica is filled and follows.
    pub(crate) async fn await_live(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Native(subscriptions) => subscriptions.await_ready().await,
            Self::Direct(Some(daemon)) => {
                wait::until("the replicator's replicas to be live", PATIENCE, async || {
                    daemon.ensure_runs().map_err(|error| format!("{error:#}"))?;
                    let found = replicas(&daemon.status_url()).await.map_err(|error| format!("{error:#}"))?;
                    let all = found.len() == REPLICAS && found.iter().all(|replica| replica.state == "live");
                    if all { Ok(()) } else { Err(format!("{found:?}")) }
                })
                .await
            }
            Self::Direct(None) => bail!("the replicator is paused"),
        }
    }

    /// How many commits the replicator's replicas have made on average; none for native replication, which commits as the leader
    /// does.
    pub(crate) async fn commits(&self) -> anyhow::Result<Option<f64>> {
        let Some(daemon) = self.daemon() else { return Ok(None) };
        let metrics = reqwest::get(daemon.metrics_url()).await.context("ask the replicator")?.text().await?;
        let counters = metrics.lines().filter(|line| line.starts_with("replicator_groups_applied_total{"));
        let counts = counters.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        #[expect(clippy::cast_precision_loss, reason = "there are but a few replicas")]
        let replicas = REPLICAS as f64;
        Ok(Some(counts.sum::<f64>() / replicas))
    }

    /// Stops applying, so that the leader has to keep what is written from now on.
    pub(crate) async fn pause(&mut self, system: &System) -> anyhow::Result<()> {
        match self {
            Self::Native(subscriptions) => subscriptions.disable().await?,
            Self::Direct(daemon) => {
                if let Some(daemon) = daemon.take() {
                    daemon.stop().await?;
                }
            }
        }
        servers::await_idle_slots(system).await
    }

    /// Goes on after a pause. Returns before anything arrives.
    pub(crate) async fn resume(&mut self, system: &System, program: &Path) -> anyhow::Result<()> {
        match self {
            Self::Native(subscriptions) => subscriptions.enable().await,
            Self::Direct(paused) => {
                *paused = Some(daemon(system, program)?);
                Ok(())
            }
        }
    }

    /// Ends it for good.
    pub(crate) async fn stop(mut self, system: &System) -> anyhow::Result<()> {
        self.pause(system).await?;
        servers::clear(system).await
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
