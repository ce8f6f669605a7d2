//! The golden captures where the connector or the wire loses values: what differs was named beforehand.
//!
//! Set C once more, now with the table of types; set A, the same without `value.converter.replace.null.with.default=false`;
//! and set B, Debezium's defaults, which leave truncates out, too. `replicator check` is asked about each set's connector,
//! and must name every column that differs, or for NULL that became a default and a truncate that never came the setting.

use std::collections::{BTreeSet, HashMap};

use anyhow::Context as _;
use bytes::Bytes;
use e2e::postgres::{Cluster, Role};
use futures_util::SinkExt as _;
use replicator::check::{Finding, Published, Severity, check_registration};
use replicator::decode::debezium::{Modes, Transactions, lossy_columns};
use replicator::replica::catalog;
use replicator::vocabulary::schema::Catalog;
use tokio_postgres::Client;

use crate::feed::{Options, feed};
use crate::golden::{OPTIONS, TABLES, captured, golden, replica};

const TYPES: &str = "public.types";

/// What became of a set.
struct Differing {
    /// Columns whose values are not the leader's.
    columns: BTreeSet<String>,
    /// What `replicator check` says of the connector and its tables.
    findings: Vec<Finding>,
}

/// The settings of the connector that a set was captured with.
fn settings(set: &str) -> anyhow::Result<HashMap<String, String>> {
    let text = std::fs::read_to_string(golden(&format!("{set}.connector.json")))?;
    Ok(serde_json::from_str(&text)?)
}

/// What `check` finds, of a replicator that is set up for the connector as well as it can be.
async fn findings(
    client: &Client,
    tables: &Catalog,
    settings: &HashMap<String, String>,
    options: Options<'_>,
) -> anyhow::Result<Vec<Finding>> {
    let variables = [
        ("REPLICATOR__SOURCE__BROKERS", "nowhere:9092"),
        ("REPLICATOR__SOURCE__TOPIC_PREFIX", options.prefix),
        ("REPLICATOR__SOURCE__PLACEHOLDER", options.placeholder),
        ("REPLICATOR__REPLICAS__0__NAME", "replica-1"),
        ("REPLICATOR__REPLICAS__0__URL", "postgres://r:p@nowhere/app"),
    ];
    let variables = variables.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut config = replicator::config::load(None, variables)?.config;
    config.source.modes = options.modes;
    config.source.transactions = options.transactions;
    let identities = "SELECT n.nspname || '.' || c.relname, c.relreplident = 'f' FROM pg_class c
                        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')";
    let captured: Vec<_> = client
        .query(identities, &[])
        .await?
        .iter()
        .map(|row| Published { name: row.get(0), old_rows: row.get(1) })
        .filter(|table| tables.tables().any(|known| *known.full_name == *table.name))
        .collect();
    Ok(check_registration(settings, &config, tables, &captured))
}

/// Replays a set with the losses of the table of types accepted.
async fn differing(set: &str, options: Options<'static>) -> anyhow::Result<Differing> {
    let settings = settings(set)?;
    let modes =
        Modes::of_connector(|key| settings.get(key).map(String::as_str)).map_err(anyhow::Error::msg)?;
    let cluster = replica().await?;
    let client = cluster.connect(Role::Superuser).await?;
    let tables = catalog::load(&client).await?;
    let lossy = lossy_columns(&tables, modes);
    let accepted = lossy.iter().map(|l| format!("{}.{}", l.table, l.column));
    let accepted: Vec<_> = accepted.filter(|name| name.starts_with(TYPES)).collect();
    let options = Options { exclude: &["public.ddl"], allow_lossy: &accepted, modes, ..options };
    let findings = findings(&client, &tables, &settings, options).await?;
    feed(&cluster, &captured(&format!("{set}.jsonl"))?, options, None)
        .await
        .with_context(|| format!("feed {set}"))?;

    client.batch_execute("SET default_transaction_read_only = off; SET timezone = 'UTC'").await?;
    client.batch_execute("CREATE SCHEMA expected").await?;
    let mut columns = BTreeSet::new();
    for (table, file) in TABLES.iter().chain([&(TYPES, TYPES)]) {
        client.batch_execute(&format!("CREATE TABLE expected.\"{file}\" (LIKE {table})")).await?;
        let rows = Bytes::from(std::fs::read(golden(&format!("expected/{file}.tsv")))?);
        let mut sink = Box::pin(client.copy_in(&format!("COPY expected.\"{file}\" FROM STDIN")).await?);
        sink.send(rows).await?;
        sink.as_mut().finish().await?;
        let names = "SELECT quote_ident(attname) FROM pg_attribute
                       WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped";
        for column in client.query(names, &[table]).await? {
            let column: String = column.get(0);
            let values =
                |of: &str| format!("(SELECT array_agg({column}::text ORDER BY {column}::text) FROM {of})");
            let compare = format!(
                "SELECT {} IS DISTINCT FROM {}",
                values(table),
                values(&format!("expected.\"{file}\""))
            );
            if client.query_one(&compare, &[]).await?.get(0) {
                columns.insert(format!("{table}.{column}"));
            }
        }
    }
    Ok(Differing { columns, findings })
}

