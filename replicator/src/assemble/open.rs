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
    /// Whether any of its events came again.
    pub(super) has_repeated: bool,
    /// Whether it began a second time, so that numbers may have begun again, too.
    pub(super) begun_again: bool,
    /// Then: up to where partitions have to be read.
    pub(super) ends: Option<BTreeMap<PartitionIndex, i64>>,
    /// Whether the next ends are to confirm that nothing more comes.
    pub(super) confirming: bool,
    /// How many heads had been passed when that was confirmed.
    confirmed_at: Option<u64>,
    /// Heads passed: taken or dropped.
    passes: u64,
    /// Further ENDs of it, which stand ahead in the transaction topic.
    pub(super) more_ends: Vec<End>,
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

/// An event's numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    /// In its table.
    number: u64,
    /// In the transaction.
    total: u64,
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

impl End {
    pub(super) fn new(committed: Committed, counts: Vec<(CollectionId, u64)>) -> Self {
        let total = counts.iter().map(|(_, n)| n).sum();
        End { committed, counts, total }
    }
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
            has_repeated: false,
            begun_again: false,
            ends: None,
            confirming: false,
            confirmed_at: None,
            passes: 0,
            more_ends: Vec::new(),
            progress: Vec::new(),
            tails: Vec::new(),
        }
    }

    /// Learns up to where the partitions hold records.
    pub(super) fn told(&mut self, ends: BTreeMap<PartitionIndex, i64>) {
        self.ends = Some(ends);
        if std::mem::take(&mut self.confirming) {
            self.confirmed_at = Some(self.passes);
        }
    }

    /// Whether nothing has come since it was confirmed that nothing more comes.
    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed_at == Some(self.passes)
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
        *last = Count { number: event.table_order, total: event.total_order };
        self.passes += 1;
    }

    /// All ENDs that are known of it.
    fn known_ends(&self) -> impl Iterator<Item = &End> {
        self.end.iter().chain(&self.more_ends)
    }

    /// The collections that the last known END counts and whose last event has not been seen, with the number that it says
    /// this one has. Whichever way an attempt counts, its last event of a collection has the number that its END gives as
    /// their count.
    pub(super) fn unended(&self) -> impl Iterator<Item = (CollectionId, u64)> {
        self.more_ends.last().or(self.end.as_ref()).into_iter().flat_map(|end| self.unended_of(end))
    }

    fn unended_of(&self, end: &End) -> impl Iterator<Item = (CollectionId, u64)> {
        end.counts.iter().copied().filter(|(collection, _)| self.lasts(*collection).next().is_none())
    }

    /// Whether the last event of each collection that one of the ENDs counts has been seen, and the last of all: the one that
    /// has its END's total as its number. What an END does not count had been stored before it.
    pub(super) fn is_complete(&self) -> bool {
        let mut counted = self.known_ends().flat_map(|end| &end.counts);
        let has_last = counted.any(|(collection, _)| self.lasts(*collection).any(|is_of_all| is_of_all));
        let is_ended = |end: &End| (has_last || end.total == 0) && self.unended_of(end).next().is_none();
        self.known_ends().any(is_ended)
    }

    /// The events that may be the last one of a collection, by one of the ENDs: whether it is the last of all by it.
    fn lasts(&self, collection: CollectionId) -> impl Iterator<Item = bool> {
        let counts =
            self.tails.get(collection.0).into_iter().flat_map(|tail| tail.ended.iter().chain([&tail.last]));
        counts.flat_map(move |count| {
            let counts_so = move |end: &&End| {
                count.total <= end.total && end.counts.contains(&(collection, count.number))
            };
            self.known_ends().filter(counts_so).map(move |end| count.total == end.total)
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
