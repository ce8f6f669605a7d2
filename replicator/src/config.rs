//! Configuration: defaults, then a TOML file, then the environment, later ones win.
//!
//! The environment's names are the keys in capitals with `__` for each dot, under `REPLICATOR__`:
//! `REPLICATOR__SOURCE__BROKERS`, `REPLICATOR__REPLICAS__0__URL`. A name that ends in `_FILE` names a file whose content
//! is the value, for secrets that should not stand in an environment.

mod load;
mod secret;
mod source;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use load::{ConfigError, Loaded, load};
pub use secret::{DatabaseUrl, Secret};
pub use source::{SourceConfig, SourceKind};

use crate::decode::debezium::DecodeSettings;
use crate::lane::LaneLimits;
use crate::replica::quarantine::FailurePolicy;
use crate::snapshot::{LeaderSettings, SnapshotMode};
use crate::source::SourceSettings;
use crate::source::kafka::KafkaSettings;
use crate::source::kafka::ends::Ends;
use crate::source::postgres::PostgresSettings;
use crate::worker::CopySettings;

/// All settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where changes come from.
    pub source: SourceConfig,
    /// The leader: for `check` and `rebuild`, to follow its schema, and to fetch rows that a replica lacks. Applying its
    /// changes needs no connection to it.
    pub leader: Option<LeaderConfig>,
    /// Kafka Connect, for `check`.
    pub connect: Option<ConnectConfig>,
    /// Where changes go.
    #[serde(default)]
    pub replicas: Vec<ReplicaConfig>,
    /// Copies from the leader.
    #[serde(default)]
    pub snapshot: SnapshotConfig,
    /// Batches and bounds.
    #[serde(default)]
    pub apply: ApplyConfig,
    /// What follows from failures.
    #[serde(default)]
    pub failure: FailurePolicy,
    /// What is done when the leader's schema changes.
    #[serde(default)]
    pub schema: SchemaConfig,
    /// Who applies when several daemons run.
    #[serde(default)]
    pub ownership: OwnershipConfig,
    /// Probes, metrics and status over HTTP.
    #[serde(default)]
    pub http: HttpConfig,
    /// The log on standard error.
    #[serde(default)]
    pub log: LogConfig,
}

/// The leader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaderConfig {
    /// Its address with user, password and database.
    pub url: DatabaseUrl,
}

/// Kafka Connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectConfig {
    /// Its REST address.
    pub url: String,
    /// The connector's name.
    #[serde(default = "default_connector")]
    pub connector: String,
}

fn default_connector() -> String {
    "postgres-connector".to_owned()
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaConfig {
    /// Its name in logs, metrics and pages.
    pub name: String,
    /// Its address with user, password and database.
    pub url: DatabaseUrl,
}

/// Copies from the leader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotConfig {
    /// Where the first rows of a replica come from: `connector`, Debezium's snapshot in the topics, or `copy`, straight
    /// from the leader. With `copy` the connector has no snapshot to make: `snapshot.mode=no_data`.
    pub mode: SnapshotMode,
    /// The publication whose tables make up a replica. Without it, those of all publications of the leader.
    pub publication: Option<String>,
    /// Tables that are copied at the same time, at most; each takes a session on the leader and one on the replica.
    pub parallel_tables: usize,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        SnapshotConfig { mode: SnapshotMode::default(), publication: None, parallel_tables: 4 }
    }
}

/// Batches and bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApplyConfig {
    /// Changes that share one commit on a replica. More is faster in a backlog, and visible later.
    pub group_changes: usize,
    /// Changes of a large transaction that are sent together.
    pub parcel_changes: usize,
    /// Bytes of a large transaction that are sent together.
    pub parcel_bytes: usize,
    /// Decoded records that wait for their turn, per partition.
    pub queue_records: usize,
    /// Bytes of such records, per partition.
    pub queue_bytes: usize,
    /// Bytes decoded ahead of what a replica has applied.
    pub channel_bytes: usize,
    /// Milliseconds that a replica may keep those waiting with which it shares a lane; then it reads by itself until it has
    /// caught up.
    pub detach_after_ms: u64,
    /// Seconds before a halted replica is tried again.
    pub halt_pause_seconds: u64,
    /// Seconds that stopping may take.
    pub shutdown_seconds: u64,
}

