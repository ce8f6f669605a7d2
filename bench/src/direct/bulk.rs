//! `bulk`: very many rows in one transaction, inserted, updated, deleted.
//!
//! - *wall*: from the statement's start on the leader until all three replicas show its last row.
//! - *after COMMIT*: the part of that after COMMIT returned, during which a replica is behind.

use std::time::Instant;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use tokio_postgres::Client;

use super::carrier::{Carrier, Carrying};
use super::sight::{Lookouts, Wanted};
use super::subscriptions::Start;
use super::summary::{self, Column, Run};
use super::usage::Usage;
use super::{Common, servers};
use crate::environment::Environment;
use crate::fill::ensure_equal;
use crate::report::Report;
use crate::system::{DATABASE, System};

/// Options of `bulk`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Rows of each transaction.
    #[arg(long, default_value_t = 500_000)]
    rows: i64,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "insert,update,delete")]
    operations: Vec<Operation>,
}

/// A transaction over all rows; each needs what the one before it has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Operation {
    Insert,
    Update,
    Delete,
}

impl Operation {
    const ALL: [Self; 3] = [Self::Insert, Self::Update, Self::Delete];

    fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// What a replica shows once it has the whole transaction.
    fn shown(self, rows: i64) -> Wanted {
        match self {
            Self::Insert => Wanted::Row(rows),
            Self::Update => Wanted::Updated(rows),
            Self::Delete => Wanted::NoRow(rows),
        }
    }

    async fn execute(self, leader: &Client, rows: i64) -> Result<(), tokio_postgres::Error> {
        match self {
            Self::Insert => leader.execute(include_str!("../../sql/insert.sql"), &[&rows]).await.map(drop),
            Self::Update => leader.batch_execute(include_str!("../../sql/update.sql")).await,
            Self::Delete => leader.batch_execute("DELETE FROM bench.accounts").await,
        }
    }
}

const COLUMNS: &[Column] = &[
    Column { name: "wall", heading: "wall s", decimals: 2, ratio: true },
    Column { name: "after", heading: "after COMMIT s", decimals: 2, ratio: true },
    Column { name: "all", heading: "CPU us/row", decimals: 1, ratio: true },
    Column { name: "leader", heading: "leader", decimals: 1, ratio: false },
    Column { name: "walsenders", heading: "walsenders", decimals: 1, ratio: false },
    Column { name: "daemon", heading: "daemon", decimals: 1, ratio: false },
    Column { name: "replicas", heading: "replicas, sum", decimals: 1, ratio: false },
    Column { name: "peak", heading: "daemon's peak MiB", decimals: 0, ratio: false },
    Column { name: "streams", heading: "streams at the end", decimals: 0, ratio: false },
];

/// Runs the scenario and writes its report.
pub(crate) async fn run(system: &System, options: &Options) -> anyhow::Result<()> {
    ensure!(options.rows > 0, "--rows must be above 0");
    ensure!(!options.operations.is_empty(), "--operations must name something");
    let environment = Environment::without_broker(system, &options.common.replicator).await?;
    let mut runs = Vec::new();
    for carrier in options.common.turns()? {
        through(system, options, carrier, &mut runs)
            .await
            .with_context(|| format!("measure {}", carrier.name()))?;
    }
    let mut report = Report::new("bulk", environment);
    report.text(&format!(
        "{} rows in one transaction. Wall: the statement's start until all three replicas show the last row. CPU: all \
         processes, per row; its parts follow. Median (range); ratios are of medians.",
        options.rows
    ));
    report.table(&summary::table(&runs, COLUMNS));
    report.finish(system, &runs)
}

/// All operations through one system.
async fn through(
    system: &System,
    options: &Options,
    carrier: Carrier,
    runs: &mut Vec<Run>,
) -> anyhow::Result<()> {
    servers::prepare(system).await?;
    let leader = system.connect(0, DATABASE).await?;
    let lookouts = Lookouts::start(system).await?;
    let mut carrying = carrier.start(system, &options.common.replicator, Start::Equal).await?;
    carrying.await_live().await?;
    servers::warm_up(system, &options.common.replicator, &lookouts, &mut carrying).await?;
    let last = options.operations.iter().max().copied();
    for operation in Operation::ALL.into_iter().filter(|&operation| Some(operation) <= last) {
        servers::settle(system).await?;
        let run = measure(system, options, operation, &leader, &lookouts, &mut carrying, carrier).await?;
        ensure_equal(system).await.with_context(|| format!("compare after the {}", operation.name()))?;
        if options.operations.contains(&operation) {
            let (wall, all) = (run.figures["wall"], run.figures["all"]);
            println!("{} {}: {wall:.2} s, {all:.1} us/row", carrier.name(), operation.name());
            runs.push(run);
        }
    }
    drop(lookouts);
    carrying.stop(system).await
}

async fn measure(
    system: &System,
    options: &Options,
    operation: Operation,
    leader: &Client,
    lookouts: &Lookouts,
    carrying: &mut Carrying,
    carrier: Carrier,
) -> anyhow::Result<Run> {
    if let Some(daemon) = carrying.daemon() {
        daemon.forget_peak_memory()?;
    }
    let sights = lookouts.begin(operation.shown(options.rows))?;
    let before = Usage::now(system, carrying.daemon(), lookouts.backends())?;
    let started = Instant::now();
    operation.execute(leader, options.rows).await.context("change the rows")?;
    let committed = Instant::now();
    let shown = sights.last(carrying).await?;
    let after = Usage::now(system, carrying.daemon(), lookouts.backends())?;
    #[expect(clippy::cast_precision_loss, reason = "rows of a benchmark stay far below 2^53")]
    let mut figures = after.since(&before, options.rows as f64);
    figures.insert("wall", (shown - started).as_secs_f64());
    figures.insert("after", shown.saturating_duration_since(committed).as_secs_f64());
    if let Some(daemon) = carrying.daemon() {
        figures.insert("peak", daemon.peak_memory_mib()?);
    }
    figures.insert("streams", f64::from(servers::streams(system).await?));
    Ok(Run { system: carrier.name(), workload: operation.name().to_owned(), figures })
}
