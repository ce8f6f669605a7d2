//! What comes next in the open transaction.

use super::error::AssembleError;
use super::open::{End, Open};
use super::queue::DataQueue;
use super::queues::CollectionId;
use super::{Assembler, Event, Turn};
use crate::vocabulary::parcel::Committed;

/// What is to be done with the heads.
pub(super) enum Choice {
    /// This queue's head comes next.
    Take(usize),
    /// This queue's head may be a repetition within the transaction.
    Drop(usize),
    /// The transaction is complete.
    Commit(Committed),
    /// Repetitions were dropped; look again.
    Again,
    /// Numbers contradict each other: the transaction was begun again.
    BegunAgain,
    /// It is complete, or can't become so, unless something is under way: that is to be found out.
    Confirm,
    /// Another END counts the events that have come.
    AnotherEnd(End),
    /// It can't be known yet.
    Wait,
}

impl Assembler {
    /// One turn of the open transaction, which goes back into place unless it ended.
    pub(super) fn advance(&mut self, mut open: Open) -> Result<Turn, AssembleError> {
        if let Some(end) = &open.end {
            let Committed { xid, lsn, committed_at_ms } = end.committed;
            if lsn <= self.watermark || self.passed.is_copied(xid) {
                self.pass(xid, lsn, committed_at_ms);
                return Ok(if open.emitted { Turn::Give(Event::Discard(xid)) } else { Turn::Again });
            }
        }
        let choice = if open.begun_again { self.choose_by_position(&open)? } else { self.choose(&open)? };
        let turn = match choice {
            Choice::Take(slot) => self.take(&mut open, slot),
            Choice::Drop(slot) => self.drop_repeat(&mut open, slot)?,
            Choice::Again => Turn::Again,
            Choice::BegunAgain => {
                open.begun_again = true;
                Turn::Again
            }
            Choice::Confirm => {
                (open.confirming, open.ends) = (true, None);
                Turn::Wait
            }
            Choice::AnotherEnd(end) => {
                // Asked anew: what was stored before the connector went on had to be there by then.
                open.ends = None;
                open.more_ends.push(end);
                Turn::Wait
            }
            Choice::Wait => Turn::Wait,
            Choice::Commit(committed) => {
                self.watermark = committed.lsn;
                self.pass(committed.xid, committed.lsn, committed.committed_at_ms);
                return Ok(Turn::Give(Event::Commit(committed)));
            }
        };
        self.open = Some(open);
        Ok(turn)
    }

    /// As many events as END counts were taken: the same of each table?
    fn check_counts(&self, open: &Open, end: &End) -> Result<(), AssembleError> {
        let mut wrong = end.counts.iter().filter(|(collection, n)| open.seen(*collection) != *n);
        let (name, expected, seen) = match wrong.next() {
            Some((collection, expected)) => {
                (self.data.name(*collection).to_string(), *expected, open.seen(*collection))
            }
            None if open.taken != end.total => ("all tables".to_owned(), end.total, open.taken),
            None => return Ok(()),
        };
        Err(AssembleError::Miscounted { xid: open.xid, lsn: end.committed.lsn, name, expected, seen })
    }

    /// What comes next in the open transaction.
    fn choose(&mut self, open: &Open) -> Result<Choice, AssembleError> {
        if let Some(end) = open.end.as_ref().filter(|end| open.taken >= end.total) {
            return match self.check_counts(open, end) {
                Ok(()) => Ok(Choice::Commit(end.committed)),
                Err(_) if self.can_merge() => Ok(Choice::BegunAgain),
                Err(error) => Err(error),
            };
        }
        let best = self.data.lowest(open.xid, open.next_order, &self.passed);
        match (best, &open.end) {
            (Some((order, slot)), _) if order == open.next_order => Ok(Choice::Take(slot)),
            (Some((order, slot)), _) if order < open.next_order => Ok(Choice::Drop(slot)),
            // A number is left out: events of a table that is not read here, or not arrived yet. Once END is known, so are
            // all repetitions before it; then every queue that may hold the number must show its head before anything
            // later is taken. Before END nothing later is taken at all.
            (Some((_, slot)), Some(end))
                if open.unmet(end).all(|(collection, _)| self.is_shown(collection)) =>
            {
                Ok(Choice::Take(slot))
            }
            (None, Some(end)) => {
                if self.data.drop_repeats(&self.passed) {
                    return Ok(Choice::Again);
                }
                match self.check_missing(open, end) {
                    Ok(()) => Ok(self.wait_or_merge(open)),
                    // What came again may have been counted again.
                    Err(_) if open.has_repeated && self.can_merge() => Ok(Choice::BegunAgain),
                    Err(error) => Err(error),
                }
            }
            _ => Ok(self.wait_or_merge(open)),
        }
    }

    /// What an END counts may have been lost with the connector, and sent again under another END.
    fn wait_or_merge(&self, open: &Open) -> Choice {
        let has_more = open.end.is_some() && self.can_merge() && self.spine.end_of(open.xid).is_some();
        if has_more { Choice::BegunAgain } else { Choice::Wait }
    }

    /// Whether every partition that may hold the next event of a collection shows its head. Where none is known, the topic is
    /// new and not read yet: what comes through it may have any number.
    pub(super) fn is_shown(&self, collection: CollectionId) -> bool {
        let mut holders = self.data.holders(collection).peekable();
        holders.peek().is_some() && holders.all(DataQueue::shows_its_head)
    }

    /// A number that was taken before comes again. A repetition lies where it lay the first time.
    fn drop_repeat(&mut self, open: &mut Open, slot: usize) -> Result<Turn, AssembleError> {
        let Some(head) = self.data.head_of(slot, open.xid) else { return Ok(Turn::Again) };
        let order = head.total_order;
        let is_new = if self.split { head.lsn > open.last_lsn } else { !self.is_repeated(open, slot) };
        if is_new {
            if self.can_merge() {
                // Its second BEGIN has not been read yet.
                open.begun_again = true;
                return Ok(Turn::Again);
            }
            let (partition, offset) = self.data.place(slot);
            return Err(AssembleError::Renumbered { xid: open.xid, order, partition, offset });
        }
        if let Some(event) = self.data.take(slot, &self.passed) {
            self.data.duplicates += 1;
            open.has_repeated = true;
            open.passed(slot, &event);
        }
        Ok(Turn::Again)
    }

    /// No head belongs to the open transaction although END counts more: is that proof, or is a queue just empty?
    fn check_missing(&self, open: &Open, end: &End) -> Result<(), AssembleError> {
        for (collection, expected) in open.unmet(end) {
            let mut blocking = None;
            for queue in self.data.holders(collection) {
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
                    collection: self.data.name(collection).clone(),
                    expected,
                    seen: open.seen(collection),
                    partition: queue.partition,
                    offset: queue.next_offset(),
                });
            }
        }
        Ok(())
    }

    fn take(&mut self, open: &mut Open, slot: usize) -> Turn {
        if !open.begun_again && self.can_merge() && self.is_repeated(open, slot) {
            // The right number, and not the right event: it was counted anew.
            open.begun_again = true;
            return Turn::Again;
        }
        let Some(event) = self.data.take(slot, &self.passed) else { return Turn::Again };
        open.took(event.collection, event.total_order, event.lsn);
        open.passed(slot, &event);
        match event.change {
            Some(change) => {
                open.emitted = true;
                Turn::Give(Event::Change(change))
            }
            None => Turn::Again,
        }
    }
}
