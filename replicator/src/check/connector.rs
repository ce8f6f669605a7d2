//! The connector: do its settings keep what the replicas need?

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use super::Finding;
use super::leader::Leader;
use crate::config::{Config, ConnectConfig};

/// A setting that has to have one of these values; the first is the one to recommend. An empty string among them says that
/// the default will do.
struct Required {
    key: &'static str,
    values: &'static [&'static str],
    otherwise: &'static str,
}

/// What breaks without each of them is told in `debezium/register-postgres.md` at length.
const REQUIRED: &[Required] = &[
    Required { key: "plugin.name", values: &["pgoutput"], otherwise: "the publication is not used" },
    Required {
        key: "provide.transaction.metadata",
        values: &["true"],
        otherwise: "transactions can't be put together",
    },
    Required { key: "skipped.operations", values: &["none"], otherwise: "truncates are lost" },
    Required {
        key: "value.converter",
        values: &["org.apache.kafka.connect.json.JsonConverter", ""],
        otherwise: "the events can't be read",
    },
    Required {
        key: "value.converter.replace.null.with.default",
        values: &["false"],
        otherwise: "NULL arrives as the column's default",
    },
    Required {
        key: "decimal.handling.mode",
        values: &["string"],
        otherwise: "numeric values lose scale or NaN",
    },
    Required {
        key: "time.precision.mode",
        values: &["microseconds"],
        otherwise: "units of time are ambiguous",
    },
    Required { key: "interval.handling.mode", values: &["string"], otherwise: "months become 30.4375 days" },
    Required { key: "hstore.handling.mode", values: &["json", ""], otherwise: "hstore values can't be read" },
    Required { key: "binary.handling.mode", values: &["bytes", ""], otherwise: "bytea values can't be read" },
    Required {
        key: "include.unknown.datatypes",
        values: &["true"],
        otherwise: "columns of types that Debezium doesn't know are left out",
    },
];

#[derive(Deserialize)]
struct Status {
    connector: State,
    tasks: Vec<State>,
}

#[derive(Deserialize)]
struct State {
    state: String,
    trace: Option<String>,
}

pub(super) async fn check(
    connect: &ConnectConfig,
    config: &Config,
    leader: Option<&Leader>,
    findings: &mut Vec<Finding>,
) {
    let (settings, status) = match ask(connect).await {
        Ok(Some(answers)) => answers,
        Ok(None) => {
            findings.push(Finding::error(
                format!("connector: {} is not registered", connect.connector),
                "Run scripts/register-connector.sh.",
            ));
            return;
        }
        Err(error) => {
            findings.push(Finding::unreachable(
                format!("connector: no answer from {}: {error}", connect.url),
                "Start Kafka Connect, or correct connect.url.",
            ));
            return;
        }
    };
    check_status(connect, &status, findings);
    check_settings(&settings, config, findings);
    let setting = |key: &str, default: &str| settings.get(key).cloned().unwrap_or_else(|| default.to_owned());
    if let Some(leader) = leader {
        let tables: Vec<String> = setting("table.include.list", "")
            .split(',')
            // The list holds regular expressions; plain names only have their dots escaped.
            .map(|t| t.trim().replace("\\.", "."))
            .filter(|t| !t.is_empty() && !t.contains(['*', '(', '[', '|', '+']))
            .collect();
        let (publication, slot) =
            (setting("publication.name", "dbz_publication"), setting("slot.name", "debezium"));
        if let Err(error) = leader.check_stream(&publication, &slot, &tables, findings).await {
            findings.push(Finding::unreachable(
                format!("leader: the publication can't be looked at: {error}"),
                "Grant the role of leader.url access to the catalogs.",
            ));
        }
    }
}

/// The connector's settings and status; none when it is not registered.
async fn ask(connect: &ConnectConfig) -> Result<Option<(HashMap<String, String>, Status)>, reqwest::Error> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let base = format!("{}/connectors/{}", connect.url.trim_end_matches('/'), connect.connector);
    let answer = client.get(format!("{base}/config")).send().await?;
    if answer.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let settings = answer.error_for_status()?.json().await?;
    let status = client.get(format!("{base}/status")).send().await?.error_for_status()?.json().await?;
    Ok(Some((settings, status)))
}

