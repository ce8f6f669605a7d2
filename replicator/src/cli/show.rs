//! `replicator config show`.

use serde_json::Value;

use crate::config::Loaded;
use crate::text::push_fmt;

/// Options for librdkafka that are shown.
const HARMLESS: &[&str] = &[
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "ssl.ca.location",
    "client.id",
];

/// One line per setting: key, value, origin.
pub(super) fn render(loaded: &Loaded) -> String {
    let mut lines = Vec::new();
    if let Ok(tree) = serde_json::to_value(&loaded.config) {
        flatten(&tree, String::new(), &mut lines);
    }
    let width = lines.iter().map(|(key, value)| key.len() + value.len() + 3).max().unwrap_or(0);
    let mut text = String::new();
    for (key, value) in lines {
        let origin = loaded.origins.get(&key).map_or("default", String::as_str);
        let assignment = format!("{key} = {value}");
        push_fmt(&mut text, format_args!("{assignment:width$}  # {origin}\n"));
    }
    text
}

fn flatten(value: &Value, path: String, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(table) => {
            for (name, value) in table {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(value, format!("{path}{dot}{name}"), lines);
            }
        }
        Value::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                flatten(value, format!("{path}[{i}]"), lines);
            }
        }
        Value::Null => {}
        // Which of librdkafka's options hold a secret is librdkafka's affair.
        Value::String(_)
            if path.strip_prefix("source.kafka.").is_some_and(|option| !HARMLESS.contains(&option)) =>
        {
            lines.push((path, "\"***\"".to_owned()));
        }
        value => lines.push((path, value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_origins_and_hides_passwords() {
        let variables = [
            ("REPLICATOR__SOURCE__BROKERS", "localhost:19092"),
            ("REPLICATOR__SOURCE__TOPIC_PREFIX", "app"),
            ("REPLICATOR__REPLICAS__0__NAME", "replica-1"),
            ("REPLICATOR__REPLICAS__0__URL", "postgres://r:hunter2@localhost:5433/app"),
        ];
        let variables = variables.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let text = render(&crate::config::load(None, variables).unwrap());
        assert!(!text.contains("hunter2"), "{text}");
        let line = |key: &str| text.lines().find(|l| l.starts_with(key)).unwrap_or_default().to_owned();
        assert!(line("source.brokers").ends_with("# REPLICATOR__SOURCE__BROKERS"), "{text}");
        assert!(line("apply.group_changes = 20000").ends_with("# default"), "{text}");
    }
}
