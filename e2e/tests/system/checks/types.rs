//! Every type through the running system to all three replicas: those that `docs/types.md` promises through the connector, all of
//! them straight from the leader.

use std::rc::Rc;

use anyhow::{Context, ensure};
use e2e::types::{self, BEYOND, EXTENSIONS, FAMILIES, Family, LARGE};
use e2e::wait;
use tokio_postgres::Client;

use super::command_line;
use crate::settings::Source;
use crate::system::{Login, PATIENCE, REPLICAS, System};

/// Where the tables are, so that they are gone with one word.
const SCHEMA: &str = "matrix";

/// Inserts, updates, updates to NULL and updates of another column, of every value. The path of the connector's snapshot is
/// taken by the captured events of `replicator/tests/it/types.rs`; that of a copy from the leader here.
pub(super) async fn matrix(system: Rc<System>) -> anyhow::Result<()> {
    let families = match system.source() {
        Source::Kafka => types::promised(FAMILIES)?,
        Source::Direct => FAMILIES.iter().copied().chain([LARGE, BEYOND]).collect(),
    };
    for service in REPLICAS.into_iter().chain(["leader"]) {
        let client = session(&system, service).await?;
        client
            .batch_execute(&schema(&families))
            .await
            .with_context(|| format!("make the tables of {service}"))?;
    }
    let leader = session(&system, "leader").await?;
    leader.batch_execute(&format!("ALTER PUBLICATION cdc ADD TABLES IN SCHEMA {SCHEMA}")).await?;
    let outcome = match system.source() {
        Source::Kafka => through_the_connector(&system, &leader, &families).await,
        Source::Direct => straight(&system, &leader, &families).await,
    };
    for service in REPLICAS.into_iter().chain(["leader"]) {
        let drop = format!("DROP SCHEMA {SCHEMA} CASCADE");
        session(&system, service).await?.batch_execute(&drop).await?;
    }
    outcome
}

async fn through_the_connector(system: &System, leader: &Client, families: &[Family]) -> anyhow::Result<()> {
    let mut config = system.connector_config().await?;
    let before = config.clone();
    let included = config["table.include.list"].as_str().context("the connector's tables")?;
    config["table.include.list"] = format!("{included},{SCHEMA}\\..*").into();
    system.configure(&config).await?;
    let outcome = fill_and_compare(system, leader, families).await;
    system.configure(&before).await?;
    outcome
}

/// Streamed, in binary as long as all tables have types for which that will do, as text when one has not, and then copied: the
/// first replica is filled anew.
async fn straight(system: &System, leader: &Client, families: &[Family]) -> anyhow::Result<()> {
    let in_binary = portable(leader, families).await?;
    let sql: String = in_binary.iter().map(Family::table_sql).collect();
    for service in REPLICAS.into_iter().chain(["leader"]) {
        session(system, service).await?.batch_execute(&format!("{sql}{}", grants())).await?;
    }
    let is_large = |family: &&Family| family.name.contains(LARGE.name);
    for family in families.iter().chain(&in_binary).filter(is_large) {
        keep_out_of_line(leader, family).await?;
    }
    fill_and_compare(system, leader, &in_binary).await.context("in binary")?;
    ensure!(streams_in_binary(leader).await? == [true], "the stream is not in binary");
    fill_and_compare(system, leader, families).await?;
    ensure!(streams_in_binary(leader).await? == [false], "the stream is still in binary");
    let rebuilt = command_line::replicator(system, &["rebuild", REPLICAS[0], "--wait"])?;
    command_line::expect(&rebuilt, 0)?;
    system.await_replicas().await?;
    compare(system, leader, families).await.context("after a copy")
}

/// The families' columns of which the binary form means the same on every server, as tables of their own.
async fn portable(leader: &Client, families: &[Family]) -> anyhow::Result<Vec<Family>> {
    let query = "SELECT a.attname::text FROM pg_attribute a
                 JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype
                 WHERE a.attrelid = $1::text::regclass
                   AND (t.typtype = 'e' OR coalesce(b.oid, t.oid) < 16384 AND t.typname !~ '^_?(reg|int2vector|oidvector)')";
    let mut portable = Vec::new();
    for family in families {
        let rows = leader.query(query, &[&types::quoted(family.name)]).await?;
        let names: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        let columns = family.columns.iter().filter(|column| names.contains(&column.sql_type));
        // The families of a test live as long as its process.
        let columns: &'static [types::Column] = Vec::leak(columns.copied().collect());
        if !columns.is_empty() {
            let name = String::leak(format!("{} in binary", family.name));
            portable.push(Family { name, columns });
        }
    }
    let left_out = families.iter().map(|f| f.columns.len()).sum::<usize>()
        - portable.iter().map(|f| f.columns.len()).sum::<usize>();
    ensure!(left_out > 0, "nothing is left that has to come as text");
    Ok(portable)
}

