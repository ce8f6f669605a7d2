//! How far a copy is, how fast it goes, and how long it will take.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::vocabulary::schema::TableName;

/// What is copied before its duration is guessed: the first instants say little about the rest.
const MIN_SHARE: f64 = 0.01;

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct CopyProgress {
    /// The tables that are being copied now.
    pub copying: Vec<String>,
    /// Tables that are done, of this attempt.
    pub tables_done: usize,
    /// Tables in all, of this attempt.
    pub tables: usize,
    /// Rows of this attempt.
    pub rows: u64,
    /// Bytes of this attempt, as they travel.
    pub bytes: u64,
    /// Rows per second, since the attempt began.
    pub rows_per_second: u64,
    /// Bytes per second, since the attempt began.
    pub bytes_per_second: u64,
    /// How much is done, from 0 to 1, by the sizes that the leader's tables have.
    pub done: f64,
    /// How long the rest will take if it goes on like this; none until that can be said.
    pub seconds_left: Option<u64>,
}

/// How large a table is on the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Extent {
    /// Bytes on its disk, large values included, indexes not.
    pub(super) bytes: u64,
    /// Rows, as the leader counted them when it last analysed the table; none when it never did.
    pub(super) rows: Option<u64>,
}

/// Counts what is copied.
#[derive(Debug)]
pub(super) struct Meter {
    tables: usize,
    total_bytes: u64,
    running: BTreeMap<String, Running>,
    tables_done: usize,
    bytes_done: u64,
    rows: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Running {
    extent: Extent,
    rows: u64,
    bytes: u64,
}

impl Meter {
    /// Nothing is copied yet of tables of these extents.
    pub(super) fn new<'a>(extents: impl Iterator<Item = &'a Extent>) -> Self {
        let (tables, total_bytes) = extents.fold((0, 0), |(n, bytes), extent| (n + 1, bytes + extent.bytes));
        Meter {
            tables,
            total_bytes,
            running: BTreeMap::new(),
            tables_done: 0,
            bytes_done: 0,
            rows: 0,
            bytes: 0,
        }
    }

    /// A table begins.
    pub(super) fn begin(&mut self, table: &TableName, extent: Extent) {
        self.running.insert(table.to_string(), Running { extent, ..Running::default() });
    }

    /// More of a table has been sent.
    pub(super) fn add(&mut self, table: &TableName, rows: u64, bytes: u64) {
        self.rows += rows;
        self.bytes += bytes;
        if let Some(running) = self.running.get_mut(&table.to_string()) {
            running.rows += rows;
            running.bytes += bytes;
        }
    }

    /// A table is there.
    pub(super) fn end(&mut self, table: &TableName) {
        let ended = self.running.remove(&table.to_string()).unwrap_or_default();
        self.tables_done += 1;
        self.bytes_done += ended.extent.bytes;
    }

    /// How far all of it is after so long.
    pub(super) fn read(&self, elapsed: Duration) -> CopyProgress {
        let done = self.done();
        let seconds = elapsed.as_secs_f64();
        let left = (done >= MIN_SHARE).then(|| seconds * (1.0 - done) / done);
        CopyProgress {
            copying: self.running.keys().cloned().collect(),
            tables_done: self.tables_done,
            tables: self.tables,
            rows: self.rows,
            bytes: self.bytes,
            rows_per_second: rate(self.rows, elapsed),
            bytes_per_second: rate(self.bytes, elapsed),
            done,
            seconds_left: left
                .and_then(|left| Duration::try_from_secs_f64(left).ok())
                .map(|left| left.as_secs()),
        }
    }

    fn done(&self) -> f64 {
        if self.tables_done == self.tables {
            return 1.0;
        }
        let running: f64 = self.running.values().map(Running::done_bytes).sum();
        // Only empty tables: there is nothing to wait for.
        if self.total_bytes == 0 { 0.0 } else { (float(self.bytes_done) + running) / float(self.total_bytes) }
    }
}