impl Default for ApplyConfig {
    fn default() -> Self {
        ApplyConfig {
            // A prototype gained little above ten thousand and its planner lost above a hundred thousand.
            group_changes: 20_000,
            parcel_changes: 10_000,
            parcel_bytes: 4 << 20,
            queue_records: 1_000,
            queue_bytes: 1 << 20,
            channel_bytes: 16 << 20,
            detach_after_ms: 300,
            halt_pause_seconds: 15,
            shutdown_seconds: 25,
        }
    }
}

/// What is done when the leader's schema changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchemaConfig {
    /// Whether new tables, columns, partitions and labels of enumerations are added to the replicas as they are on the
    /// leader; needs `leader.url`. Off, the replica stops and prints the SQL, as it does for every other change.
    pub additive: bool,
}

impl Default for SchemaConfig {
    fn default() -> Self {
        // The statement is the leader's own, only adds, and takes no longer than there. Without it every replica would
        // stop at the commonest change of all.
        SchemaConfig { additive: true }
    }
}

/// Who applies when several daemons run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OwnershipConfig {
    /// Seconds after which a daemon that shows no sign of life loses its replicas to a standby. The time that a paused or
    /// unreachable daemon can hold a replica up; a daemon that ends gives them free at once.
    pub lease_seconds: u64,
}

impl Default for OwnershipConfig {
    fn default() -> Self {
        OwnershipConfig { lease_seconds: 10 }
    }
}

/// Probes, metrics and status over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// The address to listen on.
    pub bind: SocketAddr,
    /// What a request that changes something has to bring as `Authorization: Bearer …`. Without it, or with an empty one
    /// (compose can't leave a variable out), there are no such requests.
    pub admin_token: Option<Secret>,
}

impl HttpConfig {
    /// The token, when there is one.
    pub fn token(&self) -> Option<&Secret> {
        self.admin_token.as_ref().filter(|token| !token.reveal().is_empty())
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig { bind: SocketAddr::from(([127, 0, 0, 1], 8090)), admin_token: None }
    }
}

