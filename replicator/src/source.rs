//! Where changes come from. Knows topics, slots and bytes, nothing of replicas.

pub mod kafka;
pub mod postgres;

use self::kafka::KafkaSettings;
use crate::decode::debezium::DecodeSettings;

/// Where changes come from.
#[derive(Debug, Clone)]
pub enum SourceSettings {
    /// Debezium's change events in topics.
    Debezium {
        /// The topics.
        kafka: KafkaSettings,
        /// How their events are read.
        decoding: DecodeSettings,
    },
}