/// Values are kept out of line however small, so that an update of another column leaves them out.
async fn keep_out_of_line(leader: &Client, family: &Family) -> anyhow::Result<()> {
    let table = types::quoted(family.name);
    for column in family.columns {
        let column = types::quoted(column.sql_type);
        let alter = format!("ALTER TABLE {table} ALTER {column} SET STORAGE external");
        // Types that are never stored out of line refuse it.
        leader.batch_execute(&alter).await.ok();
    }
    leader.batch_execute(&format!("ALTER TABLE {table} SET (toast_tuple_target = 128)")).await?;
    Ok(())
}

/// Of each stream of the leader's, whether its values come in binary.
async fn streams_in_binary(leader: &Client) -> anyhow::Result<Vec<bool>> {
    let query = "SELECT query LIKE '%binary ''true''%' FROM pg_stat_activity
                 WHERE backend_type = 'walsender' AND query LIKE 'START_REPLICATION%'";
    let mut answers = Vec::new();
    // Lanes become one again a moment after the last replica has caught up.
    wait::until("the replicas to share a stream", PATIENCE, async || {
        let rows = leader.query(query, &[]).await.map_err(|error| error.to_string())?;
        answers = rows.iter().map(|row| row.get(0)).collect();
        if answers.len() == 1 { Ok(()) } else { Err(format!("{} streams", answers.len())) }
    })
    .await?;
    Ok(answers)
}

async fn session(system: &System, service: &str) -> anyhow::Result<Client> {
    let client = system.connect(service, Login::Owner).await?;
    client
        .batch_execute(&format!(
            "SET default_transaction_read_only = off; SET search_path = {SCHEMA}, public; SET timezone = 'UTC';
             SET datestyle = 'ISO'; SET intervalstyle = 'postgres'"
        ))
        .await?;
    Ok(client)
}

fn schema(families: &[Family]) -> String {
    let mut sql: String = EXTENSIONS
        .iter()
        .map(|name| format!("CREATE EXTENSION IF NOT EXISTS {name} SCHEMA public;\n"))
        .collect();
    sql.push_str(&format!("CREATE SCHEMA {SCHEMA};\n{}\n", types::TYPES));
    families.iter().for_each(|family| sql.push_str(&family.table_sql()));
    sql + &grants()
}

fn grants() -> String {
    // Each side has one of them.
    let grant = |role| {
        format!(
            "DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
                 GRANT USAGE ON SCHEMA {SCHEMA} TO {role};
                 GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA {SCHEMA} TO {role};
             END IF; END $$;\n"
        )
    };
    ["replicator", "debezium"].into_iter().map(grant).collect()
}

async fn fill_and_compare(system: &System, leader: &Client, families: &[Family]) -> anyhow::Result<()> {
    for family in families {
        for script in family.stream_sql() {
            leader.batch_execute(&script).await.with_context(|| format!("write {}", family.name))?;
        }
    }
    system.await_replicas().await?;
    compare(system, leader, families).await
}

async fn compare(system: &System, leader: &Client, families: &[Family]) -> anyhow::Result<()> {
    let mut values = 0;
    for family in families {
        let expected = rows(leader, family).await?;
        ensure!(!expected.is_empty(), "{} has no rows", family.name);
        values += expected.iter().map(|(_, texts)| texts.len()).sum::<usize>();
        for name in REPLICAS {
            let found = rows(&session(system, name).await?, family).await?;
            ensure!(found.len() == expected.len(), "{name}: {} rows of {}", found.len(), family.name);
            for ((id, texts), (_, wanted)) in found.iter().zip(&expected) {
                let different = texts.iter().zip(wanted).position(|(text, wanted)| text != wanted);
                if let Some(column) = different {
                    let column = family.columns[column].sql_type;
                    anyhow::bail!(
                        "{name}: {}, row {id}: {column} is not what it is on the leader",
                        family.name
                    );
                }
            }
        }
    }
    let types: usize = families.iter().map(|family| family.columns.len()).sum();
    println!("  {types} types, {values} values of the leader equal on three replicas");
    Ok(())
}

/// Each row's id and its columns as texts.
async fn rows(client: &Client, family: &Family) -> anyhow::Result<Vec<(i32, Vec<Option<String>>)>> {
    let columns: Vec<_> =
        family.columns.iter().map(|c| format!("{}::text", types::quoted(c.sql_type))).collect();
    let table = types::quoted(family.name);
    let query = format!("SELECT id, ARRAY[{}]::text[] FROM {table} ORDER BY id", columns.join(", "));
    let rows = client.query(&query, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
