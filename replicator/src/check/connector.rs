//! The connector: do its settings keep what the replicas need?

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use super::leader::{Leader, Published};
use super::{Finding, altered, values};
use crate::config::{Config, ConnectConfig};
use crate::decode::debezium::Transactions;
use crate::vocabulary::schema::Catalog;

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
        key: "hstore.handling.mode",
        values: &["json", "map", ""],
        otherwise: "hstore values can't be read",
    },
    Required {
        key: "include.unknown.datatypes",
        values: &["true"],
        otherwise: "columns of types that Debezium doesn't know are left out",
    },
    Required { key: "errors.tolerance", values: &["none", ""], otherwise: "records that fail are dropped" },
    Required {
        key: "event.processing.failure.handling.mode",
        values: &["fail", ""],
        otherwise: "events that fail are dropped",
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
    leader: Option<&mut Leader>,
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
    let modes = values::check_modes(&settings, config, findings);
    let Some(leader) = leader else { return };
    leader.leave_out(&plain_names(&settings, "column.exclude.list"));
    let setting = |key: &str, default: &str| settings.get(key).cloned().unwrap_or_else(|| default.to_owned());
    let included = plain_names(&settings, "table.include.list");
    let (publication, slot) =
        (setting("publication.name", "dbz_publication"), setting("slot.name", "debezium"));
    let published = match leader.check_stream(&publication, &slot, &included, findings).await {
        Ok(published) => published,
        Err(error) => {
            findings.push(Finding::unreachable(
                format!("leader: the publication can't be looked at: {error}"),
                "Grant the role of leader.url access to the catalogs.",
            ));
            return;
        }
    };
    let mut captured = published;
    // With a regular expression in the list, every published table may be meant.
    let is_narrowed = included.len() == entries(&settings, "table.include.list").count();
    let left_out = plain_names(&settings, "table.exclude.list");
    captured.retain(|table| {
        (included.is_empty() || !is_narrowed || included.contains(&table.name))
            && !left_out.contains(&table.name)
            && !config.source.exclude_tables.contains(&table.name)
    });
    let names = captured.iter().map(|table| table.name.clone()).collect();
    if let Err(error) = leader.capture(names, &config.source.exclude_tables, findings).await {
        findings.push(Finding::unreachable(
            format!("leader: its tables can't be looked at: {error}"),
            "Grant the role of leader.url access to the catalogs.",
        ));
    }
    let Some(modes) = modes else { return };
    values::check_columns(&leader.catalog, modes, &captured, &config.source.allow_lossy, findings);
}

/// What a connector with these settings does to these tables of the leader, as far as it can be known without asking anybody.
pub fn check_registration(
    settings: &HashMap<String, String>,
    config: &Config,
    catalog: &Catalog,
    captured: &[Published],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_settings(settings, config, &mut findings);
    if let Some(modes) = values::check_modes(settings, config, &mut findings) {
        values::check_columns(catalog, modes, captured, &config.source.allow_lossy, &mut findings);
    }
    findings
}

/// What stands in one of the connector's lists.
pub(super) fn entries<'s>(
    settings: &'s HashMap<String, String>,
    list: &str,
) -> impl Iterator<Item = &'s str> {
    let entries = settings.get(list).map(String::as_str).unwrap_or_default().split(',');
    entries.map(str::trim).filter(|entry| !entry.is_empty())
}

