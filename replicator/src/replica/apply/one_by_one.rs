//! Changes one by one in source order: slow, and exact about which record a failure belongs to.

use std::borrow::Cow;
use std::sync::Arc;

use super::pipeline::Ready;
use super::technique::alone;
use super::{Applier, Outcome};
use crate::plan::{ColumnSet, Step, StepKind, plan_in_source_order};
use crate::replica::ReplicaError;
use crate::vocabulary::change::{Change, Operation};

impl Applier {
    /// One statement per change, each awaited, so that a failure names its record.
    pub(super) async fn run_in_source_order(&mut self, changes: &[&Change]) -> Result<Outcome, ReplicaError> {
        let mut outcome = Outcome { in_source_order: true, ..Outcome::default() };
        for (change, step) in plan_in_source_order(changes) {
            let found = self.run_one(change, &step).await?;
            let Some(expected) = step.must_find() else { continue };
            if found == expected {
                continue;
            }
            match &change.operation {
                // Everything is known, so the row can be made; the leader has it.
                Operation::Update(row) if row.is_complete(&change.table) => {
                    let columns = ColumnSet::present_in(row);
                    let kind = StepKind::Insert(columns, vec![Cow::Borrowed(row)]);
                    let insert = Step { table: Arc::clone(&change.table), kind };
                    self.run_one(change, &insert).await?;
                    outcome.inserted_for_missing += 1;
                }
                _ => return Err(missing_row(change)),
            }
        }
        Ok(outcome)
    }

    async fn run_one(&mut self, change: &Change, step: &Step<'_>) -> Result<u64, ReplicaError> {
        let ready = Ready::new(&mut self.session, alone(step)).await?;
        ready.send(&self.session).await.map_err(|error| match error {
            ReplicaError::Postgres { source, .. } => ReplicaError::Change {
                place: change.place,
                operation: change.operation.name(),
                table: change.table.full_name.to_string(),
                source,
            },
            other => other,
        })
    }
}

/// The error for a change whose row is not there.
pub(super) fn missing_row(change: &Change) -> ReplicaError {
    let table = &change.table;
    let key = if table.has_key() { format!("this {}", table.key_names()) } else { "these values".to_owned() };
    ReplicaError::MissingRow {
        place: change.place,
        operation: change.operation.name(),
        table: table.full_name.to_string(),
        key,
    }
}
