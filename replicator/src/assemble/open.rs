//! The transaction that has begun and not ended.

use std::collections::BTreeMap;

use super::generations::Progress;
use super::queues::CollectionId;
use crate::vocabulary::lsn::{Lsn, Xid};
use crate::vocabulary::offset::PartitionIndex;
use crate::vocabulary::parcel::Committed;

/// How far the open transaction has been taken.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) xid: Xid,
    /// The number of the next event in the leader's order.
    pub(super) next_order: u64,
    /// The WAL position of the event before that one.
    pub(super) last_lsn: Lsn,
    /// Events taken.
    pub(super) taken: u64,
    /// The same per collection, by its id.
    seen: Vec<u64>,
    pub(super) end: Option<End>,
    /// Where its BEGIN stood: the checkpoint's position of the transaction topic until it ends.
    pub(super) begun_at: i64,
    /// Whether a change was given out.
    pub(super) emitted: bool,
    /// Whether it began a second time, so that numbers may have begun again, too.
    pub(super) begun_again: bool,
    /// Then: up to where partitions have to be read.
    pub(super) ends: Option<BTreeMap<PartitionIndex, i64>>,
    /// How far each queue has given its events.
    progress: Vec<Progress>,
}

/// What END says.
#[derive(Debug)]
pub(super) struct End {
    pub(super) committed: Committed,
    /// Events per collection.
    pub(super) counts: Vec<(CollectionId, u64)>,
    /// Events in all.
    pub(super) total: u64,
}

impl Open {
    pub(super) fn new(xid: Xid, begun_at: i64) -> Self {
        Open {
            xid,
            next_order: 1,
            last_lsn: Lsn::default(),
            taken: 0,
            seen: Vec::new(),
            end: None,
            begun_at,
            emitted: false,
            begun_again: false,
            ends: None,
            progress: Vec::new(),
        }
    }

    /// Counts an event.
    pub(super) fn took(&mut self, collection: CollectionId, total_order: u64, lsn: Lsn) {
        if self.seen.len() <= collection.0 {
            self.seen.resize(collection.0 + 1, 0);
        }
        self.seen[collection.0] += 1;
        self.taken += 1;
        self.next_order = total_order + 1;
        self.last_lsn = lsn;
    }

    pub(super) fn progress(&self, slot: usize) -> Progress {
        self.progress.get(slot).copied().unwrap_or_default()
    }

    /// A queue's head was taken or dropped.
    pub(super) fn passed(&mut self, slot: usize, order: u64, lsn: Lsn) {
        if self.progress.len() <= slot {
            self.progress.resize(slot + 1, Progress::default());
        }
        self.progress[slot].pass(order, lsn);
    }

    pub(super) fn seen(&self, collection: CollectionId) -> u64 {
        self.seen.get(collection.0).copied().unwrap_or(0)
    }

    /// The collections of which END counts more than have been taken, with END's count.
    pub(super) fn unmet<'a>(&'a self, end: &'a End) -> impl Iterator<Item = (CollectionId, u64)> + 'a {
        end.counts.iter().copied().filter(|(collection, expected)| self.seen(*collection) < *expected)
    }
}
