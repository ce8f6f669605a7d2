//! Events captured from the real connector, replayed into a real replica, against the leader's final rows.
//!
//! `golden/workload.sql` is what ran on the leader; `golden/expected/*.tsv` is what it held afterwards. Two of its tables
//! are left out here: `types`, which has columns that Debezium's wire can't carry (`golden_lossy.rs` looks at it), and
//! `ddl`, whose columns change under way.

use std::path::PathBuf;

use anyhow::Context as _;
use e2e::postgres::{Cluster, Role};
use serde::Deserialize;

use replicator::decode::debezium::{
    BinaryMode, Boundary, DecimalMode, Decoded, Decoder, IntervalMode, Modes, TimeMode, Transactions,
    UnknownTypes, decode_boundary,
};
use replicator::replica::catalog;
use replicator::vocabulary::offset::{PartitionIndex, Place};

use crate::feed::{Options, Record, feed, raw};

/// Tables whose rows are compared, and the file of each.
pub(crate) const TABLES: &[(&str, &str)] = &[
    ("public.accounts", "public.accounts"),
    ("public.transfers", "public.transfers"),
    ("public.toast", "public.toast"),
    ("public.toast_full", "public.toast_full"),
    ("public.toast_key", "public.toast_key"),
    ("public.nopk", "public.nopk"),
    ("public.nopk_insertonly", "public.nopk_insertonly"),
    ("public.uq_identity", "public.uq_identity"),
    ("public.composite_pk", "public.composite_pk"),
    ("public.uniq", "public.uniq"),
    ("public.tree", "public.tree"),
    ("public.gen", "public.gen"),
    ("public.part", "public.part"),
    ("public.\"Mixed Case\"", "public.Mixed_Case"),
    ("\"Other\".\"Tbl\"", "Other.Tbl"),
    ("public.trunc_a", "public.trunc_a"),
    ("public.trunc_b", "public.trunc_b"),
    ("public.allnull", "public.allnull"),
    ("public.late", "public.late"),
];

pub(crate) fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(file)
}

/// The captured events, in the order in which a consumer saw them.
pub(crate) fn captured(file: &str) -> anyhow::Result<Vec<Record>> {
    #[derive(Deserialize)]
    struct Line {
        topic: String,
        partition: i32,
        offset: i64,
        value: Option<String>,
        headers: Vec<(String, Option<String>)>,
    }
    let text = std::fs::read_to_string(golden(file))?;
    let records = text.lines().map(|line| {
        let Line { topic, partition, offset, value, headers } = serde_json::from_str(line)?;
        Ok(Record { topic, partition, offset, value, headers })
    });
    records.collect()
}

/// A replica with the leader's tables, and nothing in them.
pub(crate) async fn replica() -> anyhow::Result<Cluster> {
    let cluster = Cluster::replica("golden").await?;
    let workload = std::fs::read_to_string(golden("workload.sql"))?;
    let schema = workload.split("-- rows for the snapshot").next().context("the part before the rows")?;
    // The demo's tables are in the way of the workload's, some of which have the same names.
    let client = cluster.superuser().await?;
    client
        .batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP SCHEMA cdc CASCADE;")
        .await?;
    client.batch_execute(schema).await?;
    client
        .batch_execute(
            "CREATE TABLE late (id int PRIMARY KEY, v text);
             GRANT USAGE ON SCHEMA public, \"Other\" TO replicator;
             DO $$ DECLARE t record; BEGIN
                 FOR t IN SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'Other') LOOP
                     EXECUTE format('ALTER TABLE %I.%I OWNER TO replicator', t.schemaname, t.tablename);
                 END LOOP;
             END $$;",
        )
        .await?;
    Ok(cluster)
}

/// The rows of a table as the captures' `expected` files have them.
async fn rows(cluster: &Cluster, table: &str) -> anyhow::Result<String> {
    use futures_util::TryStreamExt as _;
    let client = cluster.connect(Role::Superuser).await?;
    client.batch_execute("SET timezone = 'UTC'").await?;
    let out = client.copy_out(&format!("COPY (SELECT * FROM {table} x ORDER BY x::text) TO STDOUT")).await?;
    let chunks: Vec<_> = out.try_collect().await?;
    let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.to_vec()).collect();
    Ok(String::from_utf8(bytes)?)
}

