//! `scaling`: what each further replica costs, in a large transaction and in a backlog.

use anyhow::ensure;
use clap::Args;

use super::backlog;
use super::bulk::{self, Operation};
use super::carrier::Carrier;
use super::scenario::{Common, Scenario};
use super::stage::Stage;
use super::summary::{Column, Run};

/// Replicas that a leader has slots for, with one for the copy of a table beside them.
const MOST: usize = 8;

/// Options of `scaling`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Numbers of replicas. Beyond three they share servers, each with a database of its own.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,6")]
    replicas: Vec<usize>,
    /// Rows of the large transaction.
    #[arg(long, default_value_t = 200_000)]
    rows: i64,
    /// Single-row transactions of the backlog.
    #[arg(long, default_value_t = 50_000)]
    transactions: i64,
}

const COLUMNS: &[Column] = &[
    Column { name: "seconds", heading: "wall", unit: "s", decimals: 2, ratio: true },
    Column { name: "all", heading: "CPU", unit: "us/row", decimals: 1, ratio: true },
    Column { name: "each", heading: "CPU by replica", unit: "us/row", decimals: 1, ratio: true },
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
        "scaling"
    }

    fn title(&self) -> &'static str {
        "the same work for one replica and for several"
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.replicas.is_empty(), "--replicas must name something");
        ensure!(self.replicas.iter().all(|n| (1..=MOST).contains(n)), "--replicas wants 1 to {MOST}");
        ensure!(self.rows > 0 && self.transactions > 0, "--rows and --transactions must be above 0");
        Ok(())
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn describe(&self) -> String {
        format!(
            "Insert: {} rows in one transaction, from the statement's start until all replicas show the last. Backlog: {} \
             single-row transactions, from the first page that any replica takes until all show the last. Numbers of replicas \
             follow; beyond three they share the three servers. CPU: all processes, per source row; by replica: divided by their \
             number; its parts follow.",
            self.rows, self.transactions
        )
    }

    async fn through(&self, stage: &Stage<'_>, carrier: Carrier) -> anyhow::Result<Vec<Run>> {
        let mut runs = Vec::new();
        for &replicas in &self.replicas {
            let stage = Stage { replicas, ..*stage };
            for run in bulk::operations(&stage, carrier, self.rows, &[Operation::Insert]).await? {
                runs.push(by_replica(run, "wall", &format!("insert, {replicas}"), replicas));
            }
            let figures = backlog::rows(&stage, carrier, self.transactions, 1).await?;
            let run = Run::new(carrier, String::new(), figures);
            runs.push(by_replica(run, "drain", &format!("backlog, {replicas}"), replicas));
        }
        Ok(runs)
    }
}

/// A run of another scenario as one of this.
fn by_replica(mut run: Run, seconds: &str, workload: &str, replicas: usize) -> Run {
    #[expect(clippy::cast_precision_loss, reason = "there are but a few replicas")]
    let replicas = replicas as f64;
    run.figures.extend([("seconds", run.figures[seconds]), ("each", run.figures["all"] / replicas)]);
    Run { workload: workload.to_owned(), ..run }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::summary::Figures;

    #[test]
    fn cost_is_shared_by_the_replicas() {
        let run =
            Run::new(Carrier::Direct, "insert".to_owned(), Figures::from([("wall", 2.0), ("all", 12.0)]));
        let run = by_replica(run, "wall", "insert, 6", 6);
        assert_eq!(
            (run.workload.as_str(), run.figures["seconds"], run.figures["each"]),
            ("insert, 6", 2.0, 2.0)
        );
    }
}
