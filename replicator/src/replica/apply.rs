//! Parcels into a replica: rows and checkpoint, one target transaction per group of source transactions.

mod copy;
mod one_by_one;
mod open;
mod pipeline;
mod recover;
mod technique;

use std::sync::Arc;

use self::one_by_one::missing_row;
use self::open::OpenTransaction;
use self::pipeline::{Answer, Ready, in_order, send_whole, simple, whole};
use self::recover::Kept;
pub use self::technique::Cutoffs;
use self::technique::{Request, requests};
use super::ReplicaError;
use super::checkpoint::{Advance, CheckpointWriter};
use super::fetch::RowFetcher;
use super::quarantine::{self, Quarantine};
use super::schema_change::Cause;
use super::session::Session;
use crate::plan::{Step, plan};
use crate::vocabulary::change::Change;
use crate::vocabulary::offset::PartitionNames;
use crate::vocabulary::parcel::{CommitPoint, Committed, Parcel, ParcelEnd, Reached, ReplicaPhase};
use crate::vocabulary::schema::TableName;

/// What was committed: the proof that progress may be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The last source transaction; none when only snapshot rows were committed.
    pub last: Option<Committed>,
    /// Where the group ends, when nothing but a position came after the last transaction.
    pub reached: Option<Reached>,
    /// Whether the replica's tables agree now.
    pub phase: ReplicaPhase,
    /// Source transactions in the group.
    pub transactions: u64,
    /// Changes in the group, before folding.
    pub changes: u64,
    /// Updates that found no row and inserted it.
    pub inserted_for_missing: u64,
    /// Changes that went to the quarantine.
    pub quarantined: u64,
    /// Updates that found no row and did not carry the whole row, of which the rest was fetched from the leader.
    pub fetched_for_missing: u64,
    /// Whether the group did not go through folded as a whole.
    pub in_source_order: bool,
}

/// Applies to one replica through one session.
#[derive(Debug)]
pub struct Applier {
    session: Session,
    checkpoint: CheckpointWriter,
    names: PartitionNames,
    cutoffs: Cutoffs,
    quarantine: Quarantine,
    /// The part of a large transaction that is written and not committed; none between transactions.
    open: Option<OpenTransaction>,
    /// Where rows come from that the replica lacks; none without the leader's address.
    fetcher: Option<RowFetcher>,
    /// What of the leader's schema was followed without success.
    followed: Vec<Cause>,
}

/// A run of requests that failed.
#[derive(Debug)]
struct Refused {
    error: ReplicaError,
    /// Whose rows the statement was to write that failed.
    table: Option<TableName>,
}

/// How a run of changes went.
#[derive(Debug, Default, Clone)]
struct Outcome {
    inserted_for_missing: u64,
    fetched_for_missing: u64,
    in_source_order: bool,
    kept: Vec<Kept>,
}

impl Applier {
    /// An applier that writes with this session and checkpoint.
    pub fn new(session: Session, checkpoint: CheckpointWriter, names: PartitionNames) -> Self {
        Applier {
            session,
            checkpoint,
            names,
            cutoffs: Cutoffs::default(),
            quarantine: Quarantine::default(),
            open: None,
            fetcher: None,
            followed: Vec::new(),
        }
    }

    /// The same with other cut-offs: to measure them, and to test each technique with a handful of rows.
    #[must_use]
    pub fn with_cutoffs(self, cutoffs: Cutoffs) -> Self {
        Applier { cutoffs, ..self }
    }

    /// The same with what the replica's quarantine holds, and the policy for what comes. Without it whatever the replica
    /// refuses fails the group.
    #[must_use]
    pub fn with_quarantine(self, quarantine: Quarantine) -> Self {
        Applier { quarantine, ..self }
    }

    /// One for a transaction that runs beside those of this one. What the replica refuses fails it.
    pub(super) fn beside(&self, session: Session, checkpoint: CheckpointWriter) -> Self {
        let names = self.names.clone();
        Applier { cutoffs: self.cutoffs, ..Applier::new(session, checkpoint, names) }
    }

    /// The partitions that positions refer to.
    pub fn names(&self) -> &PartitionNames {
        &self.names
    }

    /// Gives the replica up at once.
    ///
    /// # Errors
    /// When the replica does not answer; then it is free when the server has noticed.
    pub async fn release(self) -> Result<(), ReplicaError> {
        self.session.release().await
    }

    /// The driver's client of the session that it writes with.
    pub(crate) fn client(&self) -> &tokio_postgres::Client {
        self.session.client()
    }

