//! The transaction that has begun and not ended.

use std::collections::BTreeMap;

use super::generations::Progress;
use super::queue::Counted;
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
    /// The position from which its last BEGIN counts.
    pub(super) begun_from: Lsn,
    /// Whether any of its events came again.
    pub(super) has_repeated: bool,
    /// Whether it began a second time, so that numbers may have begun again, too.
    pub(super) begun_again: bool,
    /// Then: up to where partitions have to be read.
    pub(super) ends: Option<BTreeMap<PartitionIndex, i64>>,
    /// How far each queue has given its events.
    progress: Vec<Progress>,
    /// With which numbers each collection's countings ended.
    tails: Vec<Tail>,
}

/// The numbers that one collection's events have.
#[derive(Debug, Clone, Default)]
struct Tail {
    last: Count,
    /// With which numbers earlier attempts to write them ended.
    ended: Vec<Count>,
}

/// An event's numbers, and the position of the one that was counted as the first.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    number: u64,
    /// Its number in the transaction.
    total: u64,
    from: Lsn,
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
    pub(super) fn new(xid: Xid, begun_at: i64, begun_from: Lsn) -> Self {
        Open {
            xid,
            next_order: 1,
            last_lsn: Lsn::default(),
            taken: 0,
            seen: Vec::new(),
            end: None,
            begun_at,
            begun_from,
            emitted: false,
            has_repeated: false,
            begun_again: false,
            ends: None,
            progress: Vec::new(),
            tails: Vec::new(),
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

    /// Whether a queue's head repeats an event that was taken.
    pub(super) fn is_repeated(&self, slot: usize, head: &Counted) -> bool {
        let again =
            self.tails.get(head.collection.0).is_some_and(|tail| head.table_order <= tail.last.number);
        self.progress.get(slot).is_some_and(|p| p.is_repeated(head.total_order, head.lsn, again))
    }

    /// A queue's head was taken or dropped.
    pub(super) fn passed(&mut self, slot: usize, event: &Counted) {
        if self.progress.len() <= slot {
            self.progress.resize(slot + 1, Progress::default());
        }
        if self.tails.len() <= event.collection.0 {
            self.tails.resize(event.collection.0 + 1, Tail::default());
        }
        let Tail { last, ended } = &mut self.tails[event.collection.0];
        let again = event.table_order <= last.number;
        self.progress[slot].pass(event.total_order, event.lsn, again);
        if again {
            ended.push(*last);
        }
        // Who counts on has counted from where the attempt before it did.
        let from = if event.table_order == 1 { event.lsn } else { last.from };
        *last = Count { number: event.table_order, total: event.total_order, from };
    }

    /// The collections whose last event has not been seen, with the number that END says it has. Whichever way an attempt
    /// counts, its last event of a collection has the number that its END gives as their count. Where an attempt has counted
    /// from an earlier event on than the last BEGIN, its numbers mean others.
    pub(super) fn unended<'a>(&'a self, end: &'a End) -> impl Iterator<Item = (CollectionId, u64)> + 'a {
        end.counts.iter().copied().filter(move |of| self.lasts(*of, end).next().is_none())
    }

    /// Whether the last event of all has been seen: the one that has END's total as its number.
    pub(super) fn has_last(&self, end: &End) -> bool {
        end.total == 0
            || end.counts.iter().any(|of| self.lasts(*of, end).any(|count| count.total == end.total))
    }

    /// The events that may be the last one of a collection.
    fn lasts(&self, (collection, number): (CollectionId, u64), end: &End) -> impl Iterator<Item = &Count> {
        let counts =
            self.tails.get(collection.0).into_iter().flat_map(|tail| tail.ended.iter().chain([&tail.last]));
        let total = end.total;
        counts.filter(move |count| {
            count.number == number && count.total <= total && count.from >= self.begun_from
        })
    }

    pub(super) fn seen(&self, collection: CollectionId) -> u64 {
        self.seen.get(collection.0).copied().unwrap_or(0)
    }

    /// The collections of which END counts more than have been taken, with END's count.
    pub(super) fn unmet<'a>(&'a self, end: &'a End) -> impl Iterator<Item = (CollectionId, u64)> + 'a {
        end.counts.iter().copied().filter(|(collection, expected)| self.seen(*collection) < *expected)
    }
}
