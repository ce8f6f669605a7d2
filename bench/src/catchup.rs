//! `catchup`: one replica's server is stopped for a while under a steady load, and started again.
//!
//! Two questions: do the other replicas notice, and how fast is the stopped one level with them again?

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use e2e::wait;
use serde::Serialize;
use tokio::time::sleep;

use crate::daemon::{Daemon, Source};
use crate::environment::Environment;
use crate::fill::ensure_equal;
use crate::lag::{self, Sight, Watcher};
use crate::load::{Commit, Load};
use crate::plot::{Figure, Line, Lines, Panel};
use crate::report::{Report, Table};
use crate::stats::Percentiles;
use crate::stream::{Format, Stream};
use crate::system::{REPLICAS, System, server_name};

/// The replica that is stopped; the lane has fed it together with the others before.
const STOPPED: usize = REPLICAS;

/// How long everything may take to arrive, a catch-up included.
const PATIENCE: Duration = Duration::from_secs(300);

/// Options of `catchup`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Seconds for which the server is stopped.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds that are measured before it is stopped, and after it has caught up.
    #[arg(long, default_value_t = 20)]
    around: u64,
    /// Transactions per second on the leader.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Rows that each of them inserts; it updates as many.
    #[arg(long, default_value_t = 5)]
    rows: i64,
    /// The replicator's program.
    #[arg(long, env = "BENCH_REPLICATOR")]
    replicator: PathBuf,
}

/// What happened when.
struct Course {
    began: Instant,
    /// The server was asked to stop.
    stopped: Instant,
    /// It has stopped.
    down: Instant,
    /// It answers again.
    answered: Instant,
    /// It shows what the others show.
    level: Instant,
    ended: Instant,
    commits: Vec<Commit>,
    /// By replica.
    sights: Vec<Vec<Sight>>,
}

#[derive(Debug, Clone, Serialize)]
struct Figures {
    options: Settings,
    /// Of the other replicas, by part of the run.
    others: Vec<Part>,
    stopped: CatchUp,
}

#[derive(Debug, Clone, Serialize)]
struct Settings {
    stopped_seconds: u64,
    transactions_per_second: u32,
    changes_per_transaction: i64,
}

#[derive(Debug, Clone, Serialize)]
struct Part {
    name: &'static str,
    /// Milliseconds from COMMIT's return to being visible, on each of the other replicas.
    lag: Percentiles,
}

#[derive(Debug, Clone, Serialize)]
struct CatchUp {
    /// Transactions that were committed from its last one before the stop until it was level.
    transactions: usize,
    /// From the server's first answer until the first of them was visible: the retry's pause, a new session, a new lane.
    first_seconds: f64,
    /// From the server's first answer until it was level.
    level_seconds: f64,
    /// Transactions per second from the server's first answer until it was level, as a multiple of the load's rate.
    multiple: f64,
}

/// Runs the scenario and writes its report.
pub(crate) async fn run(system: &System, options: &Options) -> anyhow::Result<()> {
    ensure!(options.seconds > 0 && options.around > 0, "--seconds and --around must be above 0");
    let environment = Environment::of(system, &options.replicator).await?;
    for server in 0..=REPLICAS {
        system.reset(server).await?;
    }
    let stream = Stream::start(system, "catchup", Format::Plain, &[]).await?;
    let mut daemon = Daemon::start(system, &options.replicator, Source::Topics(stream.prefix()), REPLICAS)?;
    let course = course(system, options).await;
    // A course that failed may have left the server stopped, and starting one that runs does nothing.
    let started = system.service("start", &server_name(STOPPED)).await;
    let ran = daemon.ensure_runs();
    daemon.stop().await?;
    stream.discard(system).await?;
    ran?;
    let course = course?;
    started?;
    ensure_equal(system).await?;
    let figures = figures(options, &course)?;
    let mut report = Report::new("catchup", environment);
    describe(&mut report, &figures);
    report.plot(&plot(&course));
    report.finish(system, &figures)
}

async fn course(system: &System, options: &Options) -> anyhow::Result<Course> {
    let name = server_name(STOPPED);
    let load = Load::start(system, options.rate, options.rows).await?;
    let watchers: Vec<_> =
        (1..=REPLICAS).map(|server| Watcher::start(system, server, load.numbering())).collect();
    wait::until("every replica to follow", PATIENCE, async || {
        let newest: Vec<_> = watchers.iter().map(Watcher::newest).collect();
        if newest.iter().all(|&newest| newest > 0) { Ok(()) } else { Err(format!("{newest:?}")) }
    })
    .await?;
    // What was waiting when they began is gone by then.
    sleep(Duration::from_secs(3)).await;

    let began = Instant::now();
    println!("{} s as it is", options.around);
    sleep(Duration::from_secs(options.around)).await;
    println!("{name} is stopped for {} s", options.seconds);
    let stopped = Instant::now();
    system.service("stop", &name).await?;
    let down = Instant::now();
    sleep(Duration::from_secs(options.seconds).saturating_sub(stopped.elapsed())).await;
    system.service("start", &name).await?;
    let answered = Instant::now();
    println!("{name} answers again");
    let level = wait::until("the stopped replica to be level", PATIENCE, async || {
        let newest: Vec<_> = watchers.iter().map(Watcher::newest).collect();
        let level = newest[STOPPED - 1] >= newest[..STOPPED - 1].iter().copied().max().unwrap_or_default();
        if level { Ok(Instant::now()) } else { Err(format!("{newest:?}")) }
    })
    .await?;
    println!("{name} is level, {} s more", options.around);
    sleep(Duration::from_secs(options.around)).await;
    let ended = Instant::now();
    let commits = load.stop().await?;
    wait::until("every replica to have everything", PATIENCE, async || {
        let newest: Vec<_> = watchers.iter().map(Watcher::newest).collect();
        if newest.iter().all(|&newest| newest == commits.len()) { Ok(()) } else { Err(format!("{newest:?}")) }
    })
    .await?;
    let mut sights = Vec::new();
    for watcher in watchers {
        sights.push(watcher.stop().await?);
    }
    Ok(Course { began, stopped, down, answered, level, ended, commits, sights })
}

