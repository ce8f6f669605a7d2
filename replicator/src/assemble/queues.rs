//! All data queues, with an index of their heads: the next event of a transaction is found without looking at every
//! partition.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};

use super::AssembleError;
use super::passed::Passed;
use super::queue::{Counted, DataQueue, Item};
use crate::decode::debezium::{Collection, CopiedRow, DecodeError, Decoded, Loose};
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use crate::vocabulary::offset::PartitionIndex;

/// A collection's number: small, and compared without looking at its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CollectionId(pub(super) usize);

/// How much later than the furthest event one may have been committed that is still taken for an older one.
const CLOCK_SLACK_MS: i64 = 10_000;

#[derive(Debug, Default)]
pub(super) struct DataQueues {
    queues: Vec<DataQueue>,
    /// A partition's place in `queues`.
    slots: Vec<Option<usize>>,
    names: Vec<Collection>,
    ids: HashMap<Collection, CollectionId>,
    /// Heads that belong to transactions: number and queue, lowest number first. An entry whose head is gone is skipped.
    heads: HashMap<Xid, BinaryHeap<Reverse<(u64, usize)>>>,
    /// Queues with a snapshot row at their head.
    copies: VecDeque<usize>,
    /// Queues with a loose event at their head, by source position.
    loose: BTreeSet<(Option<CommitLsn>, Lsn, usize)>,
    /// The queue that gave the last event: its new head is not in the index yet, because it mostly comes next.
    uncovered: Option<usize>,
    moved: Vec<usize>,
    refused: usize,
    pub(super) duplicates: u64,
}

impl DataQueues {
    pub(super) fn add(&mut self, partition: PartitionIndex, named: Option<&Collection>) {
        let named = named.map(|collection| self.id(collection));
        if self.slots.len() <= partition.get() {
            self.slots.resize(partition.get() + 1, None);
        }
        self.slots[partition.get()] = Some(self.queues.len());
        self.queues.push(DataQueue::new(partition, named));
    }

    pub(super) fn of(&self, partition: PartitionIndex) -> Option<&DataQueue> {
        self.slots.get(partition.get()).copied().flatten().map(|slot| &self.queues[slot])
    }

    pub(super) fn id(&mut self, collection: &Collection) -> CollectionId {
        if let Some(id) = self.ids.get(collection) {
            return *id;
        }
        let id = CollectionId(self.names.len());
        self.names.push(collection.clone());
        self.ids.insert(collection.clone(), id);
        id
    }

    pub(super) fn name(&self, id: CollectionId) -> &Collection {
        &self.names[id.0]
    }

    pub(super) fn push(
        &mut self,
        partition: PartitionIndex,
        offset: i64,
        size_bytes: usize,
        decoded: Decoded,
        passed: &Passed,
    ) {
        let Some(slot) = self.slots.get(partition.get()).copied().flatten() else { return };
        let item = match decoded {
            Decoded::Member(member) => {
                let collection = self.carried(slot, &member.collection);
                Item::Member(Counted {
                    xid: member.xid,
                    total_order: member.total_order,
                    table_order: member.table_order,
                    lsn: member.lsn,
                    after: member.after,
                    collection,
                    change: member.change,
                })
            }
            Decoded::Loose(loose) => Item::Loose(loose),
            Decoded::Copy(row) => Item::Copy(Box::new(row)),
            Decoded::Ignored => Item::Ignored,
            Decoded::Refused(error) => {
                self.refused += 1;
                Item::Refused(error)
            }
        };
        let was_empty = self.queues[slot].len() == 0;
        self.queues[slot].push(offset, size_bytes, item);
        if was_empty && self.uncovered != Some(slot) {
            self.index(slot, passed);
        }
    }

    fn carried(&mut self, slot: usize, collection: &Collection) -> CollectionId {
        if let Some((last, id)) = &self.queues[slot].last_carried
            && last.is_same(collection)
        {
            return *id;
        }
        let id = self.id(collection);
        self.queues[slot].carries(id);
        self.queues[slot].last_carried = Some((collection.clone(), id));
        id
    }

