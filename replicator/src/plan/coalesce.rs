//! Folds the changes of one table, key by key and field by field.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Merged;
use super::key::KeyOf;
use super::step::{ColumnSet, Step, StepKind};
use crate::vocabulary::change::{Change, Operation};
use crate::vocabulary::row::{Cell, Key, Row};
use crate::vocabulary::schema::Table;

/// What is to become of one key.
#[derive(Debug)]
enum Net<'a> {
    /// The row did not exist before the group.
    Insert(Merged<'a, Row>),
    /// The row may have existed before the group; all its columns are known.
    Upsert(Merged<'a, Row>),
    /// The row existed; these columns change.
    Update(Merged<'a, Row>),
    /// The row existed and goes.
    Delete(&'a Key),
    /// The row did not exist before the group, and does not after it.
    Nothing,
}

/// The changes of one table since the last barrier, one per key.
#[derive(Debug, Default)]
pub(super) struct Pending<'a> {
    /// First seen first, so that plans don't depend on hashing. Keys whose changes cancelled out stay, as `Nothing`.
    nets: Vec<(KeyOf<'a>, Net<'a>)>,
    /// Rows that are to be there before all that.
    fills: Vec<&'a Row>,
    /// Where each key is in `nets`. Stays empty for as long as each key comes behind the one before, as those of bulk
    /// loads and of updates along the key do: then none of them can have been there already.
    index: HashMap<KeyOf<'a>, usize, RandomState>,
}

impl<'a> Pending<'a> {
    /// Adds a change. What can't be folded is written to `steps`, behind everything that came before it.
    pub(super) fn add(&mut self, change: &'a Change, steps: &mut Vec<Step<'a>>) {
        if !self.fold(change) {
            self.flush(&change.table, steps);
            if !self.fold(change) {
                append(Step::of_one(&change.table, &change.operation), steps);
            }
        }
    }

    /// Whether the change went into the fold. If not, what is pending must be written first; if it still does not, the
    /// change is a step of its own.
    fn fold(&mut self, change: &'a Change) -> bool {
        let Change { table, operation, .. } = change;
        let key = match operation {
            _ if !table.has_key() => return false,
            Operation::Insert(row) | Operation::Copy(row) | Operation::Fill(row) | Operation::Update(row) => {
                KeyOf::of_row(row, &table.key)
            }
            Operation::Delete(key) => KeyOf::alone(key),
            _ => return false,
        };
        let position = self.position(&key);
        if let Operation::Fill(row) = operation {
            return match position.map(|position| &self.nets[position].1) {
                None => {
                    self.fills.push(row);
                    true
                }
                // The row is there.
                Some(Net::Insert(_) | Net::Upsert(_) | Net::Update(_)) => true,
                Some(Net::Delete(_) | Net::Nothing) => false,
            };
        }
        let Some(position) = position else {
            let Some(net) = Net::first(operation) else { return false };
            if !self.index.is_empty() {
                self.index.insert(key, self.nets.len());
            }
            self.nets.push((key, net));
            return true;
        };
        let (_, known) = &mut self.nets[position];
        // As one statement it would be an update, which can't write an identity column, and leaves what the new row does not
        // carry as it was in the deleted one.
        if matches!(known, Net::Delete(_)) && !replaces_whole(operation, table) {
            return false;
        }
        match known.then(operation) {
            Some(net) => {
                *known = net;
                true
            }
            None => false,
        }
    }

    /// Where the key is in `nets`, if it is.
    fn position(&mut self, key: &KeyOf<'a>) -> Option<usize> {
        let (last, _) = self.nets.last()?;
        if self.index.is_empty() {
            if key.is_behind(last) {
                return None;
            }
            self.index = self.nets.iter().enumerate().map(|(position, (key, _))| (*key, position)).collect();
        }
        self.index.get(key).copied()
    }

    /// Writes what is pending as few statements: deletes first and inserts last, so that a unique value that moves from
    /// one row to another is free when it is taken.
    pub(super) fn flush(&mut self, table: &Arc<Table>, steps: &mut Vec<Step<'a>>) {
        self.index.clear();
        let mut fills = ByColumns::default();
        self.fills.drain(..).for_each(|row| fills.push(Cow::Borrowed(row)));
        let mut deletes = Vec::new();
        let mut updates = ByColumns::default();
        let mut upserts = ByColumns::default();
        let mut inserts = ByColumns::default();
        for (_, net) in self.nets.drain(..) {
            match net {
                Net::Insert(row) => inserts.push(row),
                Net::Upsert(row) => upserts.push(row),
                Net::Update(row) => updates.push(row),
                Net::Delete(key) => deletes.push(key),
                Net::Nothing => {}
            }
        }
        let mut push = |kind| steps.push(Step { table: Arc::clone(table), kind });
        fills.0.into_iter().for_each(|(columns, rows)| push(StepKind::Fill(columns, rows)));
        if !deletes.is_empty() {
            push(StepKind::Delete(deletes));
        }
        updates.0.into_iter().for_each(|(columns, rows)| push(StepKind::Update(columns, rows)));
        upserts.0.into_iter().for_each(|(columns, rows)| push(StepKind::Upsert(columns, rows)));
        inserts.0.into_iter().for_each(|(columns, rows)| push(StepKind::Insert(columns, rows)));
    }
}

/// Whether an update by this new row leaves nothing of the row that it replaces.
fn replaces_whole(operation: &Operation, table: &Table) -> bool {
    let (Operation::Insert(row) | Operation::Copy(row)) = operation else { return false };
    let mut columns = table.columns.iter().enumerate();
    columns.all(|(i, c)| !c.identity_always && (c.generated || row.cell(i) != Cell::Absent))
}

/// Rows by the columns that they have, first seen first. Mostly they all have the same.
#[derive(Debug, Default)]
struct ByColumns<'a>(Vec<(ColumnSet, Vec<Merged<'a, Row>>)>);

