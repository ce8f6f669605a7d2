//! What a lane hands to a replica's applier.

use super::change::Change;
use super::lsn::{CommitLsn, Lsn, Xid};
use super::offset::PartitionIndex;
use super::schema::TableName;

/// A run of changes in source order, and how it ends.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// The changes.
    pub changes: Vec<Change>,
    /// Bytes that the changes hold, roughly; for limits.
    pub size_bytes: usize,
    /// What follows them.
    pub end: ParcelEnd,
    /// To which transaction they belong that is given out while it runs on the leader; none where transactions come whole.
    pub streamed: Option<Streamed>,
}

impl Parcel {
    /// A parcel of transactions that come whole, one after the other.
    pub fn new(changes: Vec<Change>, size_bytes: usize, end: ParcelEnd) -> Self {
        Parcel { changes, size_bytes, end, streamed: None }
    }

    /// The point at which the replica may commit, when the parcel ends with one.
    pub fn commit_point_mut(&mut self) -> Option<&mut CommitPoint> {
        match &mut self.end {
            ParcelEnd::Commit(point) => Some(point),
            ParcelEnd::Open | ParcelEnd::Discard => None,
        }
    }
}

/// A place in a transaction that is given out while it runs on the leader. Its parcels stand between those of other
/// transactions, and whether it commits is not known before its last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streamed {
    /// The transaction.
    pub xid: Xid,
    /// Whether this is its first parcel.
    pub begins: bool,
    /// How many subtransactions there are around the changes that may yet be rolled back by themselves. From a parcel to the
    /// next one it grows by one at most.
    pub depth: usize,
}

/// How a parcel ends.
#[derive(Debug, Clone)]
pub enum ParcelEnd {
    /// The transaction is larger than one parcel: more of it follows, and nothing may be committed yet.
    Open,
    /// Here the replica may commit.
    Commit(Box<CommitPoint>),
    /// What came since the last commit point was a repetition of an applied transaction: roll it back. Of a streamed
    /// transaction: the leader has rolled back the subtransaction at this depth, or at depth 0 the whole.
    Discard,
}

/// A point between transactions, and all that the checkpoint stores about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitPoint {
    /// The transaction that ends here; none for a part of a snapshot.
    pub transaction: Option<Committed>,
    /// Up to where nothing more is to come, when no transaction ends here.
    pub reached: Option<Reached>,
    /// The first offset still needed, for each partition in which it has moved.
    pub offsets: Vec<(PartitionIndex, i64)>,
    /// What became of table copies.
    pub copies: Vec<TableCopy>,
    /// Whether snapshots are complete from here on.
    pub state: ReplicaPhase,
    /// When the transaction was where on its way. It tells people where time went, and decides
    /// nothing but how long a worker waits for more to commit together.
    pub passage: Passage,
}

impl CommitPoint {
    /// The watermark from here on; none when it stays where it is.
    pub fn watermark(&self) -> Option<CommitLsn> {
        self.transaction.map(|transaction| transaction.lsn).or(self.reached.map(|reached| reached.lsn))
    }

    /// How long after its commit the transaction was sent, in milliseconds; none where that is not known. Negative when a clock
    /// was set back, or the connector's is behind the leader's.
    pub fn sent_after_ms(&self) -> Option<i64> {
        Some(self.passage.sent_at_ms?.saturating_sub(self.transaction?.committed_at_ms))
    }
}

/// When a transaction's end was where, in milliseconds since 1970; none where that is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passage {
    /// When the leader's walsender sent it, by the leader's clock; or when the connector gave it to the broker, by the
    /// connector's clock (by the broker's where the topic says `LogAppendTime`).
    pub sent_at_ms: Option<i64>,
    /// When this daemon had read all of it, by this host's clock.
    pub read_at_ms: Option<i64>,
}

/// A position of the leader up to which every commit has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// The position.
    pub lsn: CommitLsn,
    /// When the leader said so, in milliseconds since 1970, by the leader's clock.
    pub at_ms: i64,
}

/// A finished source transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its id.
    pub xid: Xid,
    /// Its place in commit order.
    pub lsn: CommitLsn,
    /// When the leader committed it, in milliseconds since 1970, by the leader's clock.
    pub committed_at_ms: i64,
}

/// Whether a replica's tables agree with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplicaPhase {
    /// Nothing has been copied yet.
    #[default]
    Empty,
    /// A snapshot is being loaded: tables may stand at different positions.
    Copying,
    /// Every table stands at the watermark.
    Live,
    /// Fed without transaction metadata: each table follows the leader, none of them stands at the watermark.
    Degraded,
}

impl ReplicaPhase {
    /// The word in the contract schema.
    pub fn as_str(self) -> &'static str {
        match self {
            ReplicaPhase::Empty => "empty",
            ReplicaPhase::Copying => "copying",
            ReplicaPhase::Live => "live",
            ReplicaPhase::Degraded => "degraded",
        }
    }

    /// The phase that the contract schema names.
    pub fn from_contract(word: &str) -> Option<Self> {
        [ReplicaPhase::Empty, ReplicaPhase::Copying, ReplicaPhase::Live, ReplicaPhase::Degraded]
            .into_iter()
            .find(|p| p.as_str() == word)
    }
}

/// How far the copy of one table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCopy {
    /// The table.
    pub table: TableName,
    /// The leader's position at which the snapshot was taken.
    pub snapshot_lsn: Lsn,
    /// Rows since the last commit point.
    pub rows: u64,
    /// Whether the last row has come.
    pub done: bool,
}
