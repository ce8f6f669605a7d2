//! Configuration: defaults < TOML file < environment.
//!
//! An environment variable is `WEBAPP__` and the key in capitals, with `__` for each dot: `WEBAPP__BIND`,
//! `WEBAPP__LEADER__URL`, `WEBAPP__REPLICAS__0__NAME`. Replicas from the environment replace those of the file.
//! A key that nobody knows is an error with a suggestion: a misspelt limit must not be a missing limit.

mod admin;
mod load;
mod secret;
mod status;

use std::net::SocketAddr;

use serde::Deserialize;

use crate::db::route::strategy::Strategy;
pub use admin::AdminConfig;
pub use secret::{AdminToken, ConnectionUrl, SessionKey};
pub use status::StatusConfig;

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Only this machine unless told otherwise: there is no authentication.
    #[serde(default = "default_bind")]
    pub bind: SocketAddr,
    /// The database that takes the writes.
    pub leader: LeaderConfig,
    /// The databases that answer the reads.
    pub replicas: Vec<ReplicaConfig>,
    /// The most connections per replica.
    #[serde(default = "default_pool")]
    pub replica_pool: usize,
    /// How one of the replicas is chosen for a read: `round-robin`, `random`, `least-in-flight`, `power-of-two`.
    #[serde(default, deserialize_with = "parsed")]
    pub strategy: Strategy,
    /// How fresh reads are.
    #[serde(default)]
    pub consistency: ConsistencyConfig,
    /// How replicas are watched.
    #[serde(default)]
    pub health: HealthConfig,
    /// The longest that a database may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// The session cookie.
    #[serde(default)]
    pub session: SessionConfig,
    /// What the status page looks at beside the databases.
    #[serde(default)]
    pub status: StatusConfig,
    /// What can be operated from the pages.
    #[serde(default)]
    pub admin: AdminConfig,
    /// What is logged, and how.
    #[serde(default)]
    pub log: LogConfig,
}

/// The leader.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaderConfig {
    /// `postgres://user:password@host:port/database`
    pub url: ConnectionUrl,
    /// The most connections for writes.
    #[serde(default = "default_pool")]
    pub write_pool: usize,
    /// The most connections for reads that no replica may answer: what the leader is willing to take over.
    #[serde(default = "default_leader_read_pool")]
    pub read_pool: usize,
}

/// One replica.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaConfig {
    /// Its name, the same as its `cluster_name`.
    pub name: String,
    /// `postgres://user:password@host:port/database`
    pub url: ConnectionUrl,
}

/// How fresh reads are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsistencyConfig {
    /// The longest that a read waits for a replica to have the caller's own write; then the leader answers.
    pub wait_max_ms: u64,
}

impl Default for ConsistencyConfig {
    fn default() -> Self {
        // Longer than a change needs on its way through the broker, shorter than what a person calls slow.
        Self { wait_max_ms: 250 }
    }
}

/// How replicas are watched.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// The pause between two looks at a replica: how long one that is well again stays unused.
    pub probe_ms: u64,
    /// The same while a read waits for a watermark.
    pub awaited_probe_ms: u64,
    /// A replica that takes longer to say where it stands is out.
    pub timeout_ms: u64,
    /// A replica whose answers are older than this gets no reads until they are not; without it age is no reason. Measured
    /// from the leader's last commit that the replica has, by the leader's clock and this one's.
    pub lag_max_ms: Option<u64>,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { probe_ms: 500, awaited_probe_ms: 5, timeout_ms: 1000, lag_max_ms: None }
    }
}

/// The longest that a database may take. Together they keep a page under two seconds with one frozen replica.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To connect, and to wait for a free connection.
    pub connect_ms: u64,
    /// To answer a read.
    pub read_ms: u64,
    /// To make a write.
    pub write_ms: u64,
    /// For all attempts of one read together, before the leader is asked; each gets half of what is left.
    pub request_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 500, read_ms: 1000, write_ms: 3000, request_ms: 1800 }
    }
}

/// The session cookie, which carries the caller's last write.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionConfig {
    /// Signs the cookie; at least 32 characters. Without it a new key is made at each start, and cookies of before are
    /// forgotten. Instances behind one address need the same key.
    pub key: Option<SessionKey>,
}

/// What is logged, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives per module such as `info,webapp::db=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: "info".to_owned() }
    }
}

/// The form of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object per line.
    Json,
}

fn parsed<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Strategy, D::Error> {
    String::deserialize(value)?.parse().map_err(serde::de::Error::custom)
}

fn default_bind() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn default_pool() -> usize {
    16
}

fn default_leader_read_pool() -> usize {
    8
}

/// What is wrong with the configuration, all of it at once.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// One complaint.
    pub fn one(complaint: impl Into<String>) -> Self {
        Self(vec![complaint.into()])
    }
}

impl Config {
    fn check(self) -> Result<Self, ConfigError> {
        let mut complaints = Vec::new();
        if self.replicas.is_empty() {
            complaints.push("replicas: none is configured; at least one must answer reads".to_owned());
        }
        for (index, replica) in self.replicas.iter().enumerate() {
            // The name goes into headers, metrics and pages.
            let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if replica.name.is_empty() || replica.name.len() > 64 || !replica.name.chars().all(fits) {
                complaints.push(format!(
                    "replicas.{index}.name: use 1 to 64 letters, digits, dots, dashes, underscores"
                ));
            }
            if self.replicas[..index].iter().any(|other| other.name == replica.name) {
                complaints.push(format!("replicas.{index}.name: {} is there twice", replica.name));
            }
        }
        let positive = [
            ("replica_pool", self.replica_pool as u64),
            ("leader.write_pool", self.leader.write_pool as u64),
            ("leader.read_pool", self.leader.read_pool as u64),
            ("health.probe_ms", self.health.probe_ms),
            ("health.awaited_probe_ms", self.health.awaited_probe_ms),
            ("health.timeout_ms", self.health.timeout_ms),
            ("timeouts.connect_ms", self.timeouts.connect_ms),
            ("timeouts.read_ms", self.timeouts.read_ms),
            ("timeouts.write_ms", self.timeouts.write_ms),
            ("timeouts.request_ms", self.timeouts.request_ms),
            ("status.interval_ms", self.status.interval_ms),
            ("status.lag_slo_ms", self.status.lag_slo_ms),
        ];
        complaints.extend(
            positive.iter().filter(|(_, v)| *v == 0).map(|(key, _)| format!("{key}: must be more than 0")),
        );
        if self.session.key.as_ref().is_some_and(|key| key.expose().len() < 32) {
            complaints.push("session.key: must have at least 32 characters".to_owned());
        }
        complaints.extend(self.admin.complaints(self.status.replicator().is_some()));
        if complaints.is_empty() { Ok(self) } else { Err(ConfigError(complaints)) }
    }
}

#[cfg(test)]
mod tests;
