//! Which rows were changed lately.
//!
//! A row of an incremental snapshot may be older than what stands before it in its topic. The connector leaves rows out of a chunk
//! that change between the two marks around its reading. But a commit can be seen by others only some time after it is in the
//! WAL: after the flush, and with synchronous replication after a standby has it. A chunk that is read behind the first mark may
//! lack a commit that stands before that mark, and then brings back what the commit had replaced or deleted. (Observed, connector
//! 3.7: one chunk in some 400 beside a client that commits every 5 ms; every one while a commit waits for its standby.)
//!
//! Where the stream has told of a row just before, it is the stream that is right: the row is left as it is, or away if it was
//! deleted. That holds for a truncate, too, at which the connector does not look at all. Columns of which it has not told, large
//! values that did not change and columns that were not captured yet, come from the snapshot: who changes such a value tells of it.
//! Only for a while: who has lost rows of a replica, or made its table anew, asks for a snapshot to have them again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::decode::debezium::CopiedRow;
use crate::vocabulary::change::{Change, Operation};
use crate::vocabulary::lsn::Lsn;
use crate::vocabulary::row::{Cell, Key, Row};
use crate::vocabulary::schema::{Table, TableName};

/// So many rows are known at least, of which each takes up to 82 bytes; up to twice as many are.
const ROWS: usize = 1 << 17;

/// How long before a snapshot row a change was written that it may lack: many times what a commit needs to be seen.
const LATELY_MS: i64 = 60_000;

/// What the stream has said of a row.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// Its WAL position, for as long as others of before the position to go on from may follow.
    lsn: Lsn,
    /// When that was written, or a little later; the end of time if that is not known.
    at_ms: i64,
    /// Whether the row was deleted.
    is_gone: bool,
    /// Of which of its first 64 columns nothing was told, a bit for each.
    untold: u64,
}

/// A row of an incremental snapshot beside what the stream has said of it.
#[derive(Debug)]
pub(super) struct Beside {
    /// The row, to be put or to be filled in.
    pub(super) row: CopiedRow,
    /// Its columns of which the stream has told nothing, for the row that is there.
    pub(super) rest: Option<Change>,
}

/// The rows and emptied tables of the latest changes, by hash: a row in 10^13 is taken for another one.
#[derive(Debug)]
pub(super) struct Recent {
    hasher: RandomState,
    rows: usize,
    young: HashMap<u64, Last>,
    old: HashMap<u64, Last>,
}

impl Default for Recent {
    fn default() -> Self {
        Recent::with_rows(ROWS)
    }
}

impl Recent {
    fn with_rows(rows: usize) -> Self {
        Recent { hasher: RandomState::new(), rows, young: HashMap::new(), old: HashMap::new() }
    }

    /// A change was applied before, which a connector may have repeated since. All of these come first.
    pub(super) fn remember(&mut self, change: &Change, lsn: Lsn, at_ms: Option<i64>) {
        self.add(change, Last { lsn, at_ms: at_ms.unwrap_or(i64::MAX), is_gone: false, untold: 0 });
    }

    /// A change is given out, written no later than this.
    pub(super) fn note(&mut self, change: &Change, at_ms: Option<i64>) {
        let at_ms = at_ms.unwrap_or(i64::MAX);
        self.add(change, Last { lsn: Lsn(u64::MAX), at_ms, is_gone: false, untold: 0 });
    }

    fn add(&mut self, change: &Change, there: Last) {
        let table = &change.table;
        let gone = Last { is_gone: true, ..there };
        match &change.operation {
            Operation::Update(row) if table.has_key() => {
                self.put(self.hash(table, &row.project(&table.key)), there.but(row));
            }
            // It takes the place of another one, of which the snapshot may have values.
            Operation::Insert(row) if table.has_key() => {
                self.put(self.hash(table, &row.project(&table.key)), there);
            }
            Operation::Rekey { old, row } => {
                self.put(self.hash(table, old), gone);
                self.put(self.hash(table, &row.project(&table.key)), there);
            }
            Operation::Delete(key) => self.put(self.hash(table, key), gone),
            Operation::Truncate => self.put(self.hash_all(&table.name), gone),
            // Nothing tells rows without a key apart, and the connector has no incremental snapshots of their tables.
            Operation::Insert(_)
            | Operation::Update(_)
            | Operation::UpdateKeyless { .. }
            | Operation::DeleteKeyless(_) => {}
            Operation::Copy(_) | Operation::Fill(_) | Operation::Clear => {}
        }
    }

