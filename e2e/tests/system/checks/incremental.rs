//! Debezium's incremental snapshot: asked for by a row in a signal table, it reads a table in chunks while changes stream on.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::wait;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::interval;
use tokio_postgres::Client;

use super::peer_failures::prepare;
use crate::system::{Login, PATIENCE, REPLICAS, System};

/// Rows that are there before anybody follows the table; the last one is never changed, and its chunk comes last.
const ROWS: u32 = 4000;

/// Rows that the connector reads at once.
const CHUNK: u32 = 256;

// The body is stored out of line, and not compressed: an update does not carry it.
const CREATE: &str = "
DROP TABLE IF EXISTS peer.signals, peer.late;
CREATE TABLE peer.signals (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048));
CREATE TABLE peer.late (id int PRIMARY KEY, n int NOT NULL, body text);
ALTER TABLE peer.late ALTER body SET STORAGE EXTERNAL;";

pub(super) async fn under_load(system: Rc<System>) -> anyhow::Result<()> {
    prepare(&system).await?;
    let leader = system.connect("leader", Login::Owner).await?;
    leader
        .batch_execute(&format!(
            "{CREATE} INSERT INTO peer.late SELECT g, 0, repeat(md5(g::text), 80) FROM generate_series(1, {ROWS}) AS g;
             GRANT SELECT ON peer.late, peer.signals TO debezium, replicator;
             GRANT INSERT, UPDATE, DELETE ON peer.signals TO debezium;
             ALTER PUBLICATION cdc ADD TABLE peer.late, peer.signals"
        ))
        .await
        .context("make the tables of the leader")?;
    for name in REPLICAS {
        let replica = system.repair(name).await?;
        let own = "ALTER TABLE peer.late OWNER TO replicator; ALTER TABLE peer.signals OWNER TO replicator;
                   GRANT SELECT ON peer.late, peer.signals TO app_reader";
        replica.batch_execute(&format!("{CREATE} {own}")).await?;
    }
    // So that it reads the replicas' catalogs anew.
    system.restart("replicator").await?;

    let good = system.connector_config().await?;
    let mut with_signals = good.clone();
    with_signals["signal.data.collection"] = Value::from("peer.signals");
    with_signals["incremental.snapshot.chunk.size"] = Value::from(CHUNK.to_string());
    // Its own commits wait for no standby.
    leader.batch_execute("ALTER ROLE debezium SET synchronous_commit = local").await?;
    system.configure(&with_signals).await?;
    let outcome = async {
        snapshots(&system).await?;
        beside_a_commit_that_nobody_sees(&system).await
    }
    .await;
    leader.batch_execute("ALTER ROLE debezium RESET synchronous_commit").await?;
    system.configure(&good).await?;
    outcome
}

async fn snapshots(system: &System) -> anyhow::Result<()> {
    let leader = system.connect("leader", Login::Owner).await?;
    for name in REPLICAS {
        let replica = system.connect(name, Login::Reader).await?;
        let rows: i64 = replica.query_one("SELECT count(*) FROM peer.late", &[]).await?.get(0);
        ensure!(rows == 0, "{name} has {rows} rows before the snapshot");
    }
    let mut writes = 0;
    // The second one reads what the replicas have already.
    for signal in ["first", "second"] {
        let mut read = pin!(snapshot(&leader, signal));
        let mut tick = interval(Duration::from_millis(5));
        let beside = system.connect("leader", Login::Owner).await?;
        loop {
            tokio::select! {
                read = &mut read => break read?,
                _ = tick.tick() => {
                    beside.batch_execute(&change(writes)).await.context("write beside the snapshot")?;
                    writes += 1;
                }
            }
        }
        await_row(system, &format!("id = {ROWS}")).await?;
        // Waits until the replicas are live again, too.
        system.assert_equal().await.with_context(|| format!("after the {signal} snapshot"))?;
    }
    ensure!(writes > 20, "{writes} transactions beside the snapshots prove nothing");
    println!(
        "  two incremental snapshots of {ROWS} rows beside {writes} transactions of the table: equal and live"
    );
    Ok(())
}