async fn assert_golden(cluster: &Cluster, how: &str) -> anyhow::Result<()> {
    for (table, file) in TABLES {
        let expected = std::fs::read_to_string(golden(&format!("expected/{file}.tsv")))?;
        assert_eq!(rows(cluster, table).await?, expected, "{table}, {how}");
    }
    Ok(())
}

/// How the golden connectors were set up.
pub(crate) const OPTIONS: Options<'static> = Options {
    prefix: "c0",
    exclude: &["public.types", "public.ddl"],
    allow_lossy: &[],
    modes: Modes {
        decimal: DecimalMode::String,
        time_precision: TimeMode::Microseconds,
        binary: BinaryMode::Bytes,
        interval: IntervalMode::String,
        unknown_types: UnknownTypes::Included,
    },
    transactions: Transactions::Required,
    placeholder: "__debezium_unavailable_value",
    parcel_changes: 10_000,
    group: 1,
};

#[tokio::test]
async fn the_capture_gives_the_leaders_rows_whatever_the_size_of_groups_and_parcels() -> anyhow::Result<()> {
    let records = captured("C-schemaless.jsonl")?;
    for (parcel_changes, group) in [(10_000, 1), (10_000, 1_000), (7, 5)] {
        let cluster = replica().await?;
        let options = Options { parcel_changes, group, ..OPTIONS };
        let applied = feed(&cluster, &records, options, None).await?;
        let how = format!("parcels of {parcel_changes}, groups of {group}");
        assert_golden(&cluster, &how).await?;
        let transactions: u64 = applied.iter().map(|a| a.transactions).sum();
        assert_eq!(transactions, 79, "{how}: every END is one transaction");
        println!("{how}: {} target transactions for {transactions} of the leader", applied.len());
    }
    Ok(())
}

#[tokio::test]
async fn a_daemon_that_is_restarted_after_every_commit_gives_the_same_rows() -> anyhow::Result<()> {
    let records = captured("C-schemaless.jsonl")?;
    let cluster = replica().await?;
    let mut transactions = 0;
    loop {
        let applied = feed(&cluster, &records, OPTIONS, Some(1)).await?;
        transactions += applied.iter().map(|a| a.transactions).sum::<u64>();
        if applied.is_empty() {
            break;
        }
    }
    assert_eq!(transactions, 79, "each transaction once");
    assert_golden(&cluster, "restarted after every commit").await
}

#[tokio::test]
async fn the_whole_topic_read_again_changes_nothing() -> anyhow::Result<()> {
    let records = captured("C-schemaless.jsonl")?;
    let cluster = replica().await?;
    feed(&cluster, &records, Options { group: 1_000, ..OPTIONS }, None).await?;
    // As if the connector had been killed and had written everything streamed once more, behind what it wrote before.
    let mut twice = records.clone();
    for topic in records.iter().map(|r| r.topic.clone()).collect::<std::collections::BTreeSet<_>>() {
        let of_topic: Vec<_> = records.iter().filter(|r| r.topic == topic).collect();
        let next = of_topic.iter().map(|r| r.offset).max().unwrap_or(0) + 1;
        let streamed =
            of_topic.iter().filter(|r| r.value.as_deref().is_none_or(|v| !v.contains("\"op\":\"r\"")));
        twice.extend(streamed.zip(next..).map(|(record, offset)| Record { offset, ..(**record).clone() }));
    }
    let applied = feed(&cluster, &twice, OPTIONS, None).await?;
    assert_eq!(applied.iter().map(|a| a.transactions).sum::<u64>(), 0, "every transaction is a repetition");
    assert_golden(&cluster, "read again").await
}

