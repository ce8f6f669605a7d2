//! A group that does not go through as a whole.
//!
//! Tables don't have to wait for each other, so those to blame stand apart from those that go through folded. The changes of
//! one that stands apart are halved: any cut leaves the same rows, so what goes through on the way is done. Few changes are
//! tried in source order as one pipeline, which is enough where folding itself met a constraint half-way. What is left are
//! records that the replica refuses, one by one, and the policy says what happens to them. Changes of rows that are in the
//! quarantine follow them there.

use std::ops::Range;

use super::one_by_one::RowWas;
use super::{Applier, Outcome, Refused};
use crate::plan::{Step, StepKind, plan, plan_in_source_order};
use crate::replica::quarantine::Why;
use crate::replica::schema_change::Cause;
use crate::replica::{Disposition, ReplicaError};
use crate::vocabulary::change::{Change, Operation};
use crate::vocabulary::schema::TableName;

/// So few changes are tried in source order when folding them has failed. Each costs the server what five to ten folded ones
/// do (see [`Cutoffs`](super::Cutoffs)), and is done only once, while a folded piece that fails is done again as two.
const IN_ORDER: usize = 256;
/// So few changes are tried one by one at once: halving them further takes as many statements.
const ONE_BY_ONE: usize = 8;

/// A change that went to the quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Its id there.
    pub(super) id: i64,
    /// Its place among the changes that were to be applied.
    pub(super) index: usize,
}

impl Applier {
    /// Whether some of the changes can't be applied without looking at the quarantine.
    pub(super) fn meets_quarantine(&self, changes: &[&Change]) -> bool {
        let quarantine = &self.quarantine;
        !quarantine.is_empty() && changes.iter().any(|c| quarantine.holds(c) || quarantine.is_settled_by(c))
    }

    /// Applies changes within the open transaction, of which some may fail: those end in the quarantine, or fail it. `blamed`
    /// is the table at which they failed as a whole.
    ///
    /// # Errors
    /// The failure of the record that is to blame, unless the policy is to keep it.
    pub(super) async fn recover(
        &mut self,
        changes: &[&Change],
        blamed: Option<TableName>,
    ) -> Result<Outcome, ReplicaError> {
        let mut apart: Vec<TableName> = blamed.into_iter().collect();
        for change in changes {
            let name = &change.table.name;
            // Truncates may be one statement for several tables.
            if change.operation == Operation::Truncate {
                return self.halve(changes).await;
            }
            if self.quarantine.concerns(name) && !apart.contains(name) {
                apart.push(name.clone());
            }
        }
        loop {
            let stays = |change: &&Change| !apart.contains(&change.table.name);
            let together: Vec<&Change> = changes.iter().copied().filter(stays).collect();
            match self.run_piece(&together, &plan(&together)).await? {
                Ok(()) => break,
                Err(Some(table)) => apart.push(table),
                Err(None) => return self.halve(changes).await,
            }
        }
        let mut outcome = Outcome { in_source_order: true, ..Outcome::default() };
        for name in &apart {
            let (indices, of_table): (Vec<usize>, Vec<&Change>) =
                changes.iter().copied().enumerate().filter(|(_, change)| change.table.name == *name).unzip();
            let halved = self.halve(&of_table).await?;
            outcome.inserted_for_missing += halved.inserted_for_missing;
            outcome.fetched_for_missing += halved.fetched_for_missing;
            outcome.kept.extend(halved.kept.iter().map(|kept| Kept { index: indices[kept.index], ..*kept }));
        }
        Ok(outcome)
    }

    /// Applies changes within the open transaction in pieces that go through.
    async fn halve(&mut self, changes: &[&Change]) -> Result<Outcome, ReplicaError> {
        let mut outcome = Outcome { in_source_order: true, ..Outcome::default() };
        // The last is next in source order.
        let mut ahead: Vec<Range<usize>> = Vec::from([Range { start: 0, end: changes.len() }]);
        while let Some(range) = ahead.pop() {
            let run = &changes[range.clone()];
            match self.first_in_quarantine(run) {
                Some(0) | None if run.len() <= ONE_BY_ONE || is_truncate(run) => {
                    self.run_each(changes, range, &mut outcome).await?;
                }
                Some(0) => {
                    let end = range.start + leading_truncates(run).max(1);
                    ahead.push(end..range.end);
                    self.run_each(changes, range.start..end, &mut outcome).await?;
                }
                Some(first) => {
                    ahead.push(range.start + first..range.end);
                    ahead.push(range.start..range.start + first);
                }
                None if self.goes_through(run).await? => {}
                None => {
                    let middle = range.start + cut(run);
                    ahead.push(middle..range.end);
                    ahead.push(range.start..middle);
                }
            }
        }
        Ok(outcome)
    }