/// Asks for a snapshot of the table and waits until it was read.
async fn snapshot(leader: &Client, signal: &str) -> anyhow::Result<()> {
    leader.batch_execute("DELETE FROM peer.signals").await?;
    leader
        .batch_execute(&format!(
            "INSERT INTO peer.signals VALUES
             ('{signal}', 'execute-snapshot', '{{\"data-collections\": [\"peer.late\"], \"type\": \"incremental\"}}')"
        ))
        .await?;
    // The connector notes in the same table when a chunk's window opens and closes, the last of them behind the last chunk.
    let windows = u64::from(ROWS / CHUNK);
    wait::until("the snapshot to be read", PATIENCE, async || {
        let query = "SELECT count(*) FROM peer.signals WHERE type = 'snapshot-window-close'";
        let row = leader.query_one(query, &[]).await.map_err(|error| error.to_string())?;
        let closed: i64 = row.get(0);
        if closed.unsigned_abs() >= windows { Ok(()) } else { Err(format!("{closed} windows closed")) }
    })
    .await
}

/// Waits until every replica has one such row.
async fn await_row(system: &System, condition: &str) -> anyhow::Result<()> {
    let query = format!("SELECT count(*) FROM peer.late WHERE {condition}");
    for name in REPLICAS {
        let replica = system.connect(name, Login::Reader).await?;
        wait::until(&format!("{name} to have the row of {condition}"), PATIENCE, async || {
            let rows: i64 = replica.query_one(&query, &[]).await.map_err(|error| error.to_string())?.get(0);
            if rows == 1 { Ok(()) } else { Err("it is not there".to_owned()) }
        })
        .await?;
    }
    Ok(())
}

/// A commit that waits for a synchronous standby is in the WAL, and so on the replicas, while nobody sees it on the leader: a
/// chunk that is read then is older than the changes before it.
async fn beside_a_commit_that_nobody_sees(system: &System) -> anyhow::Result<()> {
    let leader = system.connect("leader", Login::Owner).await?;
    leader.batch_execute("SET synchronous_commit = local").await?;
    leader.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await?;
    leader.batch_execute("SELECT pg_reload_conf()").await?;
    let outcome = hidden(system, &leader).await;
    leader.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await?;
    leader.batch_execute("SELECT pg_reload_conf()").await?;
    let commit = outcome?;
    commit.await.context("wait for the commit")?.context("commit")?;
    system.assert_equal().await.context("after a snapshot that did not see a commit")?;
    println!("  an incremental snapshot beside a commit that nobody sees on the leader: equal");
    Ok(())
}

/// Commits an update and a delete that stay hidden, and has the table read. The commit, which goes on.
async fn hidden(
    system: &System,
    leader: &Client,
) -> anyhow::Result<JoinHandle<Result<(), tokio_postgres::Error>>> {
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'UPDATE peer.late%'";
    // The first commits may still come before the server has heard of the standby.
    for key in (1..).map(|n: i32| -2 * n) {
        let rows = format!("INSERT INTO peer.late VALUES ({key}, 1, 'seen'), ({key} + 1, 1, 'seen')");
        leader.batch_execute(&rows).await?;
        let client = system.connect("leader", Login::Owner).await?;
        let change = format!(
            "UPDATE peer.late SET n = 2 WHERE id = {key}; DELETE FROM peer.late WHERE id = {key} + 1"
        );
        let commit = tokio::spawn(async move { client.batch_execute(&change).await });
        let is_hidden = wait::until("the commit to wait for a standby", PATIENCE, async || {
            let waiting: i64 = leader.query_one(waits, &[]).await.map_err(|error| error.to_string())?.get(0);
            if waiting > 0 || commit.is_finished() { Ok(waiting > 0) } else { Err("it does not".to_owned()) }
        });
        if !is_hidden.await? {
            commit.await.context("wait for a commit")??;
            continue;
        }
        await_row(system, &format!("id = {key} AND n = 2")).await?;
        let seen = format!("SELECT sum(n) FROM peer.late WHERE id IN ({key}, {key} + 1)");
        let seen: i64 = leader.query_one(&seen, &[]).await?.get(0);
        ensure!(seen == 2 && !commit.is_finished(), "the commit is seen, which proves nothing");
        snapshot(leader, "hidden").await?;
        return Ok(commit);
    }
    unreachable!("there is always another key")
}

/// Updates, deletes and inserts all over the table: rows that were read, that are being read and that are to be.
fn change(number: u32) -> String {
    let row = number.wrapping_mul(7919) % (ROWS - 1) + 1;
    match number % 4 {
        0 => format!("DELETE FROM peer.late WHERE id = {row}"),
        1 => format!("INSERT INTO peer.late VALUES ({}, 1, 'new')", ROWS + 1 + number),
        // Without the body.
        _ => format!("UPDATE peer.late SET n = n + 1 WHERE id = {row}"),
    }
}
