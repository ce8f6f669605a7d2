//! `bulk`: very many rows in one transaction, inserted, updated, deleted.
//!
//! - *wall*: from the statement's start on the leader until all replicas show its last row.
//! - *after COMMIT*: the part of that after COMMIT returned, during which a replica is behind.

use std::time::Instant;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use tokio_postgres::Client;

use super::carrier::{Carrier, Carrying};
use super::contents::ensure_equal;
use super::scenario::{Common, Scenario};
use super::servers;
use super::sight::{Lookouts, Wanted};
use super::stage::Stage;
use super::summary::{Column, Run};
use super::usage::Usage;

/// What all bulk scenarios take.
#[derive(Debug, Clone, Args)]
pub(crate) struct Bulk {
    #[command(flatten)]
    pub(super) common: Common,
    /// Rows of each transaction.
    #[arg(long, default_value_t = 500_000)]
    pub(super) rows: i64,
}

/// Options of `bulk`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    bulk: Bulk,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "insert,update,delete")]
    operations: Vec<Operation>,
}

impl Bulk {
    /// A scenario of one operation, with a name of its own.
    pub(crate) fn only(self, operation: Operation) -> Options {
        Options { bulk: self, operations: vec![operation] }
    }
}

/// A transaction over all rows; each needs what the one before it has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Operation {
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

/// Also those of other scenarios that look at bulk.
pub(super) const COLUMNS: &[Column] = &[
    Column { name: "wall", heading: "wall", unit: "s", decimals: 2, ratio: true },
    Column { name: "after", heading: "after COMMIT", unit: "s", decimals: 2, ratio: true },
    Column { name: "all", heading: "CPU", unit: "us/row", decimals: 1, ratio: true },
    Column::part("leader"),
    Column::part("walsenders"),
    Column::part("connect"),
    Column::part("broker"),
    Column::part("daemon"),
    Column::part("replicas"),
    Column { name: "peak", heading: "daemon's peak", unit: "MiB", decimals: 0, ratio: false },
    Column { name: "streams", heading: "streams at the end", unit: "", decimals: 0, ratio: false },
];

impl Scenario for Options {
    fn name(&self) -> &'static str {
        match self.operations[..] {
            [Operation::Insert] => "bulk-insert",
            [Operation::Update] => "bulk-update",
            [Operation::Delete] => "bulk-delete",
            _ => "bulk",
        }
    }

    fn title(&self) -> &'static str {
        "very many rows in one transaction"
    }

    fn common(&self) -> &Common {
        &self.bulk.common
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.bulk.rows > 0, "--rows must be above 0");
        ensure!(!self.operations.is_empty(), "--operations must name something");
        Ok(())
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn describe(&self) -> String {
        format!(
            "{} rows in one transaction. Wall: the statement's start until all three replicas show the last row. CPU: all \
             processes, per row; its parts follow.",
            self.bulk.rows
        )
    }

    async fn through(&self, stage: &Stage<'_>, carrier: Carrier) -> anyhow::Result<Vec<Run>> {
        operations(stage, carrier, self.bulk.rows, &self.operations).await
    }
}

/// Operations of `rows` rows through one system, from empty servers on.
pub(super) async fn operations(
    stage: &Stage<'_>,
    carrier: Carrier,
    rows: i64,
    wanted: &[Operation],
) -> anyhow::Result<Vec<Run>> {
    let (lookouts, mut carrying) = servers::begin(stage, carrier, None).await?;
    let leader = stage.leader().await?;
    let mut runs = Vec::new();
    let last = wanted.iter().max().copied();
    for operation in Operation::ALL.into_iter().filter(|&operation| Some(operation) <= last) {
        servers::settle(stage).await?;
        let run = measure(stage, rows, operation, &leader, &lookouts, &mut carrying).await?;
        ensure_equal(stage).await.with_context(|| format!("compare after the {}", operation.name()))?;
        if wanted.contains(&operation) {
            runs.push(run);
        }
    }
    drop(lookouts);
    carrying.stop().await?;
    Ok(runs)
}

async fn measure(
    stage: &Stage<'_>,
    rows: i64,
    operation: Operation,
    leader: &Client,
    lookouts: &Lookouts,
    carrying: &mut Carrying<'_>,
) -> anyhow::Result<Run> {
    let carrier = carrying.carrier();
    if let Some(daemon) = carrying.daemon() {
        daemon.forget_peak_memory()?;
    }
    let sights = lookouts.begin(operation.shown(rows))?;
    let before = Usage::now(stage, carrier, carrying.daemon(), lookouts.backends())?;
    let started = Instant::now();
    operation.execute(leader, rows).await.context("change the rows")?;
    let committed = Instant::now();
    let shown = sights.last(carrying).await?;
    let after = Usage::now(stage, carrier, carrying.daemon(), lookouts.backends())?;
    #[expect(clippy::cast_precision_loss, reason = "rows of a benchmark stay far below 2^53")]
    let mut figures = after.since(&before, rows as f64);
    figures.insert("wall", (shown - started).as_secs_f64());
    figures.insert("after", shown.saturating_duration_since(committed).as_secs_f64());
    if let Some(daemon) = carrying.daemon() {
        figures.insert("peak", daemon.peak_memory_mib()?);
    }
    figures.insert("streams", f64::from(servers::streams(stage).await?));
    Ok(Run::new(carrier, operation.name().to_owned(), figures))
}
