//! `latency`: single-row commits on an idle system, through the real connector.
//!
//! - *path*: from COMMIT's return on the leader until all three replicas show the row.
//! - *readable*: from COMMIT's return until a consumer in this process has both records that an applier needs, the row and
//!   the transaction's END. This is PostgreSQL's, the connector's and the broker's part.
//! - *own part*: from there until all three replicas show the row. This is what a side adds.
//!
//! When a replica shows it is found out in two ways, one after the other: `probe.rs`.

mod probe;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use crate::environment::Environment;
use crate::fill::ensure_equal;
use crate::plot::{Bar, Bars, Figure, Group, Panel};
use crate::report::{Report, Table};
use crate::side::Side;
use crate::stats::Percentiles;
use crate::stream::{Format, Stream};
use crate::system::{REPLICAS, System, server_name};

use probe::{Probe, Sample, Sight};

/// What the connector is told beyond the product's settings.
const QUICK: &[(&str, &str)] = &[("poll.interval.ms", "1"), ("producer.override.linger.ms", "0")];

/// Options of `latency`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Commits that are measured.
    #[arg(long, default_value_t = 1000)]
    commits: u32,
    /// Commits before those, as fast as they arrive everywhere: connections, caches and the code of the JVMs are warm after them.
    ///
    /// Measured from started servers, the path's p99 is 20 ms after 300 of them, 13.6 after 3000 and 10.7 after 6000: that long
    /// the JVMs compile beside what is measured.
    #[arg(long, default_value_t = 6000)]
    warm_up: u32,
    /// Commits per second.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Who carries them: `replicator`, `sink-BATCH`, `sink-unnest-BATCH`.
    #[arg(long, value_delimiter = ',', default_value = "replicator,sink-500")]
    sides: Vec<Side>,
    /// How it is found out when a replica has shown a row: from its own notes of its `commits`, or by `looks` without a pause,
    /// which take a core.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "commits,looks")]
    sight: Vec<Sight>,
    /// The replicator's program.
    #[arg(long, env = "BENCH_REPLICATOR")]
    replicator: PathBuf,
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    side: String,
    format: &'static str,
    sight: Sight,
    path: Percentiles,
    readable: Percentiles,
    own: Percentiles,
}

/// Runs the scenario and writes its report.
pub(crate) async fn run(system: &System, options: &Options) -> anyhow::Result<()> {
    ensure!(options.commits > 0 && options.rate > 0, "--commits and --rate must be above 0");
    let environment = Environment::of(system, &options.replicator).await?;
    note_commits(system, true).await?;
    let all = through_all(system, options).await;
    note_commits(system, false).await?;
    let all = all?;
    let mut report = Report::new("latency", environment);
    report.text(&format!(
        "{} single-row commits, {} per second, after {} that do not count; `poll.interval.ms=1`, `linger.ms=0`. \
         Path: COMMIT's return until all {REPLICAS} replicas show the row. Readable: COMMIT's return until a consumer has \
         row and END. Own part: from there until all replicas show the row, by \
         their own notes of their commits, or by looking without a pause, which takes up to a core.",
        options.commits, options.rate, options.warm_up
    ));
    report.table(&table(&all));
    report.plot(&plot(&all));
    report.finish(system, &all)
}

fn table(all: &[Figures]) -> Table {
    let mut table =
        Table::new(&["side", "format", "seen by", "part", "p50 ms", "p90 ms", "p99 ms", "max ms"]);
    for figures in all {
        let parts = [("path", figures.path), ("readable", figures.readable), ("own part", figures.own)];
        for (part, p) in parts {
            let mut cells =
                [&figures.side, figures.format, figures.sight.name(), part].map(str::to_owned).to_vec();
            cells.extend([p.p50, p.p90, p.p99, p.max].map(|ms| format!("{ms:.2}")));
            table.row(cells);
        }
    }
    table
}

