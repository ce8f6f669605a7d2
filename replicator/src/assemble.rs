//! Records of many partitions into source transactions, in commit order.
//!
//! The transaction topic is the spine: BEGIN and END in commit order, END with the commit LSN and the number of events
//! per table. Each data partition is written by one connector task in commit order, so it is a queue whose head belongs
//! to the oldest transaction that is not applied yet:
//!
//! ```text
//! spine        BEGIN 7 · END 7 {posts: 2, likes: 1} · BEGIN 8 · …
//! posts/0      (7, 1) (7, 3) (8, 1) …          transaction 7 = (7,1) (7,2) (7,3), exactly the leader's order
//! likes/0      (7, 2) …
//! ```
//!
//! For the open transaction, heads are taken by `total_order` until END's counts are met. Nothing waits for END to begin:
//! a transaction of any size flows through in pieces, and only its commit needs END. (Where a number is missing because its
//! table is not read here, the rest waits for END's counts.)
//!
//! What this relies on, and what it does when it does not hold:
//! - After a restart the connector goes back to any point that it had passed, also into the middle of a transaction, and
//!   writes everything from there on again, with the same xid and `total_order` (observed, connector 3.7): within the
//!   open transaction the order number tells, for applied ones the xid or END's LSN.
//! - A head of a later transaction while counts are unmet proves that events are missing: an error names the place.
//! - An event that has not arrived yet is waited for; [`Assembler::waiting_for`] says what for.

mod error;
mod queue;
mod recent;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use error::AssembleError;
use queue::{DataQueue, Item, SpineItem, SpineQueue};
use recent::RecentTransactions;

use crate::decode::debezium::{Boundary, Collection, CopiedRow, DecodeError, Decoded, Member};
use crate::vocabulary::change::Change;
use crate::vocabulary::lsn::{CommitLsn, Xid};
use crate::vocabulary::offset::PartitionIndex;
use crate::vocabulary::parcel::Committed;

/// What the assembler gives out, in source order.
#[derive(Debug)]
pub enum Event {
    /// A change of the open transaction.
    Change(Change),
    /// A row of a snapshot; belongs to no transaction, may come between the changes of one.
    Copy(CopiedRow),
    /// The open transaction is complete. [`Assembler::take_moved`] tells the offsets that go with it.
    Commit(Committed),
    /// The changes given out since the last commit repeat this applied transaction: forget them.
    Discard(Xid),
}

/// A transaction that has begun and not ended.
#[derive(Debug)]
struct Open {
    xid: Xid,
    /// The number of the next event in the leader's order.
    next_order: u64,
    seen: BTreeMap<Collection, u64>,
    end: Option<End>,
    /// Where its BEGIN stood, for messages.
    begun_at: i64,
    /// Applied before: its events are counted, not given out.
    repeated: bool,
    /// Whether a change was given out.
    emitted: bool,
}

#[derive(Debug)]
struct End {
    committed: Committed,
    counts: Vec<(Collection, u64)>,
}

/// The state machine. One for each lane; knows offsets and records, no broker.
#[derive(Debug)]
pub struct Assembler {
    spine: SpineQueue,
    data: Vec<DataQueue>,
    open: Option<Open>,
    recent: RecentTransactions,
    watermark: CommitLsn,
    /// The data queue that gave the last change: the next one is probably there too.
    last: usize,
    duplicates: u64,
}

/// What `next` found out about the open transaction.
enum Turn {
    Give(Event),
    /// Something was consumed that gives out nothing; look again.
    Again,
    /// Records are needed.
    Wait,
}

impl Assembler {
    /// An assembler that goes on after `watermark`. `spine` is the transaction topic's partition; `repeats` are
    /// transactions known to be applied although the topics hold them ahead.
    pub fn new(spine: PartitionIndex, watermark: CommitLsn, repeats: &[Xid]) -> Self {
        let mut recent = RecentTransactions::default();
        repeats.iter().for_each(|xid| recent.insert(*xid));
        Assembler {
            spine: SpineQueue::new(spine),
            data: Vec::new(),
            open: None,
            recent,
            watermark,
            last: 0,
            duplicates: 0,
        }
    }

    /// Adds a data partition. `collection` is what its events are counted under, when the topic tells.
    pub fn add_partition(&mut self, partition: PartitionIndex, collection: Option<Collection>) {
        self.data.push(DataQueue::new(partition, collection));
    }

