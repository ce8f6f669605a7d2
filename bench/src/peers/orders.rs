//! `orders`: transactions over several tables with foreign keys, written while nothing applies them, then drained.

use anyhow::ensure;
use clap::Args;

use super::carrier::Carrier;
use super::contents::ensure_equal;
use super::drained;
use super::scenario::{Common, Scenario};
use super::servers;
use super::stage::Stage;
use super::summary::{Column, Run};

/// Options of `orders`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Transactions: six of ten place an order, the others change, ship and cancel one.
    #[arg(long, default_value_t = 100_000)]
    transactions: i64,
}

const COLUMNS: &[Column] = &drained::columns("us/transaction");

impl Scenario for Options {
    fn name(&self) -> &'static str {
        "orders"
    }

    fn title(&self) -> &'static str {
        "transactions over three tables with foreign keys, drained from a backlog"
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.transactions > 0, "--transactions must be above 0");
        self.common.refuse_sinks("a sink writes table by table, which foreign keys refuse")
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn describe(&self) -> String {
        format!(
            "{} transactions on customers, orders and their lines, with foreign keys on the replicas too: six of ten insert an \
             order with one to five lines, two change one, one ships one, one deletes one. {} CPU is per transaction.",
            self.transactions,
            drained::DESCRIPTION
        )
    }

    async fn through(&self, stage: &Stage<'_>, carrier: Carrier) -> anyhow::Result<Vec<Run>> {
        let tables = include_str!("../../sql/orders.sql");
        let (lookouts, mut carrying) = servers::begin(stage, carrier, Some(tables)).await?;
        let leader = stage.leader().await?;
        leader.batch_execute(include_str!("../../sql/orders_writer.sql")).await?;
        let write = async || {
            Ok(leader.execute("CALL bench.write_orders($1)", &[&self.transactions]).await.map(drop)?)
        };
        let figures = drained::measure(stage, &lookouts, &mut carrying, self.transactions, 1, write).await?;
        ensure_equal(stage).await?;
        drop(lookouts);
        carrying.stop().await?;
        let workload = format!("{} transactions", self.transactions);
        Ok(vec![Run::new(carrier, workload, figures)])
    }
}
