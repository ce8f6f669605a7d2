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
//!   open transaction the order number tells, for applied ones `source.sequence`, the xid or END's LSN (`passed`).
//! - A head of a later transaction while counts are unmet proves that events are missing: an error names the place.
//! - A transaction that begins twice may have been counted anew, and some of its events twice (`generations`): it is put
//!   together by WAL positions, once its END is known, every partition has been read to where it ended then, and the rest
//!   shows its heads. END's counts don't tell then when it is complete, and END may be there before rows that were sent
//!   before it: each table's last event tells, by its number. Where a table has several partitions, or where boundaries
//!   share one of several with rows, that can't be done, and counting anew is an error.
//! - A commit LSN at or below the watermark that never passed here (a leader restored to an older state) is an error, too:
//!   what it hides can't be told from repetitions.
//! - An event that has not arrived yet is waited for; [`Assembler::waiting_for`] says what for.
//!
//! How tables are spread over topics and partitions makes no difference: a table's partitions, or tables that share one,
//! are merged by the same numbers. The transaction topic itself may be such a shared partition.
//!
//! Without transaction metadata ([`Transactions::Absent`](crate::decode::debezium::Transactions)) there is no spine: events come out as [`Event::Loose`], each
//! partition's in its order, those at the heads by their position in the WAL.

mod advance;
mod error;
mod generations;
mod merge;
mod open;
mod passed;
mod queue;
mod queues;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use error::AssembleError;
use merge::LOOK_AHEAD;
use open::{End, Open};
use passed::Passed;
use queue::{DataQueue, Item, SpineItem, SpineQueue};
use queues::DataQueues;

use crate::decode::debezium::{Boundary, Collection, CopiedRow, DecodeError, Decoded};
use crate::vocabulary::change::Change;
use crate::vocabulary::fence::Fence;
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
    /// A change of which only its place in its partition is known.
    Loose(Change),
    /// The changes given out since the last commit repeat this applied transaction: forget them.
    Discard(Xid),
}

/// The state machine. One for each lane; knows offsets and records, no broker.
#[derive(Debug)]
pub struct Assembler {
    spine: SpineQueue,
    data: DataQueues,
    open: Option<Open>,
    passed: Passed,
    watermark: CommitLsn,
    /// Whether a table's rows may come through several partitions.
    split: bool,
    /// How many records of the transaction topic are looked at for another END of the open transaction.
    look_ahead: usize,
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
    /// An assembler that goes on after `watermark`. `spine` is the transaction topic's partition, none where transactions
    /// are absent; `repeats` are transactions known to be applied although the topics hold them ahead.
    pub fn new(spine: Option<PartitionIndex>, watermark: CommitLsn, repeats: &[Xid]) -> Self {
        Assembler {
            spine: SpineQueue::new(spine),
            data: DataQueues::default(),
            open: None,
            passed: Passed::new(repeats),
            watermark,
            split: false,
            look_ahead: LOOK_AHEAD,
        }
    }

    /// As many records of the transaction topic may wait as this, anyhow.
    pub fn set_queue_records(&mut self, records: usize) {
        self.look_ahead = records.max(LOOK_AHEAD);
    }

    /// Rows of one table may come through several partitions.
    pub fn split(&mut self) {
        self.split = true;
    }

    /// Whether [`Assembler::set_ends`] is needed to go on.
    pub fn wants_ends(&self) -> bool {
        let shares = self.shares_a_partition();
        self.open.as_ref().is_some_and(|o| o.begun_again && o.end.is_some() && o.ends.is_none() && !shares)
    }

    /// Tells the offsets after the last record of those data partitions that may still hold records of the open transaction.
    pub fn set_ends(&mut self, ends: BTreeMap<PartitionIndex, i64>) {
        if let Some(open) = &mut self.open {
            open.told(ends);
        }
    }

