//! Debezium's incremental snapshot: asked for by a row in a signal table, it reads a table in chunks while changes stream on.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::wait;
use serde_json::Value;
use tokio::time::interval;

use super::peer_failures::{configure, prepare};
use crate::system::{Login, PATIENCE, REPLICAS, System};

/// Rows that are there before anybody follows the table; the last one is never changed, and its chunk comes last.
const ROWS: u32 = 4000;

const CREATE: &str = "
CREATE TABLE peer.signals (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048));
CREATE TABLE peer.late (id int PRIMARY KEY, n int NOT NULL, body text);";

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
    system.service("stop", "replicator").await?;
    system.service("start", "replicator").await?;

    let (_, good) = system.get("connect", "/connectors/postgres-connector/config").await?;
    let mut with_signals = good.clone();
    with_signals["signal.data.collection"] = Value::from("peer.signals");
    with_signals["incremental.snapshot.chunk.size"] = Value::from("256");
    configure(&system, &with_signals).await?;
    let outcome = snapshots(&system).await;
    configure(&system, &good).await?;
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
        leader
            .batch_execute(&format!(
                "INSERT INTO peer.signals VALUES
                 ('{signal}', 'execute-snapshot', '{{\"data-collections\": [\"peer.late\"], \"type\": \"incremental\"}}')"
            ))
            .await?;
        // The connector notes in the same table when a chunk's window opens and closes, the last of them behind the last chunk.
        let windows = u64::from(ROWS / 256);
        let mut read = pin!(wait::until("the snapshot to be read", PATIENCE, async || {
            let row = leader
                .query_one("SELECT count(*) FROM peer.signals WHERE type = 'snapshot-window-close'", &[])
                .await
                .map_err(|error| error.to_string())?;
            let closed: i64 = row.get(0);
            if closed.unsigned_abs() >= windows { Ok(()) } else { Err(format!("{closed} windows closed")) }
        }));
        let mut tick = interval(Duration::from_millis(5));
        loop {
            tokio::select! {
                read = &mut read => break read?,
                _ = tick.tick() => {
                    leader.batch_execute(&change(writes)).await.context("write beside the snapshot")?;
                    writes += 1;
                }
            }
        }
        for name in REPLICAS {
            let replica = system.connect(name, Login::Reader).await?;
            wait::until(&format!("{name} to have the last row"), PATIENCE, async || {
                let row = replica
                    .query_one(&format!("SELECT count(*) FROM peer.late WHERE id = {ROWS}"), &[])
                    .await;
                let rows: i64 = row.map_err(|error| error.to_string())?.get(0);
                if rows == 1 { Ok(()) } else { Err("it is not there".to_owned()) }
            })
            .await?;
        }
        // Waits until the replicas are live again, too.
        system.assert_equal().await.with_context(|| format!("after the {signal} snapshot"))?;
        leader.batch_execute("DELETE FROM peer.signals").await?;
    }
    ensure!(writes > 20, "{writes} transactions beside the snapshots prove nothing");
    println!(
        "  two incremental snapshots of {ROWS} rows beside {writes} transactions of the table: equal and live"
    );
    Ok(())
}

/// Updates, deletes and inserts all over the table: rows that were read, that are being read and that are to be.
fn change(number: u32) -> String {
    let row = number.wrapping_mul(7919) % (ROWS - 1) + 1;
    match number % 4 {
        0 => format!("DELETE FROM peer.late WHERE id = {row}"),
        1 => format!("INSERT INTO peer.late VALUES ({}, 1, 'new')", ROWS + 1 + number),
        // Without the body, which is stored out of line.
        _ => format!("UPDATE peer.late SET n = n + 1 WHERE id = {row}"),
    }
}
