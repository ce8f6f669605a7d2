//! `drain`: the same filled topics into empty replicas, by the replicator and by the JDBC sink.
//!
//! - The *insert phase* ends when every replica shows the last inserted row, the *update phase* when every one shows its
//!   update. It begins when the first page of the table is taken on any replica, so that the start of a JVM task, of the
//!   daemon and of their consumers counts for neither side.
//! - The replicator shows the 300 000 inserts at once, at their commit: the phase's end is that commit. The sink commits
//!   batch by batch, and its last row comes last.
//! - `total` is the whole, from the start of the daemon or the creation of the connectors.

mod summary;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::environment::Environment;
use crate::fill::{Fill, Fingerprint};
use crate::report::Report;
use crate::side::{Side, Worker};
use crate::stream::Format;
use crate::system::{DATABASE, REPLICAS, System, server_name};
use crate::watch::{self, Seen, Step};

/// The slowest sink needs about a minute and a half.
const PATIENCE: Duration = Duration::from_secs(600);

/// Options of `drain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Rows that are inserted, and then updated.
    #[arg(long, default_value_t = 300_000)]
    rows: i64,
    /// Events with or without embedded schemas; the sink can only read those with.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "plain,schema")]
    formats: Vec<Format>,
    /// Numbers of replicas.
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    replicas: Vec<usize>,
    /// Who drains: `replicator`, `sink-BATCH`, `sink-unnest-BATCH`.
    #[arg(long, value_delimiter = ',', default_value = "replicator,sink-500,sink-unnest-500")]
    sides: Vec<Side>,
    /// Times that each of the replicator's drains is made; reports have the median and the range.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// The same for the sinks, which take several times as long.
    #[arg(long, default_value_t = 1)]
    sink_repeat: usize,
    /// Seconds for which sinks drain before one of theirs is measured, so that the JVM has compiled what they need.
    #[arg(long, default_value_t = 15)]
    sink_warm_up: u64,
    /// The replicator's program.
    #[arg(long, env = "BENCH_REPLICATOR")]
    replicator: PathBuf,
}

/// One drain, measured.
#[derive(Debug, Clone, Serialize)]
struct Drain {
    side: String,
    format: &'static str,
    replicas: usize,
    rows: i64,
    insert: Phase,
    update: Phase,
    /// From the start of the daemon or the creation of the connectors to the end of the update phase.
    total_seconds: f64,
    /// Of the replicator; a Connect worker's memory says little about its sinks.
    peak_memory_mib: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
struct Phase {
    seconds: f64,
    /// To each replica.
    rows_per_second: f64,
    /// CPU of each process in the phase, per source row; `worker` is the replicator or the Connect worker.
    cpu_us_per_row: BTreeMap<String, f64>,
}

impl Phase {
    fn cpu_of_replicas(&self) -> f64 {
        let replicas = self.cpu_us_per_row.iter().filter(|(name, _)| name.starts_with("replica-"));
        replicas.map(|(_, cpu)| cpu).sum()
    }

    fn cpu_of_all(&self) -> f64 {
        self.cpu_us_per_row.values().sum()
    }

