//! Why an attempt to feed a replica ended.

use super::streaming::beside;
use crate::lane::LaneError;
use crate::replica::apply::Applier;
use crate::replica::side::Sides;
use crate::replica::{Disposition, ReplicaError};
use crate::snapshot::SnapshotError;

/// Why an attempt ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerError {
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// A replica's error about one record, with the record's place in words.
    #[error("{at}: {error}")]
    Record { at: String, error: ReplicaError },
    #[error(transparent)]
    Lane(#[from] LaneError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl WorkerError {
    /// What follows from it.
    pub(super) fn disposition(&self) -> Disposition {
        match self {
            WorkerError::Replica(error) | WorkerError::Record { error, .. } => error.disposition(),
            WorkerError::Snapshot(error) => error.disposition(),
            WorkerError::Lane(error) if error.is_outage() => Disposition::Retry,
            WorkerError::Lane(_) => Disposition::Halt,
        }
    }

    /// What ends the state that it causes.
    pub(super) fn hint(&self) -> String {
        match self {
            WorkerError::Replica(error) | WorkerError::Record { error, .. } => error.hint(),
            WorkerError::Lane(error) => error.hint(),
            WorkerError::Snapshot(error) => error.hint(),
        }
    }
}

/// A failure of the owner's session, with the place of its record. What it waited for may be a side transaction's.
pub(super) fn at_line(error: ReplicaError, applier: &Applier, sides: &Sides) -> WorkerError {
    match (error.place(), sides.any()) {
        (_, Some(xid)) if error.is_of_lock() => beside(error, xid),
        (Some(place), _) => WorkerError::Record { at: applier.names().describe(place), error },
        (None, _) => WorkerError::Replica(error),
    }
}
