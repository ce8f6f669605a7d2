//! One change alone: slow, and exact about which record a failure belongs to.

use std::borrow::Cow;
use std::sync::Arc;

use super::Applier;
use super::pipeline::Ready;
use super::technique::alone;
use crate::plan::{ColumnSet, Step, StepKind};
use crate::replica::ReplicaError;
use crate::vocabulary::change::{Change, Operation};
use crate::vocabulary::row::Row;

/// Where the row was that a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowWas {
    /// On the replica, or it was not needed.
    There,
    /// Missing, and inserted whole from the event.
    Inserted,
    /// Missing, and completed from the leader, if the leader still had it.
    Fetched,
}

impl Applier {
    /// Runs the step of one change and makes up for a row that is missing, if that can be done.
    pub(super) async fn run_change(
        &mut self,
        change: &Change,
        step: &Step<'_>,
    ) -> Result<RowWas, ReplicaError> {
        let found = self.run_one(change, step).await?;
        if step.must_find().is_none_or(|expected| found == expected) {
            return Ok(RowWas::There);
        }
        match &change.operation {
            // Everything is known, so the row can be made; the leader has it.
            Operation::Update(row) if row.is_complete(&change.table) => {
                self.insert_missing(change, row).await?;
                Ok(RowWas::Inserted)
            }
            Operation::Update(row) | Operation::Rekey { row, .. } => {
                let Some(fetcher) = &mut self.fetcher else { return Err(missing_row(change)) };
                if let Some(whole) = fetcher.complete(&change.table, row).await? {
                    self.insert_missing(change, &whole).await?;
                }
                Ok(RowWas::Fetched)
            }
            _ => Err(missing_row(change)),
        }
    }

    async fn insert_missing(&mut self, change: &Change, row: &Row) -> Result<(), ReplicaError> {
        let kind = StepKind::Insert(ColumnSet::present_in(row), vec![Cow::Borrowed(row)]);
        let insert = Step { table: Arc::clone(&change.table), kind };
        self.run_one(change, &insert).await.map(drop)
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
