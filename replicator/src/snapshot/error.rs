//! Why a copy from the leader, or a comparison with it, can't go on.

use crate::replica::error::{describe, disposition_of};
use crate::replica::{Disposition, ReplicaError};

/// A failure between the leader and a replica.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The replica's side.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The leader's side.
    #[error("{action}: {}", describe(.source))]
    Leader {
        /// What was being done.
        action: &'static str,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The leader does not answer.
    #[error("connect to the leader: no answer within {0} s")]
    TimedOut(u64),
    /// A copy needs the leader's address.
    #[error("a copy from the leader was asked for, and leader.url is not set")]
    NoLeader,
    /// A copy is only complete together with the stream that goes on from it.
    #[error("the leader has no logical replication slot, so changes after the copy would be lost")]
    NoSlot,
    /// The leader has no such table, or does not publish it.
    #[error("the leader does not publish table {0}")]
    NotPublished(String),
    /// The replica has no such table.
    #[error("the replica has no table {0}")]
    NoTable(String),
    /// The replica's table can't take the leader's rows.
    #[error("{table} lacks column {column}, which the leader has")]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The leader answered something that this program does not understand.
    #[error("the leader's answer can't be read: {0}")]
    Unreadable(String),
}

impl SnapshotError {
    /// What follows from it.
    pub fn disposition(&self) -> Disposition {
        match self {
            SnapshotError::Replica(error) => error.disposition(),
            SnapshotError::Leader { source, .. } => disposition_of(source),
            SnapshotError::TimedOut(_) | SnapshotError::NoSlot => Disposition::Retry,
            SnapshotError::NoLeader
            | SnapshotError::NotPublished(_)
            | SnapshotError::NoTable(_)
            | SnapshotError::NoColumn { .. }
            | SnapshotError::Unreadable(_) => Disposition::Halt,
        }
    }

    /// What ends the state that this error causes.
    pub fn hint(&self) -> String {
        match self {
            SnapshotError::Replica(error) => return error.hint(),
            SnapshotError::Leader { .. } | SnapshotError::TimedOut(_) => {
                "Start the leader, or correct leader.url; its user needs SELECT on the replicated tables."
            }
            SnapshotError::NoLeader => "Set leader.url.",
            SnapshotError::NoSlot => {
                "Register the connector, which makes the slot; the replicator keeps trying."
            }
            SnapshotError::NotPublished(_) => {
                "ALTER PUBLICATION … ADD TABLE on the leader, or rebuild other tables."
            }
            SnapshotError::NoTable(_) | SnapshotError::NoColumn { .. } => {
                "Make the replica's tables as the leader's: `replicator check` prints the SQL."
            }
            SnapshotError::Unreadable(_) => "The leader has to be PostgreSQL 14 or newer.",
        }
        .to_owned()
    }
}
