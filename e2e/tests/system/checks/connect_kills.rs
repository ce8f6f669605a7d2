//! Connect killed by SIGKILL while it sends a large transaction, once or several times in each: what it sends again is
//! applied once.
//!
//! Every kind of change that shows when it is applied twice is in the transaction: equal rows without a key, deletions
//! among them, a truncate.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::random::Random;
use e2e::wait;
use tokio_postgres::Client;

use super::peer_failures;
use crate::settings;
use crate::system::{Login, PATIENCE, System};
use crate::topic::Topic;

/// The topic of the keyed table.
const TOPIC: &str = "app.peer.bulk";

/// How long the replicas may take for what the last kill has left: the connector may read the whole transaction again.
const CATCH_UP: Duration = Duration::from_secs(600);

/// Kills of one transaction at most.
const KILLS_IN_ONE: u64 = 3;

/// Statements that write the rows with keys.
const KEYED_PARTS: i64 = 10;

/// Transactions that may be through before the signal arrives, beside those that are hit.
const MISSES: u32 = 5;

pub(super) async fn survived(system: Rc<System>) -> anyhow::Result<()> {
    let kills: u32 = settings::number("E2E_CONNECT_KILLS", 1)?;
    let rows: i64 = settings::number("E2E_CONNECT_KILL_ROWS", 20_000)?;
    let mut random = Random::new(settings::seed()?);
    peer_failures::prepare(&system).await?;
    let leader = system.connect("leader", Login::Owner).await?;
    let other = system.connect("leader", Login::Owner).await?;
    // The topic exists from the first row on.
    leader
        .batch_execute(
            "INSERT INTO peer.bulk VALUES (0, 0, 'first'); INSERT INTO peer.keyed VALUES (1000, 'before')",
        )
        .await?;
    system.assert_equal().await?;
    let topic = Topic::open(&system, TOPIC)?;

    let (mut done, mut transactions, mut missed) = (0, 0, 0);
    while done < kills {
        ensure!(missed <= MISSES, "the connector is too fast to be hit: E2E_CONNECT_KILL_ROWS is too low");
        let keyed = rows / 4 * 3;
        let before = topic.end().await?;
        write(&leader, &other, keyed, rows - keyed).await?;
        transactions += 1;
        // What has to come still, however far back the connector goes after a kill. The truncate is an event as well.
        let mut left = keyed + 1;
        let mut end = before;
        let mut hits = 0;
        for _ in 0..random.between(1, KILLS_IN_ONE).min(u64::from(kills - done)) {
            let wanted = left * i64::try_from(random.between(5, 50))? / 100;
            let at_kill = kill(&system, &topic, end + wanted).await?;
            if at_kill - end >= left {
                break;
            }
            left -= at_kill - end;
            end = at_kill;
            hits += 1;
            println!("  killed when at least {left} of {keyed} keyed rows were still to come");
        }
        done += hits;
        missed += u32::from(hits == 0);
        let restarted = Instant::now();
        system.await_replicas_for(CATCH_UP).await?;
        system.assert_equal().await?;
        let twice = topic.end().await? - before - keyed - 1;
        println!(
            "  transaction {transactions}: {hits} kills, {twice} of {keyed} keyed rows sent again; equal {:.1?} after \
             the last restart",
            restarted.elapsed()
        );
    }
    println!("  {done} kills within {transactions} transactions of {rows} rows; equal after each");
    ensure!(done > 0, "nothing was tried");
    Ok(())
}

/// One transaction of so many rows with keys and without. Others commit while it runs: a connector that goes on inside the
/// large one meets them again.
async fn write(leader: &Client, other: &Client, keyed: i64, equal: i64) -> anyhow::Result<()> {
    let rows = |share: i64| {
        format!(
            "INSERT INTO peer.bulk SELECT g, 0, md5(g::text) FROM generate_series({} + 1, {}) AS g",
            keyed * share / KEYED_PARTS,
            keyed * (share + 1) / KEYED_PARTS
        )
    };
    let mut statements = vec![
        "BEGIN".to_owned(),
        "TRUNCATE peer.bulk, peer.bulk_bag".to_owned(),
        format!("INSERT INTO peer.bulk_bag SELECT g % 7, 'equal' FROM generate_series(1, {equal}) AS g"),
        "DELETE FROM peer.bulk_bag WHERE ctid IN (SELECT ctid FROM peer.bulk_bag LIMIT 100)".to_owned(),
    ];
    statements.extend((0..KEYED_PARTS).map(rows));
    statements.push("COMMIT".to_owned());
    for statement in statements {
        leader.batch_execute(&statement).await.with_context(|| statement.clone())?;
        other.batch_execute("UPDATE peer.keyed SET label = 'between'").await.context("commit another one")?;
    }
    Ok(())
}

/// Waits until the topic has reached `wanted`, kills the worker and starts it again. Returns where the topic ended between.
async fn kill(system: &System, topic: &Topic, wanted: i64) -> anyhow::Result<i64> {
    wait::until("the connector to be in the middle", PATIENCE, async || match topic.end().await {
        Ok(end) if end >= wanted => Ok(()),
        Ok(end) => Err(format!("{end} of {wanted}")),
        Err(error) => Err(format!("{error:#}")),
    })
    .await?;
    system.service("kill", "connect").await?;
    system.await_closed("connect").await?;
    let end = topic.end().await?;
    system.service("start", "connect").await?;
    Ok(end)
}
