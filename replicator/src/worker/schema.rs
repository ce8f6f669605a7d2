//! What one worker remembers about following the leader's schema.

use std::time::{Duration, Instant};

use super::WorkerError;
use crate::assemble::AssembleError;
use crate::lane::LaneError;
use crate::replica::ReplicaError;
use crate::replica::leader::LeaderSession;
use crate::replica::schema_change::{self, Cause};
use crate::replica::session::Session;
use crate::vocabulary::schema::{Catalog, Filler, TableName};

/// For how long something that was followed without finding anything to do is not followed again.
const FRUITLESS: Duration = Duration::from_secs(300);

/// Between an attempt that met another schema and the next one, which follows it before it reads on.
#[derive(Debug)]
pub(super) struct SchemaFollower {
    leader: Option<tokio_postgres::Config>,
    additive: bool,
    /// What the last attempt met.
    pending: Option<Cause>,
    /// What was followed since something was last applied, and for a while what gave nothing to do: met again, it did not
    /// help. The time is that until when.
    followed: Vec<(Cause, Option<Instant>)>,
    /// Columns that events may lack. Not stored: another process meets the same events and finds the same out.
    fillers: Vec<(TableName, String, Filler)>,
}

impl SchemaFollower {
    /// Follows with the leader's help; without its address nothing is followed.
    pub(super) fn new(leader: Option<tokio_postgres::Config>, additive: bool) -> Self {
        SchemaFollower { leader, additive, pending: None, followed: Vec::new(), fillers: Vec::new() }
    }

    /// The replica goes on from behind whatever the last attempt met.
    pub(super) fn forget(&mut self) {
        self.pending = None;
    }

    /// Something was applied.
    pub(super) fn progressed(&mut self) {
        let now = Instant::now();
        self.followed.retain(|(_, until)| until.is_some_and(|until| now < until));
    }

    /// What was followed in vain, as far as is known.
    pub(super) fn followed(&self) -> Vec<Cause> {
        self.followed.iter().map(|(cause, _)| cause.clone()).collect()
    }

    /// Takes note of why an attempt ended. True when the next one can do something about it, and should begin at once.
    pub(super) fn heed(&mut self, error: &WorkerError) -> bool {
        let cause = cause(error).filter(|cause| {
            self.leader.is_some() && !self.followed.iter().any(|(followed, _)| followed == cause)
        });
        let is_new = cause.is_some();
        self.pending = cause.or(self.pending.take());
        is_new
    }

    /// Does what the last attempt asked for, before the replica's catalog is read.
    pub(super) async fn follow(&mut self, replica: &Session, epoch: i64) -> Result<(), ReplicaError> {
        let (Some(cause), Some(url)) = (&self.pending, &self.leader) else { return Ok(()) };
        let leader = LeaderSession::connect(url).await?;
        let followed = schema_change::follow(replica, epoch, &leader, self.additive, cause).await?;
        let is_fruitless = followed.statements.is_empty() && followed.fillers.is_empty();
        for statement in &followed.statements {
            tracing::info!(%statement, "followed the leader's schema");
        }
        for (table, column, filler) in followed.fillers {
            let reason = match filler {
                Filler::Nothing => "the leader has dropped it; it is kept here and no longer written",
                Filler::Value(_) => "some events are older than it; they get what the leader's rows got",
            };
            tracing::info!(%table, %column, reason, "events may lack a column");
            self.fillers.retain(|(t, c, _)| (t, c) != (&table, &column));
            self.fillers.push((table, column, filler));
        }
        let until = is_fruitless.then(|| Instant::now() + FRUITLESS);
        self.followed.extend(self.pending.take().map(|cause| (cause, until)));
        Ok(())
    }

    /// The catalog with what is known about events that lack columns.
    pub(super) fn complete(&self, catalog: Catalog) -> Catalog {
        self.fillers.iter().fold(catalog, |catalog, (table, column, filler)| {
            catalog.with_filler(table, column, filler.clone())
        })
    }
}

/// What of the leader's schema an error may come from.
fn cause(error: &WorkerError) -> Option<Cause> {
    match error {
        WorkerError::Lane(LaneError::Assemble { error, .. }) => match error.as_ref() {
            AssembleError::Refused { error, .. } => Cause::of_record(error),
            _ => None,
        },
        WorkerError::Lane(LaneError::Change { error, .. }) => Cause::of_record(error),
        WorkerError::Record { error, .. } => Cause::of_replica(error),
        _ => None,
    }
}