    /// What is to become of a row of an incremental snapshot; none when the row is gone.
    pub(super) fn beside(&self, mut row: CopiedRow) -> Option<Beside> {
        let CopiedRow { change, written_at_ms, .. } = &mut row;
        let Operation::Copy(copied) = &change.operation else { return Some(Beside { row, rest: None }) };
        let table = &change.table;
        let lately = |hash| self.last(hash).filter(|last| last.is_lately(*written_at_ms));
        let emptied = lately(self.hash_all(&table.name));
        let key = table.has_key().then(|| copied.project(&table.key));
        let last = match (key.and_then(|key| lately(self.hash(table, &key))), emptied) {
            // Of rows that have come since their table was emptied the stream has told, and they are here; where nothing says
            // which was first, it may have come through another partition.
            (Some(last), Some(emptied)) if last.lsn <= emptied.lsn => Some(emptied),
            (last, emptied) => last.or(emptied),
        };
        let mut rest = None;
        match last {
            Some(Last { is_gone: true, .. }) => return None,
            Some(last) => {
                rest = last.untold_of(copied, table).map(|rest| Change {
                    table: Arc::clone(table),
                    operation: Operation::Update(rest),
                    place: change.place,
                });
                change.operation = Operation::Fill(copied.clone());
            }
            None => {}
        }
        Some(Beside { row, rest })
    }

    fn put(&mut self, hash: u64, mut last: Last) {
        if let Some(known) = self.last(hash) {
            if known.lsn > last.lsn {
                return;
            }
            last.untold &= known.untold;
        }
        if self.young.len() >= self.rows {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, last);
    }

    fn last(&self, hash: u64) -> Option<Last> {
        self.young.get(&hash).or_else(|| self.old.get(&hash)).copied()
    }

    fn hash(&self, table: &Table, key: &Key) -> u64 {
        self.hasher.hash_one((&table.name, key))
    }

    fn hash_all(&self, table: &TableName) -> u64 {
        self.hasher.hash_one(table)
    }
}

impl Last {
    /// The same, of a change that brings this row.
    fn but(self, row: &Row) -> Last {
        let absent = (0..row.width().min(64)).filter(|column| row.cell(*column) == Cell::Absent);
        Last { untold: absent.fold(0, |bits, column| bits | 1 << column), ..self }
    }

    /// What a copied row has for columns of which nothing was told, with its key; none when that is nothing.
    fn untold_of(self, copied: &Row, table: &Table) -> Option<Row> {
        let is_untold = |column: usize| {
            column < 64 && self.untold >> column & 1 == 1 && copied.cell(column) != Cell::Absent
        };
        if !(0..copied.width()).any(is_untold) {
            return None;
        }
        let cell = |column| {
            let is_wanted = is_untold(column) || table.key.contains(&column);
            if is_wanted { copied.cell(column) } else { Cell::Absent }
        };
        Some(Row::new(copied.form(), &(0..copied.width()).map(cell).collect::<Vec<_>>()))
    }

