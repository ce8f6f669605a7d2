//! When transaction boundaries were written to their topic. Pure.

use std::collections::VecDeque;

/// Boundaries that are remembered: those of some thousand transactions that are read before their rows are.
const REMEMBERED: usize = 8192;

/// When the latest records of one partition were written, in the order of their offsets.
#[derive(Debug, Default)]
pub(super) struct Written(VecDeque<(i64, Option<i64>)>);

impl Written {
    /// A record was taken, which was written then (in milliseconds since 1970).
    pub(super) fn note(&mut self, offset: i64, at_ms: Option<i64>) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((offset, at_ms));
    }

    /// When the record right before this offset was written; what is before it is forgotten. None where another record than
    /// that one is the last: nothing is better than the time of another transaction.
    pub(super) fn before(&mut self, needed: i64) -> Option<i64> {
        let passed = self.0.partition_point(|(offset, _)| *offset < needed);
        let (offset, at_ms) = self.0.drain(..passed).next_back()?;
        at_ms.filter(|_| offset == needed - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transaction_gets_the_time_of_its_own_end() {
        let mut written = Written::default();
        for offset in 10..16 {
            written.note(offset, Some(offset * 100));
        }
        assert_eq!(written.before(12), Some(1100), "BEGIN and END");
        assert_eq!(written.before(12), None, "and only once");
        assert_eq!(written.before(14), Some(1300));
        assert_eq!(written.before(17), None, "the record at 16 was not seen");
        assert_eq!(written.before(20), None);
    }

    #[test]
    fn what_is_remembered_has_an_end_and_a_record_may_have_no_time() {
        let mut written = Written::default();
        for offset in 0..20_000 {
            written.note(offset, (offset % 2 == 0).then_some(offset));
        }
        assert_eq!(written.0.len(), REMEMBERED);
        assert_eq!(written.before(5), None, "forgotten");
        assert_eq!((written.before(15_000), written.before(15_001)), (None, Some(15_000)));
    }
}
