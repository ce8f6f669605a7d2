//! The replicator and its peers, measured side by side. `scripts/bench.sh` starts what it needs; see `bench/README.md`.

#![expect(clippy::print_stdout, reason = "figures are told on standard output")]

mod arrivals;
mod connect;
mod daemon;
mod drain;
mod environment;
mod fill;
mod latency;
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
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match &arguments.scenario {
        Scenario::Drain(options) => drain::run(&arguments.system, options).await,
        Scenario::Latency(options) => latency::run(&arguments.system, options).await,
    }
}
