//! `sizes`: the same rows, written while nothing applies them, in transactions of one row, of ten, and so on.

use anyhow::ensure;
use clap::Args;

use super::backlog;
use super::carrier::Carrier;
use super::drained;
use super::scenario::{Common, Scenario};
use super::stage::Stage;
use super::summary::{Column, Run};

/// Options of `sizes`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Rows of each backlog.
    #[arg(long, default_value_t = 1_000_000)]
    rows: i64,
    /// Rows of each transaction.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000,10000,100000,1000000")]
    sizes: Vec<i64>,
}

const COLUMNS: &[Column] = &drained::columns("us/row");

impl Scenario for Options {
    fn name(&self) -> &'static str {
        "sizes"
    }

    fn title(&self) -> &'static str {
        "rows per second by rows per transaction, drained from a backlog"
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.sizes.is_empty(), "--sizes must name something");
        ensure!(
            self.sizes.iter().all(|size| (1..=self.rows).contains(size)),
            "--sizes must be from 1 to --rows, which are {}",
            self.rows
        );
        Ok(())
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn describe(&self) -> String {
        format!(
            "{} inserted rows in each backlog, by the rows of one transaction. {} CPU is per row.",
            self.rows,
            drained::DESCRIPTION
        )
    }

    async fn through(&self, stage: &Stage<'_>, carrier: Carrier) -> anyhow::Result<Vec<Run>> {
        let mut runs = Vec::new();
        for &size in &self.sizes {
            let figures = backlog::rows(stage, carrier, self.rows, size).await?;
            runs.push(Run::new(carrier, size.to_string(), figures));
        }
        Ok(runs)
    }
}