fn figures(options: &Options, course: &Course) -> anyhow::Result<Figures> {
    let visible: Vec<_> =
        course.sights.iter().map(|sights| lag::visible(sights, course.commits.len())).collect();
    let parts = [
        ("before", course.began..course.stopped),
        ("stopped", course.stopped..course.answered),
        ("catching up", course.answered..course.level),
        ("after", course.level..course.ended),
    ];
    let mut others = Vec::new();
    for (name, window) in parts {
        let lags = visible[..STOPPED - 1]
            .iter()
            .flat_map(|visible| lag::lags(&course.commits, visible, &window, |commit| Some(commit.at)));
        // A catch-up may be shorter than the time between two commits.
        if let Some(lag) = Percentiles::of(lags) {
            others.push(Part { name, lag });
        }
    }
    let moments = (course.down, course.answered, course.level);
    let stopped =
        catch_up(&course.sights[STOPPED - 1], moments, options.rate).context("follow the stopped replica")?;
    let options = Settings {
        stopped_seconds: options.seconds,
        transactions_per_second: options.rate,
        changes_per_transaction: 2 * options.rows,
    };
    Ok(Figures { options, others, stopped })
}

/// `None` when it was level without having shown anything new.
fn catch_up(sights: &[Sight], course: (Instant, Instant, Instant), rate: u32) -> Option<CatchUp> {
    let (down, answered, level) = course;
    let before = sights.iter().rfind(|sight| sight.at < down).map_or(0, |sight| sight.newest);
    let first = sights.iter().find(|sight| sight.at >= down && sight.newest > before)?;
    let last = sights.iter().rfind(|sight| sight.at <= level)?;
    // The script that waits for the answer may be later than the replicator.
    let up = answered.min(first.at);
    let transactions = last.newest.saturating_sub(before);
    let level_seconds = level.saturating_duration_since(up).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "transactions of a benchmark stay far below 2^53")]
    let multiple = transactions as f64 / level_seconds / f64::from(rate);
    Some(CatchUp { transactions, first_seconds: (first.at - up).as_secs_f64(), level_seconds, multiple })
}

fn describe(report: &mut Report, figures: &Figures) {
    let Figures { options, others, stopped } = figures;
    let rate = options.transactions_per_second;
    report.text(&format!(
        "{rate} transactions per second with {} changes each; {} stopped for {} s. Lag of the other replicas, from COMMIT's \
         return to being visible:",
        options.changes_per_transaction,
        server_name(STOPPED),
        options.stopped_seconds
    ));
    let mut table = Table::new(&["part", "values", "p50 ms", "p90 ms", "p99 ms", "max ms"]);
    for Part { name, lag } in others {
        let mut cells = vec![(*name).to_owned(), lag.count.to_string()];
        cells.extend([lag.p50, lag.p90, lag.p99, lag.max].map(|ms| format!("{ms:.1}")));
        table.row(cells);
    }
    report.table(&table);
    report.text(&format!(
        "The stopped one showed {} transactions within {:.2} s of its server's first answer and was level then: {:.1} times the \
         rate of change. The first of them was visible after {:.2} s.",
        stopped.transactions, stopped.level_seconds, stopped.multiple, stopped.first_seconds
    ));
}

/// The lag of each replica over time; the stopped one's with a scale of its own.
fn plot(course: &Course) -> Figure {
    let lines = (1..=REPLICAS).zip(&course.sights).map(|(server, sights)| {
        let visible = lag::visible(sights, course.commits.len());
        Line { series: server_name(server), points: lag::course(&course.commits, &visible, course.began) }
    });
    let (stopped, others) = lines.partition(|line: &Line| line.series == server_name(STOPPED));
    let panel = |title: &str, lines| {
        Panel::Lines(Lines {
            title: title.to_owned(),
            x: "seconds since the beginning, by COMMIT".to_owned(),
            y: "ms, longest of each second".to_owned(),
            lines,
        })
    };
    Figure {
        title: "catchup: from COMMIT to visible, one replica's server stopped for a while".to_owned(),
        known: &[],
        panels: vec![panel("the other replicas", others), panel("the stopped replica", stopped)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catch_up_begins_with_the_servers_first_answer() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let sights = [(100, 1), (200, 2), (1200, 12), (2200, 14), (2300, 15)]
            .map(|(newest, s)| Sight { newest, at: after(s) });
        let found = catch_up(&sights, (after(3), after(10), after(14)), 100).unwrap();
        assert_eq!((found.transactions, found.multiple), (2000, 5.0));
        assert_eq!((found.first_seconds, found.level_seconds), (2.0, 4.0));
        // Known to answer only after it has shown something.
        let found = catch_up(&sights, (after(3), after(13), after(14)), 100).unwrap();
        assert_eq!((found.first_seconds, found.level_seconds), (0.0, 2.0));
        assert!(catch_up(&sights[..2], (after(3), after(10), after(14)), 100).is_none());
    }
}