    /// Appends a record of a data partition. Records of one partition come in the order of their offsets.
    pub fn push(&mut self, partition: PartitionIndex, offset: i64, size_bytes: usize, decoded: Decoded) {
        if let Some(queue) = self.data.iter_mut().find(|q| q.partition == partition) {
            queue.push(offset, size_bytes, decoded);
        }
    }

    /// Learns of a transaction that ended before the position to go on from. What a killed connector wrote twice may
    /// still stand ahead in the tables' topics, and must not be taken for a later transaction's.
    pub fn remember(&mut self, boundary: &Boundary) {
        if let Boundary::End { xid, lsn, .. } = boundary
            && *lsn <= self.watermark
        {
            self.recent.insert(*xid);
        }
    }

    /// Appends a record of the transaction topic.
    pub fn push_boundary(&mut self, offset: i64, boundary: Result<Option<Boundary>, Box<DecodeError>>) {
        let item = match boundary {
            Ok(Some(boundary)) => SpineItem::Boundary(boundary),
            Ok(None) => SpineItem::Ignored,
            Err(error) => SpineItem::Refused(error),
        };
        self.spine.push(offset, item);
    }

    /// Records and bytes waiting in a partition's queue.
    pub fn queued(&self, partition: PartitionIndex) -> (usize, usize) {
        if partition == self.spine.partition {
            return (self.spine.len(), 0);
        }
        self.data.iter().find(|q| q.partition == partition).map_or((0, 0), |q| (q.len(), q.bytes()))
    }

    /// How many repeated events have been dropped.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// The partitions whose position has moved since the last call, with the first offset still needed. Of the
    /// transaction topic that is the open transaction's BEGIN.
    pub fn take_moved(&mut self) -> Vec<(PartitionIndex, i64)> {
        let begun_at = self.open.as_ref().map(|open| open.begun_at);
        let spine = self.spine.take_moved().map(|offset| (self.spine.partition, begun_at.unwrap_or(offset)));
        let data = self.data.iter_mut().filter_map(|q| q.take_moved().map(|offset| (q.partition, offset)));
        spine.into_iter().chain(data).collect()
    }

    /// The first offset still needed of one data partition; none before its first record.
    pub fn position(&self, partition: PartitionIndex) -> Option<i64> {
        self.data.iter().find(|q| q.partition == partition).and_then(DataQueue::position)
    }

    /// The next event, or none when more records are needed.
    ///
    /// # Errors
    /// When events are proven missing or contradict each other. The assembler can't go on after that.
    pub fn next_event(&mut self) -> Result<Option<Event>, AssembleError> {
        loop {
            if let Some(copy) = self.next_copy() {
                return Ok(Some(Event::Copy(copy)));
            }
            self.read_spine()?;
            let turn = match self.open.take() {
                Some(open) => self.advance(open)?,
                None => Turn::Wait,
            };
            match turn {
                Turn::Give(event) => return Ok(Some(event)),
                Turn::Again => {}
                Turn::Wait => return self.check_refused().map(|()| None),
            }
        }
    }

    /// When nothing else can be done, a record that can't be understood is what everything waits for.
    fn check_refused(&self) -> Result<(), AssembleError> {
        for queue in &self.data {
            if let Some(Item::Refused(error)) = queue.head() {
                let (partition, offset) = (queue.partition, queue.next_offset());
                return Err(AssembleError::Refused { partition, offset, error: error.clone() });
            }
        }
        Ok(())
    }

