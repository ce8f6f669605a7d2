//! What a demo run measured, and what that means in words. Pure: samples in, figures and a verdict out.

pub mod away;
pub mod plan;
pub mod words;

use std::time::Duration;

use crate::db::route::strategy::Strategy;
use plan::Plan;

/// The database that answered a read: an index into the run's list of names. The last one is the leader.
pub type ServerIndex = usize;

/// One read of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Who the router says answered; `None` when nobody could.
    pub server: Option<ServerIndex>,
    /// How long the read took, as the caller saw it.
    pub duration: Duration,
    /// The database named itself as the router believes it to be named.
    pub agrees: bool,
    /// The port that the database says it listens on.
    pub port: Option<i32>,
    /// A first replica failed and another one answered instead.
    pub retried: bool,
    /// How far behind the leader the answer was.
    pub lag: Option<Duration>,
    /// What the experiment looks for, when it was there: by how many versions, or 1.
    pub odd: Option<u64>,
}

/// Durations of a group of reads, by nearest rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// Half of the reads were at least this fast.
    pub p50: Duration,
    /// 95 of 100 were.
    pub p95: Duration,
    /// 99 of 100 were.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

impl Quantiles {
    /// Of `durations`, in any order; all zero when there is none.
    pub fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        let Some(&max) = durations.last() else { return Self::default() };
        let rank = |percent: usize| durations[(durations.len() * percent).div_ceil(100).max(1) - 1];
        Self { p50: rank(50), p95: rank(95), p99: rank(99), max }
    }
}

/// One server's part of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The server.
    pub server: ServerIndex,
    /// How many reads it answered.
    pub count: usize,
    /// Of all reads of the run, in percent.
    pub percent: f64,
    /// How long they took.
    pub quantiles: Quantiles,
    /// How far behind the last of them was.
    pub lag: Option<Duration>,
    /// The port that the server named.
    pub port: Option<i32>,
    /// Answers in which the experiment found what it looks for.
    pub odd: usize,
}

/// A run in figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Per server, in the order of the run's names, those that answered nothing included.
    pub shares: Vec<Share>,
    /// Of all answered reads.
    pub quantiles: Quantiles,
    /// Reads that nobody answered.
    pub errors: usize,
    /// Reads that a second server answered because the first one failed.
    pub retried: usize,
    /// Reads whose server named itself differently from the router's belief.
    pub mismatches: usize,
    /// Answers in which the experiment found what it looks for.
    pub odd: usize,
    /// By how much the worst of them.
    pub oddest: u64,
}

impl Summary {
    /// The figures of `samples`, for `servers` replicas and the leader after them.
    #[expect(clippy::cast_precision_loss, reason = "counts are at most 10 000")]
    pub fn of(samples: &[Sample], servers: usize) -> Self {
        let total = samples.len().max(1);
        let shares = (0..servers).map(|server| {
            let mine: Vec<&Sample> = samples.iter().filter(|s| s.server == Some(server)).collect();
            Share {
                server,
                count: mine.len(),
                percent: 100.0 * mine.len() as f64 / total as f64,
                quantiles: Quantiles::of(mine.iter().map(|s| s.duration).collect()),
                lag: mine.iter().rev().find_map(|s| s.lag),
                port: mine.iter().rev().find_map(|s| s.port),
                odd: mine.iter().filter(|s| s.odd.is_some()).count(),
            }
        });
        let answered = || samples.iter().filter(|s| s.server.is_some());
        Self {
            shares: shares.collect(),
            quantiles: Quantiles::of(answered().map(|s| s.duration).collect()),
            errors: samples.len() - answered().count(),
            retried: samples.iter().filter(|s| s.retried).count(),
            mismatches: answered().filter(|s| !s.agrees).count(),
            odd: answered().filter(|s| s.odd.is_some()).count(),
            oddest: answered().filter_map(|s| s.odd).max().unwrap_or(0),
        }
    }

    /// The difference between the busiest and the idlest of the replicas that answered. Round-robin promises at most 1
    /// as long as none of them comes or goes.
    pub fn spread(&self) -> usize {
        let counts = || self.replicas().map(|s| s.count).filter(|&count| count > 0);
        counts().max().unwrap_or(0) - counts().min().unwrap_or(0)
    }