    /// Whether a row that was written then may lack it.
    fn is_lately(self, row_at_ms: Option<i64>) -> bool {
        row_at_ms.is_none_or(|row_at_ms| row_at_ms.saturating_sub(self.at_ms) <= LATELY_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::offset::{PartitionIndex, Place};
    use crate::vocabulary::row::Form;
    use crate::vocabulary::schema::Column;

    fn change(table: &str, operation: Operation) -> Change {
        let columns = vec![Column::text("id"), Column::text("v")];
        let table = Table::new(TableName::new("public", table), columns, vec![0]);
        Change { table: Arc::new(table), operation, place: Place { partition: PartitionIndex(1), offset: 0 } }
    }

    fn row(id: &str) -> Row {
        Row::new(Form::Text, &[Cell::Text(id), Cell::Text("v")])
    }

    fn key(id: &str) -> Key {
        row(id).project(&[0])
    }

    /// What becomes of a row of a snapshot that was written at 100 000.
    fn beside(recent: &Recent, table: &str, id: &str) -> Option<&'static str> {
        let copied = CopiedRow {
            change: change(table, Operation::Copy(row(id))),
            snapshot_lsn: None,
            written_at_ms: Some(100_000),
            first_of_table: false,
            last_of_table: false,
        };
        let Beside { row, rest } = recent.beside(copied)?;
        Some(if rest.is_some() { "fill, update" } else { row.change.operation.name() })
    }

    #[test]
    fn rows_that_were_changed_are_left_and_those_that_were_deleted_stay_away() {
        let mut recent = Recent::default();
        let mut note = |table, operation| recent.note(&change(table, operation), Some(99_000));
        note("a", Operation::Insert(row("1")));
        note("a", Operation::Update(Row::new(Form::Text, &[Cell::Text("2"), Cell::Absent])));
        note("a", Operation::Delete(key("3")));
        note("a", Operation::Rekey { old: key("4"), row: row("5") });
        note("b", Operation::Insert(row("1")));
        note("b", Operation::Truncate);
        let found = ["1", "2", "3", "4", "5", "6"].map(|id| beside(&recent, "a", id));
        let of_second = Some("fill, update");
        assert_eq!(found, [Some("fill"), of_second, None, None, Some("fill"), Some("copy")]);
        let found = ["1", "2"].map(|id| beside(&recent, "b", id));
        assert_eq!(found, [None, None], "all rows of an emptied table");
        assert_eq!(beside(&recent, "c", "1"), Some("copy"));
    }

    #[test]
    fn columns_that_were_told_once_are_not_taken_from_a_snapshot() {
        let mut recent = Recent::default();
        let partial = Row::new(Form::Text, &[Cell::Text("1"), Cell::Absent]);
        for row in [partial.clone(), row("1"), partial.clone()] {
            recent.note(&change("a", Operation::Update(row)), Some(99_000));
        }
        assert_eq!(beside(&recent, "a", "1"), Some("fill"));
        recent.note(&change("a", Operation::Update(partial.clone())), Some(99_000));
        assert_eq!(beside(&recent, "a", "1"), Some("fill"));
        // Nor where the snapshot has another row in its place.
        let second = Row::new(Form::Text, &[Cell::Text("2"), Cell::Absent]);
        recent.note(&change("a", Operation::Rekey { old: key("1"), row: second.clone() }), Some(99_000));
        recent.note(&change("a", Operation::Update(second)), Some(99_000));
        assert_eq!(beside(&recent, "a", "2"), Some("fill"));
    }

    #[test]
    fn a_row_that_came_behind_a_truncate_is_there() {
        let mut recent = Recent::default();
        let mut remember = |lsn, operation| recent.remember(&change("a", operation), Lsn(lsn), None);
        remember(10, Operation::Insert(row("1")));
        remember(30, Operation::Insert(row("2")));
        remember(20, Operation::Truncate);
        let found = ["1", "2", "3"].map(|id| beside(&recent, "a", id));
        assert_eq!(found, [None, Some("fill"), None]);
    }

    #[test]
    fn what_was_repeated_says_nothing_new() {
        let mut recent = Recent::default();
        let mut remember = |lsn, operation| recent.remember(&change("a", operation), Lsn(lsn), None);
        remember(10, Operation::Insert(row("1")));
        remember(20, Operation::Delete(key("1")));
        remember(10, Operation::Insert(row("1")));
        assert_eq!(beside(&recent, "a", "1"), None);
        recent.note(&change("a", Operation::Insert(row("1"))), None);
        assert_eq!(beside(&recent, "a", "1"), Some("fill"));
    }

    #[test]
    fn a_change_of_long_ago_says_nothing() {
        let mut recent = Recent::default();
        for (id, at_ms) in [("1", 39_999), ("2", 40_000), ("3", 500_000)] {
            recent.note(&change("a", Operation::Insert(row(id))), Some(at_ms));
        }
        recent.note(&change("a", Operation::Insert(row("4"))), None);
        let found = ["1", "2", "3", "4"].map(|id| beside(&recent, "a", id));
        assert_eq!(found, [Some("copy"), Some("fill"), Some("fill"), Some("fill")]);
    }

    #[test]
    fn the_latest_rows_are_known_and_their_number_has_a_limit() {
        let mut recent = Recent::with_rows(10);
        for id in 0..100 {
            recent.note(&change("a", Operation::Delete(key(&id.to_string()))), Some(99_000));
            let is_known = |id: i32| beside(&recent, "a", &id.to_string()).is_none();
            assert!((0.max(id - 9)..=id).all(is_known), "the last ten at {id}");
            assert!(recent.young.len() + recent.old.len() <= 20);
        }
    }
}