    /// Whether events of the open transaction have been taken, so that a position between them must not be stored.
    pub fn is_within_transaction(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.seen.is_empty() && !open.repeated)
    }

    /// A snapshot row at the head of a queue, dropping what needs no decision on the way.
    fn next_copy(&mut self) -> Option<CopiedRow> {
        for queue in &mut self.data {
            while let Some(Item::Ignored) = queue.head() {
                queue.pop();
            }
            if let Some(Item::Copy(_)) = queue.head()
                && let Some(Item::Copy(row)) = queue.pop()
            {
                return Some(*row);
            }
        }
        None
    }

    /// Opens the next transaction, or learns the open one's END.
    fn read_spine(&mut self) -> Result<(), AssembleError> {
        loop {
            match (&mut self.open, self.spine.head()) {
                (_, Some(SpineItem::Ignored)) => {
                    self.spine.pop();
                }
                // Behind an END that is known it waits until that transaction is through.
                (open, Some(SpineItem::Refused(error))) if open.as_ref().is_none_or(|o| o.end.is_none()) => {
                    let error = error.clone();
                    let (partition, offset) = (self.spine.partition, self.spine.next_offset());
                    return Err(AssembleError::Refused { partition, offset, error });
                }
                (None, Some(SpineItem::Boundary(Boundary::Begin { xid }))) => {
                    let xid = *xid;
                    let offset = self.spine.pop();
                    self.open = Some(self.opened(xid, offset));
                }
                // The connector went on inside a transaction that it had begun before its restart, and whose BEGIN this
                // assembler has already passed.
                (None, Some(SpineItem::Boundary(Boundary::End { xid, .. }))) => {
                    let xid = *xid;
                    let offset = self.spine.next_offset();
                    self.open = Some(self.opened(xid, offset));
                }
                (Some(open), Some(SpineItem::Boundary(Boundary::Begin { xid })))
                    if *xid == open.xid && open.end.is_none() =>
                {
                    // Begun again after a connector restart: rows repeat from order 1 and are recognised by it.
                    self.spine.pop();
                }
                // Another transaction begins within the open one: a killed connector goes back to applied ones, and comes
                // to the open one again after them.
                (Some(open), Some(SpineItem::Boundary(Boundary::Begin { xid }))) if open.end.is_none() => {
                    let (open, next, begun_at) = (open.xid, *xid, open.begun_at);
                    if !self.recent.contains(next) {
                        match self.spine.end_of(next) {
                            // Its BEGIN proves nothing; its END does.
                            None => return Ok(()),
                            Some(lsn) if lsn <= self.watermark => self.recent.insert(next),
                            Some(_) => return Err(AssembleError::Unfinished { xid: open, begun_at, next }),
                        }
                    }
                    self.spine.pop();
                }
                (Some(open), Some(SpineItem::Boundary(Boundary::End { xid, lsn, .. })))
                    if open.end.is_none() && *xid != open.xid =>
                {
                    if *lsn > self.watermark {
                        let (begun_at, next) = (open.begun_at, *xid);
                        return Err(AssembleError::Unfinished { xid: open.xid, begun_at, next });
                    }
                    self.recent.insert(*xid);
                    self.spine.pop();
                }
                (
                    Some(open),
                    Some(SpineItem::Boundary(Boundary::End { xid, lsn, committed_at_ms, counts })),
                ) if open.end.is_none() => {
                    let committed = Committed { xid: *xid, lsn: *lsn, committed_at_ms: *committed_at_ms };
                    open.end = Some(End { committed, counts: counts.clone() });
                    open.repeated |= *lsn <= self.watermark;
                    self.spine.pop();
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
    }

    fn opened(&self, xid: Xid, begun_at: i64) -> Open {
        Open {
            xid,
            next_order: 1,
            seen: BTreeMap::new(),
            end: None,
            begun_at,
            repeated: self.recent.contains(xid),
            emitted: false,
        }
    }

    /// One turn of the open transaction, which goes back into place unless it ended.
    fn advance(&mut self, mut open: Open) -> Result<Turn, AssembleError> {
        if let Some(end) = &open.end {
            if end.committed.lsn <= self.watermark {
                self.recent.insert(open.xid);
                return Ok(if open.emitted { Turn::Give(Event::Discard(open.xid)) } else { Turn::Again });
            }
            if end.is_met_by(&open.seen) {
                let committed = end.committed;
                self.recent.insert(open.xid);
                self.watermark = committed.lsn;
                return Ok(Turn::Give(Event::Commit(committed)));
            }
        }
        let turn = match self.choose(&open)? {
            Some(queue) => self.take(&mut open, queue),
            None => Turn::Wait,
        };
        self.open = Some(open);
        Ok(turn)
    }

    /// The queue whose head comes next in the open transaction; none when that can't be known yet.
    fn choose(&mut self, open: &Open) -> Result<Option<usize>, AssembleError> {
        if self.data.get(self.last).is_some_and(|q| q.head_order(open.xid) == Some(open.next_order)) {
            return Ok(Some(self.last));
        }
        let mut best: Option<(u64, usize)> = None;
        for (index, queue) in self.data.iter_mut().enumerate() {
            self.duplicates += queue.drop_repeats(open.xid, open.next_order, &self.recent);
            if let Some(order) = queue.head_order(open.xid)
                && best.is_none_or(|(lowest, _)| order < lowest)
            {
                best = Some((order, index));
            }
        }
        match (best, &open.end) {
            (Some((order, index)), _) if order == open.next_order => Ok(Some(index)),
            // A number is left out: events of a table that is not read here, or not arrived yet. Once END is known, so are
            // all repetitions before it; then every queue that may hold the number must show its head before anything
            // later is taken. Before END nothing later is taken at all.
            (Some((_, index)), Some(end))
                if end.unmet(&open.seen).all(|(c, _)| self.holders(c).all(DataQueue::shows_its_head)) =>
            {
                Ok(Some(index))
            }
            (None, Some(end)) => self.check_missing(open, end).map(|()| None),
            _ => Ok(None),
        }
    }

    /// The partitions through which events of a collection may come: its own topic's, else those that nothing is known of;
    /// and those in which several are mixed.
    fn holders<'a>(&'a self, collection: &'a Collection) -> impl Iterator<Item = &'a DataQueue> {
        let has_own = self.data.iter().any(|q| q.is_of(collection));
        let holds = move |q: &&DataQueue| q.is_of(collection) || q.is_mixed() || (!has_own && q.is_of_any());
        self.data.iter().filter(holds)
    }

    /// No head belongs to the open transaction although END counts more: is that proof, or is a queue just empty?
    fn check_missing(&self, open: &Open, end: &End) -> Result<(), AssembleError> {
        for (collection, expected) in end.unmet(&open.seen) {
            let mut blocking = None;
            for queue in self.holders(collection) {
                // What can't be read may be what is missing; its own error says more.
                if !queue.shows_its_head() {
                    return Ok(());
                }
                blocking = Some(queue);
            }
            if let Some(queue) = blocking {
                return Err(AssembleError::Missing {
                    xid: open.xid,
                    lsn: end.committed.lsn,
                    collection: collection.clone(),
                    expected,
                    seen: open.seen.get(collection).copied().unwrap_or(0),
                    partition: queue.partition,
                    offset: queue.next_offset(),
                });
            }
        }
        Ok(())
    }

    fn take(&mut self, open: &mut Open, queue: usize) -> Turn {
        self.last = queue;
        let Some(Item::Member(Member { total_order, collection, change, .. })) = self.data[queue].pop()
        else {
            return Turn::Again;
        };
        self.data[queue].learn(&collection);
        *open.seen.entry(collection).or_insert(0) += 1;
        open.next_order = total_order + 1;
        match change {
            Some(change) if !open.repeated => {
                open.emitted = true;
                Turn::Give(Event::Change(change))
            }
            _ => Turn::Again,
        }
    }

    /// What the open transaction lacks, in words; none between transactions.
    pub fn waiting_for(&self) -> Option<String> {
        let open = self.open.as_ref()?;
        let Some(end) = &open.end else {
            return Some(format!("transaction {} waits for its END in the transaction topic", open.xid));
        };
        let (collection, expected) = end.unmet(&open.seen).next()?;
        let seen = open.seen.get(collection).copied().unwrap_or(0);
        Some(format!(
            "transaction {} waits for changes of {collection}: {seen} of {expected} have come",
            open.xid
        ))
    }

    /// Tables that the open transaction counts and no partition is known for: their topics have yet to be found.
    pub fn unknown_collections(&self) -> Vec<Collection> {
        let Some(Open { end: Some(end), seen, .. }) = &self.open else { return Vec::new() };
        let unknown = |c: &&Collection| self.holders(c).next().is_none();
        end.unmet(seen).map(|(c, _)| c).filter(unknown).cloned().collect()
    }
}

impl End {
    fn unmet<'a>(
        &'a self,
        seen: &'a BTreeMap<Collection, u64>,
    ) -> impl Iterator<Item = (&'a Collection, u64)> {
        self.counts
            .iter()
            .filter(|(collection, expected)| seen.get(collection).copied().unwrap_or(0) < *expected)
            .map(|(collection, expected)| (collection, *expected))
    }

    fn is_met_by(&self, seen: &BTreeMap<Collection, u64>) -> bool {
        self.unmet(seen).next().is_none()
    }
}
