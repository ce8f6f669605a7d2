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

    /// Whether both may be parts of one whole. Its parts all see the tables as they were before it, and the server runs them in
    /// the order that it likes: so no two may touch the same row, nor need each other's place in a unique index.
    pub(in crate::replica) fn goes_with(&self, other: &Part<'_>) -> bool {
        let by_key = matches!(self.verb, Verb::Insert(_) | Verb::Upsert(_) | Verb::Update(_) | Verb::Delete);
        self.table.name != other.table.name || (by_key && self.verb == other.verb)
    }
}

/// The statement. Its parameters are the parts' in their order, then the checkpoint's.
pub(in crate::replica) fn whole(parts: &[Part<'_>]) -> String {
    let (mut with, mut expected, mut touched) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = 0;
    for (n, part) in parts.iter().enumerate() {
        let columns = part.verb.columns(part.table);
        let values = if part.arrays {
            Values::Arrays(&columns, part.form, before)
        } else {
            Values::One(&columns, part.form, before)
        };
        let (sql, parameters) = part.verb.sql(part.table, values, part.form);
        if part.checked {
            let rows = if part.arrays { format!("cardinality(${})", before + 1) } else { "1".to_owned() };
            expected.push(rows);
            touched.push(format!("(SELECT count(*) FROM part_{n})"));
            with.push(format!("part_{n} AS ({sql} RETURNING 1)"));
        } else {
            with.push(format!("part_{n} AS ({sql})"));
        }
        before += parameters;
    }
    let with = if with.is_empty() { String::new() } else { format!("WITH {} ", with.join(", ")) };
    // None can touch more rows than it is given, so that the sums tell what each one would.
    let expect = if expected.is_empty() {
        String::new()
    } else {
        format!("replicator.expect({}, {}), ", expected.join(" + "), touched.join(" + "))
    };
    format!("{with}SELECT {expect}{}", advance(before + 1))
}
