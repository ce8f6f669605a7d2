//! `wide`: rows with values of 2 kB to 100 kB, inserted, then updated without touching these values.
//!
//! The stream does not carry a large value that an update leaves unchanged, and whoever applies has to leave it as it is.

use anyhow::ensure;
use clap::Args;

use super::carrier::Carrier;
use super::contents::ensure_equal;
use super::drained;
use super::scenario::{Common, Scenario};
use super::servers;
use super::stage::Stage;
use super::summary::{Column, Run};

/// Options of `wide`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Rows, of 8 kB on average.
    #[arg(long, default_value_t = 20_000)]
    rows: i64,
}

const COLUMNS: &[Column] = &drained::columns("us/row");

/// What is written, and by which statement.
const WORKLOADS: [(&str, &str); 2] =
    [("insert", "CALL bench.write_documents($1)"), ("update beside them", "CALL bench.touch_documents($1)")];

impl Scenario for Options {
    fn name(&self) -> &'static str {
        "wide"
    }

    fn title(&self) -> &'static str {
        "rows with values of 2 to 100 kB, drained from a backlog"
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.rows > 0, "--rows must be above 0");
        self.common
            .refuse_sinks("a sink writes the connector's placeholder over a large value that did not change")
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn describe(&self) -> String {
        format!(
            "{} rows, of 20 one with a value of 100 kB, three with 10 kB and the others with 2 kB, in transactions of 10: \
             inserted, then updated in other columns. {} CPU is per row.",
            self.rows,
            drained::DESCRIPTION
        )
    }

    async fn through(&self, stage: &Stage<'_>, carrier: Carrier) -> anyhow::Result<Vec<Run>> {
        let tables = include_str!("../../sql/wide.sql");
        let (lookouts, mut carrying) = servers::begin(stage, carrier, Some(tables)).await?;
        let leader = stage.leader().await?;
        leader.batch_execute(include_str!("../../sql/wide_writers.sql")).await?;
        let mut runs = Vec::new();
        for (marker, (workload, call)) in (1..).zip(WORKLOADS) {
            let write = async || Ok(leader.execute(call, &[&self.rows]).await.map(drop)?);
            let figures = drained::measure(stage, &lookouts, &mut carrying, self.rows, marker, write).await?;
            ensure_equal(stage).await?;
            runs.push(Run::new(carrier, workload.to_owned(), figures));
        }
        drop(lookouts);
        carrying.stop().await?;
        Ok(runs)
    }
}
