//! Where a read goes. Pure: what is known about the replicas in, a decision out.
//!
//! Promises, which the property tests below hold it to:
//! - a replica that is out of rotation, drained, still being copied, or has failed this very request is never chosen;
//! - a read with a token never goes twice to a replica that was behind, until its watermark is known to have moved;
//! - without failures and by the default strategy each eligible replica is chosen in turn: after `n × k` reads of `n`
//!   replicas each had exactly `k`.
//!
//! What it knows about watermarks is a hint. The check that counts is made on the replica's own connection, together
//! with the read.

pub mod strategy;

use crate::model::lsn::Lsn;
use strategy::Turn;

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// Any live replica will do.
    Any,
    /// The answer must hold everything up to this position: the caller's own last write.
    AtLeast(Lsn),
}

/// What one request knows about one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaView {
    /// Its monitor reaches it.
    pub in_rotation: bool,
    /// An operator took it out.
    pub drained: bool,
    /// All of its tables are copied: it shows states that the leader was in.
    pub live: bool,
    /// The last watermark seen.
    pub watermark: Lsn,
    /// This request asked it, and it was not fresh enough.
    pub asked: bool,
    /// This request asked it, and it failed.
    pub failed: bool,
    /// Reads that it is answering now.
    pub in_flight: usize,
}

impl ReplicaView {
    fn is_usable(&self) -> bool {
        self.in_rotation && !self.drained && self.live && !self.failed
    }
}

/// Why the leader answers a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackReason {
    /// No replica can be reached.
    AllDown,
    /// The replicas that can be reached are still being copied.
    Copying,
    /// The replicas that can be reached were taken out by an operator.
    Drained,
    /// No replica had the caller's write in time.
    Behind,
    /// Two replicas in turn failed this request.
    Failed,
}

impl FallbackReason {
    /// As a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Behind => "ryw",
            Self::AllDown => "no_replica",
            Self::Copying => "copying",
            Self::Drained => "drained",
            Self::Failed => "failed",
        }
    }

    /// As the end of the sentence "Read from the leader: ...".
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Behind => "no replica had your write yet",
            Self::AllDown => "no replica can be reached",
            Self::Copying => "the replicas are still being copied",
            Self::Drained => "the replicas were taken out of rotation",
            Self::Failed => "two replicas in turn did not answer",
        }
    }

    /// Whether the system is degraded, rather than doing what it promised to the writer.
    pub fn is_degraded(self) -> bool {
        self != Self::Behind
    }
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Ask this replica.
    Replica(usize),
    /// Wait until a watermark moves, then decide again.
    Wait,
    /// Ask the leader.
    Leader(FallbackReason),
}

/// How many replicas may fail one request before the leader answers it: one retry, so that a request's time stays bounded.
const MAX_FAILURES: usize = 2;

/// Decides where a read goes. `turn` chooses among replicas that will do equally; `may_wait` says whether the request has
/// patience left.
pub fn route(preference: Preference, replicas: &[ReplicaView], turn: &Turn, may_wait: bool) -> Route {
    if replicas.iter().filter(|r| r.failed).count() >= MAX_FAILURES {
        return Route::Leader(FallbackReason::Failed);
    }
    let one_of = |wanted: &dyn Fn(&ReplicaView) -> bool| {
        let eligible = |index: usize| replicas[index].is_usable() && wanted(&replicas[index]);
        turn.pick(replicas.len(), eligible, |index| replicas[index].in_flight)
    };
    let choice = match preference {
        Preference::Any => one_of(&|r| !r.asked),
        // A replica known to have the write first; then those of whom it is not known, for a hint may be old.
        Preference::AtLeast(token) => one_of(&|r| r.watermark >= token).or_else(|| one_of(&|r| !r.asked)),
    };
    if let Some(index) = choice {
        return Route::Replica(index);
    }
    let waiting_helps =
        matches!(preference, Preference::AtLeast(_)) && replicas.iter().any(ReplicaView::is_usable);
    match waiting_helps {
        true if may_wait => Route::Wait,
        true => Route::Leader(FallbackReason::Behind),
        false => Route::Leader(nobody(replicas)),
    }
}

fn nobody(replicas: &[ReplicaView]) -> FallbackReason {
    let reached = || replicas.iter().filter(|r| r.in_rotation && !r.failed);
    if reached().any(|r| !r.drained) {
        FallbackReason::Copying
    } else if reached().next().is_some() {
        FallbackReason::Drained
    } else {
        FallbackReason::AllDown
    }
}

#[cfg(test)]
mod tests {
    use super::strategy::Rotation;
    use super::*;
    use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

    fn after(last: Option<usize>) -> Turn {
        Turn { last, ..Turn::default() }
    }

    fn live(watermark: u64) -> ReplicaView {
        ReplicaView { in_rotation: true, live: true, watermark: Lsn(watermark), ..ReplicaView::default() }
    }

    fn counts(replicas: &[ReplicaView], reads: usize) -> Vec<usize> {
        let rotation = Rotation::new(strategy::Strategy::RoundRobin, 1);
        let mut counts = vec![0; replicas.len()];
        for _ in 0..reads {
            if let Route::Replica(index) =
                rotation.choose(|turn| route(Preference::Any, replicas, turn, false))
            {
                counts[index] += 1;
            }
        }
        counts
    }

