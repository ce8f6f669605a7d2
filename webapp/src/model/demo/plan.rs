//! What a run shall do, checked.

use std::time::Duration;

use super::away::Drain;
use crate::db::route::strategy::Strategy;
use crate::model::input::FieldError;

/// The most reads of one run.
pub const MAX_READS: usize = 10_000;
/// What a run has when nobody says otherwise.
pub const DEFAULT_READS: usize = 1000;
/// The most reads at the same time.
pub const MAX_IN_FLIGHT: usize = 32;
/// The most that a replica may be slowed down for a run.
const MAX_SLOWER_MS: u64 = 500;
/// Reads of an experiment that writes before each of them.
const OWN_WRITES_READS: usize = 200;

/// What a run is to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Experiment {
    /// Who answers.
    #[default]
    Spread,
    /// What becomes of the reads when a replica goes away.
    Failure,
    /// How old the answers are while somebody writes all the time.
    Staleness,
    /// Whether one's own write, just made, is there.
    OwnWrites,
    /// Whether an answer is older than the one before.
    TimeTravel,
    /// Whether an answer shows half of a transaction.
    Snapshot,
}

impl Experiment {
    /// All of them, in the order of the tabs.
    pub const ALL: [Self; 6] =
        [Self::Spread, Self::Failure, Self::Staleness, Self::OwnWrites, Self::TimeTravel, Self::Snapshot];

    /// The word in addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::Failure => "failure",
            Self::Staleness => "staleness",
            Self::OwnWrites => "own-writes",
            Self::TimeTravel => "time-travel",
            Self::Snapshot => "snapshot",
        }
    }

    /// The experiment of this word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|experiment| experiment.as_str() == text)
    }

    /// Whether asking for freshness changes anything.
    pub fn has_guard(self) -> bool {
        matches!(self, Self::OwnWrites | Self::TimeTravel)
    }

    /// Whether somebody writes all the time beside the reads.
    pub fn has_writer(self) -> bool {
        matches!(self, Self::Staleness | Self::TimeTravel | Self::Snapshot)
    }

    /// Whether it writes at all.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Spread | Self::Failure)
    }

    /// Whether it looks into the answers for something odd, not only at who gave them.
    pub fn looks_for_oddities(self) -> bool {
        self.writes()
    }

    /// How many reads it has when nobody says otherwise.
    pub fn default_reads(self) -> usize {
        if self == Self::OwnWrites { OWN_WRITES_READS } else { DEFAULT_READS }
    }
}

/// What a run shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it is to show.
    pub experiment: Experiment,
    /// Reads ask for what the reader wrote or saw before.
    pub guarded: bool,
    /// How a replica is chosen.
    pub strategy: Strategy,
    /// How many reads.
    pub reads: usize,
    /// How many of them at the same time.
    pub in_flight: usize,
    /// A replica that is to look slower, and by how much.
    pub slower: Option<(String, Duration)>,
    /// A replica that goes away.
    pub drain: Option<Drain>,
}

impl Plan {
    /// The run that is proposed for an experiment, with all replicas.
    pub fn proposed(experiment: Experiment) -> Self {
        Self {
            experiment,
            guarded: false,
            strategy: Strategy::default(),
            reads: experiment.default_reads(),
            in_flight: 1,
            slower: None,
            drain: None,
        }
    }

    /// From the fields of a form or an address; what is missing is as proposed. `replicas` are the names that there are.
    ///
    /// # Errors
    /// For the first field that can't be.
    pub fn parse(field: impl Fn(&str) -> Option<String>, replicas: &[String]) -> Result<Self, FieldError> {
        let field =
            |name: &str| field(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let wrong = |name, words: &str| FieldError::new(name, words);
        let experiment = match field("experiment") {
            None => Experiment::default(),
            Some(text) => {
                Experiment::parse(&text).ok_or_else(|| wrong("experiment", "There is no such experiment."))?
            }
        };
        let number =
            |name: &'static str, most: usize, words: String| match field(name).map(|text| text.parse()) {
                None => Ok(None),
                Some(Ok(number)) if (1..=most).contains(&number) => Ok(Some(number)),
                Some(_) => Err(wrong(name, &words)),
            };
        let reads = number("reads", MAX_READS, format!("The number of reads is from 1 to {MAX_READS}."))?;
        let in_flight = number(
            "in_flight",
            MAX_IN_FLIGHT,
            format!("Reads at the same time are from 1 to {MAX_IN_FLIGHT}."),
        )?;
        let strategy = field("strategy").map_or_else(|| Ok(Strategy::default()), |text| text.parse());
        let strategy = strategy.map_err(|error| wrong("strategy", &format!("{error}.")))?;
        let slower_ms = field("slower_ms").map_or(Ok(20), |text| text.parse());
        let slower = match (field("slower"), slower_ms) {
            (None, _) => None,
            (Some(name), Ok(ms)) if replicas.contains(&name) && ms <= MAX_SLOWER_MS => {
                Some((name, Duration::from_millis(ms)))
            }
            _ => {
                let message = format!("Name a replica, and at most {MAX_SLOWER_MS} milliseconds.");
                return Err(wrong("slower", &message));
            }
        };
        let guarded = experiment.has_guard() && field("guarded").is_some_and(|text| text == "on");
        // In these, what one read saw is held against the next.
        let one_by_one = experiment.has_guard();
        let reads = reads.unwrap_or_else(|| experiment.default_reads());
        let drain = match experiment {
            Experiment::Failure => Drain::parse(field, reads, replicas)?,
            _ => None,
        };
        Ok(Self {
            experiment,
            guarded,
            strategy,
            reads,
            in_flight: if one_by_one { 1 } else { in_flight.unwrap_or(1) },
            slower,
            drain,
        })
    }

