//! Topics, read partition by partition.
//!
//! Each partition has a queue of its own in librdkafka, and a record is taken from it only when the assembler has room for
//! that partition. What isn't taken stays there, and librdkafka stops fetching at `queued.max.messages.kbytes`: that is the
//! whole of the flow control, and a slow table can't make a fast one's records pile up in memory.
//!
//! Positions come from the replica's checkpoint. The consumer joins no group and commits nothing that it would read again.

mod client;
pub mod ends;
mod error;
mod probe;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;

use self::client::Context;
use self::ends::Ends;
pub use self::error::SourceError;
use crate::decode::debezium::Transactions;
use crate::vocabulary::offset::{Offsets, TopicPartition};

/// How long one question to the brokers may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What it takes to reach the brokers.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// The connector's `topic.prefix`.
    pub topic_prefix: String,
    /// Names of topics, or beginnings followed by `*`; none: all of the prefix.
    pub topics: Vec<String>,
    /// The topic of transaction boundaries, when it is not the prefix's own.
    pub transaction_topic: Option<String>,
    /// Whether there have to be transaction boundaries.
    pub transactions: Transactions,
    /// librdkafka options that override this module's.
    pub options: BTreeMap<String, String>,
    /// Told where the partitions end that are read.
    pub ends: Ends,
}

impl KafkaSettings {
    /// The topic of transaction boundaries.
    pub fn transaction_topic(&self) -> String {
        self.transaction_topic.clone().unwrap_or_else(|| format!("{}.transaction", self.topic_prefix))
    }

    /// Whether a topic is one of those to read.
    fn reads(&self, topic: &str) -> bool {
        let is_spine = *topic == *self.transaction_topic();
        match self.transactions {
            Transactions::Required if is_spine => return true,
            // Boundaries without the numbers that refer to them say nothing.
            Transactions::Absent if is_spine => return false,
            _ => {}
        }
        if self.topics.is_empty() {
            return topic.strip_prefix(&self.topic_prefix).is_some_and(|rest| rest.starts_with('.'));
        }
        self.topics.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => topic.starts_with(beginning),
            None => topic == wanted,
        })
    }
}

/// A record, borrowed from librdkafka.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its value; none for a tombstone.
    pub value: Option<&'a [u8]>,
    /// The header `__debezium.oldkey`.
    pub old_key: Option<&'a [u8]>,
    /// The header `__debezium.newkey`.
    pub new_key: Option<&'a [u8]>,
    message: &'a BorrowedMessage<'a>,
}

impl Record<'_> {
    /// When its producer made it, or the broker took it in if the topic says so, in milliseconds since 1970.
    pub fn written_at_ms(&self) -> Option<i64> {
        self.message.timestamp().to_millis()
    }
}

/// A consumer of some partitions.
pub struct KafkaSource {
    consumer: Arc<BaseConsumer<Context>>,
    settings: KafkaSettings,
    queues: Vec<(TopicPartition, PartitionQueue<Context>)>,
    wake: Arc<Notify>,
}

impl std::fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let partitions: Vec<_> = self.queues.iter().map(|(partition, _)| partition).collect();
        f.debug_struct("KafkaSource").field("partitions", &partitions).finish_non_exhaustive()
    }
}

impl KafkaSource {
    /// Makes the consumer. Nothing is read before [`KafkaSource::add`]. `partitions` is about how many that will be: they
    /// share the memory for what has been fetched and not taken.
    ///
    /// # Errors
    /// When librdkafka refuses the options.
    pub fn new(settings: KafkaSettings, client_id: &str, partitions: usize) -> Result<Self, SourceError> {
        let consumer = client::config(&settings, client_id, partitions)
            .create_with_context(Context::new(settings.ends.clone()))
            .map_err(|e| SourceError::Unusable(format!("the consumer can't be made: {e}")))?;
        Ok(KafkaSource {
            consumer: Arc::new(consumer),
            settings,
            queues: Vec::new(),
            wake: Arc::new(Notify::new()),
        })
    }

    /// Woken when a partition that was empty has records.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Whether a replica that was fed from this partition can't go on without it. Transaction boundaries are no longer needed
    /// once transactions are declared absent.
    pub fn needs(&self, partition: &TopicPartition) -> bool {
        self.settings.transactions == Transactions::Required
            || *partition.topic != *self.settings.transaction_topic()
    }

