//! The report of `readers`: medians, and the ratios that the targets are about.

use super::{Demo, Figures, Memory, Options, Reads, Way, Workload};
use crate::environment::Environment;
use crate::plot::{Bar, Bars, Figure, Group, Line, Lines, Panel};
use crate::report::{Report, Table};
use crate::stats::Spread;
use crate::system::System;

/// In a fixed order, by which plots give them colours.
const WAYS: &[&str] = &["web", "pgbench", "pgbench -S", "pgbench -S -M prepared"];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Web => WAYS[0],
            Self::Pgbench => WAYS[1],
            Self::SelectOnly => WAYS[2],
            Self::SelectPrepared => WAYS[3],
        }
    }
}

/// Prints it, and writes its files.
pub(super) fn write(
    system: &System,
    options: &Options,
    environment: Environment,
    figures: &Figures,
) -> anyhow::Result<()> {
    let mut report = Report::new("readers", environment);
    report.text(&format!(
        "{} s each, {} posts. `web`: `GET /api/posts/ID/row` (the post alone), `GET /api/posts/ID` (with its comments and likes) \
         and `GET /api/posts` (the newest 20) on kept connections, answered by any of three replicas that follow the leader. \
         `pgbench`: the same statements, prepared, on one of them. `pgbench -S`: its own read of one column by the key, in its \
         default protocol, and prepared. All by TCP. Median (range) of the runs; ratios are of medians. CPU is in microseconds \
         per read; the generator's is that of whoever asks.",
        options.seconds, options.posts
    ));
    report.table(&reads(&figures.reads));
    report.text(&format!(
        "One demo run of {} sequential reads, as the server measures it, beside one pgbench client with as many of the same \
         statement on one replica:",
        options.demo_reads
    ));
    report.table(&demo(&figures.demo));
    if !figures.memory.is_empty() {
        report.text(
            "The web application's memory: just started, then after so many further reads of a row on 8 connections. \
             The peak is of the whole run.",
        );
        report.table(&memory(&figures.memory));
    }
    report.plot(&figure(figures));
    report.finish(system, figures)
}

/// What was measured alike, in the order of the first turn.
fn kinds(reads: &[Reads]) -> Vec<(Workload, u64, Way)> {
    let mut found = Vec::new();
    for one in reads {
        let kind = (one.workload, one.connections, one.way);
        if !found.contains(&kind) {
            found.push(kind);
        }
    }
    found
}

fn spread(
    reads: &[Reads],
    (workload, connections, way): (Workload, u64, Way),
    value: fn(&Reads) -> f64,
) -> Option<Spread> {
    let alike = reads
        .iter()
        .filter(|one| one.workload == workload && one.connections == connections && one.way == way);
    Spread::of(alike.map(value))
}

fn reads(reads: &[Reads]) -> Table {
    let mut table = Table::new(&[
        "reads",
        "connections",
        "by",
        "reads/s",
        "x pgbench",
        "x pgbench -S",
        "x prepared",
        "p50 ms",
        "p99 ms",
        "CPU us",
        "web",
        "replicas",
        "generator",
        "others",
    ]);
    for kind @ (workload, connections, way) in kinds(reads) {
        let text = |value, decimals| {
            spread(reads, kind, value).map_or("-".to_owned(), |spread| spread.text(decimals))
        };
        // pgbench's own read is measured beside that of a row.
        let beside = |way| match way {
            Way::SelectOnly | Way::SelectPrepared => Workload::Row,
            Way::Web | Way::Pgbench => workload,
        };
        let rate = |way| spread(reads, (beside(way), connections, way), |one| one.per_second);
        let ratio = |other| match (way, rate(way), rate(other)) {
            (Way::Web, Some(own), Some(other)) => format!("{:.2}", own.median / other.median),
            _ => "-".to_owned(),
        };
        table.row(vec![
            workload.name().to_owned(),
            connections.to_string(),
            way.name().to_owned(),
            text(|one| one.per_second, 0),
            ratio(Way::Pgbench),
            ratio(Way::SelectOnly),
            ratio(Way::SelectPrepared),
            text(|one| one.p50, 2),
            text(|one| one.p99, 2),
            text(|one| one.cpu.web + one.cpu.replicas + one.cpu.generator + one.cpu.others, 0),
            text(|one| one.cpu.web, 0),
            text(|one| one.cpu.replicas, 0),
            text(|one| one.cpu.generator, 0),
            text(|one| one.cpu.others, 0),
        ]);
    }
    table
}

fn demo(runs: &[Demo]) -> Table {
    let mut table = Table::new(&["by", "ms", "x pgbench", "p50 of a read, ms"]);
    let of = |value: fn(&Demo) -> f64| Spread::of(runs.iter().map(value));
    let (web, pgbench) = (of(|run| run.web_ms), of(|run| run.pgbench_ms));
    let ratio = web.zip(pgbench).map(|(web, pgbench)| web.median / pgbench.median);
    let text =
        |spread: Option<Spread>, decimals| spread.map_or("-".to_owned(), |spread| spread.text(decimals));
    let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    table.row(vec!["web".to_owned(), text(web, 0), ratio, text(of(|run| run.web_p50), 3)]);
    table.row(vec![
        "pgbench".to_owned(),
        text(pgbench, 0),
        "-".to_owned(),
        text(of(|run| run.pgbench_p50), 3),
    ]);
    table
}

