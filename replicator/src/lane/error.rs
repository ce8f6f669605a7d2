//! Why a lane ends.

use crate::assemble::AssembleError;
use crate::decode::DecodeError;
use crate::source::kafka::SourceError;
use crate::source::postgres::PostgresSourceError;
use crate::vocabulary::lsn::{CommitLsn, Xid};
use crate::vocabulary::schema::TableName;

/// A lane can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A record can't be understood, or records contradict each other.
    #[error("{at}: {error}")]
    Assemble {
        /// Topic and partition, and the offset where it is one record.
        at: String,
        /// What is wrong.
        error: Box<AssembleError>,
    },
    /// The leader's own stream can't be read, or not now.
    #[error(transparent)]
    Postgres(#[from] PostgresSourceError),
    /// A change of the leader's own stream can't be understood, or the replica can't have it.
    #[error("{at}: {error}")]
    Change {
        /// Its position.
        at: String,
        /// What is wrong.
        error: Box<DecodeError>,
    },
    /// The checkpoint was written without transactions, and transactions are to be kept now.
    #[error(
        "the replica was fed without transaction metadata, so where it stands among the transactions is not known"
    )]
    WithoutTransactions,
    /// A repeated transaction was recognised after snapshot rows had been sent within it. Not a fault: reading again from
    /// the checkpoint, knowing the transaction, leaves it out.
    #[error("transaction {repeated} repeats an applied one; reading again without it")]
    ReadAgain {
        /// The transaction to leave out.
        repeated: Xid,
    },
    /// A row of an incremental snapshot came, and it is not known which rows were changed before. Not a fault: reading again from a
    /// little before the checkpoint tells.
    #[error("rows of {table} come from an incremental snapshot; reading again what was changed before them")]
    LookBack {
        /// The table.
        table: TableName,
    },
    /// A transaction can't be applied while it runs on the leader. Not a fault: it is read again from the checkpoint, whole and
    /// after its commit.
    #[error("transaction {xid} can't be applied while it runs on the leader: {why}")]
    Unstreamable {
        /// The transaction.
        xid: Xid,
        /// Why not.
        why: String,
    },
    /// A table has values whose binary form does not mean the same on the replica. Not a fault: everything is read again from the
    /// checkpoint, as text.
    #[error("values come as text from now on: \"{column}\" of {table} can't be had in binary")]
    NotPortable {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
    },
    /// The transaction for which streaming was given up is over. Not a fault: the next lane streams again.
    #[error("transactions are streamed again")]
    StreamsAgain,
    /// The replica's tables have changed since they were read, without a change of the leader's that told of it. Not a fault: they
    /// are read again, so that it can share a lane with replicas that know them.
    #[error("the replica's tables are not what they were; reading with what they are now")]
    TablesChanged,
    /// The replica kept the others of its lane waiting. Not a fault: it goes on in a lane of its own.
    #[error("slower than the other replicas; reading alone until it has caught up")]
    Detached,
    /// The daemon is stopping.
    #[error("the lane was stopped")]
    Stopped,
    /// A mistake of this program. Trying again at once would only hide it.
    #[error("the lane ended with a panic: {0}")]
    Panic(String),
    /// A transaction stands in the topics before the position at which a copy goes on, and the copy does not hold it.
    #[error(
        "transaction {xid}, committed at {lsn}, is neither in the copy nor behind the position at which it goes on"
    )]
    NotCopied {
        /// The transaction.
        xid: Xid,
        /// Its commit.
        lsn: CommitLsn,
    },
}

impl LaneError {
    /// Whether the same may succeed later without anybody changing data or settings.
    pub fn is_outage(&self) -> bool {
        match self {
            LaneError::Source(
                SourceError::Unavailable(_)
                | SourceError::Stranded { .. }
                | SourceError::Unread { .. }
                | SourceError::NoTransactionTopic { .. },
            )
            | LaneError::ReadAgain { .. }
            | LaneError::LookBack { .. }
            | LaneError::Unstreamable { .. }
            | LaneError::NotPortable { .. }
            | LaneError::StreamsAgain
            | LaneError::TablesChanged
            | LaneError::Detached
            | LaneError::Stopped => true,
            LaneError::Postgres(error) => error.is_outage(),
            LaneError::Source(_)
            | LaneError::Assemble { .. }
            | LaneError::Change { .. }
            | LaneError::WithoutTransactions
            | LaneError::NotCopied { .. }
            | LaneError::Panic(_) => false,
        }
    }

    /// What ends the state that this error causes.
    pub fn hint(&self) -> String {
        match self {
            LaneError::Source(error) => error.hint().to_owned(),
            LaneError::Assemble { error, .. } => error.hint(),
            LaneError::Postgres(error) => error.hint(),
            LaneError::Change { error, .. } => error.hint(),
            LaneError::WithoutTransactions => {
                "Copy the replica afresh; or go on as before with source.transactions = \"absent\"."
                    .to_owned()
            }
            LaneError::ReadAgain { .. }
            | LaneError::LookBack { .. }
            | LaneError::Unstreamable { .. }
            | LaneError::NotPortable { .. }
            | LaneError::StreamsAgain
            | LaneError::TablesChanged
            | LaneError::Detached
            | LaneError::Stopped => "Nothing to do.".to_owned(),
            LaneError::Panic(_) => "Report it, with the log's lines before this one.".to_owned(),
            LaneError::NotCopied { .. } => {
                "The leader held this commit back from its readers while the copy was begun. Copy the replica afresh: `replicator rebuild`."
                    .to_owned()
            }
        }
    }
}
