//! The queues that stand for partitions. Each knows its position: the first offset that is still needed.

use std::collections::VecDeque;

use super::queues::CollectionId;
use crate::decode::debezium::{Boundary, Collection, CopiedRow, DecodeError, Loose};
use crate::vocabulary::change::Change;
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use crate::vocabulary::offset::PartitionIndex;

/// A record in a data queue.
#[derive(Debug)]
pub(super) enum Item {
    Member(Counted),
    Loose(Loose),
    Copy(Box<CopiedRow>),
    Ignored,
    Refused(Box<DecodeError>),
}

/// A [`Member`](crate::decode::debezium::Member) whose collection is known by its number.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) xid: Xid,
    pub(super) total_order: u64,
    pub(super) table_order: u64,
    pub(super) lsn: Lsn,
    pub(super) after: Option<CommitLsn>,
    pub(super) collection: CollectionId,
    pub(super) change: Option<Change>,
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    size_bytes: usize,
    item: Item,
}

/// A partition of a table topic, of the message topic, or of a topic in which several are mixed.
#[derive(Debug)]
pub(super) struct DataQueue {
    pub(super) partition: PartitionIndex,
    entries: VecDeque<Entry>,
    bytes: usize,
    position: Option<i64>,
    /// Whether the position has moved since it was last asked for.
    pub(super) moved: bool,
    /// What the topic's name says that it holds.
    pub(super) named: Option<CollectionId>,
    /// What has come through it.
    carried: Vec<CollectionId>,
    /// What came through it last: events of one table mostly follow each other.
    pub(super) last_carried: Option<(Collection, CollectionId)>,
    /// The furthest source position that a loose event had, and when it was committed.
    pub(super) furthest: Option<(CommitLsn, Lsn, i64)>,
}

impl DataQueue {
    pub(super) fn new(partition: PartitionIndex, named: Option<CollectionId>) -> Self {
        DataQueue {
            partition,
            entries: VecDeque::new(),
            bytes: 0,
            position: None,
            moved: false,
            named,
            carried: Vec::new(),
            last_carried: None,
            furthest: None,
        }
    }

    pub(super) fn push(&mut self, offset: i64, size_bytes: usize, item: Item) {
        self.bytes += size_bytes;
        self.entries.push_back(Entry { offset, size_bytes, item });
    }

    pub(super) fn head(&self) -> Option<&Item> {
        self.entries.front().map(|e| &e.item)
    }

    /// The head, when it is an event of this transaction.
    pub(super) fn head_of(&self, xid: Xid) -> Option<&Counted> {
        match self.head() {
            Some(Item::Member(member)) if member.xid == xid => Some(member),
            _ => None,
        }
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.size_bytes;
        self.position = Some(entry.offset + 1);
        Some(entry.item)
    }

    pub(super) fn carries(&mut self, collection: CollectionId) {
        if !self.carried.contains(&collection) {
            self.carried.push(collection);
        }
    }

    /// Whether it is known that events of the collection come through this partition.
    pub(super) fn is_of(&self, collection: CollectionId) -> bool {
        self.named == Some(collection) || self.carried.contains(&collection)
    }

    /// Whether there is a record at its head, and it is known what of.
    pub(super) fn shows_its_head(&self) -> bool {
        !matches!(self.head(), None | Some(Item::Refused(_)))
    }

    /// Whether all that stands before `end` has come: what waits is shown by the head.
    pub(super) fn is_read_to(&self, end: i64) -> bool {
        match self.head() {
            Some(Item::Refused(_)) => false,
            Some(_) => true,
            None => self.position.unwrap_or(0) >= end,
        }
    }

    /// Where the furthest loose event stood and when it was committed, if this one stands before it.
    pub(super) fn furthest_if_behind(&self, loose: &Loose) -> Option<(Lsn, i64)> {
        let (furthest, lsn, at_ms) = self.furthest?;
        let is_behind = match loose.after {
            Some(after) => (after, loose.lsn) < (furthest, lsn),
            // Of the first transaction that a connector has seen end: before everything behind that end.
            None => loose.lsn < furthest.0.max(lsn),
        };
        is_behind.then_some((lsn, at_ms))
    }

