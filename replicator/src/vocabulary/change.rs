//! What happened to a row or a table.

use std::sync::Arc;

use super::offset::Place;
use super::row::{Key, Row};
use super::schema::Table;

/// One change of the leader, decoded for a replica.
#[derive(Debug, Clone)]
pub struct Change {
    /// The table it belongs to, as the replica has it.
    pub table: Arc<Table>,
    /// What happened.
    pub operation: Operation,
    /// The record it came from.
    pub place: Place,
}

/// What a change does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A new row.
    Insert(Row),
    /// A row of a snapshot: present on the leader when the copy was taken, perhaps present here already.
    Copy(Row),
    /// A row of a snapshot that is perhaps older than the row here: it is to be here if none is.
    Fill(Row),
    /// New values for the row of this key; columns that the event does not carry are absent.
    Update(Row),
    /// The row with the old key gets these values, its key among them. Absent columns keep what the old row has.
    Rekey {
        /// The key before.
        old: Key,
        /// The values after.
        row: Row,
    },
    /// The row with this key is gone.
    Delete(Key),
    /// A row of a table without a key, found by all its old values.
    UpdateKeyless {
        /// All values before (`REPLICA IDENTITY FULL`).
        old: Row,
        /// All values after.
        new: Row,
    },
    /// One row with exactly these values is gone; the table has no key.
    DeleteKeyless(Row),
    /// The table is emptied.
    Truncate,
    /// A new copy of this table begins: rows of an earlier one go. Unlike a truncate it leaves tables alone that refer to
    /// this one, whose copies may be complete already.
    Clear,
}

impl Operation {
    /// The word for metrics and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Insert(_) => "insert",
            Operation::Copy(_) => "copy",
            Operation::Fill(_) => "fill",
            Operation::Update(_) | Operation::UpdateKeyless { .. } => "update",
            Operation::Rekey { .. } => "rekey",
            Operation::Delete(_) | Operation::DeleteKeyless(_) => "delete",
            Operation::Truncate => "truncate",
            Operation::Clear => "clear",
        }
    }
}

impl Change {
    /// Bytes held, roughly; for limits.
    pub fn size_bytes(&self) -> usize {
        size_of::<Change>()
            + match &self.operation {
                Operation::Insert(row)
                | Operation::Copy(row)
                | Operation::Fill(row)
                | Operation::Update(row) => row.size_bytes(),
                Operation::Rekey { old, row } => old.0.size_bytes() + row.size_bytes(),
                Operation::Delete(key) => key.0.size_bytes(),
                Operation::UpdateKeyless { old, new } => old.size_bytes() + new.size_bytes(),
                Operation::DeleteKeyless(row) => row.size_bytes(),
                Operation::Truncate | Operation::Clear => 0,
            }
    }
}
