//! How a replica's delay is made up, by the time stamps that the replicator tells of. Pure.

use super::{Arrived, Transaction};

/// Transactions that are looked at, the latest.
const LATEST: usize = 50;

/// The delay of some transactions on one replica, in stages that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stages {
    /// How many transactions these are.
    pub count: usize,
    /// From the leader's commit until it was sent on: by the connector to the broker, or by the leader's walsender.
    pub capture: Option<Spread>,
    /// From then until the replicator had read all of it.
    pub carry: Option<Spread>,
    /// From then until this replica showed it.
    pub apply: Option<Spread>,
    /// All of it.
    pub total: Spread,
    /// Since a first replica showed it; zero where this was the first.
    pub after_first: Spread,
    /// By how many milliseconds, at least, the clocks of leader, connector and replicator differ; none where nothing shows it.
    pub skew: Option<i64>,
}

/// Some durations in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// As many took longer as took less; of an even number the longer one of the two in the middle.
    pub median: i64,
    /// The longest.
    pub most: i64,
}

impl Spread {
    /// Of durations between time stamps of clocks that may differ a little: none is shorter than nothing.
    fn of(mut durations: Vec<i64>) -> Option<Self> {
        durations.sort_unstable();
        let (median, most) = (*durations.get(durations.len() / 2)?, *durations.last()?);
        Some(Self { median: median.max(0), most: most.max(0) })
    }
}

/// What is known of one transaction on one replica.
struct Way<'a> {
    transaction: &'a Transaction,
    here: &'a Arrived,
    first: i64,
}

impl Way<'_> {
    fn capture(&self) -> Option<i64> {
        Some(self.here.sent_at_ms? - self.transaction.committed_at_ms)
    }

    fn carry(&self) -> Option<i64> {
        Some(self.here.read_at_ms? - self.here.sent_at_ms?)
    }

    fn apply(&self) -> Option<i64> {
        Some(self.here.applied_at_ms - self.here.read_at_ms?)
    }

    fn total(&self) -> i64 {
        self.here.applied_at_ms - self.transaction.committed_at_ms
    }
}

impl Stages {
    /// Of those transactions, the newest first, that this replica shows.
    pub(super) fn of<'a>(transactions: impl Iterator<Item = &'a Transaction>, replica: &str) -> Option<Self> {
        let shown = transactions.filter_map(|transaction| {
            let first = transaction.arrived.iter().map(|arrived| arrived.applied_at_ms).min()?;
            let here = transaction.arrived.iter().find(|arrived| arrived.replica == replica)?;
            Some(Way { transaction, here, first })
        });
        let ways: Vec<Way<'a>> = shown.take(LATEST).collect();
        let known = |stage: fn(&Way<'a>) -> Option<i64>| ways.iter().filter_map(stage).collect::<Vec<_>>();
        let stages = [known(Way::capture), known(Way::carry), known(Way::apply)];
        let earliest = stages.iter().flatten().copied().chain(ways.iter().map(Way::total)).min()?;
        let [capture, carry, apply] = stages.map(Spread::of);
        Some(Self {
            count: ways.len(),
            capture,
            carry,
            apply,
            total: Spread::of(ways.iter().map(Way::total).collect())?,
            after_first: Spread::of(ways.iter().map(|way| way.here.applied_at_ms - way.first).collect())?,
            skew: (earliest < 0).then_some(-earliest),
        })
    }

    /// The stages' parts of their sum in percent, by their medians; none unless all of them are known and took any time.
    pub fn shares(&self) -> Option<[f64; 3]> {
        let medians = [self.capture?.median, self.carry?.median, self.apply?.median];
        let sum: i64 = medians.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds that somebody waited for")]
        let share = |median: i64| median as f64 * 100.0 / sum as f64;
        (sum > 0).then(|| medians.map(share))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Committed at 1000, and for each replica sent on, read and shown then.
    fn transaction(arrived: &[(&str, Option<i64>, Option<i64>, i64)]) -> Transaction {
        let arrived = arrived.iter().map(|(replica, sent_at_ms, read_at_ms, applied_at_ms)| Arrived {
            replica: (*replica).to_owned(),
            sent_at_ms: *sent_at_ms,
            read_at_ms: *read_at_ms,
            applied_at_ms: *applied_at_ms,
        });
        Transaction {
            xid: 1,
            lsn: "0/1".to_owned(),
            committed_at_ms: 1000,
            tables: BTreeMap::new(),
            complete: true,
            left_out: 0,
            arrived: arrived.collect(),
        }
    }

    fn spread(median: i64, most: i64) -> Spread {
        Spread { median, most }
    }

    #[test]
    fn each_stage_begins_where_the_one_before_it_ends() {
        let transactions = [
            // The first by a lane of its own, to which the leader sent earlier.
            transaction(&[
                ("replica-1", Some(1001), Some(1003), 1007),
                ("replica-2", Some(1004), Some(1006), 1009),
            ]),
            transaction(&[
                ("replica-2", Some(1010), Some(1011), 1041),
                ("replica-1", Some(1010), Some(1011), 1012),
            ]),
            transaction(&[("replica-2", Some(1002), Some(1007), 1008)]),
            transaction(&[("replica-1", Some(1900), Some(1901), 1902)]),
        ];
        let stages = Stages::of(transactions.iter(), "replica-2").unwrap();
        let expected = Stages {
            count: 3,
            capture: Some(spread(4, 10)),
            carry: Some(spread(2, 5)),
            apply: Some(spread(3, 30)),
            total: spread(9, 41),
            after_first: spread(2, 29),
            skew: None,
        };
        assert_eq!(stages, expected);
        let shares = stages.shares().unwrap();
        assert!((shares.iter().sum::<f64>() - 100.0).abs() < 1e-9 && shares[0] > shares[2], "{shares:?}");
    }

    #[test]
    fn what_is_not_told_is_not_known_and_is_no_zero() {
        let only_ends = [transaction(&[("replica-1", None, None, 1012)])];
        let stages = Stages::of(only_ends.iter(), "replica-1").unwrap();
        assert_eq!((stages.capture, stages.carry, stages.apply, stages.shares()), (None, None, None, None));
        assert_eq!(stages.total, spread(12, 12));
        let unsent = [transaction(&[("replica-1", None, Some(1010), 1012)])];
        let stages = Stages::of(unsent.iter(), "replica-1").unwrap();
        assert_eq!((stages.carry, stages.apply), (None, Some(spread(2, 2))));
    }

    #[test]
    fn clocks_that_differ_are_told_of() {
        let behind = [transaction(&[("replica-1", Some(993), Some(1003), 1004)])];
        let stages = Stages::of(behind.iter(), "replica-1").unwrap();
        assert_eq!((stages.capture, stages.skew), (Some(spread(0, 0)), Some(7)));
        assert_eq!(stages.total, spread(4, 4));
    }

    #[test]
    fn only_the_latest_count_and_nothing_is_made_of_nothing() {
        let old = (0..LATEST).map(|_| transaction(&[("replica-1", None, None, 1001)]));
        let transactions: Vec<_> = old.chain([transaction(&[("replica-1", None, None, 6000)])]).collect();
        let stages = Stages::of(transactions.iter(), "replica-1").unwrap();
        assert_eq!((stages.count, stages.total.most), (LATEST, 1));
        assert_eq!(Stages::of(transactions.iter(), "replica-2"), None);
    }
}
