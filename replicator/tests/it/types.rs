//! Every type in every mode of the connector: events captured from the real one, replayed into a real replica.
//!
//! `types/MODE.jsonl` and `types/expected.tsv` are written by `cargo run -p e2e --example capture`, whose values are those of
//! `e2e::types`. Each value of each column is either the leader's, byte for byte, or was named beforehand: refused at its
//! event, or listed by `lossy_columns()`. The whole result is `docs/types.md`, which this test writes and compares.

pub(crate) mod capture;
mod page;

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use e2e::postgres::{Cluster, Role};
use e2e::types::{self, Column, FAMILIES, Family, LARGE, MODES, Mode, Path};
use replicator::decode::debezium::{
    DecodeError, DecodeSettings, Decoded, Decoder, Extent, LossyColumn, Transactions, lossy_columns,
};
use replicator::replica::catalog;
use replicator::vocabulary::offset::{PartitionIndex, Place};
use replicator::vocabulary::schema::{Catalog, Table};

use crate::feed::{Options, Record, feed, raw};

/// The same large values under `REPLICA IDENTITY FULL`.
const LARGE_FULL: Family = Family { name: "large full", columns: LARGE.columns };

/// Modes and types of which the embedded schema tells what the settings alone don't: Debezium takes a scale of -2 for 2046.
const BETTER_THAN_NAMED: &[(&str, &str)] = &[("precise_adaptive_with_schema", "numeric(4,-2)")];

fn families() -> impl Iterator<Item = Family> {
    FAMILIES.iter().copied().chain([LARGE, LARGE_FULL])
}

/// What became of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// The replica has the leader's text.
    Equal,
    /// An event of its row was refused, with this reason.
    Refused(String),
    /// The replica has another text, and nothing was refused. Columns where that can be are named beforehand, with this
    /// explanation.
    Different(&'static str),
}

/// One value of the leader, and what became of it.
#[derive(Debug, Clone)]
struct Outcome {
    /// The mode's position in [`MODES`].
    mode: usize,
    family: &'static str,
    column: &'static str,
    path: Path,
    value: Option<String>,
    /// What the replica has.
    found: Option<String>,
    fate: Fate,
}

/// A replica with the captured tables, and nothing in them.
pub(crate) async fn replica() -> anyhow::Result<Cluster> {
    let cluster = Cluster::replica("types").await?;
    let client = cluster.connect(Role::Superuser).await?;
    let schema = std::fs::read_to_string(capture::file("schema.sql"))?;
    client.batch_execute("SET default_transaction_read_only = off").await?;
    // The demo's tables are in the way.
    client
        .batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP SCHEMA cdc CASCADE;")
        .await?;
    client.batch_execute(&schema).await?;
    client
        .batch_execute(
            "GRANT USAGE ON SCHEMA public TO replicator;
             DO $$ DECLARE t record; BEGIN
                 FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
                     EXECUTE format('ALTER TABLE %I OWNER TO replicator', t.tablename);
                 END LOOP;
             END $$;",
        )
        .await?;
    Ok(cluster)
}

fn table(catalog: &Catalog, family: &Family) -> anyhow::Result<Table> {
    let table = catalog.table("public", family.name).with_context(|| format!("find {}", family.name))?;
    Ok((**table).clone())
}

/// The rows of which the decoder refuses this column's value, with its reason. Losses of all other columns are accepted,
/// so that no other refusal comes first.
fn refusals(
    mode: &Mode,
    records: &[Record],
    table: &Table,
    family: &Family,
    column: &Column,
) -> anyhow::Result<BTreeMap<usize, String>> {
    let others = family.columns.iter().filter(|other| other.sql_type != column.sql_type);
    let mut decoder = Decoder::new(
        &Catalog::new([table.clone()]),
        DecodeSettings {
            placeholder: placeholder(mode)?.to_owned(),
            modes: capture::modes(mode)?,
            allow_lossy: others.map(|other| format!("{}.{}", table.full_name, other.sql_type)).collect(),
            ..DecodeSettings::default()
        },
    );
    let mut refused = BTreeMap::new();
    for record in records.iter().filter(|record| capture::is_of(record, family)) {
        let place = Place { partition: PartitionIndex(0), offset: record.offset };
        let error = match decoder.decode(&raw(record, place)) {
            Ok(Decoded::Refused(error)) => *error,
            Ok(_) => continue,
            Err(error) => error,
        };
        let reason = match &error {
            DecodeError::Value { column: named, error, .. } if named == column.sql_type => error.to_string(),
            DecodeError::Shape { unknown, missing, .. }
                if unknown.is_empty() && *missing == [column.sql_type] =>
            {
                "the column is not in the event".to_owned()
            }
            _ => bail!("{}, {}, {}: {error}", mode.name, family.name, column.sql_type),
        };
        ensure!(error.hint().contains(column.sql_type), "the way out names the column: {}", error.hint());
        refused.insert(row_id(record)?, reason);
    }
    Ok(refused)
}