    /// All partitions of the connector's topics; the transaction topic's first.
    ///
    /// # Errors
    /// When the brokers don't answer, or there is no transaction topic yet.
    pub async fn discover(&self) -> Result<Vec<TopicPartition>, SourceError> {
        let consumer = Arc::clone(&self.consumer);
        let settings = self.settings.clone();
        ask(move || client::partitions(&consumer, &settings)).await
    }

    /// The first offset and the one after the last, of each partition.
    ///
    /// # Errors
    /// When the brokers don't answer.
    pub async fn bounds(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, (i64, i64)>, SourceError> {
        let consumer = Arc::clone(&self.consumer);
        ask(move || {
            let bounds = partitions.into_iter().map(|partition| {
                let (low, high) = consumer
                    .fetch_watermarks(&partition.topic, partition.partition, ANSWER_WITHIN)
                    .map_err(|e| SourceError::Unavailable(format!("offsets of {partition}: {e}")))?;
                Ok((partition, (low, high)))
            });
            bounds.collect()
        })
        .await
    }

    /// Of these partitions, each with the offset that would come next, those that give no record up to their end. Another client
    /// is asked than the one that reads.
    ///
    /// # Errors
    /// When the brokers don't answer.
    pub fn without_records(
        &self,
        positions: Vec<(TopicPartition, i64)>,
    ) -> impl Future<Output = Result<Vec<TopicPartition>, SourceError>> + Send + use<> {
        let settings = self.settings.clone();
        ask(move || probe::without_records(&settings, positions))
    }

    /// Checks that every partition still holds what is needed of it. Partitions without an offset start at their
    /// beginning, which must be the first record ever written: rows that retention has removed would be lost. Returns the
    /// bounds that it saw.
    ///
    /// # Errors
    /// [`SourceError::PositionLost`] for the first one that doesn't.
    pub async fn check_positions(
        &self,
        partitions: &[TopicPartition],
        offsets: &Offsets,
    ) -> Result<BTreeMap<TopicPartition, (i64, i64)>, SourceError> {
        let bounds = self.bounds(partitions.to_vec()).await?;
        check_bounds(&bounds, offsets)?;
        Ok(bounds)
    }

    /// Starts to read partitions from these offsets, from their beginning where there is none. They are numbered in the
    /// order in which they are added.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn add(&mut self, partitions: &[TopicPartition], offsets: &Offsets) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            let offset = offsets.get(partition).map_or(Offset::Beginning, |offset| Offset::Offset(*offset));
            list.add_partition_offset(&partition.topic, partition.partition, offset)
                .map_err(|e| SourceError::Unusable(format!("{partition}: {e}")))?;
        }
        // The queues first: what is fetched before a partition has its own would come through another way, out of order.
        for partition in partitions {
            let mut queue = self
                .consumer
                .split_partition_queue(&partition.topic, partition.partition)
                .ok_or_else(|| SourceError::Unusable(format!("{partition} has no queue")))?;
            let wake = Arc::clone(&self.wake);
            queue.set_nonempty_callback(move || wake.notify_one());
            self.queues.push((partition.clone(), queue));
        }
        self.consumer
            .incremental_assign(&list)
            .map_err(|e| SourceError::Unusable(format!("partitions can't be assigned: {e}")))?;
        Ok(())
    }

    /// Gives up to `limit` records of a partition to `f`; returns how many there were. Never waits.
    ///
    /// # Errors
    /// When the partition can't be read any more, or `f` refuses a record.
    pub fn take<E: From<SourceError>>(
        &self,
        partition: usize,
        limit: usize,
        mut f: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let (name, queue) = &self.queues[partition];
        for taken in 0..limit {
            match queue.poll(Duration::ZERO) {
                None => return Ok(taken),
                Some(Ok(message)) => {
                    self.consumer.context().works();
                    f(record(&message))?;
                }
                Some(Err(error)) => failure(name, &error)?,
            }
        }
        Ok(limit)
    }

    /// Serves the consumer's own events. Records come through their partitions' queues only.
    ///
    /// # Errors
    /// When the consumer can't go on.
    pub fn serve(&self) -> Result<(), SourceError> {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            match event {
                Ok(message) => {
                    // Would have to be put before what its queue has given already; reading again does that.
                    let (topic, offset) = (message.topic(), message.offset());
                    return Err(SourceError::Unavailable(format!(
                        "{topic} gave offset {offset} past its queue"
                    )));
                }
                Err(error) => {
                    let everything =
                        TopicPartition { topic: self.settings.topic_prefix.as_str().into(), partition: 0 };
                    failure(&everything, &error)?;
                }
            }
        }
        Ok(())
    }

    /// What the brokers' connections last complained of, while they do.
    pub fn trouble(&self) -> Option<String> {
        self.consumer.context().trouble()
    }
}

