//! `direct-latency`: single-row commits until all replicas show them, on an idle system and beside a steady load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::carrier::Carrier;
use super::contents::ensure_equal;
use super::probe::{self, Course, Sample};
use super::scenario::{Common, Scenario};
use super::servers;
use super::sight::Wanted;
use super::stage::Stage;
use super::summary::{Column, Run};
use crate::stats::Percentiles;
use crate::system::{DATABASE, System};

/// Connections that make the load; one alone would wait for the leader's disk too often.
const WRITERS: u32 = 4;

/// Keys of the load are apart from those of the probe: each writer's are negative and its own.
const KEYS_PER_WRITER: i64 = 1_000_000_000;

/// Options of `direct-latency`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Commits that are measured, in each run.
    #[arg(long, default_value_t = 1000)]
    commits: u32,
    /// Commits before those that do not count.
    #[arg(long, default_value_t = 200)]
    warm_up: u32,
    /// Measured commits per second.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Transactions per second beside them, 0 for an idle system.
    #[arg(long, value_delimiter = ',', default_value = "0,1000")]
    loads: Vec<u32>,
}

/// Key of the row that comes last.
const LAST_KEY: i64 = 1_000_000_000;

const COLUMNS: &[Column] = &[
    Column { name: "issued p50", heading: "issued p50", unit: "ms", decimals: 3, ratio: true },
    Column { name: "issued p99", heading: "issued p99", unit: "ms", decimals: 3, ratio: true },
    Column { name: "returned p50", heading: "returned p50", unit: "ms", decimals: 3, ratio: true },
    Column { name: "returned p99", heading: "returned p99", unit: "ms", decimals: 3, ratio: true },
    Column { name: "load", heading: "load", unit: "per s", decimals: 0, ratio: false },
];

impl Scenario for Options {
    fn name(&self) -> &'static str {
        "direct-latency"
    }

    fn title(&self) -> &'static str {
        "single-row commits until all replicas show them"
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.commits > 0 && self.rate > 0, "--commits and --rate must be above 0");
        ensure!(!self.loads.is_empty(), "--loads must name something");
        Ok(())
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn describe(&self) -> String {
        format!(
            "{} single-row commits, {} per second, after {} that do not count. Issued: from sending COMMIT until all three \
             replicas show the row; returned: from its return; percentiles of each run. Load: transactions per second of other \
             connections, as they were reached.",
            self.commits, self.rate, self.warm_up
        )
    }

    async fn through(&self, stage: &Stage<'_>, carrier: Carrier) -> anyhow::Result<Vec<Run>> {
        let (lookouts, mut carrying) = servers::begin(stage, carrier, None).await?;
        let mut runs = Vec::new();
        let mut first_key = 1;
        for (phase, &rate) in (0_u32..).zip(&self.loads) {
            servers::settle(stage).await?;
            let load = Load::start(stage.system, rate, phase).await?;
            let course = Course {
                first_key,
                warm_up: self.warm_up,
                commits: self.commits,
                period: Duration::from_secs(1) / self.rate,
            };
            first_key += i64::from(self.warm_up + self.commits);
            let probed = stage.system.clone();
            let samples = tokio::task::spawn_blocking(move || probe::run(&probed, course)).await?;
            let reached = load.stop().await?;
            runs.push(figures(carrier, rate, &samples?, reached)?);
            carrying.ensure_runs().await?;
        }
        // What a load has written last may be under way.
        let last = lookouts.begin(Wanted::Row(LAST_KEY))?;
        let leader = stage.leader().await?;
        leader
            .execute(include_str!("../../sql/probe.sql"), &[&LAST_KEY])
            .await
            .context("write the last row")?;
        last.last(&mut carrying).await?;
        ensure_equal(stage).await?;
        drop(lookouts);
        carrying.stop().await?;
        Ok(runs)
    }
}

fn figures(carrier: Carrier, rate: u32, samples: &[Sample], reached: f64) -> anyhow::Result<Run> {
    let of = |value: fn(&Sample) -> f64| {
        Percentiles::of(samples.iter().map(value)).context("measure at least one commit")
    };
    let (issued, returned) = (of(|sample| sample.issued)?, of(|sample| sample.returned)?);
    let workload = if rate == 0 { "idle".to_owned() } else { format!("{rate}/s") };
    let figures = [
        ("issued p50", issued.p50),
        ("issued p99", issued.p99),
        ("returned p50", returned.p50),
        ("returned p99", returned.p99),
        ("load", reached),
    ];
    Ok(Run::new(carrier, workload, figures.into()))
}

/// Single-row transactions of some connections at a fixed rate.
struct Load {
    writers: JoinSet<anyhow::Result<u32>>,
    stop: Arc<AtomicBool>,
    started: std::time::Instant,
}

impl Load {
    async fn start(system: &System, rate: u32, phase: u32) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 0..if rate == 0 { 0 } else { WRITERS } {
            let client = system.connect(0, DATABASE).await?;
            let insert = client.prepare(include_str!("../../sql/probe.sql")).await?;
            let stop = Arc::clone(&stop);
            let mut key = -i64::from(phase * WRITERS + writer + 1) * KEYS_PER_WRITER;
            writers.spawn(async move {
                let mut tick = interval(Duration::from_secs(1) * WRITERS / rate);
                // What a slow commit has delayed follows at once: the rate is kept.
                tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let mut made = 0;
                while !stop.load(Ordering::Relaxed) {
                    tick.tick().await;
                    client.execute(&insert, &[&key]).await.context("commit on the leader")?;
                    key += 1;
                    made += 1;
                }
                Ok(made)
            });
        }
        Ok(Self { writers, stop, started: std::time::Instant::now() })
    }

    /// Ends it: transactions per second that it made.
    async fn stop(mut self) -> anyhow::Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let seconds = self.started.elapsed().as_secs_f64();
        let mut made = 0;
        while let Some(writer) = self.writers.join_next().await {
            made += writer??;
        }
        Ok(f64::from(made) / seconds)
    }
}