pub(crate) fn placeholder(mode: &Mode) -> anyhow::Result<&'static str> {
    capture::setting(mode, "unavailable.value.placeholder").context("every mode has a placeholder")
}

fn row_id(record: &Record) -> anyhow::Result<usize> {
    let value: serde_json::Value =
        serde_json::from_str(record.value.as_deref().context("an event and no tombstone")?)?;
    let payload = value.get("payload").unwrap_or(&value);
    let id = payload["after"]["id"].as_u64().context("a new row with an id")?;
    Ok(usize::try_from(id)?)
}

/// The replica's values.
async fn found(cluster: &Cluster) -> anyhow::Result<BTreeMap<capture::Place, Option<String>>> {
    let client = cluster.connect(Role::Superuser).await?;
    client
        .batch_execute("SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres'")
        .await?;
    let mut values = BTreeMap::new();
    for family in families() {
        let columns: Vec<_> =
            family.columns.iter().map(|c| format!("{}::text", types::quoted(c.sql_type))).collect();
        let query =
            format!("SELECT id, ARRAY[{}]::text[] FROM {}", columns.join(", "), types::quoted(family.name));
        for row in client.query(&query, &[]).await? {
            let id = usize::try_from(row.get::<_, i32>(0))?;
            let texts: Vec<Option<String>> = row.get(1);
            for (column, text) in family.columns.iter().zip(texts) {
                let text = text.map(|text| if text.len() > 200 { types::digest(&text) } else { text });
                values.insert((family.name.to_owned(), id, column.sql_type.to_owned()), text);
            }
        }
    }
    Ok(values)
}

/// What a mode's events lose, and what became of every value.
struct Replayed {
    named: Vec<LossyColumn>,
    outcomes: Vec<Outcome>,
}

/// Replays a mode: what the decoder refuses one by one is accepted as lost, and must be all that is.
async fn replay(number: usize) -> anyhow::Result<Replayed> {
    let mode = &MODES[number];
    let (records, modes) = (capture::records(mode)?, capture::modes(mode)?);
    let cluster = replica().await?;
    let tables = catalog::load(&cluster.connect(Role::Superuser).await?).await?;
    let named = lossy_columns(&tables, modes);
    let mut refused: BTreeMap<(&str, &str), BTreeMap<usize, String>> = BTreeMap::new();
    for family in families() {
        let table = table(&tables, &family)?;
        for column in family.columns {
            let rows = refusals(mode, &records, &table, &family, column)?;
            refused.insert((family.name, column.sql_type), rows);
        }
    }
    let accepted = refused.iter().filter(|(_, rows)| !rows.is_empty());
    let accepted: Vec<_> =
        accepted.map(|((family, column), _)| format!("public.{family}.{column}")).collect();
    let options = options(mode, &accepted)?;
    feed(&cluster, &records, options, None).await.with_context(|| format!("feed {}", mode.name))?;
    let (expected, mut found) = (capture::expected()?, found(&cluster).await?);
    let mut outcomes = Vec::new();
    for (place, value) in expected {
        let found = found.remove(&place).with_context(|| format!("{}: {place:?}", mode.name))?;
        let (family, id, column) = place;
        let family = families().find(|f| f.name == family).context("a family of the list")?;
        let column = family.columns.iter().find(|c| c.sql_type == column).context("a column of it")?;
        let (family, column) = (family.name, column.sql_type);
        let fate = match refused[&(family, column)].get(&id) {
            Some(reason) => Fate::Refused(reason.clone()),
            None if found == value => Fate::Equal,
            None => Fate::Different(
                explanation(&named, family, column)
                    .with_context(|| format!("{}: {family}, {column}, row {id}: {found:?} and not {value:?}, which nothing told beforehand", mode.name))?,
            ),
        };
        let path = capture::path(id)?;
        outcomes.push(Outcome { mode: number, family, column, path, value, found, fate });
    }
    ensure!(found.is_empty(), "{}: rows that the leader lacks: {:?}", mode.name, found.keys().next());
    Ok(Replayed { named, outcomes })
}