/// Whether every partition holds what is needed of it, within these bounds.
fn check_bounds(bounds: &BTreeMap<TopicPartition, (i64, i64)>, offsets: &Offsets) -> Result<(), SourceError> {
    for (partition, &(low, high)) in bounds {
        let needed = offsets.get(partition).copied().unwrap_or(0);
        if !(low..=high).contains(&needed) {
            return Err(SourceError::PositionLost { partition: partition.clone(), needed, low, high });
        }
    }
    Ok(())
}

/// Runs a blocking question to the brokers off the async threads.
async fn ask<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(question)
        .await
        .unwrap_or_else(|e| Err(SourceError::Unavailable(format!("the question was interrupted: {e}"))))
}

fn record<'a>(message: &'a BorrowedMessage<'_>) -> Record<'a> {
    let (offset, value) = (message.offset(), message.payload());
    let mut record = Record { offset, value, old_key: None, new_key: None, message };
    for header in message.headers().into_iter().flat_map(Headers::iter) {
        match header.key {
            "__debezium.oldkey" => record.old_key = header.value,
            "__debezium.newkey" => record.new_key = header.value,
            _ => {}
        }
    }
    record
}

/// Outages are librdkafka's to mend; [`KafkaSource::trouble`] shows them meanwhile. Everything else is shown and retried from
/// the checkpoint, rather than hidden in a consumer that reads no more.
fn failure(partition: &TopicPartition, error: &KafkaError) -> Result<(), SourceError> {
    match error {
        KafkaError::MessageConsumption(
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::NetworkException
            | RDKafkaErrorCode::BrokerNotAvailable
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::NotLeaderForPartition,
        )
        | KafkaError::PartitionEOF(_) => Ok(()),
        error => Err(SourceError::Unavailable(format!("{partition}: {error}"))),
    }
}

#[cfg(test)]
impl KafkaSource {
    /// Gets nothing more of any partition, and does not say so.
    pub(crate) fn strand(&self) {
        let partitions = self.consumer.assignment().unwrap();
        self.consumer.pause(&partitions).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(topics: &[&str], transactions: Transactions) -> KafkaSettings {
        KafkaSettings {
            brokers: "localhost:9092".to_owned(),
            topic_prefix: "app".to_owned(),
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            transaction_topic: None,
            transactions,
            options: BTreeMap::new(),
            ends: Ends::default(),
        }
    }

    #[test]
    fn the_prefixs_topics_are_read_unless_others_are_named() {
        let of_prefix = settings(&[], Transactions::Required);
        for (topic, is_read) in [
            ("app.public.posts", true),
            ("app.transaction", true),
            ("apple.public.posts", false),
            ("app", false),
        ] {
            assert_eq!(of_prefix.reads(topic), is_read, "{topic}");
        }
        let routed = settings(&["everything", "shop_*"], Transactions::Required);
        for (topic, is_read) in [
            ("everything", true),
            ("everything.else", false),
            ("shop_1", true),
            ("app.public.posts", false),
            ("app.transaction", true),
        ] {
            assert_eq!(routed.reads(topic), is_read, "{topic}");
        }
    }

    #[test]
    fn what_retention_has_removed_is_lost_also_where_nothing_was_read_yet() {
        let partition = TopicPartition { topic: "app.public.posts".into(), partition: 0 };
        let bounds = BTreeMap::from([(partition.clone(), (5, 9))]);
        let check = |needed: Option<i64>| {
            check_bounds(&bounds, &needed.map(|needed| (partition.clone(), needed)).into_iter().collect())
        };
        for held in [5, 7, 9] {
            assert_eq!(check(Some(held)), Ok(()), "{held}");
        }
        for lost in [None, Some(0), Some(4), Some(10)] {
            let (partition, needed) = (partition.clone(), lost.unwrap_or(0));
            let error = check(lost).unwrap_err();
            assert_eq!(error, SourceError::PositionLost { partition, needed, low: 5, high: 9 });
            assert!(error.hint().contains("replicator rebuild"), "{}", error.hint());
        }
    }

    #[test]
    fn boundaries_are_left_alone_where_transactions_are_absent() {
        let absent = settings(&[], Transactions::Absent);
        assert!(absent.reads("app.public.posts") && !absent.reads("app.transaction"));
    }
}
