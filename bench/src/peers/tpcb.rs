//! `tpcb`: pgbench's TPC-B-like transactions, and how far the replicas are behind meanwhile.
//!
//! A mark is committed beside them at a fixed rate; its lag is the time from COMMIT's return until the last replica shows it.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;

use super::carrier::{Carrier, Carrying};
use super::contents::ensure_equal;
use super::marks::Marks;
use super::scenario::{Common, Scenario};
use super::servers;
use super::sight::{Lookouts, Wanted};
use super::stage::Stage;
use super::summary::{Column, Run};
use super::usage::Usage;
use crate::lag;
use crate::pgbench;
use crate::process;
use crate::stats::{Percentiles, milliseconds};

/// Marks are committed for so long before and after pgbench runs.
const AROUND: Duration = Duration::from_secs(1);

/// Key of the row behind the first accounts; those of marks follow.
const FILLED: i64 = 1;

/// Options of `tpcb`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Seconds for which pgbench runs.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Its connections.
    #[arg(long, default_value_t = 4)]
    clients: u32,
    /// Its scale: branches, with 100 000 accounts each.
    #[arg(long, default_value_t = 4)]
    scale: u32,
    /// Its transactions per second, 0 for as many as it can.
    #[arg(long, value_delimiter = ',', default_value = "500,0")]
    rates: Vec<u32>,
    /// Marks per second.
    #[arg(long, default_value_t = 50)]
    marks: u32,
}

const COLUMNS: &[Column] = &[
    Column { name: "tps", heading: "leader", unit: "transactions/s", decimals: 0, ratio: true },
    Column { name: "p50", heading: "lag p50", unit: "ms", decimals: 1, ratio: true },
    Column { name: "p99", heading: "lag p99", unit: "ms", decimals: 1, ratio: true },
    Column { name: "max", heading: "lag max", unit: "ms", decimals: 1, ratio: false },
    Column { name: "level", heading: "level after", unit: "s", decimals: 2, ratio: false },
    Column { name: "all", heading: "CPU", unit: "us/transaction", decimals: 1, ratio: true },
    Column::part("leader"),
    Column::part("walsenders"),
    Column::part("connect"),
    Column::part("broker"),
    Column::part("daemon"),
    Column::part("replicas"),
    Column { name: "peak", heading: "daemon's peak", unit: "MiB", decimals: 0, ratio: false },
];

impl Scenario for Options {
    fn name(&self) -> &'static str {
        "tpcb"
    }

    fn title(&self) -> &'static str {
        "pgbench's TPC-B-like transactions with live replicas"
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.seconds > 0 && self.clients > 0 && self.scale > 0,
            "--seconds, --clients and --scale must be above 0"
        );
        ensure!(self.marks > 0 && !self.rates.is_empty(), "--marks and --rates must name something");
        self.common.refuse_sinks("pgbench's history has no key, which a sink's upsert needs")
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn describe(&self) -> String {
        format!(
            "pgbench's built-in TPC-B-like script for {} s, {} clients, scale {}, at a given rate or as fast as it can. Lag: from \
             the return of the COMMIT of a mark, {} of which are committed per second beside it, until the last replica shows it, \
             looked at every 5 ms. Level: from pgbench's end until all replicas show everything of it. CPU: all processes but pgbench \
             itself, per transaction; its parts follow.",
            self.seconds, self.clients, self.scale, self.marks
        )
    }

    async fn through(&self, stage: &Stage<'_>, carrier: Carrier) -> anyhow::Result<Vec<Run>> {
        let tables = include_str!("../../sql/tpcb.sql");
        let (lookouts, mut carrying) = servers::begin(stage, carrier, Some(tables)).await?;
        self.fill(stage, &lookouts, &mut carrying).await?;
        drop(lookouts);
        let mut runs = Vec::new();
        let mut last_mark = FILLED;
        for &rate in &self.rates {
            servers::settle(stage).await?;
            runs.push(self.measure(stage, &mut carrying, rate, &mut last_mark).await?);
            ensure_equal(stage).await?;
        }
        carrying.stop().await?;
        Ok(runs)
    }
}

impl Options {
    /// The accounts, on the leader only: they arrive as everything does, and are no part of what is measured.
    async fn fill(
        &self,
        stage: &Stage<'_>,
        lookouts: &Lookouts,
        carrying: &mut Carrying<'_>,
    ) -> anyhow::Result<()> {
        let filled = lookouts.begin(Wanted::Row(FILLED))?;
        self.pgbench(
            stage,
            &["--initialize", "--init-steps=g", "--quiet", &format!("--scale={}", self.scale)],
        )
        .await
        .context("fill pgbench's tables")?;
        let leader = stage.leader().await?;
        leader
            .execute(include_str!("../../sql/probe.sql"), &[&FILLED])
            .await
            .context("mark the end of the fill")?;
        filled.last(carrying).await.context("wait for pgbench's tables")?;
        Ok(())
    }

    async fn pgbench(&self, stage: &Stage<'_>, arguments: &[&str]) -> anyhow::Result<String> {
        let mut pgbench = stage.system.client_program("pgbench", 0)?;
        pgbench.env("PGOPTIONS", "-c search_path=bench").args(arguments);
        process::output(pgbench).await
    }

    async fn measure(
        &self,
        stage: &Stage<'_>,
        carrying: &mut Carrying<'_>,
        rate: u32,
        last_mark: &mut i64,
    ) -> anyhow::Result<Run> {
        let carrier = carrying.carrier();
        if let Some(daemon) = carrying.daemon() {
            daemon.forget_peak_memory()?;
        }
        let marks = Marks::start(stage, *last_mark, self.marks).await?;
        tokio::time::sleep(AROUND).await;
        let looking = servers::looking(stage).await?;
        let before = Usage::now(stage, carrier, carrying.daemon(), &looking)?;
        let started = Instant::now();
        let clients = format!("--client={}", self.clients);
        let seconds = format!("--time={}", self.seconds);
        let limit = format!("--rate={rate}");
        let mut arguments = vec!["--no-vacuum", "--protocol=prepared", &clients, &seconds];
        if rate > 0 {
            arguments.push(&limit);
        }
        let told = self.pgbench(stage, &arguments).await?;
        let ended = Instant::now();
        tokio::time::sleep(AROUND).await;
        let seen = marks.finish(carrying).await?;
        let after = Usage::now(stage, carrier, carrying.daemon(), &looking)?;
        *last_mark += i64::try_from(seen.commits.len())?;

        let pgbench::Figures { transactions, tps } = pgbench::read(&told)?;
        let window = started..ended;
        let lags = lag::lags(&seen.commits, &seen.everywhere, &window, |commit| Some(commit.at));
        let lags = Percentiles::of(lags).context("see a mark while pgbench runs")?;
        let mut figures = after.since(&before, transactions);
        figures.extend([
            ("tps", tps),
            ("p50", lags.p50),
            ("p99", lags.p99),
            ("max", lags.max),
            ("level", milliseconds(ended, seen.level_after(ended)?) / 1e3),
        ]);
        if let Some(daemon) = carrying.daemon() {
            figures.insert("peak", daemon.peak_memory_mib()?);
        }
        let workload = if rate == 0 { "as fast as it can".to_owned() } else { format!("{rate}/s") };
        let course = lag::course(&seen.commits, &seen.everywhere, started);
        Ok(Run { course, ..Run::new(carrier, workload, figures) })
    }
}
