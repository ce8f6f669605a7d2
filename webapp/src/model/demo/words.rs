//! What an experiment expects, what came out, and why.

use std::time::Duration;

use super::plan::{Experiment, Plan};
use super::{Summary, reads_of};
use crate::db::route::strategy::Strategy;

impl Experiment {
    /// As a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Spread => "Who answers?",
            Self::Failure => "What if a replica goes away?",
            Self::Staleness => "How old are the answers?",
            Self::OwnWrites => "Is my own write there?",
            Self::TimeTravel => "Can time run backwards?",
            Self::Snapshot => "Is every answer whole?",
        }
    }

    /// As a tab.
    pub fn tab(self) -> &'static str {
        match self {
            Self::Spread => "Spread",
            Self::Failure => "Failure",
            Self::Staleness => "Staleness",
            Self::OwnWrites => "Own writes",
            Self::TimeTravel => "Time travel",
            Self::Snapshot => "Snapshot",
        }
    }

    /// What is expected of it, in a sentence or two.
    pub fn hypothesis(self) -> &'static str {
        match self {
            Self::Spread => {
                "Which replica answers each read? By round-robin it is the next one in turn, so the shares differ by 1 at \
                 most. Shares by chance differ more, and that is no fault."
            }
            Self::Failure => {
                "While the reads go on, one replica is taken out of the rotation. The others share its reads from that mark \
                 on, nobody sees an error, and when it returns the three colours do, too."
            }
            Self::Staleness => {
                "A writer changes one row 50 times a second. Replicas follow within milliseconds, so an answer is hardly \
                 ever more than a version or two behind."
            }
            Self::OwnWrites => {
                "Each read follows a write of its own at once. Without a token some answers come too early and miss it; \
                 with the token that the write returned, none does."
            }
            Self::TimeTravel => {
                "A writer changes one row 50 times a second, and the reads hop between replicas. Without a token an answer \
                 can be older than the one before; with one, time never runs backwards."
            }
            Self::Snapshot => {
                "Money moves between accounts all the time. Its sum is the same in every answer, because a replica never \
                 shows half of a transaction."
            }
        }
    }

    /// What is wrong with a read that the experiment marks.
    pub fn oddity(self) -> &'static str {
        match self {
            Self::Spread | Self::Failure => "odd",
            Self::Staleness => "behind",
            Self::OwnWrites => "without my write",
            Self::TimeTravel => "older than the one before",
            Self::Snapshot => "torn",
        }
    }
}

/// Why it came out so; below the result.
pub fn why(plan: &Plan) -> &'static str {
    match (plan.experiment, plan.guarded, plan.strategy) {
        (Experiment::Spread, _, Strategy::RoundRobin) => {
            "The run has a rotation of its own, so nobody else's reads disturb it: each replica in turn, and a replica that \
             fails is passed over without losing the turn of the others."
        }
        (Experiment::Spread, _, Strategy::Random) => {
            "Of 1000 reads over three replicas each gets 333 ± 29 in 95 of 100 runs. The light band on each bar is that \
             range: what is inside of it is chance, not unfairness."
        }
        (Experiment::Spread, _, Strategy::LeastInFlight) => {
            "With one read at a time no replica ever has one in flight, so the tie goes round. Take 16 at a time and slow a \
             replica down: it collects waiting reads and gets fewer of the next ones."
        }
        (Experiment::Spread, _, Strategy::PowerOfTwo) => {
            "Two replicas are drawn and the less busy one is asked. That is nearly as good as looking at all of them, and \
             many callers who look at the same moment don't all run to the same one."
        }
        (Experiment::Spread, _, Strategy::Sticky) => {
            "One reader keeps to one replica for as long as it is there: its caches are warm and time never runs \
             backwards, but the load is only even over many readers."
        }
        (Experiment::Failure, ..) => {
            "A replica that was drained is passed over by the next read. One that is stopped for real fails at most the reads \
             that it is answering: each is made again on another replica within its deadline, the replica is left out, and a \
             probe brings it back as soon as it answers."
        }
        (Experiment::Staleness, ..) => {
            "A change has a way to go: the leader's log, the replicator, one commit on the replica. What was committed in \
             that moment is what an answer may lack. Pause a replica (replicator pause replica-3) and its marks pile up."
        }
        (Experiment::OwnWrites, true, _) => {
            "The write returned a token: the place of its commit in the leader's log. A replica answers only when its own \
             watermark, read in the same round trip, has reached it; otherwise the read waits a moment, or the leader \
             answers."
        }
        (Experiment::OwnWrites, false, _) => {
            "Nobody told the replicas what this reader had written, so the first one asked answered with what it had. Run it \
             with tokens, and the marks are gone."
        }
        (Experiment::TimeTravel, true, _) => {
            "Each answer says how far its replica was. The next read asks for at least that, so a replica that is behind \
             what was already shown is passed over."
        }
        (Experiment::TimeTravel, false, _) => {
            "Replicas are never equally far. Whoever hops between them sees a newer state first and an older one next. Run \
             it with tokens, and every step goes forward."
        }
        (Experiment::Snapshot, ..) => {
            "The replicator commits whole source transactions only, together with the watermark. Any other sum than the \
             first would be a fault of ours: say so."
        }
    }
}

/// What happened, in a few sentences.
pub fn verdict(plan: &Plan, summary: &Summary, names: &[String], elapsed: Duration) -> String {
    let spread = summary.verdict(plan, names, elapsed);
    let answers: usize = summary.shares.iter().map(|share| share.count).sum();
    if answers == 0 || !plan.experiment.looks_for_oddities() {
        return spread;
    }
    let odd = summary.odd;
    let percent = percent(odd, answers);
    let found = match (plan.experiment, odd) {
        (Experiment::Staleness, 0) => "Every answer had the newest version.".to_owned(),
        (Experiment::Staleness, _) => {
            format!(
                "{odd} of {answers} answers ({percent}) were behind, at most by {}.",
                versions(summary.oddest)
            )
        }
        (Experiment::OwnWrites, 0) => "Every read found the write before it.".to_owned(),
        (Experiment::OwnWrites, _) => format!("{} ({percent}) missed the write before it.", reads_of(odd)),
        (Experiment::TimeTravel, 0) => "Time never ran backwards.".to_owned(),
        (Experiment::TimeTravel, _) => {
            format!("Time ran backwards {odd} times ({percent}), at most by {}.", versions(summary.oddest))
        }
        (_, 0) => "Every answer had the same sum: no transaction was torn.".to_owned(),
        (..) => format!(
            "{odd} answers had another sum. A transaction was torn: that is a fault, please report it."
        ),
    };
    format!("{found} {spread}")
}

fn versions(count: u64) -> String {
    format!("{count} version{}", if count == 1 { "" } else { "s" })
}

#[expect(clippy::cast_precision_loss, reason = "counts are at most 10 000")]
fn percent(part: usize, all: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / all.max(1) as f64)
}
