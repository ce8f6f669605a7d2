//! Positions in topics.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use super::lsn::Lsn;
use crate::text::push_fmt;

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The text was not `topic/partition`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a partition such as app.public.posts/0")]
pub struct TopicPartitionParseError(String);

impl FromStr for TopicPartition {
    type Err = TopicPartitionParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            // Kafka's topic names have no slash.
            let (topic, partition) = text.split_once('/')?;
            let partition = partition.parse().ok().filter(|p| *p >= 0)?;
            (!topic.is_empty()).then(|| TopicPartition { topic: topic.into(), partition })
        };
        parse().ok_or_else(|| TopicPartitionParseError(text.to_owned()))
    }
}

/// Where a lane keeps a partition in its list: smaller and cheaper to carry with each change than the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionIndex(pub u32);

impl PartitionIndex {
    /// The index as a slice wants it.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

/// The partitions of a lane by their index. Grows when a topic appears; an index keeps its meaning.
///
/// Shared between the lane, which adds, and the applier, which names partitions in checkpoints and errors.
#[derive(Debug, Clone, Default)]
pub struct PartitionNames(Arc<RwLock<Vec<TopicPartition>>>);

impl PartitionNames {
    /// Adds a partition.
    pub fn add(&self, partition: TopicPartition) -> PartitionIndex {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        names.push(partition);
        PartitionIndex(u32::try_from(names.len() - 1).expect("a cluster has fewer than 2^32 partitions"))
    }

    /// The partition's name.
    ///
    /// # Panics
    /// When the index is another lane's.
    pub fn get(&self, index: PartitionIndex) -> TopicPartition {
        self.0.read().unwrap_or_else(PoisonError::into_inner)[index.get()].clone()
    }

    /// All partitions in the order of their indices.
    pub fn all(&self) -> Vec<TopicPartition> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many partitions there are.
    pub fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `topic/partition at offset n`, or a position of the leader's WAL.
    pub fn describe(&self, place: Place) -> String {
        let partition = self.get(place.partition);
        if *partition.topic == *WAL_TOPIC {
            return format!("the leader's WAL at {}", wal_position(place.offset));
        }
        format!("{partition} at offset {}", place.offset)
    }
}

/// Where a record stood, for messages to people. Offsets are always *next to read* elsewhere; here it is the record's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The partition, by its number in the lane.
    pub partition: PartitionIndex,
    /// The record's offset.
    pub offset: i64,
}

/// The name under which the leader's own stream counts as a partition; its offsets are WAL positions. No topic of Debezium
/// is called so, they have at least one dot.
const WAL_TOPIC: &str = "wal";

/// The leader's own stream as a partition.
pub fn wal() -> TopicPartition {
    TopicPartition { topic: WAL_TOPIC.into(), partition: 0 }
}

/// A WAL position as an offset. PostgreSQL's stay below 2^63 for as long as it writes less than 8 EiB.
pub fn wal_offset(lsn: Lsn) -> i64 {
    i64::try_from(lsn.0).unwrap_or(i64::MAX)
}

/// An offset of [`wal`] as the position that it is.
pub fn wal_position(offset: i64) -> Lsn {
    Lsn(u64::try_from(offset).unwrap_or(0))
}

/// The first offset still needed, per partition.
pub type Offsets = BTreeMap<TopicPartition, i64>;

/// Offsets as a JSON object, the form in which a checkpoint keeps them: `{"topic/partition": offset}`.
pub fn to_json(offsets: &Offsets) -> String {
    let mut json = String::from("{");
    for (i, (partition, offset)) in offsets.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        // Kafka's topic names need no escaping in JSON.
        push_fmt(&mut json, format_args!("{comma}\"{partition}\":{offset}"));
    }
    json.push('}');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_survives_the_trip_through_text() {
        let partition = TopicPartition { topic: "app.public.posts".into(), partition: 3 };
        assert_eq!(partition.to_string().parse(), Ok(partition));
        for wrong in ["", "posts", "/0", "posts/", "posts/-1", "posts/x"] {
            assert!(wrong.parse::<TopicPartition>().is_err(), "{wrong}");
        }
    }
}
