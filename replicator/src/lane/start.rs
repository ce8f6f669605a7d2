//! Where a lane begins.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::LaneLimits;
use super::core::SPINE;
use crate::decode::debezium::Transactions;
use crate::vocabulary::fence::Fences;
use crate::vocabulary::leader::LeaderRun;
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use crate::vocabulary::offset::{Offsets, TopicPartition};
use crate::vocabulary::parcel::ReplicaPhase;
use crate::vocabulary::schema::{Catalog, TableName};

/// Where a replica stands, and what is needed to feed it from there.
#[derive(Debug, Clone)]
pub struct LaneStart {
    /// The replica's tables.
    pub catalog: Arc<Catalog>,
    /// The replica's watermark.
    pub watermark: CommitLsn,
    /// The run of the leader's server whose log is known to go on from there; none with a source that does not tell.
    pub leader: Option<LeaderRun>,
    /// Whether its tables agree.
    pub phase: ReplicaPhase,
    /// The offsets from which reading goes on.
    pub offsets: Offsets,
    /// At which position each table's snapshot was taken.
    pub snapshots: HashMap<TableName, Lsn>,
    /// Fenced copies that the watermark has not passed.
    pub fences: Fences,
    /// Transactions known to be applied although they stand ahead in the topics.
    pub repeats: Vec<Xid>,
    /// Whether it has to be known which rows were changed before these offsets: rows of an incremental snapshot may be older.
    pub looks_back: bool,
    /// Whether transactions may be given out while they run on the leader, where the source can do that. A replica for which
    /// that has failed needs them whole.
    pub streaming: bool,
    /// Whether values may come in binary, where the source can do that. A replica for which that has failed needs text.
    pub binary: bool,
    /// Bounds.
    pub limits: LaneLimits,
}

impl LaneStart {
    /// Whether both replicas need exactly the same records, and the same of them.
    pub fn stands_with(&self, other: &LaneStart) -> bool {
        self.watermark == other.watermark
            && self.leader == other.leader
            && self.phase == other.phase
            && self.offsets == other.offsets
            && self.snapshots == other.snapshots
            && self.fences == other.fences
            && self.repeats == other.repeats
            && self.streaming == other.streaming
            && self.binary == other.binary
    }

    /// Whether the watermark says all about the replica: every table stands there.
    pub fn is_plain(&self) -> bool {
        self.phase == ReplicaPhase::Live && self.is_plain_at(self.watermark)
    }

    /// Whether no table was copied at a later position than this.
    pub fn is_plain_at(&self, watermark: CommitLsn) -> bool {
        self.snapshots.values().all(|copied_at| *copied_at <= watermark.0)
            && self.fences.end().is_none_or(|end| end <= watermark.0)
    }
}

/// How many records of the transaction topic before the checkpoint are read again, to recognise events that a killed
/// connector wrote twice. Such events stand right behind their first writing, so what matters is how far one table's topic
/// may be read behind the transaction topic: at ten thousand transactions a second this is five seconds.
const LOOK_BACK: i64 = 50_000;

/// The same for every other partition where transactions are absent: how far the events had come before the checkpoint.
const LOOK_BACK_LOOSE: i64 = 1_000;

/// The same for every other partition where it has to be known which rows were changed lately. A row of an incremental snapshot
/// stands behind the changes that it lacks by the rows of a chunk (1024 by default) and by what is written while a commit
/// becomes visible, mostly milliseconds.
const LOOK_BACK_ROWS: i64 = 10_000;

/// Where to begin to read these partitions, which hold records from `bounds` on, for a replica that needs them from `offsets`
/// on: some records before tell what was applied, and if it `looks_back` which rows were changed.
pub(super) fn read_from(
    transactions: Transactions,
    looks_back: bool,
    offsets: &Offsets,
    partitions: &[TopicPartition],
    bounds: &BTreeMap<TopicPartition, (i64, i64)>,
) -> Offsets {
    let look_back = |number: usize| match transactions {
        Transactions::Required if number == SPINE.get() => LOOK_BACK,
        _ if looks_back => LOOK_BACK_ROWS,
        Transactions::Required => 0,
        Transactions::Absent => LOOK_BACK_LOOSE,
    };
    let from = |(number, partition): (usize, &TopicPartition)| {
        let needed = *offsets.get(partition)?;
        let low = bounds.get(partition).map_or(0, |(low, _)| *low);
        Some((partition.clone(), needed.min((needed - look_back(number)).max(low))))
    };
    partitions.iter().enumerate().filter_map(from).collect()
}