impl<'a> ByColumns<'a> {
    fn push(&mut self, row: Merged<'a, Row>) {
        match self.0.iter_mut().find(|(columns, _)| columns.are_those_of(&row)) {
            Some((_, rows)) => rows.push(row),
            None => self.0.push((ColumnSet::present_in(&row), vec![row])),
        }
    }
}

impl<'a> Net<'a> {
    fn first(operation: &'a Operation) -> Option<Self> {
        match operation {
            Operation::Insert(row) => Some(Net::Insert(Cow::Borrowed(row))),
            Operation::Copy(row) => Some(Net::Upsert(Cow::Borrowed(row))),
            Operation::Update(row) => Some(Net::Update(Cow::Borrowed(row))),
            Operation::Delete(key) => Some(Net::Delete(key)),
            _ => None,
        }
    }

    /// This, then the operation; none when the two don't follow from each other on the leader. Then the database is to
    /// judge them one after the other.
    fn then(&self, operation: &'a Operation) -> Option<Self> {
        let overlaid = |known: &Row, newer: &Row| Cow::Owned(known.overlaid_with(newer));
        match (self, operation) {
            (Net::Insert(known), Operation::Update(newer)) => Some(Net::Insert(overlaid(known, newer))),
            (Net::Insert(_), Operation::Delete(_)) => Some(Net::Nothing),
            (Net::Nothing, Operation::Insert(row)) => Some(Net::Insert(Cow::Borrowed(row))),
            (Net::Upsert(known), Operation::Update(newer)) => Some(Net::Upsert(overlaid(known, newer))),
            // A snapshot taken while the stream went on may hold the row already.
            (Net::Upsert(_), Operation::Insert(row)) => Some(Net::Upsert(Cow::Borrowed(row))),
            (Net::Upsert(_) | Net::Update(_), Operation::Copy(row)) => Some(Net::Upsert(Cow::Borrowed(row))),
            (Net::Update(known), Operation::Update(newer)) => Some(Net::Update(overlaid(known, newer))),
            (Net::Upsert(_) | Net::Update(_), Operation::Delete(key)) => Some(Net::Delete(key)),
            (Net::Delete(_), Operation::Insert(row) | Operation::Copy(row)) => {
                Some(Net::Upsert(Cow::Borrowed(row)))
            }
            _ => None,
        }
    }
}

/// Adds a step that stands alone, joining it with the one before when both insert into one table: rows of a keyless table
/// come as such steps, and a bulk load must not become a statement per row.
fn append<'a>(step: Step<'a>, steps: &mut Vec<Step<'a>>) {
    if let StepKind::Insert(columns, rows) = &step.kind
        && let Some(Step { table, kind: StepKind::Insert(same_columns, earlier) }) = steps.last_mut()
        && Arc::ptr_eq(table, &step.table)
        && same_columns == columns
    {
        earlier.extend(rows.iter().cloned());
        return;
    }
    steps.push(step);
}