    /// The session that it writes with.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// What the quarantine holds now.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// The same, which fetches from the leader what it needs of rows that the replica lacks. Refusals that the leader's schema
    /// may explain are not kept in the quarantine, except those that following it has not ended.
    #[must_use]
    pub fn with_leader(self, leader: Option<tokio_postgres::Config>, followed: Vec<Cause>) -> Self {
        Applier { fetcher: leader.map(RowFetcher::new), followed, ..self }
    }

    /// Another lane took over, which numbers partitions in its own way.
    pub fn renumber(&mut self, names: PartitionNames) {
        self.names = names;
    }

    /// Whether some of the changes can't be applied without looking at the quarantine.
    pub fn concerns_quarantine(&self, changes: &[Change]) -> bool {
        self.meets_quarantine(&changes.iter().collect::<Vec<_>>())
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
                advance.add(point, parcel.changes.len());
                applied.add(point, parcel.changes.len());
            }
        }
        let mut blamed = None;
        if !self.meets_quarantine(&changes) {
            match self.apply_folded(&changes, &advance).await {
                Ok(()) => return Ok(applied),
                Err(Refused { error, table }) if error.may_be_due_to_folding() => {
                    tracing::debug!(%error, changes = changes.len(), "a group does not go through as a whole");
                    blamed = table;
                }
                Err(refused) => return Err(refused.error),
            }
        }
        self.execute("BEGIN", "begin").await?;
        let outcome = self.recover(&changes, blamed).await?;
        self.assign_kept(&outcome.kept, parcels).await?;
        self.commit(&advance).await?;
        Ok(applied.with(&outcome))
    }

    /// The whole group in one round trip, unless COPY or a stage takes more.
    ///
    /// # Errors
    /// When a statement fails or finds other rows than it names; then, where that may be due to folding, nothing is open.
    async fn apply_folded(&mut self, changes: &[&Change], advance: &Advance) -> Result<(), Refused> {
        let steps = plan(changes);
        let wanted = self.wanted(&steps);
        if wanted.is_empty() && advance.is_one_statement() {
            return Ok(self.write_checkpoint(advance).await.map(drop)?);
        }
        if advance.is_one_statement()
            && let Some(statement) = whole(&mut self.session, &wanted, self.cutoffs).await?
        {
            let checkpoint = self.checkpoint.parameters(advance, &self.names);
            let sent = send_whole(&self.session, &statement, &wanted, checkpoint).await;
            return sent.map_err(|error| Refused { error, table: only_table(&wanted) });
        }
        let requests = self.prepare(wanted).await?;
        let counted = requests.iter().any(|r| r.request().must_touch().is_some());
        let pipelined_commit = !counted && advance.is_one_statement();
        let last = if pipelined_commit {
            &[Last::Checkpoint(advance), Last::Commit][..]
        } else {
            &[Last::Checkpoint(advance)]
        };
        if let Err(refused) = self.run("BEGIN", &requests, last, changes).await {
            if refused.error.may_be_due_to_folding() {
                self.execute("ROLLBACK", "roll back").await?;
            }
            return Err(refused);
        }
        if !pipelined_commit {
            self.execute("COMMIT", "commit").await?;
        }
        Ok(())
    }

    /// The requests that carry these steps out.
    fn wanted<'s>(&self, steps: &'s [Step<'s>]) -> Vec<Request<'s>> {
        let cutoffs = if self.session.may_stage() { self.cutoffs } else { self.cutoffs.without_stages() };
        let mut wanted = Vec::new();
        steps.iter().for_each(|step| requests(step, cutoffs, &mut wanted));
        wanted
    }

    /// The requests with all that they need prepared.
    async fn prepare<'s>(&mut self, wanted: Vec<Request<'s>>) -> Result<Vec<Ready<'s>>, ReplicaError> {
        let mut ready = Vec::with_capacity(wanted.len());
        for request in wanted {
            ready.push(Ready::new(&mut self.session, request).await?);
        }
        Ok(ready)
    }

    /// Sends `first`, the requests and what comes last, and waits in between only where it has to: a COPY is begun when
    /// everything that may fail before it has not. In a failed transaction the server would refuse to begin it, and of two
    /// answers to that (one to the statement, one to the copy that never was) the driver expects one.
    async fn run(
        &self,
        first: &str,
        requests: &[Ready<'_>],
        last: &[Last<'_>],
        changes: &[&Change],
    ) -> Result<(), Refused> {
        let session = &self.session;
        let failed = |source| ReplicaError::Postgres { action: "apply", source };
        let mut sent: Vec<Answer<'_>> =
            vec![Box::pin(async move { simple(session, first).await.map_err(failed) })];
        let mut may_fail = false;
        let mut touched = Vec::with_capacity(requests.len() + 1 + last.len());
        for ready in requests {
            if may_fail && ready.request().is_copy() {
                touched.extend(answers(std::mem::take(&mut sent), requests, touched.len()).await?);
                may_fail = false;
            }
            may_fail |= ready.request().writes_rows();
            sent.push(Box::pin(ready.send(session)));
        }
        for last in last {
            sent.push(match last {
                Last::Checkpoint(advance) => Box::pin(self.write_checkpoint(advance)),
                Last::Commit => Box::pin(async move { simple(session, "COMMIT").await.map_err(failed) }),
            });
        }
        touched.extend(answers(sent, requests, touched.len()).await?);
        // The first answer is that of `first`.
        let short = requests.iter().zip(&touched[1..]).find(|(ready, touched)| {
            ready.request().must_touch().is_some_and(|expected| expected != **touched)
        });
        match short {
            Some((ready, _)) => Err(Refused {
                error: not_found(ready.request(), changes),
                table: ready.request().table_name(),
            }),
            None => Ok(()),
        }
    }

    async fn write_checkpoint(&self, advance: &Advance) -> Result<u64, ReplicaError> {
        let failed = |source| ReplicaError::Postgres { action: "write the checkpoint", source };
        self.checkpoint.write(&self.session, advance, &self.names).await.map_err(failed)?;
        Ok(0)
    }

    /// Writes a part of a large transaction into an open target transaction.
    ///
    /// # Errors
    /// As [`Applier::apply`]; the open transaction is lost with it.
    pub async fn apply_part(&mut self, parcel: &Parcel) -> Result<(), ReplicaError> {
        let depth = parcel.streamed.map_or(0, |streamed| streamed.depth);
        let (begin, mut open) = match self.open.take() {
            Some(open) => ("", open),
            None => ("BEGIN; ", OpenTransaction::default()),
        };
        let first = format!("{begin}{}", open.begin_part(depth)?);
        let changes: Vec<&Change> = parcel.changes.iter().collect();
        let outcome = self.run_part(&first, &changes).await?;
        let done = &mut open.done;
        done.changes += changes.len();
        done.inserted_for_missing += outcome.inserted_for_missing;
        done.fetched_for_missing += outcome.fetched_for_missing;
        done.in_source_order |= outcome.in_source_order;
        done.kept.extend(outcome.kept.iter().map(|kept| kept.id));
        self.open = Some(open);
        Ok(())
    }

    /// Takes back what the open transaction has done in the subtransaction at this depth and within it. At depth 0, or when
    /// nothing is open, everything.
    ///
    /// # Errors
    /// When the replica can't be reached; then the server has given all of it up.
    pub async fn take_back(&mut self, depth: usize) -> Result<(), ReplicaError> {
        match &mut self.open {
            Some(open) if depth > 0 => {
                let sql = open.take_back(depth)?;
                self.execute(&sql, "go back to a savepoint").await
            }
            _ => self.discard_open().await,
        }
    }

    /// Commits the open transaction at `point`; the changes before it have been written with [`Applier::apply_part`].
    ///
    /// # Errors
    /// As [`Applier::apply`].
    pub async fn commit_open(&mut self, point: &CommitPoint) -> Result<Applied, ReplicaError> {
        let done = self.open.take().unwrap_or_default().done;
        let mut advance = Advance::default();
        advance.add(point, done.changes);
        quarantine::assign(&self.session, &done.kept, point.transaction).await?;
        self.commit(&advance).await?;
        let mut applied = Applied::nothing();
        applied.add(point, done.changes);
        applied.inserted_for_missing = done.inserted_for_missing;
        applied.fetched_for_missing = done.fetched_for_missing;
        applied.in_source_order = done.in_source_order;
        applied.quarantined = done.kept.len() as u64;
        Ok(applied)
    }

    /// Gives the open transaction up.
    ///
    /// # Errors
    /// When the replica can't be reached; then the server has given it up, too.
    pub async fn discard_open(&mut self) -> Result<(), ReplicaError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        self.execute("ROLLBACK", "roll back").await?;
        // What went there, or was settled, is undone.
        if open.done.in_source_order {
            self.quarantine.reload(&self.session).await?;
        }
        Ok(())
    }

    /// Runs changes folded, and goes back to look for the one that is to blame when that fails.
    async fn run_part(&mut self, first: &str, changes: &[&Change]) -> Result<Outcome, ReplicaError> {
        if self.meets_quarantine(changes) {
            self.execute(first, "begin a part").await?;
            return self.recover(changes, None).await;
        }
        match self.run_folded(first, changes).await {
            Ok(()) => Ok(Outcome::default()),
            Err(Refused { error, table }) if error.may_be_due_to_folding() => {
                tracing::debug!(%error, changes = changes.len(), "a part does not go through as a whole");
                self.execute("ROLLBACK TO SAVEPOINT part", "go back to the savepoint").await?;
                self.recover(changes, table).await
            }
            Err(refused) => Err(refused.error),
        }
    }

    /// Writes to which transactions the kept changes of a group belong.
    async fn assign_kept(&self, kept: &[Kept], parcels: &[&Parcel]) -> Result<(), ReplicaError> {
        let mut start = 0;
        for parcel in parcels {
            let end = start + parcel.changes.len();
            let of_parcel = kept.iter().filter(|kept| (start..end).contains(&kept.index));
            let ids: Vec<i64> = of_parcel.map(|kept| kept.id).collect();
            if let ParcelEnd::Commit(point) = &parcel.end {
                quarantine::assign(&self.session, &ids, point.transaction).await?;
            }
            start = end;
        }
        Ok(())
    }

    async fn commit(&self, advance: &Advance) -> Result<(), ReplicaError> {
        let commit = self.execute("COMMIT", "commit");
        if advance.is_one_statement() {
            let commit: Answer<'_> = Box::pin(async { commit.await.map(|()| 0) });
            let answered = in_order(vec![Box::pin(self.write_checkpoint(advance)), commit]).await;
            answered.map(|_| ()).map_err(|(_, error)| error)
        } else {
            self.write_checkpoint(advance).await?;
            commit.await
        }
    }

    async fn execute(&self, sql: &str, action: &'static str) -> Result<(), ReplicaError> {
        let answer = simple(&self.session, sql).await;
        answer.map(|_| ()).map_err(|source| ReplicaError::Postgres { action, source })
    }
}

