//! Without a broker: PostgreSQL's own logical replication and the replicator's direct source, on the same work.
//!
//! Every scenario makes the leader and three replicas anew for each run and each system, takes turns between the systems so
//! that a busy minute of the machine meets them all, and fails when a replica differs from the leader at its end.

mod backlog;
mod bulk;
mod carrier;
mod copy;
mod latency;
mod probe;
mod servers;
mod sight;
mod subscriptions;
mod summary;
mod usage;

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;

use carrier::Carrier;

/// What all scenarios without a broker take.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Who carries changes.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "native,direct")]
    systems: Vec<Carrier>,
    /// Times that everything is measured; reports have the median and the range.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// The replicator's program.
    #[arg(long, env = "BENCH_REPLICATOR")]
    replicator: PathBuf,
}

impl Common {
    /// Each run with its system, in the order in which they are made.
    fn turns(&self) -> anyhow::Result<Vec<Carrier>> {
        ensure!(self.repeat > 0 && !self.systems.is_empty(), "--repeat and --systems must name something");
        Ok(self.systems.repeat(self.repeat))
    }
}

pub(crate) use backlog::{Options as BacklogOptions, run as backlog};
pub(crate) use bulk::{Options as BulkOptions, run as bulk};
pub(crate) use copy::{Options as CopyOptions, run as copy};
pub(crate) use latency::{Options as LatencyOptions, run as latency};
