//! librdkafka: its options, its log, its view of the cluster.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;

use super::ends::{self, Ends};
use super::{ANSWER_WITHIN, KafkaSettings, SourceError};
use crate::decode::debezium::Transactions;
use crate::status::now_ms;
use crate::vocabulary::offset::TopicPartition;

/// What all partitions together may have waiting in librdkafka, in kB.
const QUEUED_KBYTES: usize = 24 << 10;

/// The bounds of one partition's share: with less a busy one runs dry between two fetches, and more brought nothing.
const MIN_QUEUED_KBYTES: usize = 512;
const MAX_QUEUED_KBYTES: usize = 8 << 10;

/// The consumer's options. `settings.options` come last and win.
pub(super) fn config(settings: &KafkaSettings, client_id: &str, partitions: usize) -> ClientConfig {
    let mut config = ClientConfig::new();
    let queued_kbytes = (QUEUED_KBYTES / partitions.max(1)).clamp(MIN_QUEUED_KBYTES, MAX_QUEUED_KBYTES);
    let queued_kbytes = queued_kbytes.to_string();
    let options = [
        ("bootstrap.servers", settings.brokers.as_str()),
        ("client.id", client_id),
        // librdkafka wants a name for a group even when none is joined.
        ("group.id", client_id),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        // A position that is not in the log is a loss to be reported, never to be skipped.
        ("auto.offset.reset", "error"),
        // With exactly-once Connect workers, aborted records must not be seen.
        ("isolation.level", "read_committed"),
        ("allow.auto.create.topics", "false"),
        // Bounds memory: per partition, what waits in librdkafka. The default of 64 MB took 143 MB in a measurement.
        ("queued.max.messages.kbytes", &queued_kbytes),
        // One answer for all partitions together, which stays in memory until its last record is taken. The default is 50 MB.
        ("fetch.max.bytes", "4194304"),
        // And one partition's part of it. Parts that stay in the processor's cache from the socket to the decoder are worth more than
        // fewer fetches: records of 3.3 kB came at 137 000 to 140 000 per second with 512 kB, 78 000 to 117 000 with the default of
        // 1 MB, 65 000 to 77 000 with 4 MB, and at 256 kB as with 512. A record that is larger comes alone.
        ("max.partition.fetch.bytes", "524288"),
        // How long a full queue keeps the fetcher away. The default of a second halves the throughput of bounded queues.
        ("fetch.queue.backoff.ms", "1"),
        // A partition whose queue is full is left out of a fetch. Then the broker holds that fetch back for this long if the other
        // partitions have nothing new, and there is no second fetch meanwhile: with the default of 500 a backlog came at 25 000
        // rows/s, whatever the replicas could take. Records that are there are never held back. An idle lane asks a hundred times a
        // second.
        ("fetch.wait.max.ms", "10"),
        ("fetch.error.backoff.ms", "50"),
        ("reconnect.backoff.max.ms", "1000"),
        ("socket.keepalive.enable", "true"),
        // What librdkafka knows anyhow, once a second: where partitions end.
        ("statistics.interval.ms", "1000"),
    ];
    for (key, value) in options {
        config.set(key, value);
    }
    for (key, value) in &settings.options {
        config.set(key, value);
    }
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
}

/// Receives librdkafka's log and errors on its own threads; does nothing but remember them.
#[derive(Debug, Default)]
pub(super) struct Context {
    trouble: Mutex<Option<String>>,
    /// Whether there is any: read for every record, so it has to be cheap.
    troubled: AtomicBool,
    /// Told where partitions end.
    ends: Ends,
}

impl Context {
    pub(super) fn new(ends: Ends) -> Self {
        Context { ends, ..Context::default() }
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A record has come: whatever the trouble was, it is over.
    pub(super) fn works(&self) {
        if self.troubled.swap(false, Ordering::Relaxed) {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // A broken connection is logged several times a second; what matters of it is shown by `trouble`.
        tracing::debug!(level = ?level, facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, "librdkafka: {reason}");
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        self.troubled.store(true, Ordering::Relaxed);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match ends::parse(statistics) {
            Ok(found) => self.ends.note(found, now_ms()),
            Err(error) => tracing::debug!(error = %error, "librdkafka's statistics can't be read"),
        }
    }
}

impl ConsumerContext for Context {}

/// The partitions of all topics to read; the transaction topic's first.
pub(super) fn partitions(
    consumer: &Arc<BaseConsumer<Context>>,
    settings: &KafkaSettings,
) -> Result<Vec<TopicPartition>, SourceError> {
    let metadata = consumer
        .fetch_metadata(None, ANSWER_WITHIN)
        .map_err(|e| SourceError::Unavailable(format!("no answer from {}: {e}", settings.brokers)))?;
    let spine = settings.transaction_topic();
    let mut found = Vec::new();
    for topic in metadata.topics().iter().filter(|topic| settings.reads(topic.name())) {
        let name: Arc<str> = topic.name().into();
        let partitions =
            topic.partitions().iter().map(|p| TopicPartition { topic: Arc::clone(&name), partition: p.id() });
        found.extend(partitions);
    }
    if settings.transactions == Transactions::Absent {
        return match found.iter().find(|p| p.partition > 0) {
            Some(several) => Err(SourceError::SeveralPartitions(several.topic.to_string())),
            None if found.is_empty() => {
                Err(SourceError::Unavailable("no topic of the connector exists yet".to_owned()))
            }
            None => {
                found.sort();
                Ok(found)
            }
        };
    }
    match found.iter().filter(|p| *p.topic == *spine).count() {
        0 if found.is_empty() => Err(SourceError::Unavailable(format!(
            "topic {spine} does not exist: no connector has written transaction metadata yet"
        ))),
        0 => Err(SourceError::NoTransactionTopic { topic: spine, others: found.len() }),
        1 => {
            found.sort_by(|a, b| (*b.topic == *spine).cmp(&(*a.topic == *spine)).then_with(|| a.cmp(b)));
            Ok(found)
        }
        n => {
            Err(SourceError::Unusable(format!("{spine} has {n} partitions; commit order needs exactly one")))
        }
    }
}
