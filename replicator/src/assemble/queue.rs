//! The queues that stand for partitions. Each knows its position: the first offset that is still needed.

use std::collections::VecDeque;

use super::recent::RecentTransactions;
use crate::decode::debezium::{Boundary, Collection, CopiedRow, DecodeError, Decoded, Member};
use crate::vocabulary::lsn::{CommitLsn, Xid};
use crate::vocabulary::offset::PartitionIndex;

/// A record in a data queue.
#[derive(Debug)]
pub(super) enum Item {
    Member(Member),
    Copy(Box<CopiedRow>),
    Ignored,
    Refused(Box<DecodeError>),
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    size_bytes: usize,
    item: Item,
}

/// A partition of a table topic or of the message topic.
#[derive(Debug)]
pub(super) struct DataQueue {
    pub(super) partition: PartitionIndex,
    entries: VecDeque<Entry>,
    bytes: usize,
    position: Option<i64>,
    moved: bool,
    collection: Option<Collection>,
    /// Whether events of several tables have come through it: a routed topic.
    mixed: bool,
}

impl DataQueue {
    pub(super) fn new(partition: PartitionIndex, collection: Option<Collection>) -> Self {
        DataQueue {
            partition,
            entries: VecDeque::new(),
            bytes: 0,
            position: None,
            moved: false,
            collection,
            mixed: false,
        }
    }

    pub(super) fn push(&mut self, offset: i64, size_bytes: usize, decoded: Decoded) {
        let item = match decoded {
            Decoded::Member(member) => Item::Member(member),
            Decoded::Copy(row) => Item::Copy(Box::new(row)),
            Decoded::Ignored => Item::Ignored,
            Decoded::Refused(error) => Item::Refused(error),
        };
        self.bytes += size_bytes;
        self.entries.push_back(Entry { offset, size_bytes, item });
    }

    pub(super) fn head(&self) -> Option<&Item> {
        self.entries.front().map(|e| &e.item)
    }

    /// The head's number in the transaction, when it belongs to it.
    pub(super) fn head_order(&self, xid: Xid) -> Option<u64> {
        match self.head() {
            Some(Item::Member(member)) if member.xid == xid => Some(member.total_order),
            _ => None,
        }
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.size_bytes;
        self.position = Some(entry.offset + 1);
        self.moved = true;
        Some(entry.item)
    }

    /// Drops what a restarted connector sent again, and what needs no decision. Returns how many were repeats.
    pub(super) fn drop_repeats(&mut self, open: Xid, next_order: u64, recent: &RecentTransactions) -> u64 {
        let mut dropped = 0;
        loop {
            match self.head() {
                Some(Item::Ignored) => {}
                Some(Item::Member(m)) if m.xid == open && m.total_order < next_order => dropped += 1,
                Some(Item::Member(m)) if m.xid != open && recent.contains(m.xid) => dropped += 1,
                _ => return dropped,
            }
            self.pop();
        }
    }

    /// Remembers what the partition holds, from what came out of it.
    pub(super) fn learn(&mut self, collection: &Collection) {
        match &self.collection {
            None if !self.mixed => self.collection = Some(collection.clone()),
            Some(known) if known != collection => {
                self.collection = None;
                self.mixed = true;
            }
            _ => {}
        }
    }

    /// Whether this is the partition of the collection's own topic.
    pub(super) fn is_of(&self, collection: &Collection) -> bool {
        self.collection.as_ref() == Some(collection)
    }

    /// Whether events of any collection may come through this partition: a routed topic, or one that nothing is known of.
    pub(super) fn is_of_any(&self) -> bool {
        self.collection.is_none()
    }

    /// Whether events of several collections have come through it.
    pub(super) fn is_mixed(&self) -> bool {
        self.mixed
    }

    /// Whether there is a record at its head, and it is known what of.
    pub(super) fn shows_its_head(&self) -> bool {
        !matches!(self.head(), None | Some(Item::Refused(_)))
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

    /// The head's offset, else the one after the last consumed record.
    pub(super) fn next_offset(&self) -> i64 {
        self.entries.front().map_or_else(|| self.position.unwrap_or(0), |e| e.offset)
    }

    pub(super) fn take_moved(&mut self) -> Option<i64> {
        if std::mem::take(&mut self.moved) { self.position } else { None }
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
    pub(super) partition: PartitionIndex,
    entries: VecDeque<(i64, SpineItem)>,
    position: i64,
    moved: bool,
}

impl SpineQueue {
    pub(super) fn new(partition: PartitionIndex) -> Self {
        SpineQueue { partition, entries: VecDeque::new(), position: 0, moved: false }
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
            self.moved = true;
        }
        self.position - 1
    }

    pub(super) fn next_offset(&self) -> i64 {
        self.entries.front().map_or(self.position, |(offset, _)| *offset)
    }

    /// The commit LSN of a transaction whose END waits in the queue.
    pub(super) fn end_of(&self, wanted: Xid) -> Option<CommitLsn> {
        self.entries.iter().find_map(|(_, item)| match item {
            SpineItem::Boundary(Boundary::End { xid, lsn, .. }) if *xid == wanted => Some(*lsn),
            _ => None,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn take_moved(&mut self) -> Option<i64> {
        std::mem::take(&mut self.moved).then_some(self.position)
    }
}
