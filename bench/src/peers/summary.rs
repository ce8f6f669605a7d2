//! What was measured several times, as a table and as bars: medians with ranges, and each system's ratio to native
//! replication.

use std::collections::BTreeMap;

use serde::Serialize;

use super::carrier::Carrier;
use crate::plot::{Bar, Bars, Figure, Group, Line, Lines, Panel};
use crate::report::Table;
use crate::stats::Spread;

/// What was measured, by the names that [`Column`]s have.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// One measurement of one system.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    pub(crate) system: &'static str,
    pub(crate) workload: String,
    pub(crate) figures: Figures,
    /// A lag over time, where there is one: seconds, and the longest lag of each in milliseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) course: Vec<(f64, f64)>,
}

impl Run {
    /// Without a course.
    pub(crate) fn new(carrier: Carrier, workload: String, figures: Figures) -> Self {
        Self { system: carrier.name(), workload, figures, course: Vec::new() }
    }
}

/// What a table shows of each run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Of the figure.
    pub(crate) name: &'static str,
    pub(crate) heading: &'static str,
    /// Follows the heading; empty when there is none, or when it is that of the column before.
    pub(crate) unit: &'static str,
    pub(crate) decimals: usize,
    /// Whether the next column is the ratio to native replication, and a plot shows it.
    pub(crate) ratio: bool,
}

impl Column {
    /// Of a part of the CPU time, which follows the whole.
    pub(crate) const fn part(name: &'static str) -> Self {
        Self { name, heading: name, unit: "", decimals: 1, ratio: false }
    }

    fn text(&self) -> String {
        if self.unit.is_empty() { self.heading.to_owned() } else { format!("{} {}", self.heading, self.unit) }
    }
}

/// One run in a line: what is compared of it.
pub(crate) fn line(run: &Run, columns: &[Column]) -> String {
    let figures = columns.iter().filter(|column| column.ratio).filter_map(|column| {
        let value = run.figures.get(column.name)?;
        Some(format!("{} {value:.*} {}", column.heading, column.decimals, column.unit))
    });
    format!("{}, {}: {}", run.system, run.workload, figures.collect::<Vec<_>>().join(", "))
}

/// A line for each workload and system. Columns that no run has a figure for are left out, and ratios without native
/// replication.
pub(crate) fn table(runs: &[Run], columns: &[Column]) -> Table {
    let columns: Vec<_> = columns
        .iter()
        .filter(|column| runs.iter().any(|run| run.figures.contains_key(column.name)))
        .collect();
    let compared = runs.iter().any(|run| run.system == Carrier::Native.name());
    let headings: Vec<_> = columns.iter().map(|column| column.text()).collect();
    let mut heading = vec!["workload", "system", "runs"];
    for (column, text) in columns.iter().zip(&headings) {
        heading.push(text);
        if column.ratio && compared {
            heading.push("x native");
        }
    }
    let mut table = Table::new(&heading);
    for (workload, systems) in workloads(runs) {
        for system in systems {
            let count = of(runs, workload, system).count();
            let mut cells = vec![workload.to_owned(), system.to_owned(), count.to_string()];
            for column in &columns {
                let own = spread(runs, workload, system, column.name);
                cells.push(own.map_or("-".to_owned(), |spread| spread.text(column.decimals)));
                if column.ratio && compared {
                    let native = spread(runs, workload, Carrier::Native.name(), column.name);
                    let ratio = own.zip(native).map(|(own, native)| own.median / native.median);
                    cells.push(ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
                }
            }
            table.row(cells);
        }
    }
    table
}

/// A panel for each column that is compared: a group of bars for each workload, a bar for each system. Then one for each
/// workload with lags over time, of each system's first run.
pub(crate) fn figure(title: String, runs: &[Run], columns: &[Column]) -> Figure {
    let panels = columns.iter().filter(|column| column.ratio).map(|column| {
        let groups = workloads(runs).into_iter().map(|(workload, systems)| Group {
            label: workload.to_owned(),
            bars: systems
                .into_iter()
                .filter_map(|system| {
                    let value = spread(runs, workload, system, column.name)?;
                    Some(Bar { series: system.to_owned(), value })
                })
                .collect(),
        });
        Panel::Bars(Bars {
            title: column.heading.to_owned(),
            unit: column.unit.to_owned(),
            groups: groups.collect(),
        })
    });
    let courses = workloads(runs).into_iter().filter_map(|(workload, systems)| {
        let first = |system| of(runs, workload, system).find(|run| !run.course.is_empty());
        let lines: Vec<_> = systems
            .into_iter()
            .filter_map(|system| {
                Some(Line { series: system.to_owned(), points: first(system)?.course.clone() })
            })
            .collect();
        (!lines.is_empty()).then(|| {
            Panel::Lines(Lines {
                title: format!("longest lag of each second, {workload}"),
                x: "seconds".to_owned(),
                y: "ms".to_owned(),
                lines,
            })
        })
    });
    Figure { title, known: Carrier::NAMES, panels: panels.chain(courses).collect() }
}

/// Each workload with the systems that did it, in the order of the first turn.
fn workloads(runs: &[Run]) -> Vec<(&str, Vec<&str>)> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for run in runs {
        let index = found.iter().position(|(workload, _)| *workload == run.workload).unwrap_or_else(|| {
            found.push((&run.workload, Vec::new()));
            found.len() - 1
        });
        if !found[index].1.contains(&run.system) {
            found[index].1.push(run.system);
        }
    }
    found
}