    /// Whether a piece was applied, folded or, when it is small, in source order; else nothing of it was.
    async fn goes_through(&mut self, run: &[&Change]) -> Result<bool, ReplicaError> {
        if self.run_piece(run, &plan(run)).await?.is_ok() {
            return Ok(true);
        }
        if run.len() > IN_ORDER {
            return Ok(false);
        }
        let steps: Vec<Step<'_>> = plan_in_source_order(run).into_iter().map(|(_, step)| step).collect();
        Ok(self.run_piece(run, &steps).await?.is_ok())
    }

    /// Where the first change stands that the quarantine concerns; for truncates the first of their statement.
    fn first_in_quarantine(&self, run: &[&Change]) -> Option<usize> {
        let quarantine = &self.quarantine;
        let first = run.iter().position(|c| quarantine.holds(c) || quarantine.is_settled_by(c))?;
        let truncates = run[..=first].iter().rev().take_while(|c| c.operation == Operation::Truncate).count();
        Some(first + 1 - truncates.max(1))
    }

    /// Runs changes folded behind a savepoint that `first` sets, to which the caller goes back when that fails.
    ///
    /// # Errors
    /// When a statement fails or finds other rows than it names.
    pub(super) async fn run_folded(&mut self, first: &str, changes: &[&Change]) -> Result<(), Refused> {
        self.run_steps(first, &plan(changes), changes).await
    }

