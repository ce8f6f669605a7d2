//! Captures what the real connector makes of every type, in every mode: the golden events of `replicator/tests`.
//!
//! ```text
//! scripts/start-system.sh --mode kafka --port-offset 4000 --only infrastructure
//! cargo run -p e2e --example capture -- --port-offset 4000 --out replicator/tests/it/types [MODE...]
//! ```
//!
//! Each mode gets `MODE.jsonl`, one record per line as `{topic, partition, offset, schema, value, headers}` in the order in
//! which a consumer saw them. `schema.sql` is what the replica needs; `expected.tsv` holds `table, id, column, column::text` of the
//! leader's final rows. Everything is read from one run, made in a database of its own that is dropped at the end.

#![expect(clippy::print_stdout, reason = "a tool tells what it does")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::types::{self, BASE, EXTENSIONS, FAMILIES, LARGE, MODES, Mode};
use e2e::{postgres, wait};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio_postgres::Client;

/// Where everything is, and what is wanted.
struct Settings {
    offset: u16,
    out: PathBuf,
    modes: Vec<&'static Mode>,
}

const DATABASE: &str = "capture";
const PATIENCE: Duration = Duration::from_secs(120);

/// The last change of the run, which says that a mode's stream is complete.
const END: &str = "the end of the run";

impl Settings {
    fn read() -> anyhow::Result<Self> {
        let mut settings = Settings { offset: 0, out: PathBuf::from("."), modes: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--port-offset" => {
                    settings.offset = arguments.next().context("--port-offset wants a number")?.parse()?;
                }
                "--out" => settings.out = arguments.next().context("--out wants a folder")?.into(),
                name => {
                    let mode = MODES.iter().find(|mode| mode.name == name);
                    settings.modes.push(mode.with_context(|| format!("there is no mode {name}"))?);
                }
            }
        }
        if settings.modes.is_empty() {
            settings.modes = MODES.iter().collect();
        }
        Ok(settings)
    }

    fn port(&self, base: u16) -> u16 {
        base + self.offset
    }

    fn database_url(&self, database: &str) -> String {
        let password = std::env::var("POSTGRES_PASSWORD").unwrap_or_else(|_| "postgres-demo".to_owned());
        format!("postgres://postgres:{password}@127.0.0.1:{}/{database}", self.port(5432))
    }

    fn connectors(&self) -> String {
        format!("http://127.0.0.1:{}/connectors", self.port(8083))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::read()?;
    std::fs::create_dir_all(&settings.out)?;
    let admin = postgres::connect(&settings.database_url("postgres")).await?;
    clean(&settings, &admin).await?;
    admin.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
    let leader = postgres::connect(&settings.database_url(DATABASE)).await?;
    leader
        .batch_execute("SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres'")
        .await?;
    let schema = schema_sql();
    leader.batch_execute(&schema).await.context("make the tables")?;
    std::fs::write(settings.out.join("schema.sql"), schema)?;
    for family in FAMILIES.iter().chain([&LARGE, &large_full()]) {
        leader
            .batch_execute(&family.snapshot_sql())
            .await
            .with_context(|| format!("fill {}", family.name))?;
    }
    leader.batch_execute("CREATE PUBLICATION capture FOR ALL TABLES").await?;
    // One after the other: the worker's small heap holds one connector's snapshot well.
    for mode in &settings.modes {
        register(&settings, mode).await?;
    }
    for mode in &settings.modes {
        await_slot(&admin, mode).await?;
    }
    for family in FAMILIES.iter().chain([&LARGE, &large_full()]) {
        for script in family.stream_sql() {
            leader.batch_execute(&script).await.with_context(|| format!("stream {}", family.name))?;
        }
    }
    leader.batch_execute(&format!("INSERT INTO ending VALUES (1, '{END}')")).await?;
    println!("streaming is done");
    expected(&settings, &leader).await?;
    for mode in &settings.modes {
        let mode: &'static Mode = mode;
        let (broker, out) = (format!("127.0.0.1:{}", settings.port(19092)), settings.out.clone());
        tokio::task::spawn_blocking(move || consume(&broker, mode, &out)).await??;
    }
    drop(leader);
    clean(&settings, &admin).await
}

/// The same large values under `REPLICA IDENTITY FULL`.
fn large_full() -> types::Family {
    types::Family { name: "large full", columns: LARGE.columns }
}

