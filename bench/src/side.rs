//! Who carries changes from topics to replicas: the replicator, or its peer.

use std::path::Path;
use std::str::FromStr;

use crate::daemon::{Daemon, Source};
use crate::process;
use crate::sink::{self, SinkKind, Sinks};
use crate::stream::Format;
use crate::system::System;

/// A side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Replicator,
    Sink(SinkKind),
}

impl Side {
    /// The sink reads events with embedded schemas only.
    pub(crate) fn reads(self, format: Format) -> bool {
        self == Self::Replicator || format == Format::Schema
    }

    /// Makes an empty replica ready for this side.
    pub(crate) async fn prepare(self, system: &System, server: usize) -> anyhow::Result<()> {
        system.reset(server).await?;
        if let Self::Sink(SinkKind { unnest: true, .. }) = self {
            sink::add_casts(system, server).await?;
        }
        Ok(())
    }

    /// Starts it on the topics of `prefix` for the first `replicas` replicas. `replicator` is the program.
    pub(crate) async fn start(
        self,
        system: &System,
        replicator: &Path,
        prefix: &str,
        replicas: usize,
    ) -> anyhow::Result<Worker> {
        Ok(match self {
            Self::Replicator => {
                Worker::Daemon(Daemon::start(system, replicator, Source::Topics(prefix), replicas)?)
            }
            Self::Sink(kind) => Worker::Sinks(Sinks::start(system, kind, prefix, replicas).await?),
        })
    }
}

impl FromStr for Side {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "replicator" { Ok(Self::Replicator) } else { text.parse().map(Self::Sink) }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Replicator => f.write_str("replicator"),
            Self::Sink(kind) => kind.fmt(f),
        }
    }
}

/// A side at work.
#[derive(Debug)]
pub(crate) enum Worker {
    Daemon(Daemon),
    Sinks(Sinks),
}

impl Worker {
    /// An error when it has ended or failed.
    pub(crate) async fn ensure_runs(&mut self, system: &System) -> anyhow::Result<()> {
        match self {
            Self::Daemon(daemon) => daemon.ensure_runs(),
            Self::Sinks(sinks) => sinks.ensure_run(system).await,
        }
    }

    /// Of the replicator, or of the Connect worker with everything in it.
    pub(crate) fn cpu_seconds(&self, system: &System) -> anyhow::Result<f64> {
        match self {
            Self::Daemon(daemon) => daemon.cpu_seconds(),
            Self::Sinks(_) => process::cpu_seconds(system.pid("connect")?),
        }
    }

    /// Of the replicator; a Connect worker's memory says little about its sinks.
    pub(crate) fn peak_memory_mib(&self) -> Option<f64> {
        match self {
            Self::Daemon(daemon) => daemon.peak_memory_mib().ok(),
            Self::Sinks(_) => None,
        }
    }

    pub(crate) async fn stop(self, system: &System) -> anyhow::Result<()> {
        match self {
            Self::Daemon(daemon) => daemon.stop().await,
            Self::Sinks(sinks) => sinks.stop(system).await,
        }
    }
}
