//! `backlog`: very many single-row transactions, written while nothing applies them, then drained.
//!
//! - *drain*: from the first page that is taken on any replica until all three show the last row.
//! - *total*: from the moment at which applying is switched on again, the start of connections, workers and the replicator's
//!   process included.

use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Args;

use super::carrier::Carrier;
use super::sight::{Lookouts, Wanted};
use super::subscriptions::Start;
use super::summary::{self, Column, Run};
use super::usage::Usage;
use super::{Common, servers};
use crate::environment::Environment;
use crate::fill::ensure_equal;
use crate::report::Report;
use crate::system::{DATABASE, System};

/// Options of `backlog`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Transactions of one row each.
    #[arg(long, default_value_t = 200_000)]
    transactions: i64,
}

const COLUMNS: &[Column] = &[
    Column { name: "rate", heading: "drained per s", decimals: 0, ratio: true },
    Column { name: "total rate", heading: "in total per s", decimals: 0, ratio: true },
    Column { name: "drain", heading: "drain s", decimals: 2, ratio: false },
    Column { name: "total", heading: "total s", decimals: 2, ratio: true },
    Column { name: "all", heading: "CPU us/transaction", decimals: 1, ratio: true },
    Column { name: "leader", heading: "leader", decimals: 1, ratio: false },
    Column { name: "walsenders", heading: "walsenders", decimals: 1, ratio: false },
    Column { name: "daemon", heading: "daemon", decimals: 1, ratio: false },
    Column { name: "replicas", heading: "replicas, sum", decimals: 1, ratio: false },
    Column { name: "peak", heading: "daemon's peak MiB", decimals: 0, ratio: false },
    Column { name: "grouped", heading: "transactions per commit", decimals: 0, ratio: false },
    Column { name: "streams", heading: "streams at the end", decimals: 0, ratio: false },
];

/// Runs the scenario and writes its report.
pub(crate) async fn run(system: &System, options: &Options) -> anyhow::Result<()> {
    ensure!(options.transactions > 0, "--transactions must be above 0");
    let environment = Environment::without_broker(system, &options.common.replicator).await?;
    let mut runs = Vec::new();
    for carrier in options.common.turns()? {
        let run =
            through(system, options, carrier).await.with_context(|| format!("measure {}", carrier.name()))?;
        println!("{}: {:.0} transactions/s", run.system, run.figures["rate"]);
        runs.push(run);
    }
    let mut report = Report::new("backlog", environment);
    report.text(&format!(
        "{} transactions that insert one row each, written while nothing applies. Drained: from the first page that any \
         replica takes until all three show the last row. In total: from switching applying on (`ALTER SUBSCRIPTION ... \
         ENABLE`, the start of the replicator's process). CPU: all processes from that moment on, per transaction; its parts \
         follow. Median (range); ratios are of medians.",
        options.transactions
    ));
    report.table(&summary::table(&runs, COLUMNS));
    report.finish(system, &runs)
}

async fn through(system: &System, options: &Options, carrier: Carrier) -> anyhow::Result<Run> {
    servers::prepare(system).await?;
    let leader = system.connect(0, DATABASE).await?;
    let lookouts = Lookouts::start(system).await?;
    let mut carrying = carrier.start(system, &options.common.replicator, Start::Equal).await?;
    carrying.await_live().await?;
    servers::warm_up(system, &options.common.replicator, &lookouts, &mut carrying).await?;
    carrying.pause(system).await?;

    leader.batch_execute(include_str!("../../sql/backlog.sql")).await.context("make the writer")?;
    leader.execute("CALL bench.write_backlog($1)", &[&options.transactions]).await.context("write")?;
    servers::settle(system).await?;
    // After the warm-up's rows.
    let size = leader.query_one("SELECT current_setting('block_size')::bigint", &[]).await?.get(0);

    let first = lookouts.begin(Wanted::MoreThan(size))?;
    let last = lookouts.begin(Wanted::Row(options.transactions))?;
    let before = Usage::now(system, None, lookouts.backends())?;
    let started = Instant::now();
    carrying.resume(system, &options.common.replicator).await?;
    let first = first.first(&mut carrying).await?;
    let shown = last.last(&mut carrying).await?;
    let after = Usage::now(system, carrying.daemon(), lookouts.backends())?;

    #[expect(clippy::cast_precision_loss, reason = "transactions of a benchmark stay far below 2^53")]
    let transactions = options.transactions as f64;
    let (drain, total) = ((shown - first).as_secs_f64(), (shown - started).as_secs_f64());
    let mut figures = after.since(&before, transactions);
    figures.extend([
        ("drain", drain),
        ("total", total),
        ("rate", transactions / drain),
        ("total rate", transactions / total),
    ]);
    if let Some(daemon) = carrying.daemon() {
        figures.insert("peak", daemon.peak_memory_mib()?);
    }
    // The daemon has been started for this backlog alone.
    if let Some(commits) = carrying.commits().await? {
        figures.insert("grouped", transactions / commits);
    }
    figures.insert("streams", f64::from(servers::streams(system).await?));
    ensure_equal(system).await?;
    drop(lookouts);
    carrying.stop(system).await?;
    Ok(Run { system: carrier.name(), workload: format!("{} transactions", options.transactions), figures })
}
