//! Reads the layers, refuses what nobody knows, and remembers where each value came from.

use std::collections::BTreeMap;
use std::path::Path;

use config::{File, FileFormat, Value, ValueKind};

use super::Config;
use crate::text::push_fmt;

/// The environment's prefix.
const PREFIX: &str = "REPLICATOR__";

/// Every key; `[]` stands for an index, `*` for any name.
const KNOWN: &[&str] = &[
    "source.kind",
    "source.slot",
    "source.publication",
    "source.decoding_work_mem",
    "source.streaming",
    "source.streaming_work_mem",
    "source.binary",
    "source.brokers",
    "source.topic_prefix",
    "source.placeholder",
    "source.topics[]",
    "source.transaction_topic",
    "source.transactions",
    "source.exclude_tables[]",
    "source.allow_lossy[]",
    "source.modes.decimal",
    "source.modes.time_precision",
    "source.modes.binary",
    "source.modes.interval",
    "source.modes.unknown_types",
    "source.kafka.*",
    "leader.url",
    "connect.url",
    "connect.connector",
    "replicas[].name",
    "replicas[].url",
    "apply.group_changes",
    "apply.parcel_changes",
    "apply.parcel_bytes",
    "apply.queue_records",
    "apply.queue_bytes",
    "apply.channel_bytes",
    "apply.detach_after_ms",
    "apply.halt_pause_seconds",
    "apply.shutdown_seconds",
    "snapshot.mode",
    "snapshot.publication",
    "failure.data",
    "failure.quarantine_limit",
    "schema.additive",
    "ownership.lease_seconds",
    "http.bind",
    "http.admin_token",
    "log.format",
    "log.level",
];

/// Everything that is wrong with the configuration, not just the first of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration can't be used:\n  {}", .0.join("\n  "))]
pub struct ConfigError(pub Vec<String>);

/// A configuration and its origins.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Where a key's value comes from; keys that are not here have their default.
    pub origins: BTreeMap<String, String>,
}

/// Reads the file, if one is named, and the variables.
///
/// # Errors
/// With all problems, each naming its key and where it stands.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let mut builder = config::Config::builder();
    if let Some(path) = file {
        builder = builder.add_source(File::from(path).format(FileFormat::Toml));
    }
    let mut problems = Vec::new();
    let mut variables: Vec<_> =
        environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    // In order, so that list elements are set from the first on.
    variables.sort();
    let mut from_environment = BTreeMap::new();
    let mut kafka = BTreeMap::new();
    for (name, value) in variables {
        let (key, value) = match variable(&name, value) {
            Ok(pair) => pair,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        if let Some(option) = key.strip_prefix("source.kafka.") {
            // librdkafka's names have dots of their own, which are no levels here.
            kafka.insert(option.to_owned(), value);
            from_environment.insert(key, name);
            continue;
        }
        builder = builder.set_override(&key, value).map_err(|e| ConfigError(vec![format!("{name}: {e}")]))?;
        from_environment.insert(key, name);
    }
    let tree = builder.build().map_err(|e| ConfigError(vec![e.to_string()]))?;
    let mut origins = BTreeMap::new();
    leaves(&tree.cache, String::new(), &mut origins);
    origins.extend(from_environment);
    problems.extend(origins.iter().filter_map(|(key, origin)| unknown(key, origin)));
    if !problems.is_empty() {
        return Err(ConfigError(problems));
    }
    let mut config: Config = tree.try_deserialize().map_err(|e| ConfigError(vec![e.to_string()]))?;
    config.source.kafka.extend(kafka);
    let problems = config.problems();
    if problems.is_empty() { Ok(Loaded { config, origins }) } else { Err(ConfigError(problems)) }
}

/// A variable as key and value. Numbers between the separators are indices.
fn variable(name: &str, value: String) -> Result<(String, String), String> {
    let lower = name[PREFIX.len()..].to_lowercase();
    let (lower, value) = match lower.strip_suffix("_file") {
        Some(key) => {
            let content = std::fs::read_to_string(&value).map_err(|e| format!("{name}: {value}: {e}"))?;
            (key.to_owned(), content.trim_end_matches(['\r', '\n']).to_owned())
        }
        None => (lower, value),
    };
    let mut key = String::new();
    for part in lower.split("__") {
        if part.is_empty() {
            return Err(format!("{name}: an empty part between underscores"));
        }
        if part.bytes().all(|b| b.is_ascii_digit()) {
            push_fmt(&mut key, format_args!("[{part}]"));
        } else {
            if !key.is_empty() {
                key.push('.');
            }
            key.push_str(part);
        }
    }
    Ok((key, value))
}

