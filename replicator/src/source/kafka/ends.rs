//! Where partitions end, as librdkafka has learned it with the records that it fetched: asking costs the brokers nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::vocabulary::offset::TopicPartition;

/// A partition's end, as it was known at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The offset after the last record.
    pub offset: i64,
    /// When that was known, in milliseconds since 1970.
    pub at_ms: i64,
}

/// The ends of all partitions that any lane of this daemon reads; shared, and cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Ends(Arc<Mutex<BTreeMap<TopicPartition, End>>>);

/// One partition's end, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicEnd {
    /// The topic.
    pub topic: String,
    /// The partition's number, from 0.
    pub partition: i32,
    /// The offset after its last record.
    pub end: i64,
    /// How old that knowledge is, in milliseconds.
    pub age_ms: i64,
}

impl Ends {
    /// These were known at this moment, in milliseconds since 1970. Two lanes that read the same partition may know different
    /// ends; the latest answer counts, since a topic that was made anew is shorter.
    pub fn note(&self, found: BTreeMap<TopicPartition, i64>, at_ms: i64) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.extend(found.into_iter().map(|(partition, offset)| (partition, End { offset, at_ms })));
    }

    /// All of them, by topic and partition.
    pub fn list(&self, now_ms: i64) -> Vec<TopicEnd> {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |(partition, end): (&TopicPartition, &End)| TopicEnd {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            end: end.offset,
            age_ms: (now_ms - end.at_ms).max(0),
        };
        ends.iter().map(told).collect()
    }
}

/// The part of librdkafka's statistics that is read (its STATISTICS.md names the fields).
#[derive(Debug, Deserialize)]
struct Statistics {
    #[serde(default)]
    topics: BTreeMap<String, Topic>,
}

#[derive(Debug, Deserialize)]
struct Topic {
    #[serde(default)]
    partitions: BTreeMap<String, Partition>,
}

#[derive(Debug, Deserialize)]
struct Partition {
    partition: i32,
    /// The partition's high watermark; negative before anything was fetched.
    hi_offset: i64,
}

/// The ends that librdkafka's statistics tell. What it has not fetched from is left out.
///
/// # Errors
/// When they are not what librdkafka writes.
pub(super) fn parse(statistics: &[u8]) -> serde_json::Result<BTreeMap<TopicPartition, i64>> {
    let statistics: Statistics = serde_json::from_slice(statistics)?;
    let mut ends = BTreeMap::new();
    for (name, topic) in statistics.topics {
        let name: Arc<str> = name.into();
        // Partition -1 stands for records whose partition is not known yet.
        let known = topic.partitions.into_values().filter(|p| p.partition >= 0 && p.hi_offset >= 0);
        ends.extend(
            known.map(|p| (TopicPartition { topic: Arc::clone(&name), partition: p.partition }, p.hi_offset)),
        );
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posts(partition: i32) -> TopicPartition {
        TopicPartition { topic: "app.public.posts".into(), partition }
    }

    #[test]
    fn only_ends_that_are_known_are_read_from_statistics() {
        let text =
            br#"{"name":"x","ts":1,"topics":{"app.public.posts":{"topic":"app.public.posts","partitions":{
            "0":{"partition":0,"lo_offset":-1001,"hi_offset":71,"ls_offset":71},
            "1":{"partition":1,"hi_offset":-1001},"-1":{"partition":-1,"hi_offset":0}}}}}"#;
        assert_eq!(parse(text).unwrap(), BTreeMap::from([(posts(0), 71)]));
        assert_eq!(parse(b"{}").unwrap(), BTreeMap::new());
        assert!(parse(b"no").is_err());
    }

    #[test]
    fn the_latest_answer_counts_also_when_it_is_less() {
        let ends = Ends::default();
        ends.note(BTreeMap::from([(posts(0), 71), (posts(1), 5)]), 1000);
        ends.clone().note(BTreeMap::from([(posts(0), 3)]), 2000);
        let told = |partition, end, age_ms| TopicEnd {
            topic: "app.public.posts".to_owned(),
            partition,
            end,
            age_ms,
        };
        assert_eq!(ends.list(2500), [told(0, 3, 500), told(1, 5, 1500)]);
        assert_eq!(ends.list(500)[1].age_ms, 0, "a clock that was set back");
    }
}
