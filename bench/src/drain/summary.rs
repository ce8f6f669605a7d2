//! Drains as tables: medians and ranges of all that were made of one kind, and the ratio to the peer.

use super::{Drain, Phase};
use crate::plot::{Bar, Bars, Figure, Group, Panel};
use crate::report::{Report, Table};
use crate::stats::Spread;

/// One phase of a drain.
type PhaseOf = fn(&Drain) -> &Phase;

/// The phases of a drain, by name.
const PHASES: [(&str, PhaseOf); 2] = [("insert", |drain| &drain.insert), ("update", |drain| &drain.update)];

/// Rows per second with ratios, then CPU per row.
pub(super) fn write(report: &mut Report, drains: &[Drain], rows: i64) {
    report.text(&format!(
        "One transaction with {rows} inserts, one with {rows} updates, drained from the same filled topics into empty \
         replicas, each compared with the leader afterwards. Median (range) of all drains of a kind. Ratio: against the \
         fastest sink of the phase with as many replicas, median to median; in brackets the slowest drain to the sink's \
         fastest."
    ));
    let mut speed = Table::new(&[
        "format",
        "replicas",
        "phase",
        "side",
        "drains",
        "rows/s to each",
        "ratio to the best sink",
        "total s",
        "peak MiB",
    ]);
    let mut cpu = Table::new(&[
        "format",
        "replicas",
        "phase",
        "side",
        "worker",
        "broker",
        "replicas, sum",
        "all",
        "ratio",
    ]);
    for kind in kinds(drains) {
        for (name, phase) in PHASES {
            let same = same(drains, kind);
            let cells =
                [kind.format.to_owned(), kind.replicas.to_string(), name.to_owned(), kind.side.clone()];
            let rates = spread(&same, |drain| phase(drain).rows_per_second);
            let ratio = best_sink(drains, kind.replicas, phase).map_or("-".to_owned(), |best| {
                format!("{:.1} ({:.1})", rates.median / best.median, rates.min / best.max)
            });
            let memory: Option<Vec<_>> = same.iter().map(|drain| drain.peak_memory_mib).collect();
            let mut row = cells.to_vec();
            row.extend([
                same.len().to_string(),
                rates.text(0),
                ratio,
                spread(&same, |drain| drain.total_seconds).text(1),
                memory.and_then(Spread::of).map_or("-".to_owned(), |mib| mib.text(0)),
            ]);
            speed.row(row);
            let used = |value: fn(&Phase) -> f64| spread(&same, |drain| value(phase(drain)));
            let all = used(Phase::cpu_of_all);
            let peer = least_sink_cpu(drains, kind.replicas, phase);
            let mut row = cells.to_vec();
            row.extend([
                used(|phase| phase.cpu_of("worker")).text(1),
                used(|phase| phase.cpu_of("broker")).text(1),
                used(Phase::cpu_of_replicas).text(1),
                all.text(1),
                peer.map_or("-".to_owned(), |least| format!("{:.2}", all.median / least)),
            ]);
            cpu.row(row);
        }
    }
    report.table(&speed);
    report.text(
        "CPU in microseconds per source row. Worker: the replicator, or the Connect worker with all sinks. Ratio: to the sink \
         that needs least.",
    );
    report.table(&cpu);
    report.plot(&plot(drains));
}

/// Rates and CPU: a group for each format, number of replicas and phase, a bar for each side.
fn plot(drains: &[Drain]) -> Figure {
    let panel = |title: &str, unit: &str, value: fn(&Phase) -> f64| {
        let mut groups: Vec<Group> = Vec::new();
        for kind in kinds(drains) {
            for (name, phase) in PHASES {
                let label = format!("{name}, {} x{}", kind.format, kind.replicas);
                let value = spread(&same(drains, kind), |drain| value(phase(drain)));
                let bar = Bar { series: kind.side.clone(), value };
                match groups.iter_mut().find(|group| group.label == label) {
                    Some(group) => group.bars.push(bar),
                    None => groups.push(Group { label, bars: vec![bar] }),
                }
            }
        }
        Panel::Bars(Bars { title: title.to_owned(), unit: unit.to_owned(), groups })
    };
    Figure {
        title: "drain: the same filled topics into empty replicas".to_owned(),
        known: &[],
        panels: vec![
            panel("rows to each replica", "per s", |phase| phase.rows_per_second),
            panel("CPU of all processes", "us/row", Phase::cpu_of_all),
        ],
    }
}

