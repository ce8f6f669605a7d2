//! What a connector writes again of the transaction within which it was restarted.
//!
//! After such a restart numbers can't be relied on. A connector whose stored position lies inside the transaction, and to
//! which the leader's slot repeats earlier commits first, counts anew from 1 when it comes to the rest, and END counts only
//! that rest (observed, connector 3.7: killed broker, 15 000 events). WAL positions stay what they are. Within one partition
//! the records of the interrupted attempt are the beginning of the transaction's, in order, so what has been taken from a
//! partition tells which of its next records are repetitions.
//!
//! Rows of one multi-row record share a position; of those as many are repetitions as were taken. Two cases stay open, since
//! nothing in the topics tells them from others. A restart within such a record, of whose rows the connector counts those
//! again that it sends again: a repeated row may have just the numbers that a further row of the record would have, when
//! nothing came between. And after that a further restart that counts anew: the numbers of the attempt between mean others,
//! and one of them may happen to be a table's last, while END is there before the rows that it counts.

use crate::vocabulary::lsn::Lsn;

/// How far the open transaction's events of one partition have been taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// The furthest position taken, and how many events had it.
    furthest: Option<(Lsn, u32)>,
    /// The number and position of the last event seen, taken or not.
    last_order: u64,
    last_lsn: Lsn,
    /// Within a repetition: how many events of the furthest position it has shown.
    shown: Option<u32>,
}

impl Progress {
    /// Whether the partition's next event repeats one that was taken. `again`: its number within its table is not above the
    /// one before.
    pub(super) fn is_repeated(&self, order: u64, lsn: Lsn, again: bool) -> bool {
        let Some((furthest, taken)) = self.furthest else { return false };
        let shown = if again || self.goes_back(order, lsn) { Some(0) } else { self.shown };
        lsn < furthest || lsn == furthest && shown.is_some_and(|shown| shown < taken)
    }

    /// Whether the event can't follow the last one within one attempt. Rows that share a position have consecutive numbers.
    fn goes_back(&self, order: u64, lsn: Lsn) -> bool {
        let is_behind = self.furthest.is_some_and(|(furthest, _)| lsn > furthest);
        order <= self.last_order || lsn < self.last_lsn || !is_behind && order != self.last_order + 1
    }

    /// The partition's next event was taken, or dropped as a repetition.
    pub(super) fn pass(&mut self, order: u64, lsn: Lsn, again: bool) {
        let is_repeated = self.is_repeated(order, lsn, again);
        if self.furthest.is_some() && (again || self.goes_back(order, lsn)) {
            self.shown = Some(0);
        }
        (self.last_order, self.last_lsn) = (order, lsn);
        match (&mut self.furthest, is_repeated) {
            (Some((furthest, _)), true) if lsn == *furthest => {
                self.shown = self.shown.map(|shown| shown + 1);
            }
            (_, true) => {}
            (Some((furthest, taken)), false) if lsn == *furthest => *taken += 1,
            (furthest, false) => {
                *furthest = Some((lsn, 1));
                self.shown = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the events, as (number, position), are new.
    fn new_ones(events: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut progress = Progress::default();
        let mut is_new = |(order, lsn): (u64, u64)| {
            let repeated = progress.is_repeated(order, Lsn(lsn), false);
            progress.pass(order, Lsn(lsn), false);
            !repeated
        };
        events.iter().copied().filter(|event| is_new(*event)).collect()
    }

    #[test]
    fn what_is_counted_anew_is_told_by_its_position() {
        let events = [(1, 10), (2, 20), (3, 30), (4, 40), (1, 30), (2, 40), (3, 50)];
        assert_eq!(new_ones(&events), [(1, 10), (2, 20), (3, 30), (4, 40), (3, 50)]);
        assert_eq!(new_ones(&[(1, 10), (2, 20), (1, 30)]), [(1, 10), (2, 20), (1, 30)]);
    }

    #[test]
    fn of_rows_that_share_a_position_as_many_repeat_as_were_taken() {
        let killed_within = [(1, 10), (2, 20), (3, 20), (1, 20), (2, 20), (3, 20), (4, 30)];
        assert_eq!(new_ones(&killed_within), [(1, 10), (2, 20), (3, 20), (3, 20), (4, 30)]);
        let twice = [(1, 10), (2, 10), (1, 10), (1, 10), (2, 10), (3, 10)];
        assert_eq!(new_ones(&twice), [(1, 10), (2, 10), (3, 10)]);
    }
}