    /// Who answered, in a few sentences.
    fn verdict(&self, plan: &Plan, names: &[String], elapsed: Duration) -> String {
        let answers = self.shares.iter().map(|s| s.count).sum::<usize>();
        let reads = answers + self.errors;
        if reads == 0 {
            return "The run was stopped before its first read.".to_owned();
        }
        if answers == 0 {
            return format!(
                "{}, and no database answered: neither a replica nor the leader.",
                reads_of(reads)
            );
        }
        let counts: Vec<String> = self.replicas().map(|s| s.count.to_string()).collect();
        let mut words =
            format!("{} in {:.2} s: {}.", reads_of(reads), elapsed.as_secs_f64(), counts.join(" / "));
        // Fewer reads than replicas can't reach them all.
        let silent: Vec<&str> = self
            .replicas()
            .filter(|s| s.count == 0 && reads >= counts.len())
            .map(|s| names[s.server].as_str())
            .collect();
        let leader = self.shares.last().map_or(0, |s| s.count);
        let mut say = |sentence: &str| {
            words.push(' ');
            words.push_str(sentence);
        };
        if leader == answers {
            say("No replica could answer, so the leader did.");
        } else if leader > 0 {
            say(&format!("The leader answered {leader}, when no replica could."));
        } else if plan.strategy == Strategy::RoundRobin && self.spread() <= 1 {
            say("Round-robin promises a spread of at most 1, and that is what you got.");
        } else if plan.strategy == Strategy::RoundRobin && plan.in_flight == 1 && !plan.guarded {
            say("A replica left or came back during the run; the others shared its reads.");
        } else if plan.strategy == Strategy::Random && self.spread() > 1 {
            say(if self.is_chance() {
                "Uneven, as chance is: each share is within what 95 of 100 runs show."
            } else {
                "More uneven than 95 of 100 runs by chance."
            });
        }
        if !silent.is_empty() && leader < answers {
            say(&format!(
                "Without {}: it is out of rotation, and nobody had to notice.",
                silent.join(" and ")
            ));
        }
        match self.mismatches {
            0 => say("Every server named itself as the router believed."),
            1 => say(
                "One server named itself differently from the router's belief: that is a fault, look at the names.",
            ),
            n => say(&format!(
                "{n} answers came from another server than the router believed: that is a fault."
            )),
        }
        if self.errors > 0 {
            say(&format!("{} got no answer at all.", reads_of(self.errors)));
        }
        words
    }

    /// The reads that each replica gets by chance in 95 of 100 runs: from, to. Nothing when there are no replicas.
    pub fn band(&self) -> Option<(f64, f64)> {
        let reads: usize = self.replicas().map(|share| share.count).sum();
        let servers = self.replicas().count();
        #[expect(clippy::cast_precision_loss, reason = "counts are at most 10 000")]
        let (reads, chance) = (reads as f64, 1.0 / servers.max(1) as f64);
        let around = 1.96 * (reads * chance * (1.0 - chance)).sqrt();
        let middle = reads * chance;
        (servers > 0).then(|| ((middle - around).max(0.0), (middle + around).min(reads)))
    }

    /// Whether every share is within the band.
    #[expect(clippy::cast_precision_loss, reason = "counts are at most 10 000")]
    fn is_chance(&self) -> bool {
        self.band().is_some_and(|(from, to)| self.replicas().all(|s| (from..=to).contains(&(s.count as f64))))
    }

    fn replicas(&self) -> impl Iterator<Item = &Share> {
        self.shares.iter().take(self.shares.len().saturating_sub(1))
    }
}

