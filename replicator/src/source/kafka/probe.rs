//! Is there a record between an offset and the end of a log? The end alone doesn't tell: marks of Kafka's own transactions
//! (exactly-once Connect workers write one behind each of theirs) and aborted records have offsets, and reach no consumer.

use std::collections::HashMap;
use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, Context};
use super::{ANSWER_WITHIN, KafkaSettings, SourceError};
use crate::vocabulary::offset::TopicPartition;

/// Reads each partition from its offset on, until it gives a record or says that there is none.
pub(super) fn without_records(
    settings: &KafkaSettings,
    positions: Vec<(TopicPartition, i64)>,
) -> Result<Vec<TopicPartition>, SourceError> {
    let failed = |error: KafkaError| SourceError::Unavailable(format!("looking for records: {error}"));
    let mut config = client::config(settings, "replicator.probe", 1);
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer<Context> = config.create_with_context(Context::default()).map_err(failed)?;
    let mut empty = Vec::new();
    // An end is reported by the partition's number alone, so topics are asked one after the other.
    let mut by_topic: HashMap<String, Vec<(TopicPartition, i64)>> = HashMap::new();
    for (partition, offset) in positions {
        by_topic.entry(partition.topic.to_string()).or_default().push((partition, offset));
    }
    for asked in by_topic.into_values() {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &asked {
            list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(*offset))
                .map_err(failed)?;
        }
        consumer.assign(&list).map_err(failed)?;
        let mut open: Vec<TopicPartition> = asked.into_iter().map(|(partition, _)| partition).collect();
        let deadline = Instant::now() + ANSWER_WITHIN;
        while !open.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            match consumer.poll(left) {
                None => {
                    return Err(SourceError::Unavailable(
                        "the brokers gave neither record nor end".to_owned(),
                    ));
                }
                Some(Ok(record)) => open.retain(|p| p.partition != record.partition()),
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    empty.extend(open.extract_if(.., |p| p.partition == number));
                }
                // Outages are librdkafka's to mend, until the time is up.
                Some(Err(error)) => tracing::debug!(error = %error, "looking for records"),
            }
        }
    }
    Ok(empty)
}