impl Running {
    /// The part of the table's bytes on disk that has been copied. What travels has another size, so rows say more; and
    /// both are estimates.
    fn done_bytes(&self) -> f64 {
        let (part, whole) = match self.extent.rows {
            Some(rows) if rows > 0 => (self.rows, rows),
            _ => (self.bytes, self.extent.bytes),
        };
        if whole == 0 { 0.0 } else { (float(part) / float(whole)).min(1.0) * float(self.extent.bytes) }
    }
}

fn rate(count: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(count) * 1_000_000 / elapsed.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "shares of what is estimated anyway")]
fn float(count: u64) -> f64 {
    count as f64
}

impl fmt::Display for CopyProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tables_done, tables, rows, .. } = self;
        write!(f, "{tables_done} of {tables} tables, {:.0} %; {rows} rows, ", self.done * 100.0)?;
        let (bytes, per_second) = (megabytes(self.bytes), megabytes(self.bytes_per_second));
        write!(f, "{bytes:.1} MB, {} rows/s, {per_second:.1} MB/s", self.rows_per_second)?;
        if let Some(seconds) = self.seconds_left {
            write!(f, "; about {} left", duration(seconds))?;
        }
        if !self.copying.is_empty() {
            write!(f, "; copying {}", self.copying.join(", "))?;
        }
        Ok(())
    }
}

fn megabytes(bytes: u64) -> f64 {
    float(bytes) / 1e6
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(table: &str) -> TableName {
        TableName::new("public", table)
    }

    #[test]
    fn tables_count_by_their_size_and_what_is_left_by_the_rate_so_far() {
        let large = Extent { bytes: 900, rows: Some(90) };
        let small = Extent { bytes: 100, rows: None };
        let mut meter = Meter::new([large, small].iter());
        meter.begin(&name("large"), large);
        meter.begin(&name("small"), small);
        assert_eq!(meter.read(Duration::from_secs(1)).seconds_left, None, "nothing has come yet");
        meter.add(&name("large"), 30, 5000);
        meter.add(&name("small"), 1, 50);
        let progress = meter.read(Duration::from_secs(7));
        assert!((progress.done - 0.35).abs() < 1e-9, "300 by rows, 50 by bytes: {}", progress.done);
        assert_eq!((progress.rows, progress.bytes, progress.seconds_left), (31, 5050, Some(13)));
        assert_eq!((progress.rows_per_second, progress.bytes_per_second), (4, 721));
        assert_eq!(progress.copying, ["public.large", "public.small"]);
        meter.end(&name("small"));
        meter.add(&name("large"), 500, 1);
        assert!(meter.read(Duration::from_secs(8)).done <= 1.0, "the estimate was too low");
        meter.end(&name("large"));
        let over = meter.read(Duration::from_secs(9));
        assert_eq!((over.tables_done, over.tables, over.seconds_left), (2, 2, Some(0)));
    }

    #[test]
    fn empty_tables_are_done_when_they_are_done() {
        let mut meter = Meter::new([Extent::default()].iter());
        meter.begin(&name("empty"), Extent::default());
        assert_eq!(meter.read(Duration::ZERO).seconds_left, None);
        meter.end(&name("empty"));
        assert_eq!(meter.read(Duration::ZERO).seconds_left, Some(0));
    }

    #[test]
    fn people_read_it_in_a_line() {
        let progress = CopyProgress {
            copying: vec!["public.posts".to_owned()],
            tables_done: 2,
            tables: 5,
            rows: 1200,
            bytes: 3_400_000,
            rows_per_second: 300,
            bytes_per_second: 850_000,
            done: 0.4,
            seconds_left: Some(150),
        };
        let line = "2 of 5 tables, 40 %; 1200 rows, 3.4 MB, 300 rows/s, 0.8 MB/s; about 2 min left; copying public.posts";
        assert_eq!(progress.to_string(), line);
    }
}