impl From<ReplicaError> for Refused {
    fn from(error: ReplicaError) -> Self {
        Refused { error, table: None }
    }
}

impl Applied {
    fn nothing() -> Self {
        Applied {
            last: None,
            reached: None,
            phase: ReplicaPhase::Empty,
            transactions: 0,
            changes: 0,
            inserted_for_missing: 0,
            quarantined: 0,
            fetched_for_missing: 0,
            in_source_order: false,
        }
    }

    fn add(&mut self, point: &CommitPoint, changes: usize) {
        self.phase = point.state;
        if point.watermark().is_some() {
            self.reached = point.reached;
        }
        self.last = point.transaction.or(self.last);
        self.transactions += u64::from(point.transaction.is_some());
        self.changes += changes as u64;
    }

    fn with(self, outcome: &Outcome) -> Self {
        Applied {
            inserted_for_missing: outcome.inserted_for_missing,
            fetched_for_missing: outcome.fetched_for_missing,
            quarantined: outcome.kept.len() as u64,
            in_source_order: outcome.in_source_order,
            ..self
        }
    }
}

/// What comes after the rows.
#[derive(Debug, Clone, Copy)]
enum Last<'a> {
    Checkpoint(&'a Advance),
    Commit,
}

/// The answers to what was sent; `before` so many answers of this run have been read. Its first is to no request.
async fn answers(sent: Vec<Answer<'_>>, requests: &[Ready<'_>], before: usize) -> Result<Vec<u64>, Refused> {
    in_order(sent).await.map_err(|(position, error)| {
        let request = (before + position).checked_sub(1).and_then(|index| requests.get(index));
        Refused { error, table: request.and_then(|ready| ready.request().table_name()) }
    })
}

/// The table that all of these requests are for.
fn only_table(requests: &[Request<'_>]) -> Option<TableName> {
    let (first, others) = requests.split_first()?;
    let name = first.table_name()?;
    others.iter().all(|other| other.table().is_some_and(|table| table.name == name)).then_some(name)
}

/// The error of a statement that found fewer rows than it names: it has not done what the leader did.
fn not_found(request: &Request<'_>, changes: &[&Change]) -> ReplicaError {
    let table = request.table();
    let first = changes.iter().find(|c| table.is_some_and(|table| Arc::ptr_eq(&c.table, table)));
    first.map_or(ReplicaError::Plan("a request for a table without changes"), |change| missing_row(change))
}
