//! What the assembler can't go on from.

use crate::decode::debezium::{Collection, DecodeError};
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use crate::vocabulary::offset::PartitionIndex;

/// Events contradict each other, or some are proven missing. Going on would be guessing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// END counts more events than the partition holds before a later transaction begins in it.
    #[error(
        "transaction {xid} (commit LSN {lsn}) has {expected} changes of {collection}, but only {seen} came before a later \
         transaction at offset {offset}"
    )]
    Missing {
        /// The transaction.
        xid: Xid,
        /// Its commit LSN.
        lsn: CommitLsn,
        /// The table.
        collection: Collection,
        /// How many events END counts.
        expected: u64,
        /// How many were there.
        seen: u64,
        /// A partition that should have held them.
        partition: PartitionIndex,
        /// The offset of the first event of a later transaction there.
        offset: i64,
    },
    /// A record can't be understood, and its turn has come.
    #[error("{error}")]
    Refused {
        /// The record's partition.
        partition: PartitionIndex,
        /// The record's offset.
        offset: i64,
        /// What is wrong with it.
        error: Box<DecodeError>,
    },
    /// The transaction topic goes on with another transaction before the END of the open one.
    #[error(
        "transaction {xid}, begun at offset {begun_at} of the transaction topic, never ends: {next} follows"
    )]
    Unfinished {
        /// The transaction.
        xid: Xid,
        /// The offset of its BEGIN.
        begun_at: i64,
        /// The one that follows.
        next: Xid,
    },
    /// What an END counts has not come, and what has come no other END counts among those that may wait.
    #[error(
        "transaction {xid} (commit LSN {lsn}) was begun again, and no END that counts what has come stands among the next {records} \
         records of the transaction topic"
    )]
    OutOfReach {
        /// The transaction.
        xid: Xid,
        /// Its commit LSN.
        lsn: CommitLsn,
        /// How many records were looked at.
        records: usize,
    },
    /// As many events as END counts have come, but not of the tables that it names.
    #[error(
        "transaction {xid} (commit LSN {lsn}) has {expected} changes of {name} by its END, and {seen} came"
    )]
    Miscounted {
        /// The transaction.
        xid: Xid,
        /// Its commit LSN.
        lsn: CommitLsn,
        /// The table.
        name: String,
        /// How many events END counts.
        expected: u64,
        /// How many were there.
        seen: u64,
    },
    /// An event has a number that was taken before, and lies behind it.
    #[error("transaction {xid} numbers its events anew: {order} at offset {offset} is no repetition")]
    Renumbered {
        /// The transaction.
        xid: Xid,
        /// The number.
        order: u64,
        /// The event's partition.
        partition: PartitionIndex,
        /// The event's offset.
        offset: i64,
    },
    /// A transaction that never passed here ends at or below the watermark.
    #[error(
        "transaction {xid} at offset {offset} ends at {lsn}, not after the watermark {watermark}, and is none of those that \
         did before: the leader's WAL went back"
    )]
    WentBack {
        /// The transaction.
        xid: Xid,
        /// Its commit LSN.
        lsn: CommitLsn,
        /// The replica's watermark.
        watermark: CommitLsn,
        /// The offset of its END.
        offset: i64,
    },
    /// Where transactions are absent: an event with a lower position was committed later.
    #[error(
        "the event at offset {offset} lies at {to}, behind {from}, and was committed later: the leader's WAL went back"
    )]
    PositionWentBack {
        /// The event's partition.
        partition: PartitionIndex,
        /// Its offset.
        offset: i64,
        /// The furthest position so far.
        from: Lsn,
        /// The event's.
        to: Lsn,
    },
}

impl AssembleError {
    /// The partition that the error is about; none for the transaction topic.
    pub fn partition(&self) -> Option<PartitionIndex> {
        match self {
            AssembleError::Missing { partition, .. }
            | AssembleError::Refused { partition, .. }
            | AssembleError::Renumbered { partition, .. }
            | AssembleError::PositionWentBack { partition, .. } => Some(*partition),
            AssembleError::Unfinished { .. }
            | AssembleError::OutOfReach { .. }
            | AssembleError::Miscounted { .. }
            | AssembleError::WentBack { .. } => None,
        }
    }

    /// What ends the state that this error causes.
    pub fn hint(&self) -> String {
        match self {
            AssembleError::Refused { error, .. } => return error.hint(),
            AssembleError::Missing { .. } => {
                "A transform that filters events, or retention, has removed them. Remove the filter, then copy the \
                 replica afresh."
            }
            AssembleError::Unfinished { .. } => {
                "The connector was reset, or its slot was lost. Copy the replica afresh from a new snapshot."
            }
            AssembleError::OutOfReach { .. } => {
                "Rows may still be under way: it is tried again. If it stays so, raise apply.queue_records, or copy the replica \
                 afresh: `replicator rebuild REPLICA`."
            }
            AssembleError::Miscounted { .. } | AssembleError::Renumbered { .. } => {
                "Debezium counted a transaction anew when it was restarted inside it. Copy the replica afresh: `replicator rebuild \
                 REPLICA`. Tables with one partition each don't need that."
            }
            AssembleError::WentBack { .. } | AssembleError::PositionWentBack { .. } => {
                "The leader was restored to an older state, or another server took its place. Copy the replica afresh from \
                 it."
            }
        }
        .to_owned()
    }
}
