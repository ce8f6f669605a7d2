//! The golden captures where the connector or the wire loses values: what differs was named beforehand.
//!
//! Set C once more, now with the table of types; set A, the same without `value.converter.replace.null.with.default=false`;
//! and set B, Debezium's defaults, which leave truncates out, too. What no event shows, NULL that became a default and a
//! truncate that never came, `replicator check` names by the connector's setting.

use std::collections::BTreeSet;

use anyhow::Context as _;
use bytes::Bytes;
use e2e::postgres::Role;
use futures_util::SinkExt as _;
use replicator::decode::debezium::{Modes, Transactions, lossy_columns};
use replicator::replica::catalog;
use replicator::vocabulary::schema::Catalog;

use crate::feed::{Options, feed};
use crate::golden::{OPTIONS, TABLES, captured, golden, replica};

const TYPES: &str = "public.types";

/// The columns that `lossy_columns()` names.
fn named(tables: &Catalog, modes: Modes) -> BTreeSet<String> {
    let lossy = lossy_columns(tables, modes);
    lossy.into_iter().map(|l| format!("{}.{}", l.table, l.column)).collect()
}

/// What became of a set.
struct Differing {
    /// Columns whose values are not the leader's.
    columns: BTreeSet<String>,
    /// Those that were named beforehand.
    named: BTreeSet<String>,
}

/// Replays a set with the losses of the table of types accepted.
async fn differing(file: &str, options: Options<'static>) -> anyhow::Result<Differing> {
    let cluster = replica().await?;
    let client = cluster.connect(Role::Superuser).await?;
    let tables = catalog::load(&client).await?;
    let named = named(&tables, options.modes);
    let accepted: Vec<_> = named.iter().filter(|name| name.starts_with(TYPES)).cloned().collect();
    let options = Options { exclude: &["public.ddl"], allow_lossy: &accepted, ..options };
    feed(&cluster, &captured(file)?, options, None).await.with_context(|| format!("feed {file}"))?;

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
    Ok(Differing { columns, named })
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
    let of_types = found.columns.iter().filter(|name| name.starts_with(TYPES));
    let silent: Vec<_> = of_types.filter(|name| !found.named.contains(*name)).collect();
    assert!(silent.is_empty(), "not named beforehand: {silent:?}");
}

#[tokio::test]
async fn the_table_of_types_differs_only_where_the_wire_is_known_to_lose() -> anyhow::Result<()> {
    assert_differing(&differing("C-schemaless.jsonl", OPTIONS).await?, &[LOST]);
    Ok(())
}

#[tokio::test]
async fn where_null_becomes_the_default_only_columns_with_a_default_differ() -> anyhow::Result<()> {
    let options = Options { prefix: "a0", ..OPTIONS };
    assert_differing(&differing("A-null-to-default.jsonl", options).await?, &[LOST, DEFAULTS]);
    Ok(())
}

/// Set B: a connector that was given no setting at all, not even for transactions.
#[tokio::test]
async fn debeziums_defaults_lose_what_is_named_and_nothing_else() -> anyhow::Result<()> {
    let modes = Modes::of_connector(|_| None).map_err(anyhow::Error::msg)?;
    let options = Options { prefix: "b0", transactions: Transactions::Absent, modes, ..OPTIONS };
    let found = differing("B-defaults.jsonl", options).await?;
    assert_differing(&found, &[LOST, LOST_BY_DEFAULTS, DEFAULTS, TRUNCATED]);
    Ok(())
}