    fn cpu_of(&self, name: &str) -> f64 {
        self.cpu_us_per_row.get(name).copied().unwrap_or_default()
    }
}

/// Runs the scenario and writes its report.
pub(crate) async fn run(system: &System, options: &Options) -> anyhow::Result<()> {
    ensure!(options.rows > 0, "--rows must be above 0");
    ensure!(options.repeat > 0 && options.sink_repeat > 0, "--repeat and --sink-repeat must be above 0");
    ensure!(options.replicas.iter().all(|n| (1..=REPLICAS).contains(n)), "--replicas wants 1 to {REPLICAS}");
    let mut fills = Vec::new();
    for &format in &options.formats {
        if options.sides.iter().any(|side| side.reads(format)) {
            fills.push(Fill::obtain(system, format, options.rows).await?);
        }
    }
    let environment = Environment::of(system, &options.replicator).await?;
    let mut drains = Vec::new();
    for fill in &fills {
        let sides: Vec<_> = options.sides.iter().copied().filter(|side| side.reads(fill.format)).collect();
        if let Some(&sink) = sides.iter().rfind(|&&side| side != Side::Replicator) {
            warm_up(system, options, fill, sink).await.context("warm the sinks up")?;
        }
        for &replicas in &options.replicas {
            for &side in &sides {
                repeat(system, options, fill, side, replicas, &mut drains).await?;
            }
        }
    }
    let mut report = Report::new("drain", environment);
    summary::write(&mut report, &drains, options.rows);
    report.finish(system, &drains)
}

/// Lets sinks drain for a while; what they have done is deleted by the next drain.
async fn warm_up(system: &System, options: &Options, fill: &Fill, sink: Side) -> anyhow::Result<()> {
    println!("{sink}: {} s that do not count", options.sink_warm_up);
    for server in 1..=REPLICAS {
        sink.prepare(system, server).await?;
    }
    let mut worker = sink.start(system, &options.replicator, &fill.prefix, REPLICAS).await?;
    sleep(Duration::from_secs(options.sink_warm_up)).await;
    let ran = worker.ensure_runs(system).await;
    worker.stop(system).await?;
    ran
}

/// Makes one drain as often as it is asked for.
async fn repeat(
    system: &System,
    options: &Options,
    fill: &Fill,
    side: Side,
    replicas: usize,
    drains: &mut Vec<Drain>,
) -> anyhow::Result<()> {
    let times = if side == Side::Replicator { options.repeat } else { options.sink_repeat };
    for _ in 0..times {
        let drain = drain(system, options, fill, side, replicas)
            .await
            .with_context(|| format!("drain {} into {replicas} replicas by {side}", fill.prefix))?;
        println!(
            "{side}, {}, {replicas} replicas: {:.0} inserts/s, {:.0} updates/s, {:.2} s in all{}",
            drain.format,
            drain.insert.rows_per_second,
            drain.update.rows_per_second,
            drain.total_seconds,
            drain.peak_memory_mib.map(|mib| format!(", {mib:.0} MiB")).unwrap_or_default()
        );
        drains.push(drain);
    }
    Ok(())
}

/// A moment with what every process had used by then.
struct Mark {
    at: Instant,
    cpu: BTreeMap<String, f64>,
}

async fn drain(
    system: &System,
    options: &Options,
    fill: &Fill,
    side: Side,
    replicas: usize,
) -> anyhow::Result<Drain> {
    let (tell, told) = mpsc::channel(16);
    let mut watchers = JoinSet::new();
    for server in 1..=replicas {
        side.prepare(system, server).await.with_context(|| format!("empty {}", server_name(server)))?;
        watchers.spawn(watch::steps(
            system.connect_to_look(server, DATABASE).await?,
            fill.rows,
            tell.clone(),
        ));
    }
    drop(tell);
    let started = Instant::now();
    let mut worker = side.start(system, &options.replicator, &fill.prefix, replicas).await?;
    let marks = follow(system, &mut worker, told, replicas).await;
    let peak_memory_mib = worker.peak_memory_mib();
    let ended = worker.stop(system).await;
    let marks = marks?;
    ended?;
    while let Some(watched) = watchers.join_next().await {
        watched??;
    }
    for server in 1..=replicas {
        let found = Fingerprint::of(&system.connect(server, DATABASE).await?).await?;
        ensure!(
            found == fill.expected,
            "{} holds {found:?} and not {:?}",
            server_name(server),
            fill.expected
        );
    }
    let [first, inserted, updated] = marks;
    Ok(Drain {
        side: side.to_string(),
        format: fill.format.name(),
        replicas,
        rows: fill.rows,
        insert: phase(&first, &inserted, fill.rows),
        update: phase(&inserted, &updated, fill.rows),
        total_seconds: (updated.at - started).as_secs_f64(),
        peak_memory_mib,
    })
}

/// Waits for every replica's steps: the first row on any, then the last row on all, then its update on all.
async fn follow(
    system: &System,
    worker: &mut Worker,
    mut told: mpsc::Receiver<Seen>,
    replicas: usize,
) -> anyhow::Result<[Mark; 3]> {
    let mut services = vec!["broker".to_owned()];
    services.extend((1..=replicas).map(server_name));
    let end = tokio::time::Instant::now() + PATIENCE;
    let (mut marks, mut missing) = (Vec::new(), BTreeMap::new());
    missing.extend([(Step::First, 1), (Step::Inserted, replicas), (Step::Updated, replicas)]);
    while marks.len() < missing.len() {
        let seen = tokio::select! {
            seen = told.recv() => seen.context("follow the replicas: a look at one of them failed")?,
            () = sleep(Duration::from_secs(2)) => {
                worker.ensure_runs(system).await?;
                continue;
            }
            () = tokio::time::sleep_until(end) => bail!("not drained within {PATIENCE:?}"),
        };
        let left = missing.entry(seen.step).or_default();
        if *left == 0 {
            continue;
        }
        *left -= 1;
        if *left == 0 {
            let mut cpu = system.cpu(&services)?;
            cpu.insert("worker".to_owned(), worker.cpu_seconds(system)?);
            marks.push(Mark { at: seen.at, cpu });
        }
    }
    marks.try_into().map_err(|_| anyhow::anyhow!("three steps give three marks"))
}

fn phase(from: &Mark, to: &Mark, rows: i64) -> Phase {
    #[expect(clippy::cast_precision_loss, reason = "rows of a benchmark stay far below 2^53")]
    let rows = rows as f64;
    let seconds = (to.at - from.at).as_secs_f64();
    let cpu = to.cpu.iter().map(|(name, used)| {
        let before = from.cpu.get(name).copied().unwrap_or_default();
        (name.clone(), (used - before) * 1e6 / rows)
    });
    Phase { seconds, rows_per_second: rows / seconds, cpu_us_per_row: cpu.collect() }
}