    /// Puts a queue's head into the index, dropping what needs no decision on the way.
    fn index(&mut self, slot: usize, passed: &Passed) {
        loop {
            match self.queues[slot].head() {
                None | Some(Item::Refused(_)) => return,
                Some(Item::Ignored) => {}
                Some(Item::Copy(_)) => return self.copies.push_back(slot),
                Some(Item::Loose(loose)) => {
                    self.loose.insert((loose.after, loose.lsn, slot));
                    return;
                }
                Some(Item::Member(member)) if passed.includes(member.xid, member.after) => {
                    self.duplicates += 1;
                }
                Some(Item::Member(member)) => {
                    let (xid, order) = (member.xid, member.total_order);
                    self.heads.entry(xid).or_default().push(Reverse((order, slot)));
                    return;
                }
            }
            self.pop(slot);
        }
    }

    fn pop(&mut self, slot: usize) -> Option<Item> {
        let queue = &mut self.queues[slot];
        if !std::mem::replace(&mut queue.moved, true) {
            self.moved.push(slot);
        }
        queue.pop()
    }

    /// Takes a head and remembers that the next one is not in the index.
    fn uncover(&mut self, slot: usize, passed: &Passed) -> Option<Item> {
        self.cover(passed);
        self.uncovered = Some(slot);
        self.pop(slot)
    }

    fn cover(&mut self, passed: &Passed) {
        if let Some(slot) = self.uncovered.take() {
            self.index(slot, passed);
        }
    }

    /// A snapshot row at the head of a queue.
    pub(super) fn take_copy(&mut self, passed: &Passed) -> Option<CopiedRow> {
        if let Some(slot) = self.uncovered
            && !matches!(self.queues[slot].head(), Some(Item::Member(_)))
        {
            self.cover(passed);
        }
        let slot = self.copies.pop_front()?;
        let taken = self.pop(slot);
        // At once: what follows a row of an incremental snapshot may be of a transaction that is over and begins again.
        self.index(slot, passed);
        let Some(Item::Copy(row)) = taken else { return None };
        if row.begins_history() {
            self.queues[slot].furthest = None;
        }
        Some(*row)
    }

    /// The loose event with the lowest source position among the heads, without those that come again.
    ///
    /// # Errors
    /// When positions go back while the leader's clock goes on.
    pub(super) fn take_loose(&mut self, passed: &Passed) -> Result<Option<Loose>, AssembleError> {
        loop {
            self.cover(passed);
            let Some((_, _, slot)) = self.loose.pop_first() else { return Ok(None) };
            let offset = self.queues[slot].next_offset();
            let Some(Item::Loose(loose)) = self.uncover(slot, passed) else { continue };
            if !self.is_repeated(slot, offset, &loose)? {
                return Ok(Some(loose));
            }
            self.duplicates += 1;
        }
    }

    /// Whether a partition's events went back to before this one; advances how far they have come.
    fn is_repeated(&mut self, slot: usize, offset: i64, loose: &Loose) -> Result<bool, AssembleError> {
        let queue = &mut self.queues[slot];
        // Without it it can't be told; what is applied again is better than what is not applied.
        let Some(at_ms) = loose.committed_at_ms else { return Ok(false) };
        let Some((from, furthest_ms)) = queue.furthest_if_behind(loose) else {
            queue.go_to(loose, at_ms);
            return Ok(false);
        };
        if at_ms > furthest_ms.saturating_add(CLOCK_SLACK_MS) {
            let partition = queue.partition;
            return Err(AssembleError::PositionWentBack { partition, offset, from, to: loose.lsn });
        }
        Ok(true)
    }

    /// Learns of an event that was applied before the position to go on from.
    pub(super) fn remember(&mut self, partition: PartitionIndex, decoded: &Decoded) {
        let Some(slot) = self.slots.get(partition.get()).copied().flatten() else { return };
        let queue = &mut self.queues[slot];
        match decoded {
            Decoded::Loose(loose) => {
                if let Some(at_ms) = loose.committed_at_ms
                    && queue.furthest_if_behind(loose).is_none()
                {
                    queue.go_to(loose, at_ms);
                }
            }
            Decoded::Copy(row) if row.begins_history() => queue.furthest = None,
            _ => {}
        }
    }