fn memory(memory: &[Memory]) -> Table {
    let mut table = Table::new(&["requests", "resident MiB", "peak MiB"]);
    for one in memory {
        let cells = [one.requests.to_string(), format!("{:.1}", one.resident), format!("{:.1}", one.peak)];
        table.row(cells.into());
    }
    table
}

fn figure(figures: &Figures) -> Figure {
    let panel = |title: &str, unit: &str, workload: Workload, value: fn(&Reads) -> f64| {
        let mut groups: Vec<Group> = Vec::new();
        for kind @ (_, connections, way) in
            kinds(&figures.reads).into_iter().filter(|kind| kind.0 == workload)
        {
            let label = format!("{connections} connections");
            let bar =
                spread(&figures.reads, kind, value).map(|value| Bar { series: way.name().to_owned(), value });
            match groups.iter_mut().find(|group| group.label == label) {
                Some(group) => group.bars.extend(bar),
                None => groups.push(Group { label, bars: bar.into_iter().collect() }),
            }
        }
        Panel::Bars(Bars { title: title.to_owned(), unit: unit.to_owned(), groups })
    };
    #[expect(clippy::cast_precision_loss, reason = "requests of a benchmark stay far below 2^53")]
    let course = figures.memory.iter().map(|one| (one.requests as f64 / 1e3, one.resident));
    let memory = Lines {
        title: "memory of the web application".to_owned(),
        x: "thousand requests".to_owned(),
        y: "MiB".to_owned(),
        lines: vec![Line { series: Way::Web.name().to_owned(), points: course.collect() }],
    };
    Figure {
        title: "readers: over HTTP, and straight on one replica".to_owned(),
        known: WAYS,
        panels: vec![
            panel("a row", "reads/s", Workload::Row, |one| one.per_second),
            panel("a row, p99", "ms", Workload::Row, |one| one.p99),
            panel("a post with its comments", "reads/s", Workload::Post, |one| one.per_second),
            panel("a list of 20", "reads/s", Workload::List, |one| one.per_second),
            Panel::Lines(memory),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cpu;
    use super::*;

    fn one(way: Way, connections: u64, per_second: f64) -> Reads {
        let cpu = Cpu { web: 50.0, replicas: 40.0, generator: 10.0, others: 1.0 };
        Reads { workload: Workload::Row, way, connections, per_second, p50: 0.5, p99: 1.5, cpu }
    }

    #[test]
    fn reads_over_http_are_compared_with_those_of_as_many_connections() {
        let measured = [
            one(Way::Web, 1, 3000.0),
            one(Way::Web, 8, 6000.0),
            one(Way::Pgbench, 8, 8000.0),
            one(Way::SelectOnly, 8, 12000.0),
            one(Way::SelectPrepared, 8, 15000.0),
            Reads { workload: Workload::Post, ..one(Way::Web, 8, 4500.0) },
            one(Way::Web, 8, 5000.0),
            one(Way::Web, 8, 7000.0),
        ];
        let text = reads(&measured).markdown();
        let cells = |start: &str| {
            let row = text
                .lines()
                .find(|line| line.starts_with(start))
                .unwrap_or_else(|| panic!("{start}: {text}"));
            row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
        };
        let all = cells("| row   | 8           | web  ");
        assert_eq!(
            all[3..],
            ["6000 (5000 to 7000)", "0.75", "0.50", "0.40", "0.50", "1.50", "101", "50", "40", "10", "1"]
        );
        // Nothing was measured beside it.
        assert_eq!(cells("| row   | 1 ")[3..7], ["3000", "-", "-", "-"]);
        assert_eq!(cells("| row   | 8           | pgbench -S  ")[3..7], ["12000", "-", "-", "-"]);
        // Another answer than a row is compared with pgbench's own read all the same.
        assert_eq!(cells("| post  | 8 ")[3..7], ["4500", "-", "0.38", "0.30"]);
    }

    #[test]
    fn a_demo_run_is_compared_by_its_time() {
        let run = |web_ms| Demo { web_ms, pgbench_ms: 200.0, web_p50: 0.25, pgbench_p50: 0.18 };
        let text = demo(&[run(300.0), run(500.0), run(400.0)]).markdown();
        assert!(text.contains("| web     | 400 (300 to 500) | 2.00      | 0.250"), "{text}");
    }

    #[test]
    fn a_figure_shows_each_number_of_connections() {
        let measured = vec![one(Way::Web, 1, 1.0), one(Way::Web, 8, 2.0), one(Way::SelectOnly, 8, 3.0)];
        let memory = vec![Memory { requests: 0, resident: 20.0, peak: 20.0 }];
        let drawn = figure(&Figures { reads: measured, demo: vec![], memory });
        let Panel::Bars(bars) = &drawn.panels[0] else { panic!("bars first: {drawn:?}") };
        let found: Vec<_> =
            bars.groups.iter().map(|group| (group.label.as_str(), group.bars.len())).collect();
        assert_eq!(found, [("1 connections", 1), ("8 connections", 2)]);
        assert!(drawn.svg().is_some());
    }
}