fn schema_sql() -> String {
    let mut sql = String::from(
        "-- Written by `cargo run -p e2e --example capture`: the tables of the captured events.\n",
    );
    for extension in EXTENSIONS {
        writeln!(sql, "CREATE EXTENSION IF NOT EXISTS {extension};").expect("a string takes all");
    }
    for statement in types::TYPES.trim().lines() {
        writeln!(sql, "{}", statement.trim()).expect("a string takes all");
    }
    for family in FAMILIES.iter().chain([&LARGE, &large_full()]) {
        writeln!(sql, "{}", family.table_sql()).expect("a string takes all");
    }
    for family in [LARGE, large_full()] {
        let storage: Vec<_> = family
            .columns
            .iter()
            .map(|c| format!("ALTER COLUMN {} SET STORAGE EXTERNAL", types::quoted(c.sql_type)))
            .collect();
        let table = types::quoted(family.name);
        writeln!(sql, "ALTER TABLE {table} {}, SET (toast_tuple_target = 128);", storage.join(", "))
            .expect("a string takes all");
    }
    sql.push_str("ALTER TABLE \"large full\" REPLICA IDENTITY FULL;\n");
    sql.push_str("CREATE TABLE ending (id int PRIMARY KEY, what text);\n");
    sql
}

/// Removes what an earlier run left.
async fn clean(settings: &Settings, admin: &Client) -> anyhow::Result<()> {
    let http = reqwest::Client::new();
    for mode in MODES {
        let url = format!("{}/capture_{}", settings.connectors(), mode.name);
        // The offsets have to go, or the next connector of that name waits for a slot that is gone.
        if http.put(format!("{url}/stop")).send().await?.status().is_success() {
            wait::until("the connector to stop", PATIENCE, async || {
                let answer = http.delete(format!("{url}/offsets")).send().await;
                match answer.map(|a| a.status()) {
                    Ok(status) if status.is_success() => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await?;
            http.delete(&url).send().await?.error_for_status()?;
        }
    }
    let slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                 WHERE slot_name LIKE 'capture\\_%' AND NOT active";
    wait::until("the slots to be dropped", PATIENCE, async || {
        admin.batch_execute(slots).await.map_err(|e| e.to_string())?;
        let left = "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'capture\\_%'";
        let row = admin.query_one(left, &[]).await.map_err(|e| e.to_string())?;
        if row.get::<_, i64>(0) == 0 { Ok(()) } else { Err("a slot is in use".to_owned()) }
    })
    .await?;
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE} (FORCE)")).await?;
    Ok(())
}

/// Topics of earlier runs stay on the broker, so each run has a prefix of its own.
fn prefix(mode: &Mode) -> String {
    format!("capture_{}_{}", std::process::id(), mode.name)
}

async fn register(settings: &Settings, mode: &Mode) -> anyhow::Result<()> {
    let mut config: BTreeMap<&str, String> = BASE.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
    config.extend(mode.settings.iter().map(|(k, v)| (*k, (*v).to_owned())));
    let password = std::env::var("POSTGRES_PASSWORD").unwrap_or_else(|_| "postgres-demo".to_owned());
    config.extend([
        ("database.hostname", "127.0.0.1".to_owned()),
        ("database.port", settings.port(5432).to_string()),
        ("database.user", "postgres".to_owned()),
        ("database.password", password),
        ("database.dbname", DATABASE.to_owned()),
        ("topic.prefix", prefix(mode)),
        ("slot.name", format!("capture_{}", mode.name)),
        ("publication.name", "capture".to_owned()),
        ("publication.autocreate.mode", "disabled".to_owned()),
    ]);
    let body = json!({ "name": format!("capture_{}", mode.name), "config": config });
    let http = reqwest::Client::new();
    wait::until("the connector to be registered", PATIENCE, async || {
        let answer = http.post(settings.connectors()).json(&body).send().await.map_err(|e| e.to_string())?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(format!("{status}: {}", answer.text().await.unwrap_or_default()))
    })
    .await
}

/// The slot is read as soon as the snapshot is done.
async fn await_slot(admin: &Client, mode: &Mode) -> anyhow::Result<()> {
    let query = format!("SELECT active FROM pg_replication_slots WHERE slot_name = 'capture_{}'", mode.name);
    wait::until(&format!("{} to stream", mode.name), PATIENCE, async || {
        let row = admin.query_opt(&query, &[]).await.map_err(|e| e.to_string())?;
        match row.map(|row| row.get::<_, bool>(0)) {
            Some(true) => Ok(()),
            other => Err(format!("active: {other:?}")),
        }
    })
    .await
}

/// The leader's rows, a line per value: large ones by their length and checksum, for the file's sake.
async fn expected(settings: &Settings, leader: &Client) -> anyhow::Result<()> {
    let mut text = String::new();
    for family in FAMILIES.iter().chain([&LARGE, &large_full()]) {
        let columns: Vec<_> =
            family.columns.iter().map(|c| format!("{}::text", types::quoted(c.sql_type))).collect();
        let query = format!(
            "SELECT id, ARRAY[{}]::text[] FROM {} ORDER BY id",
            columns.join(", "),
            types::quoted(family.name)
        );
        for row in leader.query(&query, &[]).await? {
            let values: Vec<Option<String>> = row.get(1);
            for (column, value) in family.columns.iter().zip(values) {
                let value = json!(value.map(|v| if v.len() > 200 { types::digest(&v) } else { v }));
                writeln!(text, "{}\t{}\t{}\t{value}", family.name, row.get::<_, i32>(0), column.sql_type)?;
            }
        }
    }
    std::fs::write(settings.out.join("expected.tsv"), text)?;
    Ok(())
}

/// Reads a mode's topics to their end and writes what they hold.
fn consume(broker: &str, mode: &Mode, out: &FilePath) -> anyhow::Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", "capture")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()?;
    let prefix = format!("{}.", prefix(mode));
    let deadline = std::time::Instant::now() + PATIENCE;
    let (mut lines, mut schemas) = (Vec::new(), Vec::new());
    let mut assigned: Vec<String> = Vec::new();
    loop {
        ensure!(std::time::Instant::now() < deadline, "{}: the end of the run does not come", mode.name);
        let topics = consumer.fetch_metadata(None, Duration::from_secs(10))?;
        let new: Vec<_> = topics
            .topics()
            .iter()
            .map(|t| t.name().to_owned())
            .filter(|t| t.starts_with(&prefix) && !assigned.contains(t))
            .collect();
        if !new.is_empty() {
            let mut list = TopicPartitionList::new();
            for topic in &new {
                list.add_partition_offset(topic, 0, Offset::Beginning)?;
            }
            consumer.incremental_assign(&list)?;
            assigned.extend(new);
        }
        let mut ended = false;
        while let Some(message) = consumer.poll(Duration::from_millis(500)) {
            let message = message?;
            lines.push(line(&message, &prefix, &mut schemas)?);
            ended |= message.topic().ends_with(".ending");
        }
        if ended {
            break;
        }
    }
    println!("{}: {} records of {} topics", mode.name, lines.len(), assigned.len());
    std::fs::write(out.join(format!("{}.jsonl", mode.name)), lines.concat())?;
    Ok(())
}

/// A record as a line. The schema of an event is large and always the same: it gets a line of its own when it comes for
/// the first time, `{"schema": "…"}`, and the events name it by its number.
fn line(message: &impl Message, prefix: &str, schemas: &mut Vec<String>) -> anyhow::Result<String> {
    let text = |bytes: Option<&[u8]>| -> anyhow::Result<Option<String>> {
        let text = bytes.map(std::str::from_utf8).transpose()?;
        // The prefix of one run says nothing to the next.
        Ok(text.map(|text| text.replace(prefix.trim_end_matches('.'), "x")))
    };
    let mut headers: Vec<Value> = Vec::new();
    if let Some(found) = message.headers() {
        for header in found.iter().filter(|h| h.key.starts_with("__debezium.") && h.key.ends_with("key")) {
            headers.push(json!([header.key, text(header.value)?]));
        }
    }
    let mut lines = String::new();
    let mut value = text(message.payload())?;
    let mut schema = None;
    if let Some((before, payload)) = value.as_deref().and_then(|v| v.split_once(PAYLOAD))
        && before.starts_with("{\"schema\":")
    {
        let known = schemas.iter().position(|s| s == before);
        schema = Some(known.unwrap_or(schemas.len()));
        if known.is_none() {
            writeln!(lines, "{}", json!({ "schema": before }))?;
            schemas.push(before.to_owned());
        }
        value = Some(payload.to_owned());
    }
    let topic = message.topic().strip_prefix(prefix).context("a topic of this mode")?;
    let record = json!({
        "topic": format!("x.{topic}"),
        "partition": message.partition(),
        "offset": message.offset(),
        "schema": schema,
        "value": value,
        "headers": headers,
    });
    writeln!(lines, "{record}")?;
    Ok(lines)
}

/// What stands between the schema of an event and the rest of it.
const PAYLOAD: &str = ",\"payload\":";
