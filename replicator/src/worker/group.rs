//! Which transactions share a commit on the replica.

use std::time::Duration;

use tokio::time::Instant;

use super::course::Course;
use crate::lane::Sealed;
use crate::vocabulary::lsn::CommitLsn;
use crate::vocabulary::parcel::{Parcel, ParcelEnd};

/// What the last group says of the next one.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    /// Transactions that it had.
    transactions: usize,
    /// How long after its commit its last transaction was sent, in milliseconds; none where that is not known.
    sent_after_ms: Option<i64>,
}

impl Pace {
    /// From how many transactions in a group on there is a backlog: more come while a group is committed than go out with it.
    const BACKLOG: usize = 8;

    /// From when on what comes is old, however little of it has come: a source that is behind is not made quicker by commits that
    /// take its processors away. Much longer than clocks of one site differ.
    const OLD_MS: i64 = 1000;

    /// How long the next group of a backlog is waited for beyond what has come, also when the source says that it has no more for
    /// now. A commit costs the replica as much as twenty rows do, so in a backlog a larger group is worth more than an earlier one.
    const SHORT: Duration = Duration::from_millis(4);

    /// How long it is waited for at most. Of 200 000 single transactions 4 000 were a group then, 600 with [`SHORT`](Self::SHORT)
    /// alone.
    const LONG: Duration = Duration::from_millis(40);

    /// Transactions of a group for each of which the next one is waited for a millisecond. Only where more come in a millisecond
    /// do groups grow: more than a leader commits, so behind a backlog.
    const PER_MILLISECOND: usize = 32;

    /// How long the next group is waited for; not at all without a backlog: alone a transaction never waits.
    fn linger(self) -> Option<Duration> {
        let is_old = self.sent_after_ms.is_some_and(|after| after >= Self::OLD_MS);
        let wanted = Duration::from_millis((self.transactions / Self::PER_MILLISECOND) as u64);
        (is_old || self.transactions >= Self::BACKLOG).then(|| wanted.clamp(Self::SHORT, Self::LONG))
    }
}

/// Until when more is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    /// Where the source has no more for now.
    at_least: Instant,
    at_most: Instant,
}

impl Wait {
    fn new(now: Instant, linger: Duration) -> Self {
        Wait { at_least: now + linger.min(Pace::SHORT), at_most: now + linger }
    }

    /// The source says that it has no more for now: what comes yet is new, and no part of a backlog.
    fn shorten(&mut self) {
        self.at_most = self.at_least;
    }
}

/// Whole transactions, to be applied together: alone one goes out at once, in a backlog many share a commit, and a few
/// milliseconds are waited for more.
#[derive(Debug)]
pub(super) struct Group {
    sealed: Vec<Sealed>,
    /// Changes that share a commit at most, and transactions without any.
    limit: usize,
    /// The last one's.
    pace: Pace,
}

impl Group {
    /// An empty one, for so many changes.
    pub(super) fn new(limit: usize) -> Self {
        Group { sealed: Vec::new(), limit, pace: Pace::default() }
    }

    /// What is to be applied.
    pub(super) fn parcels(&self) -> Vec<&Parcel> {
        self.sealed.iter().map(|sealed| &**sealed).collect()
    }

    /// Forgets what was applied. Gives the last parcel.
    pub(super) fn clear(&mut self) -> Option<Sealed> {
        let last = self.sealed.pop();
        self.sealed.clear();
        last
    }

    /// Begins with a whole transaction and adds what has come already, or comes soon in a backlog. Returns the first parcel that
    /// doesn't belong to the group.
    pub(super) async fn form(&mut self, first: Sealed, course: &mut Course) -> Option<Sealed> {
        let mut wait = self.pace.linger().map(|linger| Wait::new(Instant::now(), linger));
        self.take_in(first, &mut wait);
        let next = self.fill(course, wait).await;
        let sent_after_ms = self.sealed.last().and_then(|last| match &last.end {
            ParcelEnd::Commit(point) => point.sent_after_ms(),
            ParcelEnd::Open | ParcelEnd::Discard => None,
        });
        let transactions = self.sealed.iter().filter(|sealed| !says_that_all_has_come(sealed)).count();
        self.pace = Pace { transactions, sent_after_ms };
        next
    }

    async fn fill(&mut self, course: &mut Course, mut wait: Option<Wait>) -> Option<Sealed> {
        let mut changes: usize = self.sealed.iter().map(|sealed| sealed.changes.len()).sum();
        // A transaction without changes moves the watermark only; many of them still are one update of one row.
        while changes < self.limit && self.sealed.len() < self.limit {
            let turning_point = course.turning_point();
            if turning_point.is_some_and(|point| self.sealed.last().is_some_and(|last| turns_at(last, point)))
            {
                return None;
            }
            let sealed = match (course.try_recv(), wait) {
                (Some(sealed), _) => sealed,
                (None, Some(wait)) => tokio::time::timeout_at(wait.at_most, course.recv()).await.ok()??,
                (None, None) => return None,
            };
            if sealed.streamed.is_some() || !matches!(sealed.end, ParcelEnd::Commit(_)) {
                return Some(sealed);
            }
            changes += sealed.changes.len();
            self.take_in(sealed, &mut wait);
        }
        None
    }

    fn take_in(&mut self, sealed: Sealed, wait: &mut Option<Wait>) {
        if let Some(wait) = wait
            && says_that_all_has_come(&sealed)
        {
            wait.shorten();
        }
        self.sealed.push(sealed);
    }
}

/// Whether a parcel is no transaction but the source's word that it has no more for now.
fn says_that_all_has_come(parcel: &Parcel) -> bool {
    matches!(&parcel.end, ParcelEnd::Commit(point) if point.transaction.is_none() && point.reached.is_some())
}

/// Whether a parcel reaches the commit point at which another lane takes over.
fn turns_at(parcel: &Parcel, turning_point: CommitLsn) -> bool {
    match &parcel.end {
        ParcelEnd::Commit(point) => point.transaction.is_some_and(|t| t.lsn >= turning_point),
        ParcelEnd::Open | ParcelEnd::Discard => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linger_ms(transactions: usize, sent_after_ms: Option<i64>) -> Option<u128> {
        Pace { transactions, sent_after_ms }.linger().map(|linger| linger.as_millis())
    }

    #[test]
    fn nothing_waits_unless_many_have_come_or_what_comes_is_old() {
        assert_eq!(Pace::default().linger(), None);
        assert_eq!((linger_ms(1, None), linger_ms(7, Some(999))), (None, None));
        assert_eq!((linger_ms(8, Some(0)), linger_ms(8, None)), (Some(4), Some(4)));
        assert_eq!(linger_ms(1, Some(1000)), Some(4));
        // A leader whose clock was set back while the transaction was on its way.
        assert_eq!(linger_ms(1, Some(-5000)), None);
    }

    #[test]
    fn a_backlogs_end_is_waited_for_no_longer_than_a_small_group() {
        let now = Instant::now();
        for linger in [Pace::SHORT, Pace::LONG] {
            let mut wait = Wait::new(now, linger);
            assert_eq!(wait.at_most, now + linger);
            wait.shorten();
            assert_eq!(wait.at_most, now + Pace::SHORT);
        }
    }

    #[test]
    fn larger_groups_are_waited_for_longer_up_to_a_limit() {
        assert_eq!((linger_ms(128, None), linger_ms(640, None)), (Some(4), Some(20)));
        assert_eq!((linger_ms(20_000, None), linger_ms(usize::MAX, None)), (Some(40), Some(40)));
    }
}
