//! A transaction that was begun again: its events by their positions, since their numbers can't be relied on.
//!
//! How many events there are END does not tell. It counts those since a restart only, or some of them twice; and what it
//! counts may have been lost with the connector, or be under way still, for each partition's records travel by themselves.
//! What was sent again, another END counts. The transaction is complete when each collection's last event has come, by one of
//! its ENDs, and nothing more comes: an interrupted attempt may happen to have stopped at just the number that is the last in
//! another.

use std::collections::BTreeMap;

use super::Assembler;
use super::advance::Choice;
use super::error::AssembleError;
use super::open::{End, Open};
use crate::vocabulary::offset::PartitionIndex;

/// How many records of the transaction topic may wait, at least, while another END of the open transaction may stand among them. A
/// killed connector writes again what it had written since its offsets were last stored (`offset.flush.interval.ms`), and may have
/// lost rows meanwhile whose END was stored. About 100 bytes each, and an END 80 more for each of its tables; only such a
/// transaction takes them.
pub(super) const LOOK_AHEAD: usize = 100_000;

impl Assembler {
    /// What comes next: the lowest position among the heads, once all of them are known. Where everything stands in one
    /// partition its own order will do.
    pub(super) fn choose_by_position(&mut self, open: &Open) -> Result<Choice, AssembleError> {
        let lowest = self.data.lowest_position(open.xid, &self.passed);
        let Some(first) = &open.end else {
            return Ok(match lowest {
                Some(slot) if self.shares_a_partition() => self.take_or_drop(open, slot),
                _ => Choice::Wait,
            });
        };
        if let Some(end) = self.next_end(open, first) {
            return Ok(Choice::AnotherEnd(end));
        }
        // No END that would count what has come stands within reach.
        let is_out_of_reach = self.spine.len() >= self.look_ahead;
        // Perhaps more is under way.
        let confirmed = |error| if open.is_confirmed() { Err(error) } else { Ok(Choice::Confirm) };
        if !self.shares_a_partition() {
            if !self.is_read_to_its_ends(open) {
                return Ok(Choice::Wait);
            }
            if !self.shows_the_lowest(open) {
                return if is_out_of_reach {
                    confirmed(self.out_of_reach(open, first))
                } else {
                    Ok(Choice::Wait)
                };
            }
        }
        if let Some(slot) = lowest {
            return Ok(self.take_or_drop(open, slot));
        }
        if self.data.drop_repeats(&self.passed) {
            return Ok(Choice::Again);
        }
        let is_complete = open.is_complete();
        if is_complete && (open.is_confirmed() || self.shares_a_partition()) {
            return Ok(Choice::Commit(first.committed));
        }
        // A later transaction's event, where the last of this one should stand before it.
        let is_missed = open.unended().any(|(collection, _)| self.is_shown(collection));
        if is_out_of_reach {
            confirmed(self.out_of_reach(open, first))
        } else if is_complete || is_missed {
            confirmed(self.never_ends(open, first))
        } else {
            Ok(Choice::Wait)
        }
    }

    /// Whether the partitions have been read to where they ended when that was asked: rows of an interrupted attempt, which the
    /// last END may not count, were stored before the connector went on behind them, and stand before these ends.
    fn is_read_to_its_ends(&self, open: &Open) -> bool {
        let is_read = |ends: &BTreeMap<PartitionIndex, i64>| {
            ends.iter().all(|(partition, end)| self.data.of(*partition).is_none_or(|q| q.is_read_to(*end)))
        };
        open.ends.as_ref().is_some_and(is_read)
    }

    /// Whether no event with a lower position than those at the heads can come. Rows that an END counts may not have arrived when
    /// it did.
    fn shows_the_lowest(&self, open: &Open) -> bool {
        open.is_complete() || open.unended().all(|(collection, _)| self.is_shown(collection))
    }

    fn take_or_drop(&self, open: &Open, slot: usize) -> Choice {
        if self.is_repeated(open, slot) { Choice::Drop(slot) } else { Choice::Take(slot) }
    }

    /// The next END of the open transaction, which stands ahead in the transaction topic.
    fn next_end(&mut self, open: &Open, first: &End) -> Option<End> {
        let counts = self.spine.next_end_of(open.xid, open.begun_at)?;
        let counts = counts.iter().map(|(collection, n)| (self.data.id(collection), *n)).collect();
        Some(End::new(first.committed, counts))
    }

    fn out_of_reach(&self, open: &Open, end: &End) -> AssembleError {
        AssembleError::OutOfReach { xid: open.xid, lsn: end.committed.lsn, records: self.spine.len() }
    }

    fn never_ends(&self, open: &Open, end: &End) -> AssembleError {
        let wanted = open.unended().next();
        let name =
            wanted.map_or("all tables".to_owned(), |(collection, _)| self.data.name(collection).to_string());
        let (xid, lsn) = (open.xid, end.committed.lsn);
        AssembleError::Miscounted { xid, lsn, name, expected: end.total, seen: open.taken }
    }

    /// Whether a queue's head has been taken within the open transaction before.
    pub(super) fn is_repeated(&self, open: &Open, slot: usize) -> bool {
        self.data.head_of(slot, open.xid).is_some_and(|head| open.is_repeated(slot, head))
    }
}