/// The log on standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged, as `RUST_LOG` would say it: `info`, or `warn,replicator=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Config {
    /// How positions of this source are labelled in a replica's checkpoint.
    pub fn source_id(&self) -> String {
        match self.source.kind {
            SourceKind::Debezium => format!("debezium:{}", self.source.topic_prefix),
            SourceKind::Postgres => format!("postgres:{}", self.source.slot),
        }
    }

    /// The topics to read.
    pub fn kafka(&self) -> KafkaSettings {
        KafkaSettings {
            brokers: self.source.brokers.clone(),
            topic_prefix: self.source.topic_prefix.clone(),
            topics: self.source.topics.clone(),
            transaction_topic: self.source.transaction_topic.clone(),
            transactions: self.source.transactions,
            options: self.source.kafka.clone(),
            ends: Ends::default(),
        }
    }

    /// What is read, in words.
    pub fn reads(&self) -> String {
        let source = &self.source;
        match (source.kind, &self.leader) {
            (SourceKind::Postgres, Some(leader)) => format!("slot {} of {}", source.slot, leader.url),
            _ => format!("{}.* on {}", source.topic_prefix, source.brokers),
        }
    }

    /// Where changes come from.
    pub fn source(&self) -> SourceSettings {
        match self.source.kind {
            SourceKind::Debezium => {
                SourceSettings::Debezium { kafka: self.kafka(), decoding: self.decoding() }
            }
            SourceKind::Postgres => SourceSettings::Postgres(self.stream()),
        }
    }

    /// What it takes to read the leader's stream. Without `leader.url`, which kind `postgres` may not lack, it leads nowhere.
    fn stream(&self) -> PostgresSettings {
        let url = self.leader.as_ref().map(|leader| leader.url.config().clone());
        PostgresSettings {
            url: url.unwrap_or_default(),
            slot: self.source.slot.clone(),
            publication: self.source.publication.clone(),
            work_mem: self.source.decoding_work_mem.clone(),
            streaming: self.source.streaming,
            streaming_work_mem: self.source.streaming_work_mem.clone(),
            binary: self.source.binary,
            exclude_tables: self.source.exclude_tables.clone(),
        }
    }

    /// How the connector's events are read.
    pub fn decoding(&self) -> DecodeSettings {
        DecodeSettings {
            placeholder: self.source.placeholder.clone(),
            excluded: self.source.exclude_tables.clone(),
            modes: self.source.modes,
            allow_lossy: self.source.allow_lossy.clone(),
            transactions: self.source.transactions,
        }
    }

    /// What it takes to read the leader's tables; none without `leader.url`.
    pub fn leader(&self) -> Option<LeaderSettings> {
        let (publication, stream) = match self.source.kind {
            SourceKind::Debezium => (self.snapshot.publication.clone(), None),
            SourceKind::Postgres => (Some(self.source.publication.clone()), Some(self.stream())),
        };
        self.leader.as_ref().map(|leader| LeaderSettings {
            url: leader.url.config().clone(),
            publication,
            exclude_tables: self.source.exclude_tables.clone(),
            parallel_tables: self.snapshot.parallel_tables,
            stream,
        })
    }

    /// How replicas are copied from the leader.
    pub fn copy(&self) -> CopySettings {
        let mode = match self.source.kind {
            SourceKind::Debezium => self.snapshot.mode,
            // Nobody else makes one.
            SourceKind::Postgres => SnapshotMode::Copy,
        };
        CopySettings { mode, leader: self.leader(), source: self.source() }
    }

    /// The bounds of a lane.
    pub fn lane_limits(&self) -> LaneLimits {
        LaneLimits {
            queue_records: self.apply.queue_records,
            queue_bytes: self.apply.queue_bytes,
            parcel_changes: self.apply.parcel_changes,
            parcel_bytes: self.apply.parcel_bytes,
            channel_bytes: self.apply.channel_bytes,
        }
    }

    /// How long stopping may take.
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.apply.shutdown_seconds)
    }

    /// How long an ownership lasts without being renewed.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.ownership.lease_seconds)
    }

    /// What is wrong although each value alone could be read.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.replicas.is_empty() {
            problems.push(
                "replicas: at least one is needed, e.g. [[replicas]] name = \"replica-1\" url = \"postgres://…\"".to_owned(),
            );
        }
        for (i, replica) in self.replicas.iter().enumerate() {
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if replica.name.is_empty() || !replica.name.chars().all(legal) {
                problems.push(format!("replicas[{i}].name: letters, digits, '-' and '_' only"));
            }
            if self.replicas[..i].iter().any(|other| other.name == replica.name) {
                problems.push(format!("replicas[{i}].name: '{}' is taken already", replica.name));
            }
        }
        problems.extend(self.source.problems());
        if self.source.kind == SourceKind::Postgres && self.leader.is_none() {
            problems.push("source.kind: \"postgres\" needs leader.url".to_owned());
        }
        if self.snapshot.mode == SnapshotMode::Copy && self.leader.is_none() {
            problems.push("snapshot.mode: \"copy\" needs leader.url".to_owned());
        }
        let bounds = [
            ("group_changes", self.apply.group_changes),
            ("parcel_changes", self.apply.parcel_changes),
            ("parcel_bytes", self.apply.parcel_bytes),
            ("queue_records", self.apply.queue_records),
            ("queue_bytes", self.apply.queue_bytes),
            ("channel_bytes", self.apply.channel_bytes),
        ];
        if self.apply.halt_pause_seconds == 0 {
            problems.push("apply.halt_pause_seconds: must be above 0".to_owned());
        }
        if self.ownership.lease_seconds < 2 {
            problems.push("ownership.lease_seconds: must be at least 2, renewals take time".to_owned());
        }
        if self.http.token().is_some_and(|token| token.reveal().len() < 16) {
            problems.push("http.admin_token: at least 16 characters, so that nobody guesses it".to_owned());
        }
        let zero = bounds.iter().filter(|(_, value)| *value == 0);
        problems.extend(zero.map(|(key, _)| format!("apply.{key}: must be above 0")));
        problems
    }
}
