//! Where changes come from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::debezium::{Modes, Transactions};
use crate::source::postgres::SLOT_NAME_MAX;

/// The kinds of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Debezium's change events in Kafka topics.
    #[default]
    Debezium,
    /// The leader's own replication stream, without a broker.
    Postgres,
}

/// Where changes come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The kind of source.
    #[serde(default)]
    pub kind: SourceKind,
    /// Kind `postgres`: the leader's slot, which is made when a replica is filled and keeps what any replica still needs.
    #[serde(default = "default_slot")]
    pub slot: String,
    /// Kind `postgres`: the publication of what the replicas get. It is made, of all tables, when there is none and the
    /// leader's user may.
    #[serde(default = "default_publication")]
    pub publication: String,
    /// Kind `postgres`: how much memory the leader may use for transactions that have not ended, as
    /// `logical_decoding_work_mem` takes it. What is above it goes to its disk first. Holds where transactions come whole.
    #[serde(default = "default_decoding_work_mem")]
    pub decoding_work_mem: String,
    /// Kind `postgres`: whether large transactions are applied while they run on the leader, invisible until they commit there.
    #[serde(default = "default_streaming")]
    pub streaming: bool,
    /// Kind `postgres`: what open transactions have to take up in the leader's memory before the largest of them is sent
    /// while it runs, as `logical_decoding_work_mem` takes it. Less: more of the work is done by the time it commits, and
    /// smaller transactions take that way, which is dearer for them.
    #[serde(default = "default_streaming_work_mem")]
    pub streaming_work_mem: String,
    /// Whether values come in binary, as long as all tables have types of which that means the same on leader and replica. As soon
    /// as one has not, everything comes as text.
    #[serde(default = "default_binary")]
    pub binary: bool,
    /// The brokers as `host:port`, comma-separated.
    #[serde(default)]
    pub brokers: String,
    /// The connector's `topic.prefix`.
    #[serde(default)]
    pub topic_prefix: String,
    /// The connector's `unavailable.value.placeholder`, which stands for an unchanged TOAST value.
    #[serde(default = "default_placeholder")]
    pub placeholder: String,
    /// The topics to read: names, or beginnings of names followed by `*`. By default those of the prefix, `PREFIX.*`; a
    /// connector that routes its events elsewhere (`RegexRouter`, `ByLogicalTableRouter`) needs theirs.
    #[serde(default)]
    pub topics: Vec<String>,
    /// The topic of transaction boundaries, by default `PREFIX.transaction`. May be one that holds other events, too, and
    /// has to have one partition.
    pub transaction_topic: Option<String>,
    /// Whether the connector writes transaction metadata. Without it a replica has no transactions and honours no tokens.
    #[serde(default)]
    pub transactions: Transactions,
    /// Tables, as `schema.table`, that the source has and the replicas don't get.
    #[serde(default)]
    pub exclude_tables: Vec<String>,
    /// Columns, as `schema.table.column`, of which the wire loses values, and that is accepted: what can't be had is left
    /// out. `check` names the columns that need it.
    #[serde(default)]
    pub allow_lossy: Vec<String>,
    /// The connector's settings that decide what values look like, for events without schemas.
    #[serde(default)]
    pub modes: Modes,
    /// Options for librdkafka, by its own names: `security.protocol`, `sasl.username`, …
    #[serde(default)]
    pub kafka: BTreeMap<String, String>,
}

fn default_slot() -> String {
    "replicator".to_owned()
}

fn default_publication() -> String {
    "replicator".to_owned()
}

fn default_decoding_work_mem() -> String {
    "256MB".to_owned()
}

fn default_streaming() -> bool {
    true
}

fn default_binary() -> bool {
    true
}

fn default_streaming_work_mem() -> String {
    "4MB".to_owned()
}

fn default_placeholder() -> String {
    "__debezium_unavailable_value".to_owned()
}

impl SourceConfig {
    /// What is wrong with it, by its kind.
    pub(super) fn problems(&self) -> Vec<String> {
        let needed: &[(&str, &str)] = match self.kind {
            SourceKind::Debezium => {
                &[("source.brokers", &self.brokers), ("source.topic_prefix", &self.topic_prefix)]
            }
            SourceKind::Postgres => &[
                ("source.publication", &self.publication),
                ("source.decoding_work_mem", &self.decoding_work_mem),
                ("source.streaming_work_mem", &self.streaming_work_mem),
            ],
        };
        let empty = needed.iter().filter(|(_, value)| value.is_empty());
        let mut problems: Vec<_> = empty.map(|(key, _)| format!("{key}: must not be empty")).collect();
        if self.kind == SourceKind::Postgres {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if self.slot.is_empty() || self.slot.len() > SLOT_NAME_MAX || !self.slot.chars().all(legal) {
                problems.push(format!(
                    "source.slot: lower-case letters, digits and '_' only, {SLOT_NAME_MAX} of them at most"
                ));
            }
            if self.transactions == Transactions::Absent {
                problems.push("source.transactions: \"absent\" is for kind \"debezium\" only".to_owned());
            }
        }
        problems
    }
}
