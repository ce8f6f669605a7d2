//! `copy`: the first rows of three empty replicas, from a leader that has many.
//!
//! - *visible*: from creating the subscriptions, or starting the replicator, until all three replicas show the last row.
//! - *ready*: until they follow the leader too.

use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;
use tokio_postgres::Client;

use super::carrier::Carrier;
use super::contents::ensure_equal;
use super::scenario::{Common, Scenario};
use super::servers;
use super::sight::{Lookouts, Wanted};
use super::stage::Stage;
use super::subscriptions::Start;
use super::summary::{Column, Run};
use super::usage::Usage;

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
    Column { name: "visible", heading: "visible", unit: "s", decimals: 2, ratio: true },
    Column { name: "ready", heading: "ready", unit: "s", decimals: 2, ratio: true },
    Column { name: "rate", heading: "to each", unit: "MB/s", decimals: 0, ratio: true },
    Column { name: "all", heading: "CPU", unit: "us/row", decimals: 1, ratio: true },
    // Walsenders and backends that only copy have ended by then, so that they are not told apart from the leader.
    Column { name: "sending", heading: "leader", unit: "", decimals: 1, ratio: false },
    Column::part("daemon"),
    Column::part("replicas"),
    Column { name: "peak", heading: "daemon's peak", unit: "MiB", decimals: 0, ratio: false },
];

impl Scenario for Options {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn title(&self) -> &'static str {
        "the first rows of three empty replicas"
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.megabytes > 0, "--megabytes must be above 0");
        if let Some(brokered) = self.common.systems().iter().find(|carrier| carrier.uses_broker()) {
            bail!(
                "--systems {}: a copy goes from server to server; `drain` measures filled topics",
                brokered.name()
            );
        }
        Ok(())
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn describe(&self) -> String {
        "One table into three empty replicas. Visible: from creating the subscriptions, or starting the replicator's process, \
         until all three show the last row. Ready: until all three follow. CPU: all processes, per row; its parts follow."
            .to_owned()
    }

    async fn through(&self, stage: &Stage<'_>, carrier: Carrier) -> anyhow::Result<Vec<Run>> {
        servers::prepare(stage, carrier).await?;
        let leader = stage.leader().await?;
        let rows = self.megabytes * 1_000_000 / ROW_BYTES;
        leader.execute(include_str!("../../sql/insert.sql"), &[&rows]).await.context("fill the leader")?;
        servers::settle(stage).await?;
        let megabytes = megabytes(&leader).await?;

        let lookouts = Lookouts::start(stage).await?;
        let sights = lookouts.begin(Wanted::Row(rows))?;
        let before = Usage::now(stage, carrier, None, lookouts.backends())?;
        let started = Instant::now();
        let mut carrying = carrier.start(stage, Start::Copy).await?;
        let shown = sights.last(&mut carrying).await?;
        carrying.await_live().await?;
        let ready = Instant::now();
        let after = Usage::now(stage, carrier, carrying.daemon(), lookouts.backends())?;

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
        ensure_equal(stage).await?;
        drop(lookouts);
        carrying.stop().await?;
        Ok(vec![Run::new(carrier, format!("{rows} rows, {megabytes:.0} MB"), figures)])
    }
}

async fn megabytes(leader: &Client) -> anyhow::Result<f64> {
    let row = leader.query_one("SELECT pg_relation_size('bench.accounts') / 1e6::float8", &[]).await?;
    Ok(row.get(0))
}