/// "1 read", "2 reads".
fn reads_of(count: usize) -> String {
    format!("{count} read{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(server: Option<usize>, millis: u64) -> Sample {
        let duration = Duration::from_millis(millis);
        Sample { server, duration, agrees: true, port: Some(5433), retried: false, lag: None, odd: None }
    }

    fn plan() -> Plan {
        Plan::proposed(plan::Experiment::Spread)
    }

    fn names() -> Vec<String> {
        ["replica-1", "replica-2", "replica-3", "leader"].map(str::to_owned).to_vec()
    }

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let millis = |n: u64| Duration::from_millis(n);
        let of = Quantiles::of((1..=100).rev().map(millis).collect());
        assert_eq!(of, Quantiles { p50: millis(50), p95: millis(95), p99: millis(99), max: millis(100) });
        assert_eq!(Quantiles::of(vec![millis(7)]).p50, millis(7));
        assert_eq!(Quantiles::of(vec![]), Quantiles::default());
    }

    #[test]
    fn an_even_run_is_called_even() {
        let samples: Vec<_> = (0..1000).map(|i| sample(Some(i % 3), 1)).collect();
        let summary = Summary::of(&samples, 4);
        let counts: Vec<_> = summary.shares.iter().map(|s| s.count).collect();
        assert_eq!((counts, summary.spread()), (vec![334, 333, 333, 0], 1));
        let verdict = summary.verdict(&plan(), &names(), Duration::from_millis(210));
        assert!(
            verdict.starts_with("1000 reads in 0.21 s: 334 / 333 / 333. Round-robin promises"),
            "{verdict}"
        );
    }

    #[test]
    fn a_missing_replica_errors_and_mismatches_are_all_told() {
        let mut samples: Vec<_> = (0..10).map(|i| sample(Some(i % 2 * 2), 1)).collect();
        samples.push(sample(None, 5));
        samples[0].agrees = false;
        let summary = Summary::of(&samples, 4);
        assert_eq!((summary.errors, summary.mismatches, summary.spread()), (1, 1, 0));
        let verdict = summary.verdict(&plan(), &names(), Duration::from_secs(1));
        for part in
            ["5 / 0 / 5", "Without replica-2", "One server named itself differently", "1 read got no answer"]
        {
            assert!(verdict.contains(part), "{part} in {verdict}");
        }
    }

    #[test]
    fn runs_too_short_to_judge_are_not_judged() {
        let verdict =
            |samples: &[Sample]| Summary::of(samples, 4).verdict(&plan(), &names(), Duration::from_secs(1));
        assert_eq!(verdict(&[]), "The run was stopped before its first read.");
        let unanswered = verdict(&[sample(None, 5), sample(None, 5)]);
        assert_eq!(unanswered, "2 reads, and no database answered: neither a replica nor the leader.");
        let one = verdict(&[sample(Some(0), 1)]);
        assert!(one.starts_with("1 read in") && !one.contains("out of rotation"), "{one}");
        let two = verdict(&[sample(Some(0), 1), sample(Some(1), 1)]);
        assert!(two.starts_with("2 reads in") && !two.contains("out of rotation"), "{two}");
    }

    #[test]
    fn the_leader_alone_is_said_so() {
        let summary = Summary::of(&[sample(Some(3), 1)], 4);
        assert!(summary.verdict(&plan(), &names(), Duration::ZERO).contains("No replica could answer"));
    }

    #[test]
    fn chance_is_told_from_unfairness() {
        let of = |counts: [usize; 3]| {
            let samples: Vec<_> =
                counts.iter().enumerate().flat_map(|(i, n)| vec![sample(Some(i), 1); *n]).collect();
            let plan = Plan { strategy: Strategy::Random, ..plan() };
            Summary::of(&samples, 4).verdict(&plan, &names(), Duration::from_secs(1))
        };
        assert!(of([310, 340, 350]).contains("Uneven, as chance is"));
        assert!(of([250, 375, 375]).contains("More uneven than 95 of 100"));
        // 1000 over three: 333 ± 29.
        let even = Summary::of(&(0..1000).map(|i| sample(Some(i % 3), 1)).collect::<Vec<_>>(), 4);
        let (from, to) = even.band().unwrap();
        assert_eq!((from.round(), to.round()), (304.0, 363.0));
    }

    #[test]
    fn what_an_experiment_looks_for_comes_first() {
        let mut samples: Vec<_> = (0..10).map(|i| sample(Some(i % 2), 1)).collect();
        let verdict = |samples: &[Sample], experiment| {
            let plan = Plan::proposed(experiment);
            words::verdict(&plan, &Summary::of(samples, 4), &names(), Duration::from_secs(1))
        };
        use plan::Experiment::{OwnWrites, Snapshot, Staleness, TimeTravel};
        assert!(
            verdict(&samples, OwnWrites).starts_with("Every read found the write before it. 10 reads in")
        );
        assert!(verdict(&samples, TimeTravel).starts_with("Time never ran backwards."));
        samples[3].odd = Some(4);
        samples[5].odd = Some(1);
        assert!(
            verdict(&samples, Staleness)
                .starts_with("2 of 10 answers (20.0 %) were behind, at most by 4 versions.")
        );
        assert!(verdict(&samples, OwnWrites).starts_with("2 reads (20.0 %) missed"));
        assert!(verdict(&samples, Snapshot).contains("that is a fault"));
    }
}
