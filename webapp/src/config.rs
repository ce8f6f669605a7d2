//! Configuration: defaults < TOML file < environment.
//!
//! An environment variable is `WEBAPP__` and the key in capitals, with `__` for each dot: `WEBAPP__BIND`,
//! `WEBAPP__LEADER__URL`, `WEBAPP__REPLICAS__0__NAME`. Replicas from the environment replace those of the file.
//! A key that nobody knows is an error with a suggestion: a misspelt limit must not be a missing limit.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use config::{Environment, File, FileFormat};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::db::route::strategy::Strategy;

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
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { probe_ms: 500, awaited_probe_ms: 5, timeout_ms: 1000 }
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
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 500, read_ms: 1000, write_ms: 3000 }
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

/// A connection URL. It holds a password, so it can't be printed.
#[derive(Clone, Deserialize)]
pub struct ConnectionUrl(String);

/// A signing key. It can't be printed.
#[derive(Clone, Deserialize)]
pub struct SessionKey(String);

impl ConnectionUrl {
    /// The URL, password included, for the connection only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for ConnectionUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl SessionKey {
    /// The key, for the signature only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
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

/// Every key there is; `*` is a replica's number.
const KEYS: [&str; 18] = [
    "bind",
    "leader.url",
    "leader.write_pool",
    "leader.read_pool",
    "replicas.*.name",
    "replicas.*.url",
    "replica_pool",
    "strategy",
    "consistency.wait_max_ms",
    "health.probe_ms",
    "health.awaited_probe_ms",
    "health.timeout_ms",
    "timeouts.connect_ms",
    "timeouts.read_ms",
    "timeouts.write_ms",
    "session.key",
    "log.format",
    "log.level",
];

impl Config {
    /// Reads the file, if one is named, and the process's environment.
    ///
    /// # Errors
    /// With everything that is wrong, each complaint naming its key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let text = file.map(|path| {
            std::fs::read_to_string(path)
                .map_err(|error| ConfigError::one(format!("can't read {}: {error}", path.display())))
        });
        Self::parse(text.transpose()?.as_deref(), std::env::vars().collect())
    }

    /// Reads the text of a file and variables.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn parse(file: Option<&str>, variables: HashMap<String, String>) -> Result<Self, ConfigError> {
        let say = |error: config::ConfigError| ConfigError::one(error.to_string());
        let mut builder = config::Config::builder();
        if let Some(text) = file {
            builder = builder.add_source(File::from_str(text, FileFormat::Toml));
        }
        let environment =
            Environment::with_prefix("WEBAPP").prefix_separator("__").separator("__").source(Some(variables));
        let mut values: Map<String, Value> =
            builder.add_source(environment).build().and_then(config::Config::try_deserialize).map_err(say)?;
        number_replicas(&mut values)?;
        let unknown = unknown_keys(&values);
        if !unknown.is_empty() {
            return Err(ConfigError(unknown));
        }
        // Once more through `config`, which reads the numbers that the environment holds as text.
        let config: Self =
            config::Config::try_from(&values).and_then(config::Config::try_deserialize).map_err(say)?;
        config.check()
    }

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
        ];
        complaints.extend(
            positive.iter().filter(|(_, v)| *v == 0).map(|(key, _)| format!("{key}: must be more than 0")),
        );
        if self.session.key.as_ref().is_some_and(|key| key.expose().len() < 32) {
            complaints.push("session.key: must have at least 32 characters".to_owned());
        }
        if complaints.is_empty() { Ok(self) } else { Err(ConfigError(complaints)) }
    }
}

/// The environment can't write lists, only keys: `replicas.0`, `replicas.1`. Makes a list of them.
fn number_replicas(values: &mut Map<String, Value>) -> Result<(), ConfigError> {
    let Some(Value::Object(numbered)) = values.get("replicas") else { return Ok(()) };
    let mut replicas = BTreeMap::new();
    for (key, replica) in numbered {
        let Ok(number) = key.parse::<u16>() else {
            return Err(ConfigError::one(format!(
                "replicas.{key}: replicas have numbers, as in WEBAPP__REPLICAS__0__NAME"
            )));
        };
        replicas.insert(number, replica.clone());
    }
    values.insert("replicas".to_owned(), replicas.into_values().collect());
    Ok(())
}

fn unknown_keys(values: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in values {
        collect_keys(key, value, &mut found);
    }
    let known = || KEYS.iter().copied();
    let unknown = found.iter().filter(|(pattern, _)| !known().any(|key| key == pattern));
    let complaint = |(pattern, key): &(String, String)| {
        let close = known().map(|known| (strsim::damerau_levenshtein(known, pattern), known)).min();
        match close {
            Some((distance, known)) if distance <= 3 => {
                let known = known.replacen('*', key.split('.').nth(1).unwrap_or("0"), 1);
                format!("{key}: there is no such key; did you mean {known}?")
            }
            _ => format!("{key}: there is no such key; known are {}", known().collect::<Vec<_>>().join(", ")),
        }
    };
    unknown.map(complaint).collect()
}

