//! The servers between two runs: what earlier ones have left is removed, and what is measured next begins alike.

use std::time::Duration;

use anyhow::{Context, bail};
use e2e::wait;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_postgres::Client;

use super::carrier::{Carrier, Carrying};
use super::sight::{Lookouts, Wanted};
use super::stage::Stage;
use super::subscriptions::Start;
use crate::connect;
use crate::lag;
use crate::system::{DATABASE, REPLICAS, server_name};

/// How long a walsender may take to let go of its slot.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an idle replicator takes until all its replicas have heard how far the leader is: it tells them every second.
const ALIKE: Duration = Duration::from_secs(2);

/// How often the replicator is started until its replicas share a stream.
const STARTS: usize = 5;

/// Rows that a system with a JVM carries before it is measured, so that what it needs is compiled.
const WARMING_ROWS: i64 = 5_000;

/// A system at work on databases made anew, with these tables beside the measured one, where everything arrives: ready to be
/// measured.
pub(crate) async fn begin<'a>(
    stage: &Stage<'a>,
    carrier: Carrier,
    tables: Option<&str>,
) -> anyhow::Result<(Lookouts, Carrying<'a>)> {
    prepare(stage, carrier).await?;
    if let Some(sql) = tables {
        add_tables(stage, sql).await?;
    }
    let lookouts = Lookouts::start(stage).await?;
    let mut carrying = carrier.start(stage, Start::Equal).await?;
    carrying.await_live().await?;
    warm_up(stage, &lookouts, &mut carrying).await?;
    Ok((lookouts, carrying))
}

/// Makes the measured databases anew on every server. Nothing carries changes between them yet.
pub(crate) async fn prepare(stage: &Stage<'_>, carrier: Carrier) -> anyhow::Result<()> {
    if carrier.uses_broker() {
        connect::delete_all(stage.system).await?;
    }
    clear(stage).await?;
    // Databases of one server come one after the other: each sets the passwords of roles that they share.
    let mut first = 0;
    while first <= stage.replicas {
        let end = if first == 0 { REPLICAS } else { first + REPLICAS - 1 }.min(stage.replicas);
        let mut resets = JoinSet::new();
        for replica in first..=end {
            let system = stage.system.clone();
            resets.spawn(async move {
                system.reset(replica).await.with_context(|| format!("empty {}", server_name(replica)))
            });
        }
        while let Some(reset) = resets.join_next().await {
            reset??;
        }
        first = end + 1;
    }
    Ok(())
}

/// Makes more tables in the schema `bench` of each server, which are published too.
async fn add_tables(stage: &Stage<'_>, sql: &str) -> anyhow::Result<()> {
    for replica in 0..=stage.replicas {
        let client = stage.system.connect_replica(replica).await?;
        client
            .batch_execute(sql)
            .await
            .with_context(|| format!("make tables on {}", server_name(replica)))?;
        let tables = tables(&client).await?;
        if replica == 0 {
            let list = tables.join(", ");
            let publish = format!(
                "GRANT SELECT ON {list} TO debezium, replicator; ALTER PUBLICATION {DATABASE} SET TABLE {list}"
            );
            client.batch_execute(&publish).await.context("publish the tables")?;
        } else {
            for table in tables {
                client.batch_execute(&format!("ALTER TABLE {table} OWNER TO replicator")).await?;
            }
        }
    }
    Ok(())
}

/// The measured tables, as SQL names.
pub(super) async fn tables(client: &Client) -> anyhow::Result<Vec<String>> {
    let query = "SELECT format('bench.%I', tablename) FROM pg_tables WHERE schemaname = 'bench' ORDER BY 1";
    let rows = client.query(query, &[]).await.context("list the measured tables")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Removes subscriptions and slots of measured databases, which could not be dropped with them. An interrupted run leaves
/// them behind, in whichever databases it had.
pub(crate) async fn clear(stage: &Stage<'_>) -> anyhow::Result<()> {
    for server in 1..=REPLICAS {
        let admin = stage.system.connect(server, "postgres").await?;
        let found = admin
            .query(
                "SELECT subname::text, datname::text FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid
                 WHERE starts_with(datname, $1)",
                &[&DATABASE],
            )
            .await?;
        for row in found {
            let (name, database): (String, String) = (row.get(0), row.get(1));
            // Without its slot, it goes even when the leader is away.
            let client = stage.system.connect(server, &database).await?;
            for action in ["DISABLE", "SET (slot_name = NONE)"] {
                client.batch_execute(&format!("ALTER SUBSCRIPTION {name} {action}")).await?;
            }
            client
                .batch_execute(&format!("DROP SUBSCRIPTION {name}"))
                .await
                .context("drop a subscription")?;
        }
    }
    let leader = stage.system.connect(0, "postgres").await?;
    leader
        .execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
             WHERE database = $1 AND active_pid IS NOT NULL",
            &[&DATABASE],
        )
        .await?;
    await_idle_slots(stage).await?;
    leader
        .execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1",
            &[&DATABASE],
        )
        .await
        .context("drop the slots")?;
    Ok(())
}

