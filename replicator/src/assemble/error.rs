//! What the assembler can't go on from.

use crate::decode::debezium::{Collection, DecodeError};
use crate::vocabulary::lsn::{CommitLsn, Xid};
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
}

impl AssembleError {
    /// The partition that the error is about; none for the transaction topic.
    pub fn partition(&self) -> Option<PartitionIndex> {
        match self {
            AssembleError::Missing { partition, .. } | AssembleError::Refused { partition, .. } => {
                Some(*partition)
            }
            AssembleError::Unfinished { .. } => None,
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
        }
        .to_owned()
    }
}
