//! A replica as a map: what plans would leave in PostgreSQL.

use std::collections::HashMap;

use super::world::Rows;
use crate::plan::{Step, StepKind, plan, plan_in_source_order};
use crate::vocabulary::change::Change;
use crate::vocabulary::lsn::{CommitLsn, Lsn};
use crate::vocabulary::offset::{Offsets, PartitionNames};
use crate::vocabulary::parcel::{CommitPoint, Parcel, ParcelEnd, ReplicaPhase};
use crate::vocabulary::row::{Cell, Key, Row};
use crate::vocabulary::schema::{Table, TableName};

/// Rows and checkpoint: what one transaction changes together.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    rows: Rows,
    pub(super) offsets: Offsets,
    pub(super) watermark: CommitLsn,
    pub(super) phase: ReplicaPhase,
    pub(super) snapshots: HashMap<TableName, Lsn>,
}

impl Stored {
    pub(super) fn rows(&self) -> Rows {
        let mut rows = self.rows.clone();
        rows.retain(|_, rows| !rows.is_empty());
        rows.values_mut().for_each(|rows| rows.sort());
        rows
    }

    /// Holds a row that came before.
    pub(super) fn put(&mut self, table: &str, row: [&str; 3]) {
        self.rows.entry(table.to_owned()).or_default().push(row.map(str::to_owned).to_vec());
    }

    fn change(&mut self, changes: &[&Change]) {
        let before = self.rows.clone();
        if plan(changes).iter().try_for_each(|step| self.apply(step)).is_ok() {
            return;
        }
        // As the applier does: back to the savepoint, and one change after the other.
        self.rows = before;
        for (change, step) in plan_in_source_order(changes) {
            self.apply(&step).unwrap_or_else(|complaint| panic!("{complaint}: {change:?}"));
        }
    }

    /// Applies one step as its SQL does, and complains where PostgreSQL would.
    fn apply(&mut self, step: &Step<'_>) -> Result<(), &'static str> {
        let table = &step.table;
        let key_of = |row: &[String]| -> Vec<String> { table.key.iter().map(|c| row[*c].clone()).collect() };
        let rows = self.rows.entry(table.name.name.clone()).or_default();
        let find = |rows: &[Vec<String>], key: &[String]| rows.iter().position(|row| key_of(row) == key);
        match &step.kind {
            StepKind::Insert(_, new) => {
                for row in new {
                    let row = whole(row)?;
                    if table.has_key() && find(rows, &key_of(&row)).is_some() {
                        return Err("the key is taken");
                    }
                    rows.push(row);
                }
            }
            StepKind::Upsert(_, new) => {
                for row in new {
                    let row = whole(row)?;
                    match find(rows, &key_of(&row)) {
                        Some(found) => rows[found] = row,
                        None => rows.push(row),
                    }
                }
            }
            StepKind::Fill(_, new) => {
                for row in new {
                    let row = whole(row)?;
                    if find(rows, &key_of(&row)).is_none() {
                        rows.push(row);
                    }
                }
            }
            StepKind::Update(_, new) => {
                for row in new {
                    let found =
                        find(rows, &texts(&row.project(&table.key).0)).ok_or("an update finds no row")?;
                    lay_over(&mut rows[found], row);
                }
            }
            StepKind::Delete(keys) => {
                for Key(key) in keys {
                    let found = find(rows, &texts(key)).ok_or("a delete finds no row")?;
                    rows.remove(found);
                }
            }
            StepKind::Rekey(_, Key(old), row) => {
                if find(rows, &texts(&row.project(&table.key).0)).is_some() {
                    return Err("the new key is taken");
                }
                let found = find(rows, &texts(old)).ok_or("a change of key finds no row")?;
                lay_over(&mut rows[found], row);
            }
            StepKind::UpdateKeyless(_, old, new) => {
                let old = texts(old);
                let found = rows.iter().position(|row| *row == old).ok_or("no row has these values")?;
                lay_over(&mut rows[found], new);
            }
            StepKind::DeleteKeyless(old) => {
                let old = texts(old);
                let found = rows.iter().position(|row| *row == old).ok_or("no row has these values")?;
                rows.remove(found);
            }
            StepKind::Truncate(tables) => {
                let is_emptied =
                    |name: &String| tables.iter().any(|t: &std::sync::Arc<Table>| t.name.name == *name);
                self.rows.retain(|name, _| !is_emptied(name));
            }
            StepKind::Clear => rows.clear(),
        }
        Ok(())
    }

    pub(super) fn advance(&mut self, point: &CommitPoint, names: &PartitionNames) {
        if let Some(transaction) = point.transaction {
            assert!(transaction.lsn > self.watermark, "the watermark is monotone");
            self.watermark = transaction.lsn;
        }
        self.phase = point.state;
        for (partition, offset) in &point.offsets {
            let stored = self.offsets.entry(names.get(*partition)).or_insert(0);
            assert!(*offset >= *stored, "a position goes back");
            *stored = *offset;
        }
        self.snapshots.extend(point.copies.iter().map(|copy| (copy.table.clone(), copy.snapshot_lsn)));
    }
}

pub(super) fn texts(row: &Row) -> Vec<String> {
    let text = |column| match row.cell(column) {
        Cell::Text(text) => text.to_owned(),
        Cell::Null => "NULL".to_owned(),
        Cell::Absent => "absent".to_owned(),
        Cell::Binary(bytes) => format!("{bytes:?}"),
    };
    (0..row.width()).map(text).collect()
}

fn whole(row: &Row) -> Result<Vec<String>, &'static str> {
    let row = texts(row);
    if row.iter().any(|value| value == "absent") { Err("an insert of a partial row") } else { Ok(row) }
}

