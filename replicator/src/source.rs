//! Where changes come from. Knows topics, slots and bytes, nothing of replicas.

pub mod kafka;
pub mod postgres;

use self::kafka::KafkaSettings;
use self::kafka::ends::Ends;
use self::postgres::PostgresSettings;
use crate::decode::debezium::{DecodeSettings, Transactions};

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
    /// The leader's own stream.
    Postgres(PostgresSettings),
}

impl SourceSettings {
    /// Where the topics end that are read; none where there are no topics.
    pub fn ends(&self) -> Option<Ends> {
        match self {
            SourceSettings::Debezium { kafka, .. } => Some(kafka.ends.clone()),
            SourceSettings::Postgres(_) => None,
        }
    }

    /// Whether the changes come without their transactions.
    pub fn is_without_transactions(&self) -> bool {
        matches!(self, SourceSettings::Debezium { kafka, .. } if kafka.transactions == Transactions::Absent)
    }
}