fn options<'a>(mode: &Mode, allow_lossy: &'a [String]) -> anyhow::Result<Options<'a>> {
    Ok(Options {
        prefix: capture::PREFIX,
        exclude: &[],
        allow_lossy,
        modes: capture::modes(mode)?,
        transactions: Transactions::Required,
        placeholder: placeholder(mode)?,
        parcel_changes: 10_000,
        group: 1,
    })
}

fn of_column<'a>(
    named: &'a [LossyColumn],
    family: &'a str,
    column: &'a str,
) -> impl Iterator<Item = &'a LossyColumn> {
    named.iter().filter(move |l| l.table.name == family && l.column == column)
}

/// What is named of every array: no value here has lower bounds, and arrays of several dimensions are refused.
const OF_EVERY_ARRAY: &[&str] = &["lower bounds", "several dimensions"];

/// Why values of a column may differ without a refusal.
fn explanation(named: &[LossyColumn], family: &str, column: &str) -> Option<&'static str> {
    let may_differ = |l: &&LossyColumn| {
        matches!(l.extent, Extent::Rare | Extent::Avoidable | Extent::Every)
            && !OF_EVERY_ARRAY.iter().any(|known| l.what.contains(known))
    };
    of_column(named, family, column).find(may_differ).map(|l| l.what)
}

/// What was named beforehand is what happened, neither more nor less.
fn assert_named(mode: &Mode, replayed: &Replayed) {
    for outcome in &replayed.outcomes {
        let Outcome { family, column, path, value, found, fate, .. } = outcome;
        let place = format!("{}: {family}, {column}, {}, {value:?}", mode.name, path.name());
        let named: Vec<_> = of_column(&replayed.named, family, column).map(|l| l.extent).collect();
        match fate {
            Fate::Refused(_) => {
                assert!(!named.is_empty(), "{place}: refused, and not named beforehand");
                // Where every value has lost a part, the rest was accepted. Any other value was left out: the column's
                // default stands there, or what stood there before.
                let is_left_out = found.is_none() || found == value || *path == Path::UpdateToNull;
                assert!(
                    is_left_out || named.contains(&Extent::Every),
                    "{place}: refused, and yet {found:?} was written"
                );
            }
            Fate::Different(_) => {}
            Fate::Equal => assert!(
                value.is_none()
                    || !named.contains(&Extent::Every)
                    || BETTER_THAN_NAMED.contains(&(mode.name, column)),
                "{place}: said to be lost, and is not"
            ),
        }
    }
    let unchanged = |l: &&LossyColumn| l.extent == Extent::Unchanged && l.table.name == LARGE.name;
    for LossyColumn { column, .. } in replayed.named.iter().filter(unchanged) {
        let of_column = |o: &&Outcome| o.family == LARGE.name && o.column == column;
        let mut outcomes = replayed.outcomes.iter().filter(of_column).filter(|o| o.path == Path::Unchanged);
        assert!(
            outcomes.all(|o| matches!(o.fate, Fate::Refused(_))),
            "{}: an unchanged {column} is told from NULL after all",
            mode.name
        );
    }
}

/// The matrix: each type in each mode on each path.
#[tokio::test]
async fn every_value_is_the_leaders_or_was_named_beforehand() -> anyhow::Result<()> {
    let mut outcomes = Vec::new();
    for (number, mode) in MODES.iter().enumerate() {
        let replayed = replay(number).await?;
        assert_named(mode, &replayed);
        outcomes.extend(replayed.outcomes);
    }
    page::check(&outcomes)
}

/// Without a word from the operator, nothing of a table is applied that has lost a value.
#[tokio::test]
async fn a_lost_value_stops_the_replica_with_the_column_and_the_way_out() -> anyhow::Result<()> {
    let mode = &MODES[0];
    let records: Vec<_> =
        capture::records(mode)?.into_iter().filter(|r| !r.topic.ends_with(".bytes_and_bits")).collect();
    let cluster = replica().await?;
    let error = feed(&cluster, &records, options(mode, &[])?, None).await.expect_err("timetz is lost");
    let text = format!("{error:#}");
    assert!(
        text.contains("column \"timetz\" of public.times: Debezium does not carry the zone of a time"),
        "{text}"
    );
    let client = cluster.connect(Role::Superuser).await?;
    let rows: i64 = client.query_one("SELECT count(*) FROM times", &[]).await?.get(0);
    assert_eq!(rows, 0, "rows of a table that has lost a value");
    Ok(())
}