/// One drain for each combination of format, replicas and side, in the order in which they were made.
fn kinds(drains: &[Drain]) -> Vec<&Drain> {
    let mut kinds: Vec<&Drain> = Vec::new();
    for drain in drains {
        if !kinds.iter().any(|kind| is_same(kind, drain)) {
            kinds.push(drain);
        }
    }
    kinds
}

fn is_same(one: &Drain, other: &Drain) -> bool {
    (one.format, one.replicas, &one.side) == (other.format, other.replicas, &other.side)
}

fn same<'a>(drains: &'a [Drain], kind: &Drain) -> Vec<&'a Drain> {
    drains.iter().filter(|drain| is_same(drain, kind)).collect()
}

/// Of drains of one kind, of which there is at least one.
fn spread(drains: &[&Drain], value: impl Fn(&Drain) -> f64) -> Spread {
    Spread::of(drains.iter().map(|&drain| value(drain))).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 })
}

/// The sinks with so many replicas, the drains of each together.
fn sinks(drains: &[Drain], replicas: usize) -> impl Iterator<Item = Vec<&Drain>> {
    let sinks = kinds(drains).into_iter();
    sinks
        .filter(move |kind| kind.replicas == replicas && kind.side.starts_with("sink"))
        .map(|kind| same(drains, kind))
}

/// Rows per second of the sink with the highest median.
fn best_sink(drains: &[Drain], replicas: usize, phase: PhaseOf) -> Option<Spread> {
    sinks(drains, replicas)
        .map(|sink| spread(&sink, |drain| phase(drain).rows_per_second))
        .max_by(|one, other| one.median.total_cmp(&other.median))
}

/// The lowest median of any sink's CPU per row, all processes together.
fn least_sink_cpu(drains: &[Drain], replicas: usize, phase: PhaseOf) -> Option<f64> {
    sinks(drains, replicas)
        .map(|sink| spread(&sink, |drain| phase(drain).cpu_of_all()).median)
        .min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn drain(side: &str, replicas: usize, rate: f64) -> Drain {
        let phase = Phase {
            seconds: 1.0,
            rows_per_second: rate,
            cpu_us_per_row: BTreeMap::from([("worker".to_owned(), 3.0), ("replica-1".to_owned(), 4.0)]),
        };
        Drain {
            side: side.to_owned(),
            format: "schema",
            replicas,
            rows: 1000,
            insert: phase.clone(),
            update: phase,
            total_seconds: 2.0,
            peak_memory_mib: None,
        }
    }

    #[test]
    fn the_best_sink_is_the_one_with_the_highest_median_and_as_many_replicas() {
        let drains = [
            drain("sink-500", 3, 10.0),
            drain("sink-500", 3, 12.0),
            drain("sink-unnest-500", 3, 11.0),
            drain("sink-500", 1, 20.0),
            drain("replicator", 3, 100.0),
        ];
        let best = best_sink(&drains, 3, |drain| &drain.insert).unwrap();
        assert_eq!(best, Spread { median: 11.0, min: 11.0, max: 11.0 });
        assert_eq!(best_sink(&drains, 2, |drain| &drain.insert), None);
        assert_eq!(kinds(&drains).len(), 4);
        assert_eq!(least_sink_cpu(&drains, 3, |drain| &drain.update), Some(7.0));
    }
}