/// Columns of the captured tables that have a default and a NULL.
const DEFAULTS: &[&str] =
    &["public.allnull.a", "public.allnull.b", "public.allnull.c", "public.gen.dflt", "public.gen.dnull"];

/// Columns of the tables that were truncated.
const TRUNCATED: &[&str] =
    &["public.trunc_a.id", "public.trunc_a.v", "public.trunc_b.a", "public.trunc_b.id"];

/// What the wire loses of the table of types whatever the settings: arrays of two dimensions, intervals in an array, zones,
/// and timestamps of the last thirty years.
const LOST: &[&str] =
    &["public.types.a_i4_2d", "public.types.a_interval", "public.types.c_timetz", "public.types.c_ts"];

/// Debezium's defaults lose more: types that it does not know, months, zeros behind the point, NaN.
const LOST_BY_DEFAULTS: &[&str] = &[
    "public.types.a_comp",
    "public.types.c_comp",
    "public.types.c_i4multirange",
    "public.types.c_interval",
    "public.types.c_name",
    "public.types.c_num",
    "public.types.c_num122",
    "public.types.c_pglsn",
    "public.types.c_tsquery",
];

fn assert_differing(found: &Differing, expected: &[&[&str]]) {
    let expected: BTreeSet<String> =
        expected.iter().flat_map(|names| names.iter()).map(|&name| name.to_owned()).collect();
    assert_eq!(found.columns, expected);
    for column in &found.columns {
        let of_setting =
            [(DEFAULTS, "value.converter.replace.null.with.default"), (TRUNCATED, "skipped.operations")];
        let setting = of_setting.iter().find(|(columns, _)| columns.contains(&column.as_str()));
        let names = |finding: &&Finding| match setting {
            Some((_, setting)) => finding.what.contains(setting),
            None => finding
                .what
                .rsplit(": ")
                .next()
                .is_some_and(|list| list.split(", ").any(|name| name == column)),
        };
        let worst = found.findings.iter().filter(names).map(|finding| finding.severity).max();
        // No setting keeps the last thirty years, so that is no reason to fail.
        let expected = if column == "public.types.c_ts" { Severity::Warning } else { Severity::Error };
        assert_eq!(worst, Some(expected), "{column} differs: {:#?}", found.findings);
    }
}

#[tokio::test]
async fn the_table_of_types_differs_only_where_the_wire_is_known_to_lose() -> anyhow::Result<()> {
    assert_differing(&differing("C-schemaless", OPTIONS).await?, &[LOST]);
    Ok(())
}

#[tokio::test]
async fn where_null_becomes_the_default_only_columns_with_a_default_differ() -> anyhow::Result<()> {
    let options = Options { prefix: "a0", ..OPTIONS };
    assert_differing(&differing("A-null-to-default", options).await?, &[LOST, DEFAULTS]);
    Ok(())
}

/// Set B: a connector that was given no setting at all, not even for transactions.
#[tokio::test]
async fn debeziums_defaults_lose_what_is_named_and_nothing_else() -> anyhow::Result<()> {
    let options = Options { prefix: "b0", transactions: Transactions::Absent, ..OPTIONS };
    let found = differing("B-defaults", options).await?;
    assert_differing(&found, &[LOST, LOST_BY_DEFAULTS, DEFAULTS, TRUNCATED]);
    Ok(())
}

/// What is strict about others' set-ups must not stand in the way of the one that is recommended.
#[tokio::test]
async fn the_shipped_connector_carries_the_demos_tables_whole() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(e2e::repository().join("debezium/register-postgres.json"))?;
    let registration: serde_json::Value = serde_json::from_str(&text)?;
    let settings: HashMap<String, String> = serde_json::from_value(registration["config"].clone())?;
    let placeholder = &settings["unavailable.value.placeholder"];
    let cluster = Cluster::replica("shipped").await?;
    let client = cluster.connect(Role::Superuser).await?;
    let tables = catalog::load(&client).await?;
    assert!(tables.table("public", "accounts").is_some(), "the demo's tables are there");
    let options = Options { prefix: "app", placeholder, ..OPTIONS };
    let found = findings(&client, &tables, &settings, options).await?;
    assert!(found.iter().all(|finding| finding.severity == Severity::Good), "{found:#?}");
    Ok(())
}