    /// Whether the ends that are wanted are to confirm that nothing more comes. They are to be asked a second or so after
    /// everything was read that had come, so that whatever a producer had under way has arrived.
    pub fn wants_late_ends(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.confirming)
    }

    /// The partitions that have to be read to an end and have nothing waiting, with the offset that would come next.
    pub fn unreached(&self) -> Vec<(PartitionIndex, i64)> {
        let ends = self.open.as_ref().and_then(|open| open.ends.as_ref());
        let empty = ends.into_iter().flatten().filter(|(partition, _)| self.queued(**partition).0 == 0);
        empty
            .filter_map(|(p, end)| Some((*p, self.position(*p).unwrap_or(0))).filter(|(_, at)| at < end))
            .collect()
    }

    /// A partition holds no record before its end.
    pub fn set_reached(&mut self, partition: PartitionIndex) {
        if let Some(ends) = self.open.as_mut().and_then(|open| open.ends.as_mut()) {
            ends.remove(&partition);
        }
    }

    /// Whether rows and boundaries stand in one partition.
    fn shares_a_partition(&self) -> bool {
        self.spine.partition.is_some_and(|spine| self.data.of(spine).is_some())
    }

    /// Whether a transaction that begins twice can be put together by positions.
    fn can_merge(&self) -> bool {
        !self.split && (!self.shares_a_partition() || self.data.count() == 1)
    }

    /// Learns of the copy that the replica was made from. Transactions that it covers are applied, whatever their commit
    /// LSN; they are left out without being counted, because their first records may lie before the position to go on from.
    /// None once the watermark has passed it.
    pub fn set_copied(&mut self, fence: Option<Fence>) {
        self.passed.set_copied(fence);
    }

    /// The transaction that is open; the changes given out since the last commit are its.
    pub fn open_xid(&self) -> Option<Xid> {
        self.open.as_ref().map(|open| open.xid)
    }

    /// Adds a data partition, which may be the transaction topic's at the same time. `collection` is what its events are
    /// counted under, when the topic's name tells.
    pub fn add_partition(&mut self, partition: PartitionIndex, collection: Option<&Collection>) {
        self.data.add(partition, collection);
    }

    /// Appends a record of a data partition. Records of one partition come in the order of their offsets.
    pub fn push(&mut self, partition: PartitionIndex, offset: i64, size_bytes: usize, decoded: Decoded) {
        self.data.push(partition, offset, size_bytes, decoded, &self.passed);
    }

    /// Learns of a transaction that ended before the position to go on from. What a killed connector wrote twice may
    /// still stand ahead in the tables' topics, and must not be taken for a later transaction's.
    pub fn remember(&mut self, boundary: &Boundary) {
        if let Boundary::End { xid, lsn, committed_at_ms, .. } = *boundary
            && lsn <= self.watermark
        {
            self.pass(xid, lsn, committed_at_ms);
        }
    }

    /// The same for an event of a partition where transactions are absent.
    pub fn remember_loose(&mut self, partition: PartitionIndex, decoded: &Decoded) {
        self.data.remember(partition, decoded);
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

    /// Records and bytes waiting for their turn, of one partition.
    pub fn queued(&self, partition: PartitionIndex) -> (usize, usize) {
        let spine = if self.spine.partition == Some(partition) { self.spine.len() } else { 0 };
        let (records, bytes) = self.data.of(partition).map_or((0, 0), |q| (q.len(), q.bytes()));
        (spine + records, bytes)
    }

    /// How many records of the transaction topic are to be read ahead, when another END of the open transaction may stand behind
    /// any number of others and has to be found there: the first one counts rows that were lost with the connector or are counted
    /// anew.
    pub fn looks_ahead(&self) -> Option<usize> {
        let searches = self.open.as_ref().is_some_and(|open| open.begun_again && open.end.is_some());
        searches.then_some(self.look_ahead)
    }

    /// How many repeated events have been dropped.
    pub fn duplicates(&self) -> u64 {
        self.data.duplicates
    }

    /// The partitions whose position has moved since the last call, with the first offset still needed. Of the
    /// transaction topic that is the open transaction's BEGIN.
    pub fn take_moved(&mut self) -> Vec<(PartitionIndex, i64)> {
        let mut moved = self.data.take_moved();
        let Some(spine) = self.spine.partition else { return moved };
        let begun_at = self.open.as_ref().map(|open| open.begun_at);
        let needed = match self.data.of(spine) {
            None => begun_at.unwrap_or(self.spine.position()),
            // One partition for everything: needed from the first record on that waits in either queue.
            Some(mixed) => {
                moved.retain(|(partition, _)| *partition != spine);
                let waiting = [begun_at, self.spine.head_offset(), mixed.head_offset()];
                let consumed = self.spine.position().max(mixed.position().unwrap_or(0));
                waiting.into_iter().flatten().min().unwrap_or(consumed)
            }
        };
        moved.extend(self.spine.report(needed).map(|needed| (spine, needed)));
        moved
    }

    /// The first offset still needed of one data partition; none before its first record.
    pub fn position(&self, partition: PartitionIndex) -> Option<i64> {
        self.data.of(partition).and_then(DataQueue::position)
    }

    /// Whether a data partition's next record is a streamed event: no snapshot row stands before it.
    pub fn is_streaming(&self, partition: PartitionIndex) -> bool {
        self.data.of(partition).is_some_and(|q| matches!(q.head(), Some(Item::Member(_))))
    }

    /// Whether a transaction is open, or the transaction topic has shown anything that has not been taken yet.
    pub fn has_begun(&self) -> bool {
        self.open.is_some() || self.spine.head_offset().is_some()
    }

    /// The next snapshot row, leaving transactions alone.
    pub fn next_copy(&mut self) -> Option<CopiedRow> {
        self.data.take_copy(&self.passed)
    }

    /// The next event, or none when more records are needed.
    ///
    /// # Errors
    /// When events are proven missing or contradict each other. The assembler can't go on after that.
    pub fn next_event(&mut self) -> Result<Option<Event>, AssembleError> {
        loop {
            if let Some(copy) = self.data.take_copy(&self.passed) {
                return Ok(Some(Event::Copy(copy)));
            }
            if self.spine.partition.is_none() {
                return self.next_loose();
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

    fn next_loose(&mut self) -> Result<Option<Event>, AssembleError> {
        while let Some(loose) = self.data.take_loose(&self.passed)? {
            if let Some(change) = loose.change {
                return Ok(Some(Event::Loose(change)));
            }
        }
        // What the last event covered may be a snapshot row.
        match self.data.take_copy(&self.passed) {
            Some(copy) => Ok(Some(Event::Copy(copy))),
            None => self.check_refused().map(|()| None),
        }
    }

    /// When nothing else can be done, a record that can't be understood is what everything waits for.
    ///
    /// # Errors
    /// [`AssembleError::Refused`].
    pub fn check_refused(&self) -> Result<(), AssembleError> {
        match self.data.refused() {
            Some((partition, offset, error)) => {
                Err(AssembleError::Refused { partition, offset, error: Box::new(error.clone()) })
            }
            None => Ok(()),
        }
    }

    /// Whether events of the open transaction have been taken, so that a position between them must not be stored.
    pub fn is_within_transaction(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.taken > 0)
    }

    /// Opens the next transaction, or learns the open one's END.
    fn read_spine(&mut self) -> Result<(), AssembleError> {
        let Some(partition) = self.spine.partition else { return Ok(()) };
        loop {
            let ended = self.open.as_ref().is_some_and(|open| open.end.is_some());
            let goes_on = match self.spine.head() {
                None => false,
                Some(SpineItem::Ignored) => {
                    self.spine.pop();
                    true
                }
                // Behind an END that is known everything waits until that transaction is through.
                Some(_) if ended => false,
                Some(SpineItem::Refused(error)) => {
                    let offset = self.spine.next_offset();
                    return Err(AssembleError::Refused { partition, offset, error: error.clone() });
                }
                Some(SpineItem::Boundary(Boundary::Begin { xid })) => self.begin(*xid)?,
                Some(SpineItem::Boundary(Boundary::End { xid, lsn, committed_at_ms, counts })) => {
                    let committed = Committed { xid: *xid, lsn: *lsn, committed_at_ms: *committed_at_ms };
                    let counts = counts.clone();
                    self.end(committed, &counts)?
                }
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// BEGIN at the head of the spine. Whether it was consumed.
    fn begin(&mut self, next: Xid) -> Result<bool, AssembleError> {
        let Some(open) = &self.open else {
            let offset = self.spine.pop();
            self.open = Some(Open::new(next, offset));
            return Ok(true);
        };
        // The same begins again after a connector restart: its rows repeat from number 1 and are recognised by it.
        // Another one begins within the open one: a killed connector goes back to applied ones, and comes to the open one
        // again after them.
        if open.xid != next && !self.passed.knows(next) {
            match self.spine.end_of(next) {
                // Its BEGIN proves nothing; its END does.
                None => return Ok(false),
                Some(lsn) if lsn <= self.watermark => {}
                Some(_) => {
                    let (xid, begun_at) = (open.xid, open.begun_at);
                    return Err(AssembleError::Unfinished { xid, begun_at, next });
                }
            }
        }
        self.spine.pop();
        let can_merge = self.can_merge();
        if let Some(open) = self.open.as_mut().filter(|open| open.xid == next) {
            open.begun_again |= can_merge;
        }
        Ok(true)
    }

    /// END at the head of the spine. Whether it was consumed or made a transaction open.
    fn end(&mut self, committed: Committed, counts: &[(Collection, u64)]) -> Result<bool, AssembleError> {
        let Committed { xid, lsn, committed_at_ms } = committed;
        if lsn <= self.watermark && self.passed.is_foreign(xid, lsn, committed_at_ms) {
            let watermark = self.watermark;
            return Err(AssembleError::WentBack { xid, lsn, watermark, offset: self.spine.next_offset() });
        }
        let Some(open) = &mut self.open else {
            // The connector went on inside a transaction that it had begun before its restart, and whose BEGIN this
            // assembler has already passed.
            self.open = Some(Open::new(xid, self.spine.next_offset()));
            return Ok(true);
        };
        if open.xid != xid {
            if lsn > self.watermark && !self.passed.is_copied(xid) {
                let (begun_at, next) = (open.begun_at, xid);
                return Err(AssembleError::Unfinished { xid: open.xid, begun_at, next });
            }
            self.pass(xid, lsn, committed_at_ms);
        } else {
            open.end = Some(End::new(committed, counts.iter().map(|(c, n)| (self.data.id(c), *n)).collect()));
        }
        self.spine.pop();
        Ok(true)
    }

    /// A transaction is over and applied.
    fn pass(&mut self, xid: Xid, lsn: CommitLsn, committed_at_ms: i64) {
        self.passed.note(xid, lsn, committed_at_ms);
        self.data.retire(xid, &self.passed);
    }

    /// What the open transaction lacks, in words; none between transactions.
    pub fn waiting_for(&self) -> Option<String> {
        let open = self.open.as_ref()?;
        let Some(end) = &open.end else {
            return Some(format!("transaction {} waits for its END in the transaction topic", open.xid));
        };
        if open.begun_again {
            let Some((collection, number)) = open.unended().next() else {
                return Some(format!(
                    "transaction {} was begun again; it is made sure that all of it has come",
                    open.xid
                ));
            };
            return Some(format!(
                "transaction {} was begun again, and waits for the last change of {}, number {number}",
                open.xid,
                self.data.name(collection)
            ));
        }
        let (collection, expected) = open.unmet(end).next()?;
        Some(format!(
            "transaction {} waits for changes of {}: {} of {expected} have come",
            open.xid,
            self.data.name(collection),
            open.seen(collection)
        ))
    }

    /// Tables that the open transaction counts and no partition is known for: their topics have yet to be found.
    pub fn unknown_collections(&self) -> Vec<Collection> {
        let Some(open) = &self.open else { return Vec::new() };
        let Some(end) = &open.end else { return Vec::new() };
        let unknown = |c: &_| self.data.holders(*c).next().is_none();
        open.unmet(end).map(|(c, _)| c).filter(unknown).map(|c| self.data.name(c).clone()).collect()
    }
}
