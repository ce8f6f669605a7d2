//! How one of several eligible replicas is chosen. Pure: what was chosen before and a random number are parameters.
//!
//! | strategy | for |
//! |---|---|
//! | round robin | equal replicas and short reads: the shares are exact, 334/333/333 of 1000 |
//! | random | no state at all; the shares of few reads differ |
//! | least in flight | replicas of unequal speed: a slow one collects reads that wait, and gets fewer |
//! | power of two | the same with many callers: the better of two drawn at random, so they don't all run to one |
//! | sticky | one caller who wants one replica as long as it is there |

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Route;

/// How one of several eligible replicas is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// Any, each as likely as the others.
    Random,
    /// The one with the fewest reads in flight; among equals each in turn.
    LeastInFlight,
    /// Two at random, and of these the one with fewer reads in flight.
    PowerOfTwo,
    /// The one that was chosen before, as long as it is eligible.
    Sticky,
}

impl Strategy {
    /// All of them, the default first.
    pub const ALL: [Self; 5] =
        [Self::RoundRobin, Self::Random, Self::LeastInFlight, Self::PowerOfTwo, Self::Sticky];

    /// The word in configurations and addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::LeastInFlight => "least-in-flight",
            Self::PowerOfTwo => "power-of-two",
            Self::Sticky => "sticky",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word is none of a strategy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no strategy; there are round-robin, random, least-in-flight, power-of-two, sticky")]
pub struct NoSuchStrategy(String);

impl FromStr for Strategy {
    type Err = NoSuchStrategy;

    fn from_str(word: &str) -> Result<Self, NoSuchStrategy> {
        let found = Self::ALL.into_iter().find(|strategy| strategy.as_str() == word);
        found.ok_or_else(|| NoSuchStrategy(word.to_owned()))
    }
}

/// Everything that a choice depends on, besides the replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// How to choose.
    pub strategy: Strategy,
    /// What was chosen before.
    pub last: Option<usize>,
    /// A number drawn for this choice.
    pub random: u64,
}

impl Turn {
    /// One of the eligible among `count` replicas, or none when none is. `load` says how many reads one has in flight.
    pub fn pick(
        &self,
        count: usize,
        eligible: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> usize,
    ) -> Option<usize> {
        match self.strategy {
            Strategy::RoundRobin => self.next(count, eligible),
            Strategy::Sticky => {
                let again = self.last.filter(|&last| last < count && eligible(last));
                again.or_else(|| self.next(count, eligible))
            }
            Strategy::Random => nth(self.random, &those(count, eligible)),
            Strategy::LeastInFlight => {
                let least = (0..count).filter(|&index| eligible(index)).map(&load).min()?;
                self.next(count, |index| eligible(index) && load(index) == least)
            }
            Strategy::PowerOfTwo => {
                let mut those = those(count, eligible);
                let first = nth(self.random, &those)?;
                those.retain(|&index| index != first);
                // The upper half of the number, so that the second draw does not follow from the first.
                let second = nth(self.random >> 32, &those).filter(|&second| load(second) < load(first));
                Some(second.unwrap_or(first))
            }
        }
    }

    /// The first eligible index after the last one, going round. Choosing "the next one" rather than `counter % n` keeps
    /// the shares even when a replica leaves or returns.
    fn next(&self, count: usize, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.last.map_or(0, |last| last + 1);
        (0..count).map(|step| (start + step) % count).find(|&index| eligible(index))
    }
}

fn those(count: usize, eligible: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..count).filter(|&index| eligible(index)).collect()
}

fn nth(random: u64, those: &[usize]) -> Option<usize> {
    let place = random.checked_rem(those.len() as u64)?;
    those.get(usize::try_from(place).ok()?).copied()
}

/// A strategy and where it stands. Concurrent reads share one; a run that must not be disturbed has its own.
#[derive(Debug)]
pub struct Rotation {
    strategy: Strategy,
    last: AtomicUsize,
    random: AtomicU64,
}

impl Rotation {
    const NONE: usize = usize::MAX;

