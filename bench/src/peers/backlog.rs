//! `backlog`: very many single-row transactions, written while nothing applies them, then drained.

use anyhow::{Context, ensure};
use clap::Args;

use super::carrier::Carrier;
use super::contents::ensure_equal;
use super::drained;
use super::scenario::{Common, Scenario};
use super::servers;
use super::stage::Stage;
use super::summary::{Column, Figures, Run};

/// Options of `backlog`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Transactions of one row each.
    #[arg(long, default_value_t = 200_000)]
    transactions: i64,
}

const COLUMNS: &[Column] = &drained::columns("us/transaction");

impl Scenario for Options {
    fn name(&self) -> &'static str {
        "backlog"
    }

    fn title(&self) -> &'static str {
        "single-row transactions that were written while nothing applied"
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.transactions > 0, "--transactions must be above 0");
        Ok(())
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn describe(&self) -> String {
        format!(
            "{} transactions that insert one row each. {} CPU is per transaction.",
            self.transactions,
            drained::DESCRIPTION
        )
    }

    async fn through(&self, stage: &Stage<'_>, carrier: Carrier) -> anyhow::Result<Vec<Run>> {
        let figures = rows(stage, carrier, self.transactions, 1).await?;
        let workload = format!("{} transactions", self.transactions);
        Ok(vec![Run::new(carrier, workload, figures)])
    }
}

/// Drains so many rows, inserted by transactions of `size` rows each, through one system, from empty servers on.
pub(super) async fn rows(
    stage: &Stage<'_>,
    carrier: Carrier,
    rows: i64,
    size: i64,
) -> anyhow::Result<Figures> {
    let (lookouts, mut carrying) = servers::begin(stage, carrier, None).await?;
    let leader = stage.leader().await?;
    leader.batch_execute(include_str!("../../sql/backlog.sql")).await.context("make the writer")?;
    let write = async || {
        leader.execute("CALL bench.write_backlog($1, $2)", &[&rows, &size]).await?;
        Ok(())
    };
    let figures = drained::measure(stage, &lookouts, &mut carrying, rows, rows + 1, write).await?;
    ensure_equal(stage).await?;
    drop(lookouts);
    carrying.stop().await?;
    Ok(figures)
}
