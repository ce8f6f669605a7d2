//! The replicator and its peers, measured side by side. `scripts/bench.sh` starts what it needs; see `bench/README.md`.

#![expect(clippy::print_stdout, reason = "figures are told on standard output")]

mod arrivals;
mod catchup;
mod connect;
mod daemon;
mod drain;
mod environment;
mod fill;
mod lag;
mod latency;
mod load;
mod memory;
mod peers;
mod pgbench;
mod plot;
mod process;
mod program;
mod readers;
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
    /// Very many rows in one transaction: inserted, updated, deleted.
    Bulk(peers::BulkOptions),
    /// The insert of `bulk` alone.
    BulkInsert(peers::Bulk),
    /// The update of `bulk` alone.
    BulkUpdate(peers::Bulk),
    /// The delete of `bulk` alone.
    BulkDelete(peers::Bulk),
    /// Very many single-row transactions that were written while nothing applied them.
    Backlog(peers::BacklogOptions),
    /// The same rows in transactions of one row, of ten, and so on, written while nothing applied them.
    Sizes(peers::SizesOptions),
    /// Rows with large values, written while nothing applied them.
    Wide(peers::WideOptions),
    /// Transactions over several tables with foreign keys, written while nothing applied them.
    Orders(peers::OrdersOptions),
    /// pgbench's TPC-B-like transactions, and how far the replicas are behind meanwhile.
    Tpcb(peers::TpcbOptions),
    /// The same work for one replica and for several.
    Scaling(peers::ScalingOptions),
    /// Single-row commits, idle and beside a load.
    DirectLatency(peers::LatencyOptions),
    /// The first rows of three empty replicas.
    Copy(peers::CopyOptions),
    /// Reads over HTTP, beside the same statements straight on one replica.
    Readers(readers::Options),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let system = &arguments.system;
    match arguments.scenario {
        Scenario::Drain(options) => drain::run(system, &options).await,
        Scenario::Latency(options) => latency::run(system, &options).await,
        Scenario::Catchup(options) => catchup::run(system, &options).await,
        Scenario::Memory(options) => memory::run(system, &options).await,
        Scenario::Bulk(options) => peers::run(system, &options).await,
        Scenario::BulkInsert(bulk) => peers::run(system, &bulk.only(peers::Operation::Insert)).await,
        Scenario::BulkUpdate(bulk) => peers::run(system, &bulk.only(peers::Operation::Update)).await,
        Scenario::BulkDelete(bulk) => peers::run(system, &bulk.only(peers::Operation::Delete)).await,
        Scenario::Backlog(options) => peers::run(system, &options).await,
        Scenario::Sizes(options) => peers::run(system, &options).await,
        Scenario::Wide(options) => peers::run(system, &options).await,
        Scenario::Orders(options) => peers::run(system, &options).await,
        Scenario::Tpcb(options) => peers::run(system, &options).await,
        Scenario::Scaling(options) => peers::run(system, &options).await,
        Scenario::DirectLatency(options) => peers::run(system, &options).await,
        Scenario::Copy(options) => peers::run(system, &options).await,
        Scenario::Readers(options) => readers::run(system, &options).await,
    }
}
