//! `copy`: the first rows of three empty replicas, from a leader that has many.
//!
//! - *visible*: from creating the subscriptions, or starting the replicator, until all three replicas show the last row.
//! - *ready*: until they follow the leader too.

use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Args;
use tokio_postgres::Client;

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

/// What a row takes in the table's pages, more or less: the report has the real size.
const ROW_BYTES: i64 = 165;

/// Options of `copy`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Size of the table, without its index.
    #[arg(long, default_value_t = 500)]
    megabytes: i64,
}

const COLUMNS: &[Column] = &[
    Column { name: "visible", heading: "visible s", decimals: 2, ratio: true },
    Column { name: "ready", heading: "ready s", decimals: 2, ratio: true },
    Column { name: "rate", heading: "MB/s to each", decimals: 0, ratio: true },
    Column { name: "all", heading: "CPU us/row", decimals: 1, ratio: true },
    // Walsenders and backends that only copy have ended by then, so that they are not told apart from the leader.
    Column { name: "sending", heading: "leader", decimals: 1, ratio: false },
    Column { name: "daemon", heading: "daemon", decimals: 1, ratio: false },
    Column { name: "replicas", heading: "replicas, sum", decimals: 1, ratio: false },
    Column { name: "peak", heading: "daemon's peak MiB", decimals: 0, ratio: false },
];

/// Runs the scenario and writes its report.
pub(crate) async fn run(system: &System, options: &Options) -> anyhow::Result<()> {
    ensure!(options.megabytes > 0, "--megabytes must be above 0");
    let environment = Environment::without_broker(system, &options.common.replicator).await?;
    let mut runs = Vec::new();
    for carrier in options.common.turns()? {
        let run =
            through(system, options, carrier).await.with_context(|| format!("measure {}", carrier.name()))?;
        println!("{}, {}: {:.2} s", run.system, run.workload, run.figures["visible"]);
        runs.push(run);
    }
    let mut report = Report::new("copy", environment);
    report.text(
        "One table into three empty replicas. Visible: from creating the subscriptions, or starting the replicator's process, \
         until all three show the last row. Ready: until all three follow. CPU: all processes, per row; its parts follow. \
         Median (range); ratios are of medians.",
    );
    report.table(&summary::table(&runs, COLUMNS));
    report.finish(system, &runs)
}

async fn through(system: &System, options: &Options, carrier: Carrier) -> anyhow::Result<Run> {
    servers::prepare(system).await?;
    let leader = system.connect(0, DATABASE).await?;
    let rows = options.megabytes * 1_000_000 / ROW_BYTES;
    leader.execute(include_str!("../../sql/insert.sql"), &[&rows]).await.context("fill the leader")?;
    servers::settle(system).await?;
    let megabytes = megabytes(&leader).await?;

    let lookouts = Lookouts::start(system).await?;
    let sights = lookouts.begin(Wanted::Row(rows))?;
    let before = Usage::now(system, None, lookouts.backends())?;
    let started = Instant::now();
    let mut carrying = carrier.start(system, &options.common.replicator, Start::Copy).await?;
    let shown = sights.last(&mut carrying).await?;
    carrying.await_live().await?;
    let ready = Instant::now();
    let after = Usage::now(system, carrying.daemon(), lookouts.backends())?;

    #[expect(clippy::cast_precision_loss, reason = "rows of a benchmark stay far below 2^53")]
    let mut figures = after.since(&before, rows as f64);
    let visible = (shown - started).as_secs_f64();
    figures.extend([
        ("visible", visible),
        ("ready", (ready - started).as_secs_f64()),
        ("rate", megabytes / visible),
        ("sending", figures["leader"] + figures["walsenders"]),
    ]);
    if let Some(daemon) = carrying.daemon() {
        figures.insert("peak", daemon.peak_memory_mib()?);
    }
    ensure_equal(system).await?;
    drop(lookouts);
    carrying.stop(system).await?;
    Ok(Run { system: carrier.name(), workload: format!("{rows} rows, {megabytes:.0} MB"), figures })
}

async fn megabytes(leader: &Client) -> anyhow::Result<f64> {
    let row = leader.query_one("SELECT pg_relation_size('bench.accounts') / 1e6::float8", &[]).await?;
    Ok(row.get(0))
}
