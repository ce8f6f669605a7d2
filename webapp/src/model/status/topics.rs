//! Where the replicas stand in the connector's topics, by what each has stored with its rows. Pure.

use std::collections::BTreeMap;

use super::ReplicaSample;
use super::facts::TopicEnd;

/// An end that is known for longer than this is no end any more: the replicator learns it anew each second.
const FRESH_MS: i64 = 5000;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    /// The topic's name.
    pub topic: String,
    /// The partition's number, from 0.
    pub number: i32,
}

impl Partition {
    /// From `topic/number`, as the contract's checkpoint names it. `None` for the leader's own stream, which a replica on the
    /// direct source stores as `wal/0`: it is no topic, Debezium's have a dot.
    pub fn parse(text: &str) -> Option<Self> {
        let (topic, number) = text.split_once('/')?;
        let number = number.parse().ok().filter(|number| *number >= 0)?;
        (topic != "wal" && !topic.is_empty()).then(|| Self { topic: topic.to_owned(), number })
    }
}

/// One partition, and how far the replicas are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicLine {
    /// The partition.
    pub partition: Partition,
    /// The first offset that each replica still needs; those that have never answered are not in it.
    pub needed: Vec<(String, i64)>,
    /// The offset after the last record, as it was told a moment ago.
    pub told_end: Option<i64>,
}

impl TopicLine {
    /// The first offset that any replica still needs: retention may remove what is before it, and nothing else.
    pub fn needed_from(&self) -> i64 {
        self.needed.iter().map(|(_, offset)| *offset).min().unwrap_or(0)
    }

    /// What the furthest replica needs next. The partition ends there or later.
    pub fn reached(&self) -> i64 {
        self.needed.iter().map(|(_, offset)| *offset).max().unwrap_or(0)
    }

    /// The offset after the last record; `None` where nobody tells. A replica that has come further since it was told knows
    /// better.
    pub fn end(&self) -> Option<i64> {
        self.told_end.map(|end| end.max(self.reached()))
    }

    /// The records that wait for the slowest replica; where the end is not known, at least those that the furthest one had.
    pub fn waits(&self) -> u64 {
        (self.end().unwrap_or(self.reached()) - self.needed_from()).unsigned_abs()
    }

    /// The replicas that others are ahead of, the slowest first.
    pub fn behind(&self) -> Vec<&str> {
        let reached = self.reached();
        let mut behind: Vec<_> = self.needed.iter().filter(|(_, offset)| *offset < reached).collect();
        behind.sort_by_key(|(_, offset)| *offset);
        behind.into_iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// All partitions that any replica has a position in, by their names. A replica that answered and says nothing of one needs
/// it from its beginning, as the replicator reads it then. What a replica said last counts: it can't have gone back. Of the
/// ends only fresh ones do.
pub fn lines(replicas: &[ReplicaSample], ends: &[TopicEnd]) -> Vec<TopicLine> {
    let fresh = ends.iter().filter(|end| end.age_ms <= FRESH_MS);
    let ends: BTreeMap<Partition, i64> =
        fresh.map(|end| (Partition { topic: end.topic.clone(), number: end.partition }, end.end)).collect();
    let known: Vec<_> = replicas.iter().filter_map(|r| Some((&r.name, &r.facts.last()?.offsets))).collect();
    let mut partitions: Vec<&Partition> = known.iter().flat_map(|(_, offsets)| offsets.keys()).collect();
    partitions.sort();
    partitions.dedup();
    let line = |partition: &Partition| TopicLine {
        partition: partition.clone(),
        needed: known
            .iter()
            .map(|(name, offsets)| ((*name).clone(), offsets.get(partition).copied().unwrap_or(0)))
            .collect(),
        told_end: ends.get(partition).copied(),
    };
    partitions.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::facts::{ReplicaFacts, Seen};

    fn line(needed: &[(&str, i64)]) -> TopicLine {
        TopicLine {
            partition: Partition { topic: "app.public.posts".to_owned(), number: 0 },
            needed: needed.iter().map(|(name, offset)| ((*name).to_owned(), *offset)).collect(),
            told_end: None,
        }
    }

    #[test]
    fn the_leaders_own_stream_is_no_topic() {
        let posts = Partition { topic: "app.public.posts".to_owned(), number: 3 };
        assert_eq!(Partition::parse("app.public.posts/3"), Some(posts));
        for other in ["wal/0", "app.public.posts", "/0", "app.public.posts/-1", "app.public.posts/x", ""] {
            assert_eq!(Partition::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_slowest_replica_decides_what_is_needed_and_the_fastest_what_waits() {
        let line = line(&[("replica-1", 120), ("replica-2", 90), ("replica-3", 20)]);
        assert_eq!((line.needed_from(), line.reached(), line.waits()), (20, 120, 100));
        assert_eq!(line.behind(), ["replica-3", "replica-2"]);
    }

    #[test]
    fn replicas_at_one_place_wait_for_nothing_that_is_known() {
        let line = line(&[("replica-1", 7), ("replica-2", 7)]);
        assert_eq!((line.needed_from(), line.waits()), (7, 0));
        assert!(line.behind().is_empty(), "nobody is ahead");
    }

    #[test]
    fn with_the_end_it_is_known_how_much_waits_for_all() {
        let line = TopicLine { told_end: Some(12), ..line(&[("replica-1", 7), ("replica-2", 7)]) };
        assert_eq!(line.waits(), 5);
        // The end was told before the replica came further.
        let line = TopicLine { told_end: Some(6), ..line };
        assert_eq!((line.end(), line.waits()), (Some(7), 0));
    }

    #[test]
    fn an_end_of_long_ago_is_none() {
        let at = |age_ms| {
            let end = TopicEnd { topic: "app.public.posts".to_owned(), partition: 0, end: 12, age_ms };
            lines(&[replica(7)], &[end])[0].end()
        };
        assert_eq!((at(900), at(FRESH_MS + 1)), (Some(12), None));
    }

    fn replica(needed: i64) -> ReplicaSample {
        let posts = Partition { topic: "app.public.posts".to_owned(), number: 0 };
        let mut facts = Seen::not_yet();
        facts.update(
            Ok(ReplicaFacts { offsets: [(posts, needed)].into(), ..ReplicaFacts::default() }),
            jiff::Timestamp::UNIX_EPOCH,
        );
        ReplicaSample {
            name: "replica-1".to_owned(),
            facts,
            rotation: Ok(()),
            behind: None,
            rate: None,
            rates: vec![],
        }
    }
}
