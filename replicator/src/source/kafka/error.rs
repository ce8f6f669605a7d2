//! Why topics can't be read, and what ends that.

use crate::vocabulary::lsn::CommitLsn;
use crate::vocabulary::offset::TopicPartition;

/// What the source can't go on from, or not now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The brokers don't answer, or the topics are not there yet.
    #[error("{0}")]
    Unavailable(String),
    /// This client of the brokers does not get what another one gets.
    #[error(
        "{partition} holds records from offset {offset} on that don't come here; reading with a new connection"
    )]
    Stranded {
        /// The partition.
        partition: TopicPartition,
        /// The offset that is wanted next.
        offset: i64,
    },
    /// What proves that events are missing did not know of a partition that has appeared meanwhile.
    #[error("{partition} has appeared, and may hold what is missed; reading again with it")]
    Unread {
        /// The partition.
        partition: TopicPartition,
    },
    /// The connector's topics are there, its transaction boundaries are not.
    #[error("topic {topic} does not exist, although {others} topics of events do")]
    NoTransactionTopic {
        /// The topic that is missing.
        topic: String,
        /// How many others there are.
        others: usize,
    },
    /// The topic no longer holds what the replica still needs.
    #[error("{partition} holds offsets {low} to {high}, the replica needs {needed}")]
    PositionLost {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that the replica still needs.
        needed: i64,
        /// The first offset in the log.
        low: i64,
        /// The offset after the last.
        high: i64,
    },
    /// The topic does not hold what the replica was fed with.
    #[error("{partition} does not hold the transaction that ended at {watermark} before offset {needed}")]
    Replaced {
        /// The transaction topic's partition.
        partition: TopicPartition,
        /// From where the replica would go on.
        needed: i64,
        /// The replica's watermark.
        watermark: CommitLsn,
    },
    /// Only transaction metadata tells the order of changes in different partitions.
    #[error(
        "{0} has several partitions, and without transaction metadata changes in different ones have no order"
    )]
    SeveralPartitions(String),
    /// Settings or topics are such that nothing can be read.
    #[error("{0}")]
    Unusable(String),
}

impl SourceError {
    /// What ends the state that this error causes.
    pub fn hint(&self) -> &'static str {
        match self {
            SourceError::Unavailable(_) => {
                "Start the broker, or register the connector; the replicator keeps trying."
            }
            SourceError::Stranded { .. } | SourceError::Unread { .. } => "Nothing to do.",
            SourceError::NoTransactionTopic { .. } => {
                "Set provide.transaction.metadata=true in the connector: the topic appears with the next transaction. Or, to \
                 do without transactions and tokens, source.transactions = \"absent\" here."
            }
            SourceError::PositionLost { needed, high, .. } if needed > high => {
                "The topic was deleted and made again, or lost its end. Copy the replica afresh: `replicator rebuild REPLICA`."
            }
            SourceError::PositionLost { .. } => {
                "Retention has removed changes that this replica had not applied. Copy the replica afresh: `replicator rebuild REPLICA`."
            }
            SourceError::Replaced { .. } => {
                "The topic was deleted and made again, or the replica belongs to another broker. Copy the replica afresh: `replicator rebuild REPLICA`."
            }
            SourceError::SeveralPartitions(_) => {
                "Set provide.transaction.metadata=true in the connector and source.transactions = \"required\" here; or make \
                 the topic anew with one partition."
            }
            SourceError::Unusable(_) => "Correct [source] in the configuration, or the topic.",
        }
    }
}
