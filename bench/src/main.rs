//! The replicator and its peers, measured side by side. `scripts/bench.sh` starts what it needs; see `bench/README.md`.

#![expect(clippy::print_stdout, reason = "figures are told on standard output")]

mod arrivals;
mod catchup;
mod connect;
mod daemon;
mod direct;
mod drain;
mod environment;
mod fill;
mod lag;
mod latency;
mod load;
mod memory;
mod process;
mod report;
mod side;
mod sink;
mod stats;
mod stream;
mod system;
mod watch;

use clap::{Parser, Subcommand};

use system::System;

/// Measures the replicator and its peers on one machine.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    system: System,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// The same filled topics into empty replicas: rows per second and CPU per row.
    Drain(drain::Options),
    /// Single-row commits on an idle system: how long until every replica shows them.
    Latency(latency::Options),
    /// One replica's server is stopped under a steady load: the others' lag, and how fast it catches up.
    Catchup(catchup::Options),
    /// Very large transactions: the replicator's peak memory, and what small transactions and other replicas notice.
    Memory(memory::Options),
    /// Without a broker: very many rows in one transaction.
    Bulk(direct::BulkOptions),
    /// Without a broker: very many single-row transactions that were written while nothing applied them.
    Backlog(direct::BacklogOptions),
    /// Without a broker: single-row commits, idle and beside a load.
    DirectLatency(direct::LatencyOptions),
    /// Without a broker: the first rows of three empty replicas.
    Copy(direct::CopyOptions),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match &arguments.scenario {
        Scenario::Drain(options) => drain::run(&arguments.system, options).await,
        Scenario::Latency(options) => latency::run(&arguments.system, options).await,
        Scenario::Catchup(options) => catchup::run(&arguments.system, options).await,
        Scenario::Memory(options) => memory::run(&arguments.system, options).await,
        Scenario::Bulk(options) => direct::bulk(&arguments.system, options).await,
        Scenario::Backlog(options) => direct::backlog(&arguments.system, options).await,
        Scenario::DirectLatency(options) => direct::latency(&arguments.system, options).await,
        Scenario::Copy(options) => direct::copy(&arguments.system, options).await,
    }
}