/// The paths of all values in a tree, with where they stand.
fn leaves(value: &Value, path: String, found: &mut BTreeMap<String, String>) {
    match &value.kind {
        ValueKind::Table(table) => {
            for (name, value) in table {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(value, format!("{path}{dot}{name}"), found);
            }
        }
        ValueKind::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                leaves(value, format!("{path}[{i}]"), found);
            }
        }
        _ => {
            found.insert(path, value.origin().unwrap_or("environment").to_owned());
        }
    }
}

/// A complaint about a key that nobody knows, with the nearest one that somebody does.
fn unknown(key: &str, origin: &str) -> Option<String> {
    let pattern = |known: &&str| match known.strip_suffix(".*") {
        Some(table) => key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')),
        None => without_indices(key) == **known,
    };
    if KNOWN.iter().any(pattern) {
        return None;
    }
    let plain = without_indices(key);
    let nearest = KNOWN
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(&plain, a).total_cmp(&strsim::jaro_winkler(&plain, b)))?;
    Some(format!("{key}: unknown key ({origin}); did you mean {nearest}?"))
}

fn without_indices(key: &str) -> String {
    let mut plain = String::new();
    let mut within = false;
    for c in key.chars() {
        match c {
            '[' => {
                within = true;
                plain.push_str("[]");
            }
            ']' => within = false,
            c if !within => plain.push(c),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = [
            ("REPLICATOR__SOURCE__BROKERS", "localhost:19092"),
            ("REPLICATOR__SOURCE__TOPIC_PREFIX", "app"),
            ("REPLICATOR__REPLICAS__0__NAME", "replica-1"),
            ("REPLICATOR__REPLICAS__0__URL", "postgres://r:p@localhost:5433/app"),
        ]
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
        all.extend(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        all
    }

    #[test]
    fn the_environment_alone_is_enough() {
        let more = [
            ("REPLICATOR__REPLICAS__1__NAME", "replica-2"),
            ("REPLICATOR__REPLICAS__1__URL", "postgres://r:p@localhost:5434/app"),
            ("REPLICATOR__APPLY__GROUP_CHANGES", "7"),
            ("REPLICATOR__SOURCE__KAFKA__SECURITY__PROTOCOL", "sasl_ssl"),
            ("HOME", "/nowhere"),
        ];
        let loaded = load(None, variables(&more)).unwrap();
        assert_eq!(loaded.config.replicas.len(), 2);
        assert_eq!(loaded.config.replicas[1].name, "replica-2");
        assert_eq!(loaded.config.apply.group_changes, 7);
        assert_eq!(loaded.config.source.kafka["security.protocol"], "sasl_ssl");
        assert_eq!(loaded.config.apply.queue_records, 1_000, "the rest keeps its defaults");
        assert_eq!(loaded.origins["apply.group_changes"], "REPLICATOR__APPLY__GROUP_CHANGES");
    }

    #[test]
    fn the_environment_wins_over_the_file_and_secrets_come_from_files() {
        let directory = std::env::temp_dir().join(format!("replicator-config-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("replicator.toml");
        std::fs::write(
            &file,
            "[source]\nbrokers = 'file:1'\ntopic_prefix = 'file'\nkafka = { \"security.protocol\" = 'ssl' }\n",
        )
        .unwrap();
        let secret = directory.join("url");
        std::fs::write(&secret, "postgres://r:secret@leader:5432/app\n").unwrap();
        let more = [("REPLICATOR__LEADER__URL_FILE", secret.to_str().unwrap())];
        let loaded = load(Some(&file), variables(&more)).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(loaded.config.source.brokers, "localhost:19092");
        assert_eq!(loaded.config.source.kafka["security.protocol"], "ssl");
        assert_eq!(loaded.config.leader.unwrap().url.to_string(), "postgres://r:***@leader:5432/app");
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        let more = [("REPLICATOR__SOURCE__TOPIC_PREFX", "x"), ("REPLICATOR__REPLICAS__0__URI", "x")];
        let ConfigError(problems) = load(None, variables(&more)).unwrap_err();
        assert_eq!(
            problems,
            [
                "replicas[0].uri: unknown key (REPLICATOR__REPLICAS__0__URI); did you mean replicas[].url?",
                "source.topic_prefx: unknown key (REPLICATOR__SOURCE__TOPIC_PREFX); did you mean source.topic_prefix?",
            ]
        );
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let more = [
            ("REPLICATOR__REPLICAS__1__NAME", "replica-1"),
            ("REPLICATOR__REPLICAS__1__URL", "postgres://r:p@localhost:5434/app"),
            ("REPLICATOR__APPLY__QUEUE_BYTES", "0"),
        ];
        let ConfigError(problems) = load(None, variables(&more)).unwrap_err();
        assert_eq!(
            problems,
            ["replicas[1].name: 'replica-1' is taken already", "apply.queue_bytes: must be above 0"]
        );
    }
}
