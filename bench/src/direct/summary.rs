//! What was measured several times, as a table: medians with ranges, and each system's ratio to native replication.

use std::collections::BTreeMap;

use serde::Serialize;

use super::carrier::Carrier;
use crate::report::Table;
use crate::stats::Spread;

/// One measurement of one system.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    pub(crate) system: &'static str,
    pub(crate) workload: String,
    /// By the names that [`Column`]s have.
    pub(crate) figures: BTreeMap<&'static str, f64>,
}

/// What a table shows of each run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Of the figure.
    pub(crate) name: &'static str,
    pub(crate) heading: &'static str,
    pub(crate) decimals: usize,
    /// Whether the next column is the ratio to native replication.
    pub(crate) ratio: bool,
}

/// A line for each workload and system.
pub(crate) fn table(runs: &[Run], columns: &[Column]) -> Table {
    let mut heading = vec!["workload", "system", "runs"];
    for column in columns {
        heading.push(column.heading);
        if column.ratio {
            heading.push("x native");
        }
    }
    let mut table = Table::new(&heading);
    let mut done = Vec::new();
    // The order of the first turn, workload by workload.
    let mut ordered: Vec<_> = runs.iter().collect();
    ordered.sort_by_key(|run| runs.iter().position(|other| other.workload == run.workload));
    for run in ordered {
        if done.contains(&(&run.workload, run.system)) {
            continue;
        }
        done.push((&run.workload, run.system));
        let count = of(runs, &run.workload, run.system).count();
        let mut cells = vec![run.workload.clone(), run.system.to_owned(), count.to_string()];
        for column in columns {
            let own = spread(runs, &run.workload, run.system, column.name);
            cells.push(own.map_or("-".to_owned(), |spread| spread.text(column.decimals)));
            if column.ratio {
                let native = spread(runs, &run.workload, Carrier::Native.name(), column.name);
                let ratio = own.zip(native).map(|(own, native)| own.median / native.median);
                cells.push(ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
            }
        }
        table.row(cells);
    }
    table
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
        let run = |system, workload: &str, wall: f64| Run {
            system,
            workload: workload.to_owned(),
            figures: BTreeMap::from([("wall", wall)]),
        };
        let runs = [
            run("native", "insert", 4.0),
            run("direct", "insert", 2.0),
            run("native", "delete", 5.0),
            run("direct", "insert", 1.0),
            run("direct", "insert", 3.0),
        ];
        let column = Column { name: "wall", heading: "wall s", decimals: 1, ratio: true };
        assert_eq!(
            table(&runs, &[column]).markdown(),
            "| workload | system | runs | wall s           | x native |\n\
             | -------- | ------ | ---- | ---------------- | -------- |\n\
             | insert   | native | 1    | 4.0              | 1.00     |\n\
             | insert   | direct | 3    | 2.0 (1.0 to 3.0) | 0.50     |\n\
             | delete   | native | 1    | 5.0              | 1.00     |\n"
        );
    }
}
