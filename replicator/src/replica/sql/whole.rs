//! A whole transaction of the replica as one statement.
//!
//! The server makes one transaction of a statement that comes alone, and answers once. Sent one by one, BEGIN, each statement,
//! the checkpoint and COMMIT are answered one by one, and each answer is a system call on either side. Measured with four
//! tables of a row each (pgbench's TPC-B): 110 µs of the server's CPU instead of 200.

use super::{Shape, Values, Verb, advance};
use crate::vocabulary::row::Form;
use crate::vocabulary::schema::{Table, TableName};

/// What a whole does to one table, with values that come as parameters.
#[derive(Debug, Clone, Copy)]
pub(in crate::replica) struct Part<'a> {
    table: &'a Table,
    shape: &'a Shape,
    verb: &'a Verb,
    form: Form,
}

impl<'a> Part<'a> {
    /// The same as a statement of this shape; none for what does not come as parameters.
    pub(in crate::replica) fn of(table: &'a Table, shape: &'a Shape, form: Form) -> Option<Self> {
        let (Shape::One(verb) | Shape::OneChecked(verb) | Shape::Arrays(verb) | Shape::ArraysChecked(verb)) =
            shape
        else {
            return None;
        };
        Some(Part { table, shape, verb, form })
    }

    /// What its statement is cached under.
    pub(in crate::replica) fn key(&self) -> (TableName, Shape, Form) {
        (self.table.name.clone(), self.shape.clone(), self.form)
    }

    /// Its statement, whose parameters come behind `before` others.
    pub(super) fn sql(&self, before: usize) -> String {
        let columns = self.verb.columns(self.table);
        let values = if self.shape.takes_arrays() {
            Values::Arrays(&columns, self.form, before)
        } else {
            Values::One(&columns, self.form, before)
        };
        self.verb.sql(self.table, values)
    }

    /// How many rows it must touch, in SQL; none where the number does not matter.
    pub(super) fn must_touch(&self, before: usize) -> Option<String> {
        match self.shape {
            Shape::OneChecked(_) => Some("1".to_owned()),
            Shape::ArraysChecked(_) => Some(format!("cardinality(${})", before + 1)),
            _ => None,
        }
    }

    /// Whether both may be parts of one whole. Its parts all see the tables as they were before it, so no two may touch the same
    /// row.
    pub(in crate::replica) fn goes_with(&self, other: &Part<'_>) -> bool {
        let by_key = matches!(self.verb, Verb::Insert(_) | Verb::Upsert(_) | Verb::Update(_) | Verb::Delete);
        self.table.name != other.table.name || (by_key && self.verb == other.verb)
    }
}

/// The statement. Its parameters are the parts' in their order, then the checkpoint's.
///
/// The server runs a part when the rows that it returns are counted, so in their order, and the checkpoint after them.
pub(in crate::replica) fn whole(parts: &[Part<'_>]) -> String {
    let (mut with, mut select) = (Vec::new(), Vec::new());
    let mut before = 0;
    for (n, part) in parts.iter().enumerate() {
        with.push(format!("part_{n} AS ({} RETURNING 1)", part.sql(before)));
        let touched = format!("(SELECT count(*) FROM part_{n})");
        select.push(match part.must_touch(before) {
            Some(rows) => {
                format!("CASE WHEN {touched} <> {rows} THEN replicator.expect({rows}, {touched}) END")
            }
            None => touched,
        });
        before += part.verb.parameters(part.table);
    }
    format!("WITH {} SELECT {}, {}", with.join(", "), select.join(", "), advance(before + 1))
}
