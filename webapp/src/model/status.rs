//! What the status page knows: facts as they were seen, and what they mean. Pure: the sampler fills it, pages show it.

pub mod checks;
pub mod detail;
pub mod facts;
pub mod line;
pub mod topics;
pub mod track;
pub mod words;

use jiff::Timestamp;

pub use checks::{Check, Group, Level};
pub use facts::{ConnectorFacts, LeaderFacts, ReplicaFacts, ReplicatorFacts, Seen, WorkerFacts};
pub use track::{Behind, Point};

/// Why a replica is left out that somebody took out.
pub const DRAINED: &str = "drained";

/// Everything at one moment. One sample serves everybody who looks.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Counts the samples of this process.
    pub seq: u64,
    /// When it was taken.
    pub at: Timestamp,
    /// The leader.
    pub leader: Seen<LeaderFacts>,
    /// Row changes per second on the leader.
    pub leader_rate: Option<f64>,
    /// The replicator's workers, if its address is configured.
    pub replicator: Option<Seen<ReplicatorFacts>>,
    /// The connector, if Kafka Connect's address is configured.
    pub connector: Option<Seen<ConnectorFacts>>,
    /// Whether the broker takes connections, if its address is configured.
    pub broker: Option<Seen<()>>,
    /// The replicas, in the order of the configuration.
    pub replicas: Vec<ReplicaSample>,
    /// What is judged.
    pub checks: Vec<Check>,
}

/// One replica at one moment.
#[derive(Clone, Debug)]
pub struct ReplicaSample {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    pub facts: Seen<ReplicaFacts>,
    /// Whether reads go there; otherwise why not.
    pub rotation: Result<(), String>,
    /// How far it is behind the leader; `None` when that can't be known.
    pub behind: Option<Behind>,
    /// Changes per second, over the last few samples.
    pub rate: Option<f64>,
    /// The rate of the last minute, one value per sample, the newest last; `None` where nothing is known.
    pub rates: Vec<Option<f64>>,
}

impl ReplicaSample {
    /// What it does, in a word or two, and how good that is. The same words as in the README.
    pub fn state(&self) -> (Level, &'static str) {
        let Some(facts) = self.facts.now() else {
            return if self.facts.failure.is_some() {
                (Level::Error, "Down")
            } else {
                (Level::Init, "Starting")
            };
        };
        match facts.state.as_str() {
            _ if self.is_drained() => (Level::Paused, "Drained"),
            _ if facts.paused.is_some() => (Level::Paused, "Paused"),
            "live" => match &self.behind {
                Some(behind) if behind.is_caught_up() => (Level::Ok, "Caught up"),
                _ => (Level::Ok, "Live"),
            },
            "copying" => (Level::Init, "Copying"),
            "empty" => (Level::Init, "Waiting for its first copy"),
            "degraded" => (Level::Warn, "Degraded"),
            _ => (Level::Unknown, "Unknown"),
        }
    }

    /// Whether somebody took it out of the rotation.
    pub fn is_drained(&self) -> bool {
        self.rotation.as_ref().is_err_and(|why| why == DRAINED)
    }

    /// Whether it shows everything that the leader had a moment ago.
    pub fn is_caught_up(&self) -> bool {
        self.facts.now().is_some_and(|f| f.state == "live") && self.behind.is_some_and(|b| b.is_caught_up())
    }
}

impl Sample {
    /// The worst level of all checks.
    pub fn level(&self) -> Level {
        self.checks.iter().map(|check| check.level).max().unwrap_or(Level::Unknown)
    }

    /// Where the replicas stand in Kafka's topics; `None` where they are not fed from topics.
    pub fn topics(&self) -> Option<Vec<topics::TopicLine>> {
        let replicator = self.replicator.as_ref().and_then(Seen::now);
        let lines = topics::lines(&self.replicas, replicator.map_or(&[], |facts| &facts.topics));
        let nobody_said = self.replicas.iter().all(|replica| replica.facts.last().is_none());
        // Until a replica answers, the configuration tells whether there is a broker.
        let has_broker = self.broker.is_some() || self.connector.is_some();
        (!lines.is_empty() || (nobody_said && has_broker)).then_some(lines)
    }