/// The keys of all leaves, as a pattern with `*` for list positions and as written.
fn collect_keys(key: &str, value: &Value, found: &mut Vec<(String, String)>) {
    fn walk(pattern: &str, key: &str, value: &Value, found: &mut Vec<(String, String)>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    walk(&format!("{pattern}.{name}"), &format!("{key}.{name}"), value, found);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    walk(&format!("{pattern}.*"), &format!("{key}.{index}"), value, found);
                }
            }
            _ => found.push((pattern.to_owned(), key.to_owned())),
        }
    }
    walk(key, key, value, found);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        bind = "127.0.0.1:7000"
        [leader]
        url = "postgres://w:s3cret@leader/app"
        [[replicas]]
        name = "replica-1"
        url = "postgres://r:s3cret@one/app"
    "#;

    fn variables(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn complaints(file: &str, pairs: &[(&str, &str)]) -> String {
        Config::parse(Some(file), variables(pairs)).map(|_| "no complaint").unwrap_err().to_string()
    }

    #[test]
    fn the_environment_wins_over_the_file_and_numbers_may_be_text() {
        let config = Config::parse(
            Some(FILE),
            variables(&[
                ("WEBAPP__BIND", "127.0.0.1:9000"),
                ("WEBAPP__TIMEOUTS__READ_MS", "123"),
                ("OTHER", "x"),
            ]),
        )
        .unwrap();
        assert_eq!(
            (config.bind.port(), config.timeouts.read_ms, config.timeouts.write_ms),
            (9000, 123, 3000)
        );
    }

    #[test]
    fn the_environment_alone_is_enough() {
        let config = Config::parse(
            None,
            variables(&[
                ("WEBAPP__LEADER__URL", "postgres://w:1@leader/app"),
                ("WEBAPP__REPLICAS__0__NAME", "replica-1"),
                ("WEBAPP__REPLICAS__0__URL", "postgres://r:1@one/app"),
                ("WEBAPP__REPLICAS__1__NAME", "2"),
                ("WEBAPP__REPLICAS__1__URL", "postgres://r:1@two/app"),
                ("WEBAPP__LOG__FORMAT", "json"),
            ]),
        )
        .unwrap();
        let names: Vec<_> = config.replicas.iter().map(|r| r.name.as_str()).collect();
        assert_eq!((names, config.log.format), (vec!["replica-1", "2"], LogFormat::Json));
    }

    #[test]
    fn unknown_keys_come_with_a_suggestion_all_at_once() {
        let text = complaints(FILE, &[("WEBAPP__LEADER__ULR", "x"), ("WEBAPP__TIMEOUT__READ_MS", "1")]);
        assert!(text.contains("leader.ulr: there is no such key; did you mean leader.url?"), "{text}");
        assert!(text.contains("did you mean timeouts.read_ms?"), "{text}");
        let text = complaints(&format!("{FILE}\nnmae = \"x\""), &[]);
        assert!(
            text.contains("replicas.0.nmae: there is no such key; did you mean replicas.0.name?"),
            "{text}"
        );
        let text = complaints(FILE, &[("WEBAPP__SOMETHING__QUITE__DIFFERENT", "x")]);
        assert!(text.contains("known are bind, leader.url"), "{text}");
    }

    #[test]
    fn every_known_key_is_read() {
        let values = |key: &str| match key {
            "bind" => "0.0.0.0:1",
            "log.format" => "text",
            "strategy" => "random",
            "session.key" => "0123456789abcdef0123456789abcdef",
            _ => "7",
        };
        let name = |key: &str| format!("WEBAPP__{}", key.replace('*', "0").replace('.', "__").to_uppercase());
        let variables = KEYS.iter().map(|key| (name(key), values(key).to_owned())).collect();
        let read = format!("{:?}", Config::parse(None, variables).unwrap());
        // All but the address, the form, the strategy, the key, and the two URLs show their seven.
        assert_eq!(read.matches('7').count(), KEYS.len() - 6, "{read}");
    }

    #[test]
    fn values_that_can_not_work_are_named() {
        for (name, value, part) in [
            ("WEBAPP__TIMEOUTS__READ_MS", "0", "timeouts.read_ms: must be more than 0"),
            ("WEBAPP__TIMEOUTS__READ_MS", "soon", "read_ms"),
            ("WEBAPP__BIND", "nowhere", "bind"),
            ("WEBAPP__SESSION__KEY", "short", "session.key"),
            ("WEBAPP__REPLICAS__X__NAME", "a", "replicas have numbers"),
            ("WEBAPP__LOG__FORMAT", "yaml", "yaml"),
            ("WEBAPP__STRATEGY", "fastest", "there are round-robin"),
        ] {
            let text = complaints(FILE, &[(name, value)]);
            assert!(text.contains(part), "{name}={value}: {text}");
        }
        let twice = format!("{FILE}\n[[replicas]]\nname = \"replica-1\"\nurl = \"postgres://x@y/z\"");
        assert!(complaints(&twice, &[]).contains("replica-1 is there twice"));
        assert!(
            complaints("[leader]\nurl = \"x\"\n[[replicas]]\nname = \"a b\"\nurl = \"x\"", &[])
                .contains("letters")
        );
        assert!(complaints("bind = \"127.0.0.1:1\"", &[]).contains("missing"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = Config::parse(Some(FILE), HashMap::new()).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