fn lay_over(stored: &mut [String], newer: &Row) {
    for (column, value) in stored.iter_mut().enumerate() {
        if let Cell::Text(text) = newer.cell(column) {
            text.clone_into(value);
        }
    }
}

/// A replica with its applier, which groups what has come as the worker does.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) stored: Stored,
    /// Every state that was ever stored.
    pub(super) history: Vec<Stored>,
    group: Vec<Parcel>,
    /// A large transaction of which parts have come.
    open: Option<Stored>,
}

impl Replica {
    pub(super) fn new() -> Self {
        let stored = Stored::default();
        Replica { history: vec![stored.clone()], stored, group: Vec::new(), open: None }
    }

    /// Starts again from a state that was stored once.
    pub(super) fn restart(&mut self, from: usize) {
        self.history.truncate(from + 1);
        self.stored = self.history[from].clone();
        self.group.clear();
        self.open = None;
    }

    pub(super) fn take(&mut self, parcel: Parcel, names: &PartitionNames) {
        match (&parcel.end, &mut self.open) {
            (ParcelEnd::Commit(_), None) => self.group.push(parcel),
            (ParcelEnd::Commit(point), Some(open)) => {
                open.change(&parcel.changes.iter().collect::<Vec<_>>());
                open.advance(point, names);
                self.stored = self.open.take().unwrap();
                self.history.push(self.stored.clone());
            }
            (ParcelEnd::Open, _) => {
                self.commit_group(names);
                let open = self.open.get_or_insert_with(|| self.stored.clone());
                open.change(&parcel.changes.iter().collect::<Vec<_>>());
            }
            (ParcelEnd::Discard, _) => {
                self.commit_group(names);
                self.open = None;
            }
        }
    }

    /// Commits the parcels that wait as one transaction.
    pub(super) fn commit_group(&mut self, names: &PartitionNames) {
        if self.group.is_empty() {
            return;
        }
        let group = std::mem::take(&mut self.group);
        self.stored.change(&group.iter().flat_map(|p| &p.changes).collect::<Vec<_>>());
        for parcel in &group {
            if let ParcelEnd::Commit(point) = &parcel.end {
                self.stored.advance(point, names);
            }
        }
        self.history.push(self.stored.clone());
    }
}
