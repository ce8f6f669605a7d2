//! Folds the changes of one table, key by key and field by field.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;

use super::Merged;
use super::step::{ColumnSet, Step, StepKind};
use crate::vocabulary::change::Operation;
use crate::vocabulary::row::{Key, Row};
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
    by_key: HashMap<Key, Net<'a>>,
    /// First seen first, so that plans don't depend on hashing. Keys whose changes cancelled out stay, as `Nothing`.
    order: Vec<Key>,
}

impl<'a> Pending<'a> {
    /// Adds a change. What can't be folded is written to `steps`, behind everything that came before it.
    pub(super) fn add(&mut self, table: &Arc<Table>, operation: &'a Operation, steps: &mut Vec<Step<'a>>) {
        if !self.fold(table, operation) {
            self.flush(table, steps);
            if !self.fold(table, operation) {
                append(Step::of_one(table, operation), steps);
            }
        }
    }

    /// Whether the change went into the fold. If not, what is pending must be written first; if it still does not, the
    /// change is a step of its own.
    fn fold(&mut self, table: &Table, operation: &'a Operation) -> bool {
        let key = match operation {
            _ if !table.has_key() => return false,
            Operation::Insert(row) | Operation::Copy(row) | Operation::Update(row) => row.project(&table.key),
            Operation::Delete(key) => key.clone(),
            _ => return false,
        };
        match self.by_key.entry(key) {
            Entry::Vacant(vacant) => {
                let Some(net) = Net::first(operation) else { return false };
                self.order.push(vacant.key().clone());
                vacant.insert(net);
                true
            }
            // As one statement it would be an update, which can't write an identity column.
            Entry::Occupied(occupied)
                if matches!(occupied.get(), Net::Delete(_))
                    && table.columns.iter().any(|c| c.identity_always) =>
            {
                false
            }
            Entry::Occupied(mut occupied) => match occupied.get().then(operation) {
                Some(net) => {
                    occupied.insert(net);
                    true
                }
                None => false,
            },
        }
    }

    /// Writes what is pending as few statements: deletes first and inserts last, so that a unique value that moves from
    /// one row to another is free when it is taken.
    pub(super) fn flush(&mut self, table: &Arc<Table>, steps: &mut Vec<Step<'a>>) {
        let mut deletes = Vec::new();
        let mut updates: BTreeMap<ColumnSet, Vec<Merged<'a, Row>>> = BTreeMap::new();
        let mut upserts: BTreeMap<ColumnSet, Vec<Merged<'a, Row>>> = BTreeMap::new();
        let mut inserts: BTreeMap<ColumnSet, Vec<Merged<'a, Row>>> = BTreeMap::new();
        for key in self.order.drain(..) {
            match self.by_key.remove(&key) {
                Some(Net::Insert(row)) => inserts.entry(ColumnSet::present_in(&row)).or_default().push(row),
                Some(Net::Upsert(row)) => upserts.entry(ColumnSet::present_in(&row)).or_default().push(row),
                Some(Net::Update(row)) => updates.entry(ColumnSet::present_in(&row)).or_default().push(row),
                Some(Net::Delete(key)) => deletes.push(key),
                Some(Net::Nothing) | None => {}
            }
        }
        let mut push = |kind| steps.push(Step { table: Arc::clone(table), kind });
        if !deletes.is_empty() {
            push(StepKind::Delete(deletes));
        }
        updates.into_iter().for_each(|(columns, rows)| push(StepKind::Update(columns, rows)));
        upserts.into_iter().for_each(|(columns, rows)| push(StepKind::Upsert(columns, rows)));
        inserts.into_iter().for_each(|(columns, rows)| push(StepKind::Insert(columns, rows)));
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