/// Sets A: the same run with and without embedded schemas, event by event.
#[tokio::test]
async fn embedded_schemas_make_no_difference() -> anyhow::Result<()> {
    let cluster = replica().await?;
    let client = cluster.connect(Role::Superuser).await?;
    let tables = catalog::load(&client).await?;
    let mut decoder = Decoder::new(&tables, OPTIONS.decoding(&[]));
    let (plain, embedded) = (captured("A-schemaless.jsonl")?, captured("A-schema.jsonl")?);
    let mut compared = 0;
    for record in &plain {
        let topic = record.topic.replacen("a0.", "a1.", 1);
        let twin = embedded.iter().find(|r| r.topic == topic && r.offset == record.offset);
        let twin = twin.with_context(|| format!("{topic} at {}", record.offset))?;
        assert_eq!(
            decoded(&mut decoder, record)?,
            decoded(&mut decoder, twin)?,
            "{topic} at {}",
            record.offset
        );
        compared += 1;
    }
    assert_eq!(compared, embedded.len());
    println!("{compared} events compared");
    Ok(())
}

/// What an event says, without what the two connectors' snapshots have of their own: the position they were taken at.
fn decoded(decoder: &mut Decoder, record: &Record) -> anyhow::Result<String> {
    let place = Place { partition: PartitionIndex(0), offset: record.offset };
    if record.topic.ends_with(".transaction") {
        let value = record.value.as_deref().context("a transaction record has a value")?;
        return Ok(match decode_boundary(value.as_bytes())? {
            Boundary::Begin { xid } => format!("begin {xid}"),
            Boundary::End { xid, lsn, committed_at_ms, mut counts } => {
                // The connector lists the tables in no order.
                counts.sort();
                format!("end {xid} {lsn} {committed_at_ms} {counts:?}")
            }
        });
    }
    Ok(match decoder.decode(&raw(record, place))? {
        Decoded::Refused(error) => anyhow::bail!("refused: {error}"),
        Decoded::Ignored => "nothing".to_owned(),
        Decoded::Loose(_) => anyhow::bail!("loose although transactions are there"),
        Decoded::Copy(row) => format!("copy {:?} {}", row.change.operation, row.last_of_table),
        Decoded::Member(member) => {
            let operation = member.change.map(|change| change.operation);
            format!("{} {} {} {operation:?}", member.xid, member.total_order, member.collection)
        }
    })
}

#[tokio::test]
async fn a_topic_that_was_made_anew_is_not_gone_on_with() -> anyhow::Result<()> {
    let records = captured("C-schemaless.jsonl")?;
    let cluster = replica().await?;
    feed(&cluster, &records, Options { group: 20, ..OPTIONS }, Some(2)).await?;
    // Another broker's topics have grown past the checkpoint's offsets: other transactions stand there now.
    let mut others = records.clone();
    for record in others.iter_mut().filter(|r| r.topic.ends_with(".transaction")) {
        record.value =
            record.value.as_ref().map(|value| value.replace(":6086", ":7086").replace(":6087", ":7087"));
    }
    let error = feed(&cluster, &others, OPTIONS, None).await.expect_err("it must not be gone on with");
    assert!(
        error.to_string().contains("c0.transaction/0 does not hold the transaction that ended at"),
        "{error:#}"
    );
    // With the right topics it goes on.
    feed(&cluster, &records, OPTIONS, None).await?;
    assert_golden(&cluster, "after the wrong broker").await
}

#[tokio::test]
async fn everything_before_a_record_that_can_not_be_read_is_applied() -> anyhow::Result<()> {
    let mut records = captured("C-schemaless.jsonl")?;
    let cluster = replica().await?;
    let last = records.iter_mut().rfind(|r| r.topic == "c0.public.accounts").context("an account's event")?;
    last.value = Some("{ this is no JSON".to_owned());
    let at = format!("c0.public.accounts/0 at offset {}", last.offset);
    let error = feed(&cluster, &records, OPTIONS, None).await.expect_err("the record can't be read");
    assert!(error.to_string().starts_with(&at), "{error:#}");
    let client = cluster.connect(Role::AppReader).await?;
    let row = client.query_one("SELECT transactions FROM replicator.progress", &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 78, "all but the last one's, whose record it is");
    Ok(())
}