    async fn run_steps(
        &mut self,
        first: &str,
        steps: &[Step<'_>],
        changes: &[&Change],
    ) -> Result<(), Refused> {
        let requests = self.prepare(self.wanted(steps)).await?;
        self.run(first, &requests, &[], changes).await
    }

    /// Runs a piece within the open transaction. The inner result is a failure of the data, with the table where it is known,
    /// which leaves the transaction as it was.
    async fn run_piece(
        &mut self,
        changes: &[&Change],
        steps: &[Step<'_>],
    ) -> Result<Result<(), Option<TableName>>, ReplicaError> {
        let ran = self.run_steps("SAVEPOINT piece", steps, changes).await;
        let ended = self.end_savepoint("piece", ran, &[Disposition::Data]).await?;
        Ok(ended.map_err(|Refused { error, table }| {
            tracing::debug!(%error, changes = changes.len(), "a piece does not go through");
            table
        }))
    }

    /// Releases a savepoint, or goes back to it: after a failure of these kinds, which is the inner result, the transaction is
    /// as it was.
    ///
    /// # Errors
    /// Every other failure; the transaction is lost with it.
    async fn end_savepoint<T>(
        &self,
        name: &str,
        ran: Result<T, Refused>,
        survived: &[Disposition],
    ) -> Result<Result<T, Refused>, ReplicaError> {
        let release = format!("RELEASE SAVEPOINT {name}");
        match &ran {
            Ok(_) => self.execute(&release, "release the savepoint").await?,
            Err(refused) if survived.contains(&refused.error.disposition()) => {
                let back = format!("ROLLBACK TO SAVEPOINT {name}; {release}");
                self.execute(&back, "go back to the savepoint").await?;
            }
            Err(_) => return ran.map(Ok).map_err(|refused| refused.error),
        }
        Ok(ran)
    }

    /// One statement per change, each awaited, so that a failure names its record.
    async fn run_each(
        &mut self,
        changes: &[&Change],
        range: Range<usize>,
        outcome: &mut Outcome,
    ) -> Result<(), ReplicaError> {
        let mut index = range.start;
        for (change, step) in plan_in_source_order(&changes[range]) {
            let why = if self.quarantine.holds(change) {
                Err(None)
            } else {
                self.try_one(change, &step).await?.map_err(Some)
            };
            match why {
                Ok(RowWas::There) => {}
                Ok(RowWas::Inserted) => outcome.inserted_for_missing += 1,
                Ok(RowWas::Fetched) => outcome.fetched_for_missing += 1,
                Err(refused) => {
                    let why = refused.as_ref().map_or(Why::Follows, Why::Refused);
                    let id = self.quarantine.keep(&self.session, change, &self.names, why).await?;
                    outcome.kept.push(Kept { id, index });
                }
            }
            self.settle(&step).await?;
            // A run of truncates is one step.
            index += if let StepKind::Truncate(tables) = &step.kind { tables.len() } else { 1 };
        }
        Ok(())
    }

    /// Runs one change within the open transaction. The inner result is a failure of the data or of its table, which leaves the
    /// transaction as it was: others may go through.
    ///
    /// # Errors
    /// Every other failure; the transaction is lost with it.
    pub(crate) async fn run_alone(
        &mut self,
        change: &Change,
    ) -> Result<Result<RowWas, ReplicaError>, ReplicaError> {
        let step = Step::of_one(&change.table, &change.operation);
        self.run_behind_savepoint(change, &step, &[Disposition::Data, Disposition::Schema]).await
    }

    async fn run_behind_savepoint(
        &mut self,
        change: &Change,
        step: &Step<'_>,
        survived: &[Disposition],
    ) -> Result<Result<RowWas, ReplicaError>, ReplicaError> {
        self.execute("SAVEPOINT one", "set a savepoint").await?;
        let ran = self.run_change(change, step).await.map_err(Refused::from);
        Ok(self.end_savepoint("one", ran, survived).await?.map_err(|refused| refused.error))
    }

    /// Runs one change. The inner result is a failure that the quarantine takes; then nothing of the change has happened.
    async fn try_one(
        &mut self,
        change: &Change,
        step: &Step<'_>,
    ) -> Result<Result<RowWas, ReplicaError>, ReplicaError> {
        if !self.quarantine.keeps_data() {
            return self.run_change(change, step).await.map(Ok);
        }
        match self.run_behind_savepoint(change, step, &[Disposition::Data]).await? {
            Err(error) if self.may_be_of_schema(&error) => Err(error),
            tried => Ok(tried),
        }
    }

    /// Whether the leader's schema may explain a refusal: then it is followed first.
    fn may_be_of_schema(&self, error: &ReplicaError) -> bool {
        let cause = Cause::of_replica(error);
        self.fetcher.is_some() && cause.is_some_and(|cause| !self.followed.contains(&cause))
    }

    /// Tables that were emptied have nothing to make up for.
    async fn settle(&mut self, step: &Step<'_>) -> Result<(), ReplicaError> {
        let emptied = match &step.kind {
            StepKind::Truncate(tables) => tables.as_slice(),
            StepKind::Clear => std::slice::from_ref(&step.table),
            _ => return Ok(()),
        };
        for table in emptied {
            if self.quarantine.concerns(&table.name) {
                let changes = self.quarantine.settle(&self.session, &table.name).await?;
                tracing::info!(table = %table.name, changes, "emptied by the leader; its quarantine is settled");
            }
        }
        Ok(())
    }
}

fn leading_truncates(run: &[&Change]) -> usize {
    run.iter().take_while(|c| c.operation == Operation::Truncate).count()
}

/// Whether the run is one statement, which can't be cut: tables that refer to each other are emptied together.
fn is_truncate(run: &[&Change]) -> bool {
    leading_truncates(run) == run.len()
}

/// Where to cut a run of several statements: in the middle, but not between truncates.
fn cut(run: &[&Change]) -> usize {
    let is_between =
        |at: usize| run[at - 1].operation == Operation::Truncate && run[at].operation == Operation::Truncate;
    let middle = run.len() / 2;
    let after = (middle..run.len()).find(|&at| !is_between(at));
    after.or_else(|| (1..middle).rev().find(|&at| !is_between(at))).unwrap_or(middle)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::vocabulary::offset::{PartitionIndex, Place};
    use crate::vocabulary::row::{Key, RowBuilder};
    use crate::vocabulary::schema::{Table, TableName};

    #[test]
    fn truncates_that_follow_each_other_are_never_cut_apart() {
        let table = Arc::new(Table::new(TableName::new("public", "t"), vec![], vec![]));
        let change = |truncate: bool| Change {
            table: Arc::clone(&table),
            operation: if truncate {
                Operation::Truncate
            } else {
                Operation::Delete(Key(RowBuilder::new(0).finish()))
            },
            place: Place { partition: PartitionIndex(0), offset: 0 },
        };
        let of = |pattern: &str| -> usize {
            let changes: Vec<Change> = pattern.chars().map(|c| change(c == 't')).collect();
            cut(&changes.iter().collect::<Vec<_>>())
        };
        assert_eq!(of("dddd"), 2);
        assert_eq!(of("dttttd"), 5);
        assert_eq!(of("dttttt"), 1);
        assert_eq!(of("tttttd"), 5);
        assert_eq!(of("ddtd"), 2);
    }
}