fn check_status(connect: &ConnectConfig, status: &Status, findings: &mut Vec<Finding>) {
    let name = &connect.connector;
    let restart = format!(
        "curl -X POST '{}/connectors/{name}/restart?includeTasks=true&onlyFailed=true'",
        connect.url.trim_end_matches('/')
    );
    // The connector can be RUNNING while its only task has failed.
    let parts = std::iter::once(&status.connector).chain(&status.tasks);
    let broken: Vec<_> = parts.filter(|part| part.state != "RUNNING").collect();
    for part in &broken {
        let trace = part.trace.as_deref().and_then(|t| t.lines().next()).unwrap_or("no cause given");
        findings
            .push(Finding::error(format!("connector: {name} is {}: {trace}", part.state), restart.clone()));
    }
    if broken.is_empty() && status.tasks.is_empty() {
        findings.push(Finding::error(format!("connector: {name} has no task"), restart));
    } else if broken.is_empty() {
        findings.push(Finding::good(format!("connector: {name} and its task are running")));
    }
}

fn check_settings(settings: &HashMap<String, String>, config: &Config, findings: &mut Vec<Finding>) {
    let before = findings.len();
    let get = |key: &str| settings.get(key).map(String::as_str).unwrap_or_default();
    for required in REQUIRED {
        let value = get(required.key);
        if !required.values.contains(&value) {
            let (key, wanted) = (required.key, required.values[0]);
            let found = if value.is_empty() { "not set".to_owned() } else { format!("\"{value}\"") };
            findings.push(Finding::error(
                format!("connector: {key} is {found}: {}", required.otherwise),
                format!("\"{key}\": \"{wanted}\""),
            ));
        }
    }
    if get("topic.prefix") != config.source.topic_prefix {
        findings.push(Finding::error(
            format!("connector: topic.prefix is \"{}\"", get("topic.prefix")),
            format!("Set source.topic_prefix to it; it is \"{}\" here.", config.source.topic_prefix),
        ));
    }
    let placeholder = settings.get("unavailable.value.placeholder");
    if placeholder.is_some_and(|p| *p != config.source.placeholder) {
        findings.push(Finding::error(
            "connector: unavailable.value.placeholder differs from source.placeholder, and would be written as data",
            "Set source.placeholder to the connector's value.",
        ));
    }
    if matches!(get("heartbeat.interval.ms"), "" | "0") || get("heartbeat.action.query").is_empty() {
        findings.push(Finding::warning(
            "connector: without heartbeats that write to the leader, watermarks stand still while it is idle",
            "\"heartbeat.interval.ms\": \"1000\", \"heartbeat.action.query\": \"INSERT INTO cdc.heartbeat …\"",
        ));
    }
    if findings.len() == before {
        findings.push(Finding::good("connector: every setting keeps what replicas need"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Severity;

    fn config() -> Config {
        let variables = [
            ("REPLICATOR__SOURCE__BROKERS", "localhost:19092"),
            ("REPLICATOR__SOURCE__TOPIC_PREFIX", "app"),
            ("REPLICATOR__REPLICAS__0__NAME", "replica-1"),
            ("REPLICATOR__REPLICAS__0__URL", "postgres://r:p@localhost:5433/app"),
        ];
        crate::config::load(None, variables.map(|(k, v)| (k.to_owned(), v.to_owned()))).unwrap().config
    }

    fn registered() -> HashMap<String, String> {
        #[derive(Deserialize)]
        struct Registration {
            config: HashMap<String, String>,
        }
        let json = include_str!("../../../debezium/register-postgres.json");
        serde_json::from_str::<Registration>(json).unwrap().config
    }

    #[test]
    fn the_shipped_connector_is_without_findings() {
        let mut findings = Vec::new();
        check_settings(&registered(), &config(), &mut findings);
        assert_eq!(findings, [Finding::good("connector: every setting keeps what replicas need")]);
    }

    #[test]
    fn each_required_setting_is_missed_when_it_is_gone() {
        for required in REQUIRED.iter().filter(|r| !r.values.contains(&"")) {
            let mut settings = registered();
            settings.remove(required.key);
            let mut findings = Vec::new();
            check_settings(&settings, &config(), &mut findings);
            assert_eq!(findings.len(), 1, "{}: {findings:?}", required.key);
            assert_eq!(findings[0].severity, Severity::Error);
            assert!(findings[0].what.contains(required.key));
        }
    }
}
