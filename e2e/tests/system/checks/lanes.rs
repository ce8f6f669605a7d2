//! Replicas that stand at the same place are read for once; one that hangs leaves, and comes back when it has caught up. Also when
//! it finds other tables then than the others know of.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::wait::until;
use tokio_postgres::Client;

use crate::system::{Login, REPLICAS, System};

/// Enough to fill the hanging replica's queue (16 MiB), at some 1.2 kB held for each row. In several transactions, and no more than
/// that: all has to arrive well before the hanging replica's lease (10 s) has run out, or it leaves for that reason. With eight it
/// once did.
const TRANSACTIONS: u32 = 5;
const ROWS: u32 = 5_000;
const PAYLOAD_BYTES: u32 = 1_000;

/// The lane of each replica; none while it is not being fed.
async fn lanes(system: &System) -> anyhow::Result<Vec<Option<u64>>> {
    let (_, body) = system.get("replicator", "/v1/replicas").await?;
    let replicas = body["replicas"].as_array().context("no list of replicas")?;
    Ok(replicas.iter().map(|replica| replica["lane"].as_u64()).collect())
}

/// How often a replica has been let go by a lane.
async fn detached(system: &System, replica: &str) -> anyhow::Result<u64> {
    let metrics = system.http().get(system.http_url("replicator", "/metrics")?).send().await?.text().await?;
    let series = format!("replicator_detached_total{{replica=\"{replica}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    Ok(value.map_or(Ok(0), str::parse)?)
}

/// Replicas change over at commits, of which an idle leader has none.
async fn await_one_lane(system: &System, leader: &Client) -> anyhow::Result<()> {
    until("all replicas are fed by one lane", Duration::from_secs(60), async || {
        let commit = format!("INSERT INTO public.posts (user_id, content) VALUES ('{USER}', 'a commit')");
        leader.batch_execute(&commit).await.map_err(|e| e.to_string())?;
        let lanes = lanes(system).await.map_err(|e| e.to_string())?;
        let one = lanes.len() == REPLICAS.len() && lanes[0].is_some() && lanes.iter().all(|l| *l == lanes[0]);
        if one { Ok(()) } else { Err(format!("lanes {lanes:?}")) }
    })
    .await
}

/// Who writes them, so that they can be deleted again.
const USER: &str = "lanes";

/// Transactions of wide rows.
async fn write(leader: &Client) -> anyhow::Result<()> {
    let sql = format!(
        "INSERT INTO public.posts (user_id, content)
         SELECT '{USER}', repeat(md5(n::text), {PAYLOAD_BYTES} / 32) FROM generate_series(1, {ROWS}) n"
    );
    for _ in 0..TRANSACTIONS {
        leader.batch_execute(&sql).await.context("write wide rows")?;
    }
    Ok(())
}

async fn on_each_replica(system: &System, sql: &str) -> anyhow::Result<()> {
    for name in REPLICAS {
        let replica = system.connect(name, Login::Owner).await?;
        replica.batch_execute("SET default_transaction_read_only = off").await?;
        replica.batch_execute(sql).await.with_context(|| format!("{sql} on {name}"))?;
    }
    Ok(())
}

pub(super) async fn shared(system: Rc<System>) -> anyhow::Result<()> {
    let leader = system.connect("leader", Login::Owner).await?;
    await_one_lane(&system, &leader).await?;
    // A table of theirs alone, of which the stream says nothing. The one that comes back finds it; the others have to look.
    let table = "public.of_replicas_alone";
    on_each_replica(&system, &format!("DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (n int)")).await?;
    let before = detached(&system, REPLICAS[1]).await?;
    system.service("pause", REPLICAS[1]).await?;
    let others_went_on = async {
        write(&leader).await?;
        let written: &str = "SELECT pg_current_wal_insert_lsn()::text";
        let lsn: String = leader.query_one(written, &[]).await?.get(0);
        for name in [REPLICAS[0], REPLICAS[2]] {
            let replica = system.connect(name, Login::Reader).await?;
            until("a replica beside the hanging one is complete", Duration::from_secs(60), async || {
                let sql = "SELECT watermark >= $1::text::pg_lsn, watermark::text FROM replicator.progress";
                let row = replica.query_one(sql, &[&lsn]).await.map_err(|e| e.to_string())?;
                if row.get(0) { Ok(()) } else { Err(row.get::<_, String>(1)) }
            })
            .await?;
        }
        anyhow::Ok(())
    }
    .await;
    // Whatever happened: the next check needs the replica.
    system.service("resume", REPLICAS[1]).await?;
    others_went_on?;
    // Its worker notices when the server answers again, and may be back in the lane a moment later.
    until("the one that hung to find itself let go", Duration::from_secs(60), async || {
        match detached(&system, REPLICAS[1]).await {
            Ok(times) if times > before => Ok(()),
            Ok(times) => Err(format!("let go {times} times, as before")),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    let lanes = lanes(&system).await?;
    ensure!(lanes[0] == lanes[2], "the two that went on share a lane: {lanes:?}");
    await_one_lane(&system, &leader).await?;
    on_each_replica(&system, &format!("DROP TABLE {table}")).await?;
    println!("  equal on the leader and three replicas: {}", system.assert_equal().await?);
    leader.execute("DELETE FROM public.posts WHERE user_id = $1", &[&USER]).await?;
    Ok(())
}