/// The percentiles of each part: a group each, a bar for each side.
fn plot(all: &[Figures]) -> Figure {
    let panel = |part: &str, of: fn(&Figures) -> Percentiles| {
        let group = |label: &str, value: fn(Percentiles) -> f64| Group {
            label: label.to_owned(),
            bars: all.iter().map(|figures| Bar::one(&figures.bar(), value(of(figures)))).collect(),
        };
        let groups = vec![group("p50", |p| p.p50), group("p90", |p| p.p90), group("p99", |p| p.p99)];
        Panel::Bars(Bars { title: part.to_owned(), unit: "ms".to_owned(), groups })
    };
    Figure {
        title: "latency: a single-row commit on an idle system, through Kafka".to_owned(),
        known: &[],
        panels: vec![
            panel("path", |figures| figures.path),
            panel("readable", |figures| figures.readable),
            panel("own part", |figures| figures.own),
        ],
    }
}

impl Figures {
    /// The name of its bars.
    fn bar(&self) -> String {
        format!("{}, {}", self.side, self.sight.name())
    }
}

/// Has the replicas note when their transactions commit, or not, which they begin or end with a start.
async fn note_commits(system: &System, notes: bool) -> anyhow::Result<()> {
    let setting = if notes { "SET track_commit_timestamp = on" } else { "RESET track_commit_timestamp" };
    for server in 1..=REPLICAS {
        let admin = system.connect(server, "postgres").await?;
        admin.batch_execute(&format!("ALTER SYSTEM {setting}")).await?;
        system.service("stop", &server_name(server)).await?;
        system.service("start", &server_name(server)).await?;
    }
    Ok(())
}

async fn through_all(system: &System, options: &Options) -> anyhow::Result<Vec<Figures>> {
    let mut all = Vec::new();
    for &side in &options.sides {
        // As each side is used: the sink reads nothing but events with schemas.
        let format = if side.reads(Format::Plain) { Format::Plain } else { Format::Schema };
        let measured =
            through(system, options, side, format).await.with_context(|| format!("measure {side}"))?;
        for (sight, samples) in measured {
            let of = |value: fn(&Sample) -> f64| {
                Percentiles::of(samples.iter().map(value)).context("measure at least one commit")
            };
            all.push(Figures {
                side: side.to_string(),
                format: format.name(),
                sight,
                path: of(|sample| sample.path)?,
                readable: of(|sample| sample.readable)?,
                own: of(|sample| sample.own)?,
            });
        }
    }
    Ok(all)
}

/// The samples of each sight.
async fn through(
    system: &System,
    options: &Options,
    side: Side,
    format: Format,
) -> anyhow::Result<Vec<(Sight, Vec<Sample>)>> {
    system.reset(0).await?;
    for server in 1..=REPLICAS {
        side.prepare(system, server).await?;
    }
    let stream = Stream::start(system, "latency", format, QUICK).await?;
    // The first commit makes the topics, which a sink must find.
    let probe = Probe::new(system).await?;
    let mut worker = side.start(system, &options.replicator, stream.prefix(), REPLICAS).await?;
    println!("{side}: {} commits, {} per second", options.commits, options.rate);
    let measured = measure(system, options, probe, stream.prefix()).await;
    let ran = worker.ensure_runs(system).await;
    worker.stop(system).await?;
    stream.discard(system).await?;
    ran?;
    let measured = measured?;
    ensure_equal(system).await?;
    Ok(measured)
}

async fn measure(
    system: &System,
    options: &Options,
    probe: Probe,
    prefix: &str,
) -> anyhow::Result<Vec<(Sight, Vec<Sample>)>> {
    let mut probe = probe.follow(system, prefix).await?;
    for _ in 0..options.warm_up {
        probe.sample(Sight::Looks).await?;
    }
    let mut measured = Vec::new();
    for &sight in &options.sight {
        let mut tick = interval(Duration::from_secs(1) / options.rate);
        // Never two commits in flight: a late one delays those after it.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut samples = Vec::new();
        for _ in 0..options.commits {
            tick.tick().await;
            samples.push(probe.sample(sight).await?);
        }
        measured.push((sight, samples));
    }
    Ok(measured)
}