    /// The same as the query of an address.
    pub fn query(&self) -> String {
        let mut query = format!(
            "experiment={}&strategy={}&reads={}&in_flight={}",
            self.experiment.as_str(),
            self.strategy,
            self.reads,
            self.in_flight
        );
        if self.guarded {
            query.push_str("&guarded=on");
        }
        if let Some((name, by)) = &self.slower {
            query.push_str(&format!("&slower={name}&slower_ms={}", by.as_millis()));
        }
        if self.experiment == Experiment::Failure {
            query.push_str(&match &self.drain {
                None => format!("&drain={}", Drain::NONE),
                Some(Drain { replica, after, back }) => {
                    format!("&drain={replica}&drain_after={after}&drain_back={}", back.unwrap_or(0))
                }
            });
        }
        query
    }

    /// In a few words, for lists.
    pub fn words(&self) -> String {
        let mut words = format!("{} reads, {}", self.reads, self.strategy);
        if self.experiment != Experiment::Spread {
            words = format!("{}: {words}", self.experiment.as_str());
        }
        if self.in_flight > 1 {
            words.push_str(&format!(", {} at a time", self.in_flight));
        }
        if self.guarded {
            words.push_str(", with tokens");
        }
        if let Some((name, by)) = &self.slower {
            words.push_str(&format!(", {name} slower by {} ms", by.as_millis()));
        }
        if let Some(Drain { replica, after, back }) = &self.drain {
            words.push_str(&format!(", without {replica} from {after}"));
            if let Some(back) = back {
                words.push_str(&format!(" to {back}"));
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Plan, FieldError> {
        let field =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Plan::parse(field, &["replica-1".to_owned(), "replica-2".to_owned()])
    }

    #[test]
    fn nothing_said_is_as_proposed() {
        assert_eq!(parse(&[]).unwrap(), Plan::proposed(Experiment::Spread));
        assert_eq!(parse(&[("reads", " ")]).unwrap().reads, DEFAULT_READS);
        assert_eq!(parse(&[("experiment", "own-writes")]).unwrap().reads, OWN_WRITES_READS);
    }

    #[test]
    fn a_plan_survives_its_address() {
        let plan = parse(&[
            ("strategy", "power-of-two"),
            ("reads", "50"),
            ("in_flight", "16"),
            ("slower", "replica-2"),
            ("slower_ms", "30"),
        ])
        .unwrap();
        let query = plan.query();
        let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        assert_eq!(parse(&pairs).unwrap(), plan);
        assert_eq!(plan.words(), "50 reads, power-of-two, 16 at a time, replica-2 slower by 30 ms");
    }

    #[test]
    fn only_a_failure_takes_a_replica_away() {
        assert_eq!(parse(&[("drain", "replica-2")]).unwrap().drain, None);
        for drain in ["replica-1", "none"] {
            let plan = parse(&[("experiment", "failure"), ("drain", drain), ("drain_back", "0")]).unwrap();
            let query = plan.query();
            let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
            assert_eq!(parse(&pairs).unwrap(), plan, "{query}");
        }
        let words = parse(&[("experiment", "failure")]).unwrap().words();
        assert_eq!(words, "failure: 1000 reads, round-robin, without replica-2 from 250 to 750");
        let wrong = parse(&[("experiment", "failure"), ("drain", "replica-9")]).unwrap_err();
        assert_eq!(wrong.field, "drain");
    }

    #[test]
    fn what_can_not_be_is_named_by_its_field() {
        for (field, value) in [
            ("reads", "0"),
            ("reads", "10001"),
            ("reads", "many"),
            ("in_flight", "33"),
            ("strategy", "fastest"),
            ("experiment", "magic"),
            ("slower", "replica-9"),
        ] {
            assert_eq!(parse(&[(field, value)]).unwrap_err().field, field, "{field}={value}");
        }
        assert_eq!(parse(&[("slower", "replica-1"), ("slower_ms", "501")]).unwrap_err().field, "slower");
    }

    #[test]
    fn reads_that_are_held_against_each_other_come_one_by_one() {
        let plan = parse(&[("experiment", "time-travel"), ("in_flight", "8"), ("guarded", "on")]).unwrap();
        assert_eq!((plan.in_flight, plan.guarded), (1, true));
        assert!(!parse(&[("guarded", "on")]).unwrap().guarded, "nothing to guard");
    }
}
