//! A group of whole transactions into few statements that leave the same rows.
//!
//! A group commits as one target transaction, so what matters is the state at its end. Per key the changes are folded
//! into one (`coalesce`), and equal operations on equal columns become one [`Step`], whatever order they came in.
//! Where order does matter it is kept: a truncate or a change of key is a barrier, and rows without a key are never
//! reordered.
//!
//! Tables don't have to wait for each other: foreign keys and triggers are silent on a replica, as in PostgreSQL's own
//! logical replication. The one exception is truncating tables that refer to each other, which has to be one statement.

mod coalesce;
mod key;
mod step;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use coalesce::Pending;
pub use step::{ColumnSet, Step, StepKind};

use crate::vocabulary::change::{Change, Operation};
use crate::vocabulary::schema::Table;

/// Folds the changes, whose values have one form, as those of a lane do, and batches what is left.
pub fn plan<'a>(changes: &[&'a Change]) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    let mut pending: Vec<(Arc<Table>, Pending<'_>)> = Vec::new();
    let mut rest = changes;
    while let Some((change, tail)) = rest.split_first() {
        if change.operation == Operation::Truncate {
            let run = rest.iter().take_while(|c| c.operation == Operation::Truncate).count();
            truncate(&rest[..run], &mut pending, &mut steps);
            rest = &rest[run..];
            continue;
        }
        let position = pending.iter().position(|(table, _)| Arc::ptr_eq(table, &change.table));
        let position = position.unwrap_or_else(|| {
            pending.push((Arc::clone(&change.table), Pending::default()));
            pending.len() - 1
        });
        pending[position].1.add(change, &mut steps);
        rest = tail;
    }
    for (table, of_table) in &mut pending {
        of_table.flush(table, &mut steps);
    }
    steps
}

/// One step per change, in source order: slow, and right where folding would meet a constraint half-way, such as two
/// rows that swap a unique value through a third.
pub fn plan_in_source_order<'a>(changes: &[&'a Change]) -> Vec<(&'a Change, Step<'a>)> {
    let mut steps: Vec<(&Change, Step<'_>)> = Vec::new();
    for &change in changes {
        if change.operation == Operation::Truncate
            && let Some((_, Step { kind: StepKind::Truncate(also), .. })) = steps.last_mut()
        {
            also.push(Arc::clone(&change.table));
            continue;
        }
        steps.push((change, Step::of_one(&change.table, &change.operation)));
    }
    steps
}

/// A run of truncates: what was pending for their tables need not happen, everything else is flushed before.
fn truncate<'a>(run: &[&Change], pending: &mut Vec<(Arc<Table>, Pending<'a>)>, steps: &mut Vec<Step<'a>>) {
    let emptied: Vec<Arc<Table>> = run.iter().map(|c| Arc::clone(&c.table)).collect();
    for (table, mut of_table) in pending.drain(..) {
        if !emptied.contains(&table) {
            of_table.flush(&table, steps);
        }
    }
    steps.push(Step { table: Arc::clone(&emptied[0]), kind: StepKind::Truncate(emptied) });
}

/// Borrowed where a change went through as it came, owned where several were merged.
type Merged<'a, T> = Cow<'a, T>;