    /// A rotation that has chosen nothing yet. The same seed draws the same numbers.
    pub fn new(strategy: Strategy, seed: u64) -> Self {
        Self { strategy, last: AtomicUsize::new(Self::NONE), random: AtomicU64::new(seed) }
    }

    /// How it chooses.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Lets `decide` choose in the next turn, and remembers a choice of a replica. `decide` runs again when another read
    /// chose meanwhile.
    pub fn choose(&self, decide: impl Fn(&Turn) -> Route) -> Route {
        let random = self.draw();
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let turn = Turn { strategy: self.strategy, last: (last != Self::NONE).then_some(last), random };
            let decision = decide(&turn);
            let Route::Replica(index) = decision else { return decision };
            match self.last.compare_exchange_weak(last, index, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return decision,
                Err(moved) => last = moved,
            }
        }
    }

    /// The generator SplitMix64: one addition that threads can share, then a mix of its own.
    fn draw(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    fn strategies() -> impl proptest::strategy::Strategy<Value = Strategy> {
        prop::sample::select(Strategy::ALL.to_vec())
    }

    /// How often each of `loads` is chosen, when the reads take no time.
    fn counts(strategy: Strategy, loads: &[usize], reads: usize) -> Vec<usize> {
        let rotation = Rotation::new(strategy, 7);
        let mut counts = vec![0; loads.len()];
        for _ in 0..reads {
            let choice =
                |turn: &Turn| Route::Replica(turn.pick(loads.len(), |_| true, |i| loads[i]).unwrap());
            if let Route::Replica(index) = rotation.choose(choice) {
                counts[index] += 1;
            }
        }
        counts
    }

    #[test]
    fn each_strategy_has_its_shares() {
        assert_eq!(counts(Strategy::RoundRobin, &[9, 0, 0], 1000), [334, 333, 333]);
        assert_eq!(counts(Strategy::LeastInFlight, &[0, 0, 0], 1000), [334, 333, 333], "ties rotate");
        assert_eq!(counts(Strategy::LeastInFlight, &[1, 0, 0], 1000), [0, 500, 500]);
        assert_eq!(counts(Strategy::Sticky, &[5, 0, 0], 1000), [1000, 0, 0]);
        for share in counts(Strategy::Random, &[0; 3], 9000) {
            // Five standard deviations of a binomial distribution around 3000.
            assert!((2776..=3224).contains(&share), "{share}");
        }
        let of_two = counts(Strategy::PowerOfTwo, &[9, 0, 0], 9000);
        assert_eq!(of_two[0], 0, "the busiest loses against any other");
        assert!(of_two[1].abs_diff(of_two[2]) < 500, "{of_two:?}");
    }

    #[test]
    fn words_name_strategies() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        assert!("fastest".parse::<Strategy>().unwrap_err().to_string().contains("least-in-flight"));
    }

    proptest! {
        #[test]
        fn a_pick_is_eligible_and_there_is_one_if_anything_is(
            strategy in strategies(), replicas in prop::collection::vec((any::<bool>(), 0usize..4), 0..6),
            last in prop::option::of(0usize..8), random: u64,
        ) {
            let turn = Turn { strategy, last, random };
            let picked = turn.pick(replicas.len(), |i| replicas[i].0, |i| replicas[i].1);
            prop_assert_eq!(picked.is_some(), replicas.iter().any(|(eligible, _)| *eligible));
            let Some(picked) = picked else { return Ok(()) };
            prop_assert!(replicas[picked].0);
            let eligible = || replicas.iter().filter(|(eligible, _)| *eligible);
            match strategy {
                Strategy::LeastInFlight => {
                    prop_assert_eq!(Some(replicas[picked].1), eligible().map(|r| r.1).min());
                }
                Strategy::PowerOfTwo if eligible().count() > 1 => {
                    let busier = |i: &usize| *i != picked && replicas[*i].0 && replicas[*i].1 >= replicas[picked].1;
                    prop_assert!((0..replicas.len()).any(|i| busier(&i)), "it lost against every other");
                }
                Strategy::Sticky if last.is_some_and(|l| replicas.get(l).is_some_and(|r| r.0)) => {
                    prop_assert_eq!(Some(picked), last);
                }
                _ => {}
            }
        }
    }
}
