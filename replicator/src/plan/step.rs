//! What one statement does.

use std::borrow::Cow;
use std::sync::Arc;

use super::Merged;
use crate::vocabulary::change::Operation;
use crate::vocabulary::row::{Cell, Key, Row};
use crate::vocabulary::schema::Table;

/// Which columns of a table a statement names: one bit each, in the catalog's order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnSet(Box<[u64]>);

impl ColumnSet {
    /// The columns that a row has values for.
    pub fn present_in(row: &Row) -> Self {
        let mut words = vec![0u64; row.width().div_ceil(64)];
        for column in 0..row.width() {
            if row.cell(column) != Cell::Absent {
                words[column / 64] |= 1 << (column % 64);
            }
        }
        ColumnSet(words.into_boxed_slice())
    }

    /// Whether a row has values for these columns and no others.
    pub fn are_those_of(&self, row: &Row) -> bool {
        (0..row.width()).all(|column| {
            let named = self.0[column / 64] >> (column % 64) & 1 == 1;
            named == (row.cell(column) != Cell::Absent)
        })
    }

    /// The columns in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let words = self.0.iter().enumerate();
        words.flat_map(|(w, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| w * 64 + bit)
        })
    }
}

/// One statement on one table.
#[derive(Debug, Clone)]
pub struct Step<'a> {
    /// The table; for truncates the first of them.
    pub table: Arc<Table>,
    /// What to do.
    pub kind: StepKind<'a>,
}

/// What a step does. All rows of one step have values for the same columns and, but for keyless tables and [`StepKind::Fill`], different keys.
#[derive(Debug, Clone)]
pub enum StepKind<'a> {
    /// New rows.
    Insert(ColumnSet, Vec<Merged<'a, Row>>),
    /// Rows that may exist: snapshot rows, and rows deleted and inserted again.
    Upsert(ColumnSet, Vec<Merged<'a, Row>>),
    /// Rows that stay as they are where they exist.
    Fill(ColumnSet, Vec<Merged<'a, Row>>),
    /// New values for existing rows.
    Update(ColumnSet, Vec<Merged<'a, Row>>),
    /// Rows that go.
    Delete(Vec<&'a Key>),
    /// One row that gets another key.
    Rekey(ColumnSet, &'a Key, &'a Row),
    /// One row among equals that gets new values.
    UpdateKeyless(ColumnSet, &'a Row, &'a Row),
    /// One row among equals that goes.
    DeleteKeyless(&'a Row),
    /// Tables that are emptied together.
    Truncate(Vec<Arc<Table>>),
    /// All rows go.
    Clear,
}

impl<'a> Step<'a> {
    /// A step that does one change alone. A truncate's further tables are added by the caller.
    pub(crate) fn of_one(table: &Arc<Table>, operation: &'a Operation) -> Self {
        let kind = match operation {
            Operation::Insert(row) => StepKind::Insert(ColumnSet::present_in(row), vec![Cow::Borrowed(row)]),
            // Without a key there is nothing to conflict with.
            Operation::Copy(row) | Operation::Fill(row) if !table.has_key() => {
                StepKind::Insert(ColumnSet::present_in(row), vec![Cow::Borrowed(row)])
            }
            Operation::Copy(row) => StepKind::Upsert(ColumnSet::present_in(row), vec![Cow::Borrowed(row)]),
            Operation::Fill(row) => StepKind::Fill(ColumnSet::present_in(row), vec![Cow::Borrowed(row)]),
            Operation::Update(row) => StepKind::Update(ColumnSet::present_in(row), vec![Cow::Borrowed(row)]),
            Operation::Rekey { old, row } => StepKind::Rekey(ColumnSet::present_in(row), old, row),
            Operation::Delete(key) => StepKind::Delete(vec![key]),
            Operation::UpdateKeyless { old, new } => {
                StepKind::UpdateKeyless(ColumnSet::present_in(new), old, new)
            }
            Operation::DeleteKeyless(row) => StepKind::DeleteKeyless(row),
            Operation::Truncate => StepKind::Truncate(vec![Arc::clone(table)]),
            Operation::Clear => StepKind::Clear,
        };
        Step { table: Arc::clone(table), kind }
    }

    /// How many rows the statement must find; none where the number doesn't matter or can't be known.
    pub fn must_find(&self) -> Option<u64> {
        match &self.kind {
            StepKind::Update(_, rows) => Some(rows.len() as u64),
            StepKind::Rekey(..) | StepKind::UpdateKeyless(..) | StepKind::DeleteKeyless(_) => Some(1),
            StepKind::Insert(..)
            | StepKind::Upsert(..)
            | StepKind::Fill(..)
            | StepKind::Delete(_)
            | StepKind::Truncate(_)
            | StepKind::Clear => None,
        }
    }
}
