//! One large transaction: a replica shows all of it or nothing, and the replicator does not hold it in memory.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, ensure};
use e2e::{process, wait};
use tokio_postgres::Client;

use crate::settings;
use crate::system::{Login, PATIENCE, REPLICAS, System};

/// What the replicator may have used at its worst moment: the design's target for narrow rows. It is at 35 to 54 MiB with the
/// rows of this check, which alone are as many if they are held.
const MAX_MEMORY_MIB: u64 = 96;

pub(super) async fn whole(system: Rc<System>) -> anyhow::Result<()> {
    let rows: i64 = settings::number("E2E_BULK_ROWS", 150_000)?;
    let changed = rows / 5;
    let writer = system.connect("leader", Login::Writer).await?;
    let steps = [
        format!(
            "INSERT INTO posts (user_id, content)
             SELECT 'bulk', md5(g::text) || repeat('.', 300) FROM generate_series(1, {rows}) AS g"
        ),
        format!(
            "UPDATE posts SET version = version + 1
             WHERE id IN (SELECT id FROM posts WHERE user_id = 'bulk' ORDER BY id LIMIT {changed})"
        ),
        "DELETE FROM posts WHERE user_id = 'bulk'".to_owned(),
    ];
    // What a reader may see after each step: (rows, changed ones). Before it, what the step before allowed.
    let states = [(0, 0), (rows, 0), (rows, changed), (0, 0)];
    for (step, allowed) in steps.iter().zip(states.windows(2)) {
        let started = Instant::now();
        writer.batch_execute(step).await.context("write the large transaction")?;
        let committed = started.elapsed();
        for name in REPLICAS {
            let replica = system.connect(name, Login::Reader).await?;
            await_state(&replica, name, allowed[0], allowed[1]).await?;
        }
        let verb = step.split_whitespace().next().unwrap_or_default();
        let rows = if verb == "UPDATE" { changed } else { rows };
        println!(
            "  {verb} of {rows} rows: {committed:.1?} on the leader, on every replica after {:.1?}",
            started.elapsed()
        );
    }
    let peak = process::peak_memory_kib(system.pid("replicator")?)? / 1024;
    println!("  the replicator's memory was at most {peak} MiB since its start");
    ensure!(peak <= MAX_MEMORY_MIB, "the replicator used {peak} MiB");
    system.assert_equal().await.map(drop)
}

/// Waits until the replica shows `after`; any state but that and `before` is a torn transaction.
async fn await_state(
    replica: &Client,
    name: &str,
    before: (i64, i64),
    after: (i64, i64),
) -> anyhow::Result<()> {
    let query = "SELECT count(*), count(*) FILTER (WHERE version > 1) FROM posts WHERE user_id = 'bulk'";
    let torn = wait::until(&format!("{name} to show {after:?}"), PATIENCE, async || {
        let row = replica.query_one(query, &[]).await.map_err(|error| error.to_string())?;
        let (rows, changed): (i64, i64) = (row.get(0), row.get(1));
        if (rows, changed) != before && (rows, changed) != after {
            return Ok(Some(format!("{name} shows {rows} rows, {changed} of them changed")));
        }
        if (rows, changed) == after { Ok(None) } else { Err(format!("{rows} rows, {changed} changed")) }
    })
    .await?;
    ensure!(torn.is_none(), "a part of a transaction is visible: {}", torn.unwrap_or_default());
    Ok(())
}
