//! Where a lane begins.

use std::collections::HashMap;
use std::sync::Arc;

use super::LaneLimits;
use crate::vocabulary::fence::Fences;
use crate::vocabulary::leader::LeaderRun;
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use crate::vocabulary::offset::Offsets;
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