fn of<'a>(runs: &'a [Run], workload: &'a str, system: &'a str) -> impl Iterator<Item = &'a Run> {
    runs.iter().filter(move |run| run.workload == workload && run.system == system)
}

fn spread(runs: &[Run], workload: &str, system: &str, figure: &str) -> Option<Spread> {
    Spread::of(of(runs, workload, system).filter_map(|run| run.figures.get(figure).copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_compared_with_those_of_native_replication() {
        let run = |carrier, workload: &str, wall: f64| {
            Run::new(carrier, workload.to_owned(), Figures::from([("wall", wall)]))
        };
        let runs = [
            run(Carrier::Native, "insert", 4.0),
            run(Carrier::Direct, "insert", 2.0),
            run(Carrier::Native, "delete", 5.0),
            run(Carrier::Direct, "insert", 1.0),
            run(Carrier::Direct, "insert", 3.0),
        ];
        let column = Column { name: "wall", heading: "wall", unit: "s", decimals: 1, ratio: true };
        let columns = [column, Column::part("daemon")];
        assert_eq!(
            table(&runs, &columns).markdown(),
            "| workload | system | runs | wall s           | x native |\n\
             | -------- | ------ | ---- | ---------------- | -------- |\n\
             | insert   | native | 1    | 4.0              | 1.00     |\n\
             | insert   | direct | 3    | 2.0 (1.0 to 3.0) | 0.50     |\n\
             | delete   | native | 1    | 5.0              | 1.00     |\n"
        );
    }
    #[test]
    fn without_native_replication_nothing_is_compared_with_it() {
        let run = Run::new(Carrier::Direct, "x".to_owned(), Figures::from([("wall", 2.0)]));
        let column = Column { name: "wall", heading: "wall", unit: "s", decimals: 1, ratio: true };
        assert_eq!(line(&run, &[column]), "direct, x: wall 2.0 s");
        assert!(!table(&[run], &[column]).markdown().contains("native"));
    }

    #[test]
    fn a_figure_has_a_group_for_each_workload() {
        let run =
            |carrier, workload: &str| Run::new(carrier, workload.to_owned(), Figures::from([("wall", 2.0)]));
        let runs =
            [run(Carrier::Native, "insert"), run(Carrier::Direct, "insert"), run(Carrier::Direct, "delete")];
        let column = Column { name: "wall", heading: "wall", unit: "s", decimals: 1, ratio: true };
        let figure = figure("bulk".to_owned(), &runs, &[column, Column::part("daemon")]);
        let [Panel::Bars(bars)] = &figure.panels[..] else { panic!("one panel with bars: {figure:?}") };
        let found: Vec<_> =
            bars.groups.iter().map(|group| (group.label.as_str(), group.bars.len())).collect();
        assert_eq!(found, [("insert", 2), ("delete", 1)]);
    }

    #[test]
    fn a_lag_over_time_is_a_line() {
        let run = |carrier, lag| Run {
            course: vec![(0.0, lag)],
            ..Run::new(carrier, "500/s".to_owned(), Figures::new())
        };
        let runs = [run(Carrier::Native, 1.0), run(Carrier::Direct, 2.0), run(Carrier::Direct, 3.0)];
        let figure = figure("tpcb".to_owned(), &runs, &[]);
        let [Panel::Lines(lines)] = &figure.panels[..] else { panic!("one panel with lines: {figure:?}") };
        let found: Vec<_> = lines.lines.iter().map(|line| (line.series.as_str(), line.points[0].1)).collect();
        assert_eq!(found, [("native", 1.0), ("direct", 2.0)]);
    }
}
