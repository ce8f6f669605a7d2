//! Where a read goes. Pure: what is known about the replicas in, a decision out.
//!
//! Promises, which the property tests below hold it to:
//! - a replica that is out of rotation, drained, lagging, still being copied, or has failed this very request is never
//!   chosen; nor is one of another history than the token's;
//! - a read with a token never goes twice to a replica that was behind, until its watermark is known to have moved;
//! - it goes to the leader only when its patience has ended and every replica was asked or is known to be of no use;
//! - without failures and by the default strategy each eligible replica is chosen in turn: after `n × k` reads of `n`
//!   replicas each had exactly `k`.
//!
//! What it knows about watermarks is a hint. The check that counts is made on the replica's own connection, together
//! with the read.

pub mod strategy;

use super::token::{Standing, Token};
use strategy::Turn;

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// Any live replica will do.
    Any,
    /// The answer must hold what this token stands for: what the caller wrote, or saw before.
    AtLeast(Token),
}

impl From<Option<Token>> for Preference {
    fn from(demand: Option<Token>) -> Self {
        demand.map_or(Self::Any, Self::AtLeast)
    }
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
    /// Where it stood when it was last heard of.
    pub standing: Standing,
    /// That was so short a time ago that it will hardly have moved on since.
    pub is_fresh: bool,
    /// Its answers are older than the operator allows.
    pub lagging: bool,
    /// This request asked it, and it was not fresh enough.
    pub asked: bool,
    /// This request asked it, and it failed.
    pub failed: bool,
    /// Reads that it is answering now.
    pub in_flight: usize,
}

impl ReplicaView {
    fn is_usable(&self) -> bool {
        self.in_rotation && !self.drained && self.live && !self.lagging && !self.failed
    }

    /// Whether it can answer a read with this token, now or in a moment.
    fn may_serve(&self, preference: Preference) -> bool {
        match preference {
            Preference::Any => self.is_usable(),
            Preference::AtLeast(token) => self.is_usable() && !token.is_foreign_to(self.standing.history),
        }
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
    /// The replicas follow another history of the leader than the caller's token is of.
    History,
    /// The answers of all replicas are older than the operator allows.
    Lagging,
    /// Two replicas in turn failed this request.
    Failed,
}

impl FallbackReason {
    /// As a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Behind => "ryw",
            Self::History => "history",
            Self::Lagging => "lag",
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
            Self::History => "the replicas have not followed the leader's failover yet",
            Self::Lagging => "the replicas are too far behind",
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
        let eligible = |index: usize| replicas[index].may_serve(preference) && wanted(&replicas[index]);
        turn.pick(replicas.len(), eligible, |index| replicas[index].in_flight)
    };
    let choice = match preference {
        Preference::Any => one_of(&|r| !r.asked),
        // Those known to have it, and those of whom nothing new is known: asking costs less than favouring the one that
        // was read last. Those known to be behind are asked in the end only, in case that what is known was wrong.
        Preference::AtLeast(token) => one_of(&|r| token.is_met_by(&r.standing) || !r.asked && !r.is_fresh)
            .or_else(|| if may_wait { None } else { one_of(&|r| !r.asked) }),
    };
    if let Some(index) = choice {
        return Route::Replica(index);
    }
    let waiting_helps = matches!(preference, Preference::AtLeast(_))
        && replicas.iter().any(|replica| replica.may_serve(preference));
    match waiting_helps {
        true if may_wait => Route::Wait,
        true => Route::Leader(FallbackReason::Behind),
        false => Route::Leader(nobody(preference, replicas)),
    }
}

/// Why no replica can answer, from what is closest to an answer.
fn nobody(preference: Preference, replicas: &[ReplicaView]) -> FallbackReason {
    let reached = || replicas.iter().filter(|r| r.in_rotation && !r.failed);
    if preference != Preference::Any && reached().any(ReplicaView::is_usable) {
        FallbackReason::History
    } else if reached().any(|r| !r.drained && r.live && r.lagging) {
        FallbackReason::Lagging
    } else if reached().any(|r| !r.drained) {
        FallbackReason::Copying
    } else if reached().next().is_some() {
        FallbackReason::Drained
    } else {
        FallbackReason::AllDown
    }
}

#[cfg(test)]
mod tests;