    #[test]
    fn a_thousand_reads_are_334_333_333_and_500_500_without_one() {
        assert_eq!(counts(&[live(1); 3], 1000), [334, 333, 333]);
        let down = ReplicaView { in_rotation: false, ..live(1) };
        assert_eq!(counts(&[live(1), down, live(1)], 1000), [500, 0, 500]);
    }

    #[test]
    fn a_token_prefers_who_has_the_write_then_asks_then_waits_then_gives_up() {
        let token = Preference::AtLeast(Lsn(10));
        let behind = ReplicaView { asked: true, ..live(9) };
        assert_eq!(route(token, &[live(9), live(10), live(9)], &after(Some(2)), true), Route::Replica(1));
        assert_eq!(route(token, &[behind, live(9), live(9)], &after(Some(0)), true), Route::Replica(1));
        assert_eq!(route(token, &[behind; 3], &after(Some(0)), true), Route::Wait);
        assert_eq!(route(token, &[behind; 3], &after(Some(0)), false), Route::Leader(FallbackReason::Behind));
        let moved = ReplicaView { asked: true, ..live(11) };
        assert_eq!(route(token, &[behind, moved, behind], &after(Some(1)), true), Route::Replica(1));
    }

    #[test]
    fn without_a_replica_the_leader_answers_and_says_why() {
        let of = |replica: ReplicaView| route(Preference::Any, &[replica], &after(None), true);
        assert_eq!(of(ReplicaView::default()), Route::Leader(FallbackReason::AllDown));
        assert_eq!(of(ReplicaView { live: false, ..live(1) }), Route::Leader(FallbackReason::Copying));
        assert_eq!(of(ReplicaView { failed: true, ..live(1) }), Route::Leader(FallbackReason::AllDown));
        assert_eq!(route(Preference::Any, &[], &after(None), true), Route::Leader(FallbackReason::AllDown));
        let drained = ReplicaView { drained: true, ..live(1) };
        assert_eq!(of(drained), Route::Leader(FallbackReason::Drained));
        let one_left = [drained, ReplicaView { live: false, ..live(1) }];
        assert_eq!(
            route(Preference::Any, &one_left, &after(None), true),
            Route::Leader(FallbackReason::Copying)
        );
        let failed = ReplicaView { failed: true, ..live(1) };
        let two_failed = [failed, failed, live(1)];
        assert_eq!(
            route(Preference::Any, &two_failed, &after(None), true),
            Route::Leader(FallbackReason::Failed)
        );
    }

    fn views() -> impl Strategy<Value = Vec<ReplicaView>> {
        let view = (any::<[bool; 5]>(), 0u64..4, 0usize..3).prop_map(|(flags, watermark, in_flight)| {
            let [in_rotation, drained, live, asked, failed] = flags;
            ReplicaView { in_rotation, drained, live, watermark: Lsn(watermark), asked, failed, in_flight }
        });
        prop::collection::vec(view, 0..6)
    }

    fn preferences() -> impl Strategy<Value = Preference> {
        prop_oneof![Just(Preference::Any), (0u64..5).prop_map(|lsn| Preference::AtLeast(Lsn(lsn)))]
    }

    proptest! {
        #[test]
        fn a_chosen_replica_is_usable_and_can_help(
            preference in preferences(), views in views(), last in prop::option::of(0usize..6), may_wait: bool,
            strategy in prop::sample::select(strategy::Strategy::ALL.to_vec()), random: u64,
        ) {
            match route(preference, &views, &Turn { strategy, last, random }, may_wait) {
                Route::Replica(index) => {
                    let chosen = views[index];
                    prop_assert!(chosen.in_rotation && !chosen.drained && chosen.live && !chosen.failed);
                    let fresh = match preference {
                        Preference::Any => true,
                        Preference::AtLeast(token) => chosen.watermark >= token,
                    };
                    prop_assert!(!chosen.asked || (preference != Preference::Any && fresh));
                    let better = |r: &ReplicaView| matches!(preference, Preference::AtLeast(t) if r.watermark >= t)
                        && r.is_usable();
                    prop_assert!(fresh || !views.iter().any(better));
                }
                Route::Wait => prop_assert!(may_wait && preference != Preference::Any),
                Route::Leader(_) => {}
            }
        }

        #[test]
        fn shares_of_a_steady_set_differ_by_at_most_one(views in views(), reads in 0usize..200) {
            let fresh: Vec<_> = views.iter().map(|v| ReplicaView { asked: false, failed: false, ..*v }).collect();
            let counts = counts(&fresh, reads);
            let shares = || fresh.iter().zip(&counts).filter(|(v, _)| v.is_usable()).map(|(_, c)| *c);
            if let (Some(least), Some(most)) = (shares().min(), shares().max()) {
                prop_assert!(most - least <= 1);
                prop_assert_eq!(shares().sum::<usize>(), reads);
            }
        }
    }
}
