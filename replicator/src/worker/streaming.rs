//! Whether a replica gets transactions while they run on the leader, and what follows when one can't be applied that way.
//!
//! Then the replica reads again from its checkpoint through a lane that gives transactions out whole, until that transaction has
//! committed. One that is rolled back never shows there, so after a while it is tried again in any case.

use std::time::Duration;

use tokio::time::Instant;

use super::WorkerError;
use crate::backoff::Backoff;
use crate::lane::LaneError;
use crate::replica::ReplicaError;
use crate::vocabulary::lsn::Xid;
use crate::vocabulary::parcel::CommitPoint;

/// How long transactions come whole at least, while the one that is the cause has not committed. Trying again in vain makes
/// the leader decode all that it holds since that one began.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// And at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// What a worker remembers about it.
#[derive(Debug)]
pub(super) struct Streaming {
    given_up: Option<GivenUp>,
    pauses: Backoff,
}

#[derive(Debug, Clone, Copy)]
struct GivenUp {
    /// The transaction that is the cause.
    xid: Xid,
    /// When it is tried again though it has not committed.
    until: Instant,
}

impl Streaming {
    /// It has not failed yet.
    pub(super) fn new() -> Self {
        Streaming { given_up: None, pauses: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE) }
    }

    /// Whether transactions may come while they run.
    pub(super) fn is_on(&self) -> bool {
        self.given_up.is_none()
    }

    /// This transaction can't be applied that way. `random` is uniform in 0..1.
    pub(super) fn give_up(&mut self, xid: Xid, now: Instant, random: f64) {
        self.given_up = Some(GivenUp { xid, until: now + self.pauses.pause(random) });
    }

    /// A commit point has been applied: whether the cause is over with it.
    pub(super) fn is_over(&self, point: &CommitPoint, now: Instant) -> bool {
        let is_past = |given_up: GivenUp| {
            point.transaction.is_some_and(|t| t.xid == given_up.xid) || now >= given_up.until
        };
        self.given_up.is_some_and(is_past)
    }

    /// It is tried again.
    pub(super) fn resume(&mut self) {
        self.given_up = None;
    }

    /// A transaction has been applied that way to its end.
    pub(super) fn succeeded(&mut self) {
        self.pauses.reset();
    }
}

/// What follows from a failure of a statement while this transaction is applied beside others. Where the replica refuses
/// something, it may not once the transaction has ended: the leader's schema and rows can then be asked, and the changes it
/// waits for have come.
pub(super) fn beside(error: ReplicaError, xid: Xid) -> WorkerError {
    let is_mistake = matches!(error, ReplicaError::Plan(_));
    if error.is_of_lock() || (error.disposition().halts() && !is_mistake) {
        return LaneError::Unstreamable { xid, why: error.to_string() }.into();
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::lsn::{CommitLsn, Lsn};
    use crate::vocabulary::parcel::Committed;

    fn commit(xid: u32) -> CommitPoint {
        let committed = Committed { xid: Xid(xid), lsn: CommitLsn(Lsn(1)), committed_at_ms: 0 };
        CommitPoint { transaction: Some(committed), ..CommitPoint::default() }
    }

    #[test]
    fn it_is_given_up_until_its_cause_has_committed_or_time_has_passed() {
        let (mut streaming, now) = (Streaming::new(), Instant::now());
        assert!(streaming.is_on() && !streaming.is_over(&commit(7), now), "nothing is wrong");
        streaming.give_up(Xid(7), now, 0.0);
        assert!(!streaming.is_on());
        assert!(!streaming.is_over(&commit(8), now) && !streaming.is_over(&CommitPoint::default(), now));
        assert!(streaming.is_over(&commit(7), now));
        assert!(streaming.is_over(&commit(8), now + FIRST_PAUSE));
        streaming.resume();
        streaming.give_up(Xid(9), now, 0.0);
        assert!(!streaming.is_over(&commit(8), now + FIRST_PAUSE), "longer, the second time in a row");
        streaming.resume();
        streaming.succeeded();
        streaming.give_up(Xid(10), now, 0.0);
        assert!(streaming.is_over(&commit(8), now + FIRST_PAUSE));
    }

    #[test]
    fn what_the_replica_refuses_may_succeed_whole_and_an_outage_is_one() {
        let place = crate::vocabulary::offset::Place {
            partition: crate::vocabulary::offset::PartitionIndex(0),
            offset: 0,
        };
        let missing =
            ReplicaError::MissingRow { place, operation: "update", table: "t".into(), key: "k".into() };
        let unstreamable = |error| matches!(error, WorkerError::Lane(LaneError::Unstreamable { .. }));
        assert!(unstreamable(beside(missing, Xid(7))));
        assert!(!unstreamable(beside(ReplicaError::TimedOut { action: "apply", seconds: 1 }, Xid(7))));
        assert!(!unstreamable(beside(ReplicaError::Plan("a mistake"), Xid(7))));
    }
}