    /// The head with the lowest number in a transaction: the number and its queue. `next` is the number that is wanted.
    pub(super) fn lowest(&mut self, xid: Xid, next: u64, passed: &Passed) -> Option<(u64, usize)> {
        if let Some(slot) = self.uncovered {
            if self.queues[slot].head_of(xid).is_some_and(|m| m.total_order == next) {
                return Some((next, slot));
            }
            self.cover(passed);
        }
        let heads = self.heads.get_mut(&xid)?;
        while let Some(&Reverse((order, slot))) = heads.peek() {
            if self.queues[slot].head_of(xid).is_some_and(|m| m.total_order == order) {
                return Some((order, slot));
            }
            heads.pop();
        }
        None
    }

    /// Takes the head that [`DataQueues::lowest`] found.
    pub(super) fn take(&mut self, slot: usize, passed: &Passed) -> Option<Counted> {
        if self.uncovered == Some(slot) {
            self.uncovered = None;
        }
        match self.uncover(slot, passed) {
            Some(Item::Member(member)) => Some(member),
            _ => None,
        }
    }

    /// A queue's head, when it is an event of this transaction.
    pub(super) fn head_of(&self, slot: usize, xid: Xid) -> Option<&Counted> {
        self.queues[slot].head_of(xid)
    }

    /// The queue whose head has the lowest position in a transaction.
    pub(super) fn lowest_position(&mut self, xid: Xid, passed: &Passed) -> Option<usize> {
        self.cover(passed);
        let heads =
            self.queues.iter().enumerate().filter_map(|(slot, queue)| Some((slot, queue.head_of(xid)?)));
        heads.min_by_key(|(_, head)| (head.lsn, head.total_order)).map(|(slot, _)| slot)
    }

    pub(super) fn count(&self) -> usize {
        self.queues.len()
    }

    /// Where a queue's head stands.
    pub(super) fn place(&self, slot: usize) -> (PartitionIndex, i64) {
        (self.queues[slot].partition, self.queues[slot].next_offset())
    }

    /// Heads of a transaction that is over are repetitions.
    pub(super) fn retire(&mut self, xid: Xid, passed: &Passed) {
        self.cover(passed);
        for Reverse((order, slot)) in self.heads.remove(&xid).into_iter().flatten() {
            if self.queues[slot].head_of(xid).is_some_and(|m| m.total_order == order) {
                self.duplicates += 1;
                self.pop(slot);
                self.index(slot, passed);
            }
        }
    }

    /// The partitions through which events of a collection may come: its own topic's and those through which some have
    /// come; where it has no topic of its own, those of all topics that are not named after another collection.
    pub(super) fn holders(&self, collection: CollectionId) -> impl Iterator<Item = &DataQueue> {
        let has_own = self.queues.iter().any(|q| q.named == Some(collection));
        self.queues.iter().filter(move |q| q.is_of(collection) || (!has_own && q.named.is_none()))
    }

    /// Drops repetitions that were not known to be some when they came to the head of their queue. Whether there were any.
    pub(super) fn drop_repeats(&mut self, passed: &Passed) -> bool {
        let before = self.duplicates;
        self.cover(passed);
        for slot in 0..self.queues.len() {
            if let Some(Item::Member(member)) = self.queues[slot].head()
                && passed.includes(member.xid, member.after)
            {
                // Its entry in the index finds another head, and is skipped.
                self.index(slot, passed);
            }
        }
        self.duplicates != before
    }

    /// A record at the head of a queue that can't be understood, and where it stands.
    pub(super) fn refused(&self) -> Option<(PartitionIndex, i64, &DecodeError)> {
        if self.refused == 0 {
            return None;
        }
        self.queues.iter().find_map(|q| match q.head() {
            Some(Item::Refused(error)) => Some((q.partition, q.next_offset(), &**error)),
            _ => None,
        })
    }

    /// The queues whose position has moved since the last call.
    pub(super) fn take_moved(&mut self) -> Vec<(PartitionIndex, i64)> {
        self.moved.sort_unstable();
        let mut moved = Vec::with_capacity(self.moved.len());
        for slot in self.moved.drain(..) {
            let queue = &mut self.queues[slot];
            queue.moved = false;
            moved.extend(queue.position().map(|position| (queue.partition, position)));
        }
        moved
    }
}