    /// This event is the furthest now.
    pub(super) fn go_to(&mut self, loose: &Loose, at_ms: i64) {
        let known = self.furthest.map(|(furthest, ..)| furthest);
        self.furthest = Some((loose.after.or(known).unwrap_or_default(), loose.lsn, at_ms));
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn position(&self) -> Option<i64> {
        self.position
    }

    pub(super) fn head_offset(&self) -> Option<i64> {
        self.entries.front().map(|e| e.offset)
    }

    /// The head's offset, else the one after the last consumed record.
    pub(super) fn next_offset(&self) -> i64 {
        self.head_offset().or(self.position).unwrap_or(0)
    }
}

/// A record of the transaction topic.
#[derive(Debug)]
pub(super) enum SpineItem {
    Boundary(Boundary),
    /// A record without a meaning, such as a tombstone.
    Ignored,
    Refused(Box<DecodeError>),
}

/// The transaction topic's partition.
#[derive(Debug)]
pub(super) struct SpineQueue {
    /// None where transactions are absent.
    pub(super) partition: Option<PartitionIndex>,
    entries: VecDeque<(i64, SpineItem)>,
    position: i64,
    /// What was last given out as the first offset still needed.
    reported: i64,
    /// The transaction, by its BEGIN's offset, whose further ENDs were looked for last, and up to which offset.
    searched: (i64, i64),
}

impl SpineQueue {
    pub(super) fn new(partition: Option<PartitionIndex>) -> Self {
        SpineQueue { partition, entries: VecDeque::new(), position: 0, reported: 0, searched: (-1, -1) }
    }

    pub(super) fn push(&mut self, offset: i64, item: SpineItem) {
        self.entries.push_back((offset, item));
    }

    pub(super) fn head(&self) -> Option<&SpineItem> {
        self.entries.front().map(|(_, item)| item)
    }

    /// Consumes the head and returns its offset.
    pub(super) fn pop(&mut self) -> i64 {
        if let Some((offset, _)) = self.entries.pop_front() {
            self.position = offset + 1;
        }
        self.position - 1
    }

    pub(super) fn head_offset(&self) -> Option<i64> {
        self.entries.front().map(|(offset, _)| *offset)
    }

    /// The head's offset, else the one after the last consumed record.
    pub(super) fn next_offset(&self) -> i64 {
        self.head_offset().unwrap_or(self.position)
    }

    /// The one after the last consumed record.
    pub(super) fn position(&self) -> i64 {
        self.position
    }

    /// The commit LSN of a transaction whose END waits in the queue.
    pub(super) fn end_of(&self, wanted: Xid) -> Option<CommitLsn> {
        self.ends_from(0, wanted).next().map(|(_, lsn, _)| lsn)
    }

    /// What the next END counts of the transaction that began at this offset; each is given out once. A queue may be long, and
    /// this is asked for every event: what was searched is not searched again.
    pub(super) fn next_end_of(&mut self, wanted: Xid, begun_at: i64) -> Option<Vec<(Collection, u64)>> {
        let from = if self.searched.0 == begun_at { self.searched.1 + 1 } else { 0 };
        let first = self.entries.partition_point(|(offset, _)| *offset < from);
        let found = self.ends_from(first, wanted).next().map(|(offset, _, counts)| (offset, counts.to_vec()));
        let last = self.entries.back().map_or(-1, |(offset, _)| *offset);
        self.searched = (begun_at, found.as_ref().map_or(last, |(offset, _)| *offset));
        found.map(|(_, counts)| counts)
    }

    /// The ENDs of a transaction that wait in the queue: offset, commit LSN and counts.
    fn ends_from(
        &self,
        first: usize,
        wanted: Xid,
    ) -> impl Iterator<Item = (i64, CommitLsn, &[(Collection, u64)])> {
        self.entries.range(first..).filter_map(move |(offset, item)| match item {
            SpineItem::Boundary(Boundary::End { xid, lsn, counts, .. }) if *xid == wanted => {
                Some((*offset, *lsn, counts.as_slice()))
            }
            _ => None,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The first offset still needed, when it is another one than last time. Not whether anything was consumed: a
    /// transaction's end moves it from its BEGIN to behind its END, which may have been consumed long before.
    pub(super) fn report(&mut self, needed: i64) -> Option<i64> {
        (std::mem::replace(&mut self.reported, needed) != needed).then_some(needed)
    }
}
