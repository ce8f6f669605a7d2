//! Parcels into a replica: rows and checkpoint, one target transaction per group of source transactions.

mod one_by_one;
mod pipeline;

use std::sync::Arc;

use self::one_by_one::missing_row;
use self::pipeline::{Answer, in_order, run, simple};
use super::ReplicaError;
use super::checkpoint::{Advance, CheckpointWriter};
use super::session::Session;
use crate::plan::{Step, plan};
use crate::vocabulary::change::Change;
use crate::vocabulary::offset::PartitionNames;
use crate::vocabulary::parcel::{CommitPoint, Committed, Parcel, ParcelEnd, ReplicaPhase};

/// What was committed: the proof that progress may be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The last source transaction; none when only snapshot rows were committed.
    pub last: Option<Committed>,
    /// Whether the replica's tables agree now.
    pub phase: ReplicaPhase,
    /// Source transactions in the group.
    pub transactions: u64,
    /// Changes in the group, before folding.
    pub changes: u64,
    /// Updates that found no row and inserted it.
    pub inserted_for_missing: u64,
    /// Whether the group had to be applied change by change.
    pub in_source_order: bool,
}

/// Applies to one replica through one session.
#[derive(Debug)]
pub struct Applier {
    session: Session,
    checkpoint: CheckpointWriter,
    names: PartitionNames,
    /// The part of a large transaction that is written and not committed; none between transactions.
    open: Option<OpenTransaction>,
}

#[derive(Debug, Default)]
struct OpenTransaction {
    changes: usize,
    inserted_for_missing: u64,
    in_source_order: bool,
}

/// How a run of changes went.
#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    inserted_for_missing: u64,
    in_source_order: bool,
}

impl Applier {
    /// An applier that writes with this session and checkpoint.
    pub fn new(session: Session, checkpoint: CheckpointWriter, names: PartitionNames) -> Self {
        Applier { session, checkpoint, names, open: None }
    }

    /// Another lane took over, which numbers partitions in its own way.
    pub fn renumber(&mut self, names: PartitionNames) {
        self.names = names;
    }

    /// Whether a large transaction has been begun and not ended.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Applies parcels that all end with a commit point, as one target transaction.
    ///
    /// # Errors
    /// When nothing was committed; after [`ReplicaError::disposition`] `Retry` the outcome of the commit itself may be
    /// unknown, and the checkpoint has to be read again.
    pub async fn apply(&mut self, parcels: &[&Parcel]) -> Result<Applied, ReplicaError> {
        debug_assert!(self.open.is_none(), "groups don't join open transactions");
        let changes: Vec<&Change> = parcels.iter().flat_map(|p| &p.changes).collect();
        let mut advance = Advance::default();
        let mut applied = Applied::nothing();
        for parcel in parcels {
            if let ParcelEnd::Commit(point) = &parcel.end {
                advance.add(point, parcel.changes.len(), &self.names);
                applied.add(point, parcel.changes.len());
            }
        }
        match self.apply_folded(&changes, &advance).await {
            Ok(()) => Ok(applied),
            Err(error) if error.may_be_due_to_folding() => {
                tracing::debug!(error = %error, changes = changes.len(), "applying in source order");
                self.execute("ROLLBACK", "roll back").await?;
                self.execute("BEGIN", "begin").await?;
                let outcome = self.run_in_source_order(&changes).await?;
                self.commit(&advance).await?;
                Ok(applied.with(outcome))
            }
            Err(error) => Err(error),
        }
    }