    /// How many replicas are caught up.
    pub fn caught_up(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.is_caught_up()).count()
    }

    /// How many replicas reads go to.
    pub fn in_rotation(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.rotation.is_ok()).count()
    }

    /// Checks that want somebody's attention, the worst first; of these, those first that come with what ends them: the
    /// others are often only what follows.
    pub fn complaints(&self) -> Vec<&Check> {
        let mut found: Vec<&Check> = self.checks.iter().filter(|check| check.level > Level::Ok).collect();
        found.sort_by_key(|check| (std::cmp::Reverse(check.level), check.fix.is_none()));
        found
    }

    /// The replica of this name.
    pub fn replica(&self, name: &str) -> Option<&ReplicaSample> {
        self.replicas.iter().find(|replica| replica.name == name)
    }

    /// What the replicator says of this replica, now or when it last answered.
    pub fn worker(&self, name: &str) -> Option<&WorkerFacts> {
        self.replicator.as_ref()?.last()?.replicas.iter().find(|worker| worker.name == name)
    }

    /// Whether every replica has been filled, so that there is something to show: the end of the first boot.
    pub fn has_begun(&self) -> bool {
        let filled = |r: &ReplicaSample| {
            r.facts.last().is_none_or(|f| !matches!(f.state.as_str(), "empty" | "copying"))
        };
        self.replicas.iter().any(|r| r.facts.last().is_some()) && self.replicas.iter().all(filled)
    }

    /// How everything is, in a sentence or two: what comes first on the status page.
    pub fn verdict(&self) -> String {
        let all = self.replicas.len();
        let serving = self.in_rotation();
        let leader_down = self.leader.failure.is_some();
        if serving == 0 && leader_down {
            return "No database answers: nothing can be read or written until one is back.".to_owned();
        }
        if leader_down {
            return format!(
                "The leader can't be reached: nothing can be written. Reads go on from {}.",
                words::replicas(serving, all)
            );
        }
        if serving == 0 && self.replicas.iter().any(|r| r.state().0 == Level::Init) && !self.has_begun() {
            return "Starting: the replicas get their first rows. Until then the leader answers all reads."
                .to_owned();
        }
        if serving == 0 {
            return "No replica answers: the leader takes all reads, as far as it has room for them."
                .to_owned();
        }
        if self.replicator.as_ref().is_some_and(|seen| seen.failure.is_some()) {
            return format!(
                "The replicator does not answer. Reads go on from {}, but what is written does not arrive there.",
                words::replicas(serving, all)
            );
        }
        if serving < all {
            let out: Vec<&str> =
                self.replicas.iter().filter(|r| r.rotation.is_err()).map(|r| r.name.as_str()).collect();
            return format!(
                "{serving} of {all} replicas answer reads. {} left out; readers notice nothing.",
                words::are(&out)
            );
        }
        let caught_up = self.caught_up();
        let worst = self.replicas.iter().filter_map(|r| r.behind).max_by_key(|b| b.time);
        match (caught_up == all, self.level() > Level::Ok, worst) {
            (true, false, _) => format!("All {all} replicas are caught up."),
            (true, true, _) => format!("All {all} replicas are caught up, but something wants attention."),
            (false, _, Some(worst)) => {
                format!(
                    "{caught_up} of {all} replicas are caught up; the slowest is {} behind.",
                    words::span(worst.time)
                )
            }
            (false, ..) => {
                format!("{caught_up} of {all} replicas are caught up; how far the others are is not known.")
            }
        }
    }

    /// The health of everything for the head of each page: level and words.
    pub fn pill(&self) -> (Level, String) {
        let all = self.replicas.len();
        if self.leader.failure.is_some() {
            return (Level::Error, "Leader down".to_owned());
        }
        // Replicas stay caught up for a while when nothing comes any more: that is not what somebody has to know then.
        let is_broken = |slug| self.checks.iter().any(|c| c.slug == slug && c.level == Level::Error);
        let way =
            [("replicator", "Replicator down"), ("broker", "Broker down"), ("connector", "Connector down")];
        if let Some((_, words)) = way.into_iter().find(|(slug, _)| is_broken(*slug)) {
            return (Level::Error, words.to_owned());
        }
        (self.level(), format!("{} of {all} caught up", self.caught_up()))
    }
}
