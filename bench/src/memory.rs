//! `memory`: one very large transaction, with small ones before, beside and behind it.
//!
//! For each shape of the large transaction the same topics are read three times:
//!
//! - *live*: while the connector writes them. What do small transactions notice?
//! - *backlog*: all of it is there when the replicator starts, with empty replicas. The replicas are what it waits for.
//! - *frozen*: the same, and one replica's server is frozen for a while in the middle. What do the others notice?

mod course;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::environment::Environment;
use crate::plot::{Bar, Bars, Figure, Group, Panel};
use crate::report::{Report, Table};
use crate::stats::Percentiles;
use crate::system::{REPLICAS, System, server_name};

/// Options of `memory`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Shapes of the large transaction.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "narrow,wide")]
    shapes: Vec<Shape>,
    /// Rows of the narrow shape.
    #[arg(long, default_value_t = 1_000_000)]
    narrow_rows: i64,
    /// Rows of the wide shape, of 100 kB each.
    #[arg(long, default_value_t = 20_000)]
    wide_rows: i64,
    /// Small transactions per second.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Seconds for which small transactions are alone, before and after the large one.
    #[arg(long, default_value_t = 10)]
    around: u64,
    /// Seconds for which one replica's server is frozen.
    #[arg(long, default_value_t = 5)]
    freeze_seconds: u64,
    /// The replicator's program.
    #[arg(long, env = "BENCH_REPLICATOR")]
    replicator: PathBuf,
}

/// What a large transaction's rows look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Shape {
    /// About 100 bytes.
    Narrow,
    /// One column of 102 400 bytes.
    Wide,
}

impl Shape {
    fn rows(self, options: &Options) -> i64 {
        match self {
            Self::Narrow => options.narrow_rows,
            Self::Wide => options.wide_rows,
        }
    }

    /// How often 32 bytes are repeated in the note.
    fn repeats(self) -> i32 {
        match self {
            Self::Narrow => 1,
            Self::Wide => 3200,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Narrow => "narrow",
            Self::Wide => "wide",
        }
    }
}

/// What was found with one shape.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    shape: Shape,
    rows: i64,
    live: Live,
    backlog: Reading,
    frozen: Reading,
}

/// A large transaction, watched from its start on the leader.
#[derive(Debug, Clone, Serialize)]
struct Live {
    peak_memory_mib: f64,
    /// The leader's statement.
    statement_seconds: f64,
    /// From COMMIT's return until its END record was readable.
    readable_seconds: f64,
    /// From there until all replicas showed it.
    own_seconds: f64,
    parts: Vec<Part>,
}

/// Small transactions of one part of the run, on all replicas, in milliseconds.
#[derive(Debug, Clone, Serialize)]
struct Part {
    name: &'static str,
    /// From COMMIT's return to being visible.
    lag: Percentiles,
    /// From the END record's being readable to being visible: the replicator's part of it.
    own: Percentiles,
}

/// A backlog, read by a replicator that has just started.
#[derive(Debug, Clone, Serialize)]
struct Reading {
    peak_memory_mib: f64,
    /// From the replicator's start until each replica showed the large transaction.
    seconds: [f64; REPLICAS],
}

/// Runs the scenario and writes its report.
pub(crate) async fn run(system: &System, options: &Options) -> anyhow::Result<()> {
    ensure!(options.narrow_rows > 0 && options.wide_rows > 0, "the large transactions need rows");
    ensure!(options.around > 0 && options.rate > 0, "--around and --rate must be above 0");
    let environment = Environment::of(system, &options.replicator).await?;
    let mut all = Vec::new();
    for &shape in &options.shapes {
        let figures = course::run(system, options, shape).await;
        all.push(figures.with_context(|| format!("measure the {} shape", shape.name()))?);
    }
    let mut report = Report::new("memory", environment);
    report.text(&format!(
        "One large transaction, {} small ones per second before, beside and behind it. Peak: the replicator's highest resident \
         memory (VmHWM). Live: the replicator follows the connector; seconds from the END record's being readable to visible \
         on all replicas. Backlog: it starts with empty replicas when all is in Kafka; seconds from its start. Frozen: \
         the same with {}'s server frozen for {} s in the middle of it.",
        options.rate,
        server_name(REPLICAS),
        options.freeze_seconds
    ));
    report.table(&peaks(&all));
    report.text("Small transactions during the live run, on all replicas. Own part: from the END record's being readable.");
    report.table(&small(&all));
    report.plot(&plot(&all));
    report.finish(system, &all)
}

fn peaks(all: &[Figures]) -> Table {
    let mut table = Table::new(&["rows", "run", "peak MiB", "seconds to visible"]);
    for figures in all {
        let rows = format!("{} {}", figures.rows, figures.shape.name());
        let Live { peak_memory_mib, statement_seconds, readable_seconds, own_seconds, .. } = &figures.live;
        table.row(vec![
            rows.clone(),
            "live".to_owned(),
            format!("{peak_memory_mib:.0}"),
            format!(
                "{own_seconds:.2} (statement {statement_seconds:.1}, then {readable_seconds:.1} until END is readable)"
            ),
        ]);
        for (run, reading) in [("backlog", &figures.backlog), ("frozen", &figures.frozen)] {
            let each =
                reading.seconds.iter().zip(1..).map(|(s, server)| format!("{} {s:.1}", server_name(server)));
            table.row(vec![
                rows.clone(),
                run.to_owned(),
                format!("{:.0}", reading.peak_memory_mib),
                each.collect::<Vec<_>>().join(", "),
            ]);
        }
    }
    table
}

/// Peaks of every run, and what small transactions notice.
fn plot(all: &[Figures]) -> Figure {
    let peaks = all.iter().map(|figures| {
        let runs = [
            ("live", figures.live.peak_memory_mib),
            ("backlog", figures.backlog.peak_memory_mib),
            ("frozen", figures.frozen.peak_memory_mib),
        ];
        let bars = runs.map(|(run, peak)| Bar::one(run, peak));
        Group { label: format!("{} {}", figures.rows, figures.shape.name()), bars: bars.into() }
    });
    let small = all.iter().flat_map(|figures| {
        let shape = figures.shape.name();
        figures.live.parts.iter().map(move |part| Group {
            label: format!("{}, {shape}", part.name),
            bars: vec![Bar::one("own part p50", part.own.p50), Bar::one("own part p99", part.own.p99)],
        })
    });
    let panel = |title: &str, unit: &str, groups| {
        Panel::Bars(Bars { title: title.to_owned(), unit: unit.to_owned(), groups })
    };
    Figure {
        title: "memory: one large transaction through Kafka".to_owned(),
        known: &[],
        panels: vec![
            panel("the replicator's highest resident memory", "MiB", peaks.collect()),
            panel("small transactions of the live run, from readable to visible", "ms", small.collect()),
        ],
    }
}

fn small(all: &[Figures]) -> Table {
    let mut table = Table::new(&[
        "beside",
        "part",
        "values",
        "lag p50 ms",
        "lag p99 ms",
        "own part p50 ms",
        "own part p99 ms",
        "own part max ms",
    ]);
    for figures in all {
        for Part { name, lag, own } in &figures.live.parts {
            let mut cells = vec![format!("{} {}", figures.rows, figures.shape.name()), (*name).to_owned()];
            cells.push(lag.count.to_string());
            cells.extend([lag.p50, lag.p99, own.p50, own.p99, own.max].map(|ms| format!("{ms:.1}")));
            table.row(cells);
        }
    }
    table
}
