//! A whole transaction of the replica as one statement.
//!
//! The server makes one transaction of a statement that comes alone, and answers once. Sent one by one, BEGIN, each statement,
//! the checkpoint and COMMIT are answered one by one, and each answer is a system call on either side. Measured with four
//! tables of a row each (pgbench's TPC-B): 110 µs of the server's CPU instead of 200.

use super::{Shape, Values, Verb, advance};
use crate::vocabulary::row::Form;
use crate::vocabulary::schema::Table;

/// What a whole does to one table.
#[derive(Debug, Clone, Copy)]
pub(in crate::replica) struct Part<'a> {
    table: &'a Table,
    verb: &'a Verb,
    /// Whether its parameters are arrays with an element per row.
    arrays: bool,
    /// Whether it has to touch as many rows as it is given.
    checked: bool,
    form: Form,
}

impl<'a> Part<'a> {
    /// The same as a statement of this shape; none for what does not come as parameters.
    pub(in crate::replica) fn of(table: &'a Table, shape: &'a Shape, form: Form) -> Option<Self> {
        let (verb, arrays, checked) = match shape {
            Shape::One(verb) => (verb, false, false),
            Shape::OneChecked(verb) => (verb, false, true),
            Shape::Arrays(verb) => (verb, true, false),
            Shape::ArraysChecked(verb) => (verb, true, true),
            Shape::Copy(_) | Shape::FillStage(_) | Shape::Staged(_) => return None,
        };
        Some(Part { table, verb, arrays, checked, form })
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
        let columns = part.verb.columns(part.table);
        let values = if part.arrays {
            Values::Arrays(&columns, part.form, before)
        } else {
            Values::One(&columns, part.form, before)
        };
        let (sql, parameters) = part.verb.sql(part.table, values);
        with.push(format!("part_{n} AS ({sql} RETURNING 1)"));
        let touched = format!("(SELECT count(*) FROM part_{n})");
        select.push(if part.checked {
            let rows = if part.arrays { format!("cardinality(${})", before + 1) } else { "1".to_owned() };
            format!("CASE WHEN {touched} <> {rows} THEN replicator.expect({rows}, {touched}) END")
        } else {
            touched
        });
        before += parameters;
    }
    format!("WITH {} SELECT {}, {}", with.join(", "), select.join(", "), advance(before + 1))
}