/// The names in one of the connector's lists of regular expressions. Plain names only have their dots escaped; what is more
/// than that is left out.
pub(super) fn plain_names(settings: &HashMap<String, String>, list: &str) -> Vec<String> {
    let names = entries(settings, list).map(|name| name.replace("\\.", "."));
    names.filter(|name| !name.contains(['*', '(', '[', '|', '+', '?', '{', '\\'])).collect()
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

pub(super) fn check_settings(
    settings: &HashMap<String, String>,
    config: &Config,
    findings: &mut Vec<Finding>,
) {
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
    check_transactions(get("provide.transaction.metadata"), config.source.transactions, findings);
    if get("topic.prefix") != config.source.topic_prefix {
        findings.push(Finding::error(
            format!("connector: topic.prefix is \"{}\"", get("topic.prefix")),
            format!("Set source.topic_prefix to it; it is \"{}\" here.", config.source.topic_prefix),
        ));
    }
    altered::check(settings, config, findings);
    // Debezium's default (`CommonConnectorConfig.UNAVAILABLE_VALUE_PLACEHOLDER`).
    let default = "__debezium_unavailable_value";
    let placeholder = settings.get("unavailable.value.placeholder").map_or(default, String::as_str);
    if placeholder != config.source.placeholder {
        findings.push(Finding::error(
            "connector: unavailable.value.placeholder differs from source.placeholder, and would be written as data",
            "Set source.placeholder to the connector's value.",
        ));
    } else if placeholder == default {
        findings.push(Finding::warning(
            "connector: unavailable.value.placeholder is Debezium's default: an update that writes this text is taken for one \
             that leaves the column alone",
            "Set it to a long random text in the connector, and source.placeholder to the same, when everything has been applied.",
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

/// Whether the connector says which transaction an event belongs to, where that is relied upon.
fn check_transactions(metadata: &str, wanted: Transactions, findings: &mut Vec<Finding>) {
    match (wanted, metadata) {
        (Transactions::Required, "true") => {}
        (Transactions::Required, _) => findings.push(Finding::error(
            "connector: provide.transaction.metadata is not true: transactions can't be put together",
            "\"provide.transaction.metadata\": \"true\"",
        )),
        (Transactions::Absent, _) => findings.push(Finding::warning(
            "connector: source.transactions is \"absent\": readers may see a part of a transaction, and tokens are not honoured",
            "\"provide.transaction.metadata\": \"true\", and source.transactions = \"required\"",
        )),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::check::Severity;

    /// The placeholder of the shipped connector.
    const SHIPPED: &str = "unchanged-5d2c0a6f9b7e4c1d8a3f60b2e94d7158";

    pub(in crate::check) fn config() -> Config {
        let variables = [
            ("REPLICATOR__SOURCE__BROKERS", "localhost:19092"),
            ("REPLICATOR__SOURCE__TOPIC_PREFIX", "app"),
            ("REPLICATOR__REPLICAS__0__NAME", "replica-1"),
            ("REPLICATOR__REPLICAS__0__URL", "postgres://r:p@localhost:5433/app"),
        ];
        let variables = variables.into_iter().chain([("REPLICATOR__SOURCE__PLACEHOLDER", SHIPPED)]);
        crate::config::load(None, variables.map(|(k, v)| (k.to_owned(), v.to_owned()))).unwrap().config
    }

    pub(in crate::check) fn registered() -> HashMap<String, String> {
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
        let required = REQUIRED.iter().filter(|r| !r.values.contains(&"")).map(|r| r.key);
        for key in required.chain(["provide.transaction.metadata"]) {
            let mut settings = registered();
            settings.remove(key);
            let mut findings = Vec::new();
            check_settings(&settings, &config(), &mut findings);
            assert_eq!(findings.len(), 1, "{key}: {findings:?}");
            assert_eq!(findings[0].severity, Severity::Error);
            assert!(findings[0].what.contains(key));
        }
    }

    #[test]
    fn another_placeholder_on_either_side_is_an_error() {
        let (mut ours, mut theirs) = (config(), registered());
        theirs.remove("unavailable.value.placeholder");
        let found = |theirs: &HashMap<String, String>, ours: &Config| {
            let mut findings = Vec::new();
            check_settings(theirs, ours, &mut findings);
            findings.into_iter().map(|f| f.severity).filter(|s| *s != Severity::Good).collect::<Vec<_>>()
        };
        assert_eq!(found(&theirs, &ours), [Severity::Error], "the connector has its default");
        ours.source.placeholder = "__debezium_unavailable_value".to_owned();
        assert_eq!(found(&theirs, &ours), [Severity::Warning], "both have it");
        assert_eq!(found(&registered(), &ours), [Severity::Error], "we have the default");
    }

    #[test]
    fn regular_expressions_are_not_taken_for_names() {
        let list = "public\\.posts, public.users,public\\.(a|b),cdc\\..*,";
        let settings = HashMap::from([("table.include.list".to_owned(), list.to_owned())]);
        assert_eq!(plain_names(&settings, "table.include.list"), ["public.posts", "public.users"]);
        assert!(plain_names(&settings, "column.exclude.list").is_empty());
    }
}
