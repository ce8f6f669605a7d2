//! The servers between two runs: what earlier ones have left is removed, and what is measured next begins alike.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use e2e::wait;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::carrier::Carrying;
use super::sight::{Lookouts, Wanted};
use crate::system::{DATABASE, REPLICAS, System, server_name};

/// How long a walsender may take to let go of its slot.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long an idle replicator takes until all its replicas have heard how far the leader is: it tells them every second.
const ALIKE: Duration = Duration::from_secs(2);

/// How often the replicator is started until its replicas share a stream.
const STARTS: usize = 5;

/// Makes the measured database anew on every server. Nothing carries changes between them yet.
pub(crate) async fn prepare(system: &System) -> anyhow::Result<()> {
    clear(system).await?;
    let mut resets = JoinSet::new();
    for server in 0..=REPLICAS {
        let system = system.clone();
        resets.spawn(async move {
            system.reset(server).await.with_context(|| format!("empty {}", server_name(server)))
        });
    }
    while let Some(reset) = resets.join_next().await {
        reset??;
    }
    Ok(())
}

/// Removes subscriptions and slots of the measured database, which could not be dropped with them. An interrupted run leaves
/// them behind.
pub(crate) async fn clear(system: &System) -> anyhow::Result<()> {
    for server in 1..=REPLICAS {
        let admin = system.connect(server, "postgres").await?;
        let found = admin
            .query(
                "SELECT subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = $1",
                &[&DATABASE],
            )
            .await?;
        for row in found {
            let name: String = row.get(0);
            // Without its slot, it goes even when the leader is away.
            let client = system.connect(server, DATABASE).await?;
            for action in ["DISABLE", "SET (slot_name = NONE)"] {
                client.batch_execute(&format!("ALTER SUBSCRIPTION {name} {action}")).await?;
            }
            client
                .batch_execute(&format!("DROP SUBSCRIPTION {name}"))
                .await
                .context("drop a subscription")?;
        }
    }
    let leader = system.connect(0, "postgres").await?;
    leader
        .execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
             WHERE database = $1 AND active_pid IS NOT NULL",
            &[&DATABASE],
        )
        .await?;
    await_idle_slots(system).await?;
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
pub(crate) async fn await_idle_slots(system: &System) -> anyhow::Result<()> {
    wait::until("slots to be left", PATIENCE, async || match streams(system).await {
        Ok(0) => Ok(()),
        Ok(active) => Err(format!("{active} are in use")),
        Err(error) => Err(format!("{error:#}")),
    })
    .await
}

/// Does now what autovacuum and the checkpointer would do in the midst of the next measurement.
pub(crate) async fn settle(system: &System) -> anyhow::Result<()> {
    let mut settled = JoinSet::new();
    for server in 0..=REPLICAS {
        let client = system.connect(server, DATABASE).await?;
        settled.spawn(async move {
            client.batch_execute("VACUUM (ANALYZE) bench.accounts").await?;
            client.batch_execute("CHECKPOINT").await
        });
    }
    while let Some(one) = settled.join_next().await {
        one?.context("settle a server")?;
    }
    Ok(())
}

/// One row through everything, so that connections, workers and caches are there before something is measured. It stays, with
/// the key 0.
///
/// The replicator fills its replicas one by one, each with a stream of its own, and they find together later. What is measured
/// is the replicator that runs for a while, so it is started anew, from where all three stand alike, until they share a stream.
pub(crate) async fn warm_up(
    system: &System,
    program: &Path,
    lookouts: &Lookouts,
    carrying: &mut Carrying,
) -> anyhow::Result<()> {
    let shown = lookouts.begin(Wanted::Row(0))?;
    let leader = system.connect(0, DATABASE).await?;
    leader.execute(include_str!("../../sql/probe.sql"), &[&0_i64]).await.context("insert the first row")?;
    shown.last(carrying).await.context("wait for the first row")?;
    if carrying.daemon().is_none() {
        return Ok(());
    }
    for _ in 0..STARTS {
        if streams(system).await? == 1 {
            return Ok(());
        }
        sleep(ALIKE).await;
        carrying.pause(system).await?;
        carrying.resume(system, program).await?;
        carrying.await_live().await?;
        sleep(ALIKE).await;
    }
    bail!("the replicas have streams of their own after {STARTS} starts")
}

/// How many streams the leader sends.
pub(crate) async fn streams(system: &System) -> anyhow::Result<u32> {
    let leader = system.connect(0, "postgres").await?;
    let row = leader
        .query_one(
            "SELECT count(*)::int FROM pg_replication_slots WHERE database = $1 AND active",
            &[&DATABASE],
        )
        .await?;
    Ok(u32::try_from(row.get::<_, i32>(0))?)
}

/// Waits until every replica has as many rows as the leader: what a load has written last may be under way.
pub(crate) async fn await_equal(system: &System) -> anyhow::Result<()> {
    let mut clients = Vec::new();
    for server in 0..=REPLICAS {
        clients.push(system.connect(server, DATABASE).await?);
    }
    wait::until("replicas to have the leader's rows", PATIENCE, async || {
        let mut counts: Vec<i64> = Vec::new();
        for client in &clients {
            let row = client.query_one("SELECT count(*) FROM bench.accounts", &[]).await;
            counts.push(row.map_err(|error| error.to_string())?.get(0));
        }
        if counts.iter().all(|count| count == &counts[0]) { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await
}
