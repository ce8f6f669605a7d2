//! How a replica's delay is made up, as far as the replicator tells: what all replicas share, and what is this one's own. Pure.

use super::Transaction;

/// Transactions that are looked at, the latest.
const LATEST: usize = 50;

/// The delay of some transactions on one replica, in two stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stages {
    /// How many transactions these are.
    pub count: usize,
    /// From the leader's commit until a first replica showed it: capture, broker if there is one, and one apply.
    pub shared: Spread,
    /// From then until this replica showed it; zero where it was the first.
    pub own: Spread,
    /// Both together.
    pub total: Spread,
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
    fn of(mut durations: Vec<i64>) -> Option<Self> {
        durations.sort_unstable();
        Some(Self { median: *durations.get(durations.len() / 2)?, most: *durations.last()? })
    }
}

impl Stages {
    /// Of those transactions, the newest first, that this replica shows.
    pub(super) fn of<'a>(transactions: impl Iterator<Item = &'a Transaction>, replica: &str) -> Option<Self> {
        let arrived = transactions.filter_map(|transaction| {
            let first = transaction.arrived.iter().map(|(_, delay)| *delay).min()?;
            Some((first, transaction.delay(replica)?))
        });
        let arrived: Vec<(i64, i64)> = arrived.take(LATEST).collect();
        let spread = |stage: fn(&(i64, i64)) -> i64| Spread::of(arrived.iter().map(stage).collect());
        Some(Self {
            count: arrived.len(),
            shared: spread(|(first, _)| *first)?,
            own: spread(|(first, here)| here - first)?,
            total: spread(|(_, here)| *here)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn transaction(arrived: &[(&str, i64)]) -> Transaction {
        Transaction {
            xid: 1,
            lsn: "0/1".to_owned(),
            committed_at_ms: 0,
            tables: BTreeMap::new(),
            complete: true,
            left_out: 0,
            arrived: arrived.iter().map(|(name, delay)| ((*name).to_owned(), *delay)).collect(),
        }
    }

    #[test]
    fn the_way_that_all_share_is_told_from_a_replicas_own() {
        let transactions = [
            transaction(&[("replica-1", 5), ("replica-2", 6)]),
            transaction(&[("replica-2", 40), ("replica-1", 10)]),
            transaction(&[("replica-1", 7), ("replica-2", 9)]),
            transaction(&[("replica-1", 900)]),
        ];
        let spread = |median, most| Spread { median, most };
        let slow = Stages::of(transactions.iter(), "replica-2").unwrap();
        let expected = Stages { count: 3, shared: spread(7, 10), own: spread(2, 30), total: spread(9, 40) };
        assert_eq!(slow, expected);
        let first = Stages::of(transactions.iter(), "replica-1").unwrap();
        assert_eq!((first.count, first.own, first.total), (4, spread(0, 0), first.shared));
    }

    #[test]
    fn only_the_latest_count_and_nothing_is_made_of_nothing() {
        let old = (0..LATEST).map(|_| transaction(&[("replica-1", 1)]));
        let transactions: Vec<_> = old.chain([transaction(&[("replica-1", 5000)])]).collect();
        let stages = Stages::of(transactions.iter(), "replica-1").unwrap();
        assert_eq!((stages.count, stages.total.most), (LATEST, 1));
        assert_eq!(Stages::of(transactions.iter(), "replica-2"), None);
    }
}