    /// The whole group in one round trip, or two when rows have to be counted before the commit.
    async fn apply_folded(&mut self, changes: &[&Change], advance: &Advance) -> Result<(), ReplicaError> {
        let steps = plan(changes);
        self.prepare(&steps).await?;
        let counted = steps.iter().any(|s| s.must_find().is_some());
        let pipelined_commit = !counted && advance.is_one_statement();
        let session = &self.session;
        let checkpoint = &self.checkpoint;
        let mut sent: Vec<Answer<'_>> = vec![Box::pin(simple(session, "BEGIN"))];
        sent.extend(steps.iter().map(|step| -> Answer<'_> { Box::pin(run(session, step)) }));
        sent.push(Box::pin(async move { checkpoint.write(session, advance).await.map(|()| 0) }));
        if pipelined_commit {
            sent.push(Box::pin(simple(session, "COMMIT")));
        }
        let answers =
            in_order(sent).await.map_err(|source| ReplicaError::Postgres { action: "apply", source })?;
        // The first answer is BEGIN's.
        for (step, found) in steps.iter().zip(&answers[1..]) {
            check_found(step, *found, changes)?;
        }
        if !pipelined_commit {
            self.execute("COMMIT", "commit").await?;
        }
        Ok(())
    }

    /// Writes a part of a large transaction into an open target transaction.
    ///
    /// # Errors
    /// As [`Applier::apply`]; the open transaction is lost with it.
    pub async fn apply_part(&mut self, parcel: &Parcel) -> Result<(), ReplicaError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                self.execute("BEGIN", "begin").await?;
                OpenTransaction::default()
            }
        };
        let changes: Vec<&Change> = parcel.changes.iter().collect();
        let outcome = self.run_part(&changes).await?;
        open.changes += changes.len();
        open.inserted_for_missing += outcome.inserted_for_missing;
        open.in_source_order |= outcome.in_source_order;
        self.open = Some(open);
        Ok(())
    }

    /// Commits the open transaction at `point`; the changes before it have been written with [`Applier::apply_part`].
    ///
    /// # Errors
    /// As [`Applier::apply`].
    pub async fn commit_open(&mut self, point: &CommitPoint) -> Result<Applied, ReplicaError> {
        let open = self.open.take().unwrap_or_default();
        let mut advance = Advance::default();
        advance.add(point, open.changes, &self.names);
        self.commit(&advance).await?;
        let mut applied = Applied::nothing();
        applied.add(point, open.changes);
        Ok(applied.with(Outcome {
            inserted_for_missing: open.inserted_for_missing,
            in_source_order: open.in_source_order,
        }))
    }

    /// Gives the open transaction up.
    ///
    /// # Errors
    /// When the replica can't be reached; then the server has given it up, too.
    pub async fn discard_open(&mut self) -> Result<(), ReplicaError> {
        match self.open.take() {
            Some(_) => self.execute("ROLLBACK", "roll back").await,
            None => Ok(()),
        }
    }

    /// Runs changes folded, behind a savepoint to which it goes back to run them one by one when folding fails.
    async fn run_part(&mut self, changes: &[&Change]) -> Result<Outcome, ReplicaError> {
        let steps = plan(changes);
        self.prepare(&steps).await?;
        let session = &self.session;
        let mut sent: Vec<Answer<'_>> = vec![Box::pin(simple(session, "SAVEPOINT part"))];
        sent.extend(steps.iter().map(|step| -> Answer<'_> { Box::pin(run(session, step)) }));
        let folded = match in_order(sent).await {
            Ok(answers) => {
                let mut found = steps.iter().zip(&answers[1..]);
                found.try_for_each(|(step, found)| check_found(step, *found, changes))
            }
            Err(source) => Err(ReplicaError::Postgres { action: "apply", source }),
        };
        match folded {
            Ok(()) => {
                self.execute("RELEASE SAVEPOINT part", "release the savepoint").await?;
                Ok(Outcome::default())
            }
            Err(error) if error.may_be_due_to_folding() => {
                self.execute("ROLLBACK TO SAVEPOINT part", "go back to the savepoint").await?;
                self.run_in_source_order(changes).await
            }
            Err(error) => Err(error),
        }
    }

    async fn prepare(&mut self, steps: &[Step<'_>]) -> Result<(), ReplicaError> {
        for step in steps {
            self.session.prepare(step).await?;
        }
        Ok(())
    }

    async fn commit(&self, advance: &Advance) -> Result<(), ReplicaError> {
        let failed = |source| ReplicaError::Postgres { action: "write the checkpoint", source };
        self.checkpoint.write(&self.session, advance).await.map_err(failed)?;
        self.execute("COMMIT", "commit").await
    }

    async fn execute(&self, sql: &'static str, action: &'static str) -> Result<(), ReplicaError> {
        let answer = simple(&self.session, sql).await;
        answer.map(|_| ()).map_err(|source| ReplicaError::Postgres { action, source })
    }
}

impl Applied {
    fn nothing() -> Self {
        Applied {
            last: None,
            phase: ReplicaPhase::Empty,
            transactions: 0,
            changes: 0,
            inserted_for_missing: 0,
            in_source_order: false,
        }
    }

    fn add(&mut self, point: &CommitPoint, changes: usize) {
        self.phase = point.state;
        self.last = point.transaction.or(self.last);
        self.transactions += u64::from(point.transaction.is_some());
        self.changes += changes as u64;
    }

    fn with(self, outcome: Outcome) -> Self {
        let Outcome { inserted_for_missing, in_source_order } = outcome;
        Applied { inserted_for_missing, in_source_order, ..self }
    }
}

/// A statement that found fewer rows than it names has not done what the leader did.
fn check_found(step: &Step<'_>, found: u64, changes: &[&Change]) -> Result<(), ReplicaError> {
    match step.must_find() {
        Some(expected) if expected != found => {
            let first = changes.iter().find(|c| Arc::ptr_eq(&c.table, &step.table));
            Err(first.map_or_else(
                || ReplicaError::Contract("a plan for a table without changes".to_owned()),
                |change| missing_row(change),
            ))
        }
        _ => Ok(()),
    }
}
