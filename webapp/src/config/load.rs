//! Reading a configuration: the file, the environment over it, and complaints about keys that nobody knows.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use config::{Environment, File, FileFormat};
use serde_json::{Map, Value};

use super::{Config, ConfigError};

/// Every key there is; `*` is a replica's number.
pub(super) const KEYS: &[&str] = &[
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
    "health.lag_max_ms",
    "timeouts.connect_ms",
    "timeouts.read_ms",
    "timeouts.write_ms",
    "timeouts.request_ms",
    "session.key",
    "status.interval_ms",
    "status.lag_slo_ms",
    "status.replicator_url",
    "status.connect_url",
    "status.connector",
    "status.broker",
    "status.start_command",
    "admin.token",
    "admin.replicator_token",
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
