//! One mark per read, row by row: the picture of a run.

use crate::demo::Run;
use crate::model::demo::plan::Experiment;
use crate::model::demo::{Sample, ServerIndex};

/// Marks in a row: 1000 reads make 25 rows.
const COLUMNS: usize = 40;

/// The side of a mark in the picture's own units.
const CELL: usize = 10;

/// Rows that a page draws; what comes after them is in the downloads.
const ROWS_MAX: usize = 50;

/// The picture of a run.
pub(super) struct Waffle {
    /// Its marks.
    pub(super) cells: Vec<Cell>,
    /// All reads, drawn or not.
    pub(super) total: usize,
    /// The first answers in words, for those who can't see the picture.
    pub(super) first: String,
}

/// One read.
pub(super) struct Cell {
    /// Its shape: a replica's number, `leader` or `none`.
    pub(super) glyph: String,
    /// The experiment found here what it looks for.
    pub(super) odd: bool,
    /// Its left edge.
    pub(super) x: usize,
    /// Its top edge.
    pub(super) y: usize,
    /// What pointing at it says.
    pub(super) title: String,
    /// Who answered.
    pub(super) server: String,
    /// How long it took.
    pub(super) took: std::time::Duration,
}

impl Waffle {
    /// Of what a run has done so far.
    pub(super) fn of(run: &Run) -> Self {
        let samples = run.samples_from(0);
        let drawn = samples.iter().take(COLUMNS * ROWS_MAX).enumerate();
        let cells: Vec<Cell> = drawn.map(|(index, sample)| cell(run, index, sample)).collect();
        let first: Vec<&str> = cells.iter().take(9).map(|cell| cell.server.as_str()).collect();
        Self { first: first.join(", "), total: samples.len(), cells }
    }

    /// The picture's height in its own units.
    pub(super) fn height(&self) -> usize {
        self.cells.len().div_ceil(COLUMNS).max(1) * CELL
    }
}

fn cell(run: &Run, index: usize, sample: &Sample) -> Cell {
    let server = sample.server.map_or("no answer", |server| &run.names[server]).to_owned();
    let millis = sample.duration.as_secs_f64() * 1000.0;
    let mut title = format!("#{} {server} {millis:.2} ms", index + 1);
    if sample.retried {
        title.push_str(", after another one failed");
    }
    match (run.plan.experiment, sample.odd) {
        (_, None) => {}
        (experiment @ (Experiment::Staleness | Experiment::TimeTravel), Some(by)) => {
            title.push_str(&format!(", {} ({by})", experiment.oddity()));
        }
        (experiment, Some(_)) => title.push_str(&format!(", {}", experiment.oddity())),
    }
    Cell {
        glyph: sample.server.map_or_else(|| "none".to_owned(), |server| glyph(server, run.names.len())),
        odd: sample.odd.is_some(),
        x: index % COLUMNS * CELL,
        y: index / COLUMNS * CELL,
        title,
        server,
        took: sample.duration,
    }
}

/// The mark of a server: colours and shapes repeat after four replicas, the leader has its own.
pub(super) fn glyph(server: ServerIndex, servers: usize) -> String {
    if server + 1 == servers { "leader".to_owned() } else { (server % 4).to_string() }
}
