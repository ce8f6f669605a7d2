//! Why a copy from the leader, or a comparison with it, can't go on.

use crate::replica::error::{describe, disposition_of};
use crate::replica::{Disposition, ReplicaError};
use crate::source::postgres::PostgresSourceError;

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
    /// The leader's own stream.
    #[error(transparent)]
    Stream(#[from] PostgresSourceError),
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
    /// The publication has no tables, or there is none of that name.
    #[error("the leader publishes no table{}", of_publication(.0.as_deref()))]
    NothingPublished(Option<String>),
    /// Publications differ in what they carry of a table, and none was named.
    #[error("the leader's publications carry different columns or rows of {0}")]
    Ambiguous(String),
    /// Without transactions the stream can't say what a copy holds.
    #[error("a copy from the leader was asked for, and source.transactions is \"absent\"")]
    WithoutTransactions,
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

fn of_publication(name: Option<&str>) -> String {
    name.map(|name| format!(" in publication {name}")).unwrap_or_default()
}

impl SnapshotError {
    /// What follows from it.
    pub fn disposition(&self) -> Disposition {
        match self {
            SnapshotError::Replica(error) => error.disposition(),
            SnapshotError::Leader { source, .. } => disposition_of(source),
            SnapshotError::Stream(error) if error.is_outage() => Disposition::Retry,
            SnapshotError::Stream(_) => Disposition::Halt,
            SnapshotError::TimedOut(_) | SnapshotError::NoSlot => Disposition::Retry,
            SnapshotError::NoLeader
            | SnapshotError::NotPublished(_)
            | SnapshotError::NothingPublished(_)
            | SnapshotError::Ambiguous(_)
            | SnapshotError::WithoutTransactions
            | SnapshotError::NoTable(_)
            | SnapshotError::NoColumn { .. }
            | SnapshotError::Unreadable(_) => Disposition::Halt,
        }
    }

    /// What ends the state that this error causes.
    pub fn hint(&self) -> String {
        match self {
            SnapshotError::Replica(error) => return error.hint(),
            SnapshotError::Stream(error) => return error.hint(),
            SnapshotError::Leader { .. } | SnapshotError::TimedOut(_) => {
                "Start the leader, or correct leader.url; its user needs SELECT on the replicated tables."
            }
            SnapshotError::NoLeader => "Set leader.url.",
            SnapshotError::NoSlot => {
                "Register the connector, which makes the slot; the replicator keeps trying."
            }
            SnapshotError::NothingPublished(_) | SnapshotError::Ambiguous(_) => {
                "Set snapshot.publication to the connector's publication.name."
            }
            SnapshotError::WithoutTransactions => {
                "Empty the replica and let the connector make a new snapshot; or take the wish back: replicator rebuild REPLICA \
                 --cancel."
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