/// Waits until nobody reads a slot of the measured database.
pub(crate) async fn await_idle_slots(stage: &Stage<'_>) -> anyhow::Result<()> {
    wait::until("slots to be left", PATIENCE, async || match streams(stage).await {
        Ok(0) => Ok(()),
        Ok(active) => Err(format!("{active} are in use")),
        Err(error) => Err(format!("{error:#}")),
    })
    .await
}

/// Does now what autovacuum and the checkpointer would do in the midst of the next measurement.
pub(crate) async fn settle(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut settled = JoinSet::new();
    for replica in 0..=stage.replicas {
        let client = stage.system.connect_replica(replica).await?;
        settled.spawn(async move {
            let vacuum = format!("VACUUM (ANALYZE) {}", tables(&client).await?.join(", "));
            client.batch_execute(&vacuum).await?;
            anyhow::Ok(client.batch_execute("CHECKPOINT").await?)
        });
    }
    while let Some(one) = settled.join_next().await {
        one?.context("settle a server")?;
    }
    Ok(())
}

/// Bytes that the measured tables take on each replica.
pub(crate) async fn sizes(stage: &Stage<'_>) -> anyhow::Result<Vec<i64>> {
    let mut sizes = Vec::new();
    for client in stage.replicas().await? {
        sizes.push(client.query_one(include_str!("../../sql/size.sql"), &[]).await?.get(0));
    }
    Ok(sizes)
}

/// The backends of [`lag`]'s sessions that look at the replicas.
pub(crate) async fn looking(stage: &Stage<'_>) -> anyhow::Result<Vec<u32>> {
    let mut backends = Vec::new();
    for client in stage.replicas().await? {
        let query = "SELECT pid FROM pg_stat_activity WHERE application_name = $1";
        for row in client.query(query, &[&lag::LOOKING]).await.context("list the sessions that look")? {
            backends.push(u32::try_from(row.get::<_, i32>(0))?);
        }
    }
    Ok(backends)
}

/// One row through everything, so that connections, workers and caches are there before something is measured. It stays, with
/// the key 0. A system with a JVM carries more, which is deleted again.
///
/// The replicator fills its replicas one by one, each with a stream of its own, and they find together later. What is measured
/// is the replicator that runs for a while, so it is started anew, from where all stand alike, until they share a stream.
async fn warm_up(stage: &Stage<'_>, lookouts: &Lookouts, carrying: &mut Carrying<'_>) -> anyhow::Result<()> {
    let leader = stage.leader().await?;
    let shown = lookouts.begin(Wanted::Row(0))?;
    leader.execute(include_str!("../../sql/probe.sql"), &[&0_i64]).await.context("insert the first row")?;
    shown.last(carrying).await.context("wait for the first row")?;
    if carrying.carrier().uses_broker() {
        let filled = lookouts.begin(Wanted::Row(WARMING_ROWS))?;
        leader.execute(include_str!("../../sql/insert.sql"), &[&WARMING_ROWS]).await.context("warm up")?;
        filled.last(carrying).await.context("wait for the rows that warm up")?;
        // Behind the rows that stay, so that a vacuum gives their pages back.
        let deleted = lookouts.begin(Wanted::NoRow(WARMING_ROWS))?;
        leader.batch_execute("DELETE FROM bench.accounts WHERE id > 0").await.context("warm up")?;
        deleted.last(carrying).await.context("wait for the end of the rows that warm up")?;
    }
    if carrying.carrier() != Carrier::Direct {
        return Ok(());
    }
    for _ in 0..STARTS {
        if streams(stage).await? == 1 {
            return Ok(());
        }
        sleep(ALIKE).await;
        carrying.pause().await?;
        carrying.resume().await?;
        carrying.await_live().await?;
        sleep(ALIKE).await;
    }
    bail!("the replicas have streams of their own after {STARTS} starts")
}

/// How many streams the leader sends.
pub(crate) async fn streams(stage: &Stage<'_>) -> anyhow::Result<u32> {
    let leader = stage.system.connect(0, "postgres").await?;
    let row = leader
        .query_one(
            "SELECT count(*)::int FROM pg_replication_slots WHERE database = $1 AND active",
            &[&DATABASE],
        )
        .await?;
    Ok(u32::try_from(row.get::<_, i32>(0))?)
}
