//! When did a replica receive the first row, hold every row, and hold every row's update?

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::{Client, Statement};

use crate::system::{DATABASE, REPLICAS, System};

/// Time between two looks. Three replicas are looked at 300 times per second, which costs them a hundredth of a core.
const INTERVAL: Duration = Duration::from_millis(10);

/// Space is taken for the table: the first rows have arrived, although their transaction may be open.
const FIRST: &str = "SELECT pg_relation_size('bench.accounts') > 0";
/// Both sides write in key order, so the last key comes last; the replicator shows a transaction whole.
const INSERTED: &str = "SELECT EXISTS (SELECT FROM bench.accounts WHERE id = $1)";
const UPDATED: &str = "SELECT EXISTS (SELECT FROM bench.accounts WHERE id = $1 AND note LIKE 'updated %')";

/// A connection to each replica, with the prepared question whether it shows the row of a key.
pub(crate) async fn rows(system: &System) -> anyhow::Result<Vec<(Client, Statement)>> {
    let mut replicas = Vec::new();
    for server in 1..=REPLICAS {
        let client = system.connect_to_look(server, DATABASE).await?;
        let statement = client.prepare(INSERTED).await?;
        replicas.push((client, statement));
    }
    Ok(replicas)
}

/// The steps of one replica on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    First,
    Inserted,
    Updated,
}

/// What was seen of a replica, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) step: Step,
    pub(crate) at: Instant,
}

impl Step {
    fn query(self) -> &'static str {
        match self {
            Self::First => FIRST,
            Self::Inserted => INSERTED,
            Self::Updated => UPDATED,
        }
    }
}

/// Looks at one replica until it has made every step, and tells each.
pub(crate) async fn steps(client: Client, last_key: i64, tell: mpsc::Sender<Seen>) -> anyhow::Result<()> {
    for step in [Step::First, Step::Inserted, Step::Updated] {
        let at = until(&client, step, last_key).await?;
        tell.send(Seen { step, at }).await.context("tell what was seen")?;
    }
    Ok(())
}

/// Looks at one replica until it has made the step: the moment.
pub(crate) async fn until(client: &Client, step: Step, last_key: i64) -> anyhow::Result<Instant> {
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let statement = client.prepare(step.query()).await.context("prepare to look at the replica")?;
    loop {
        let row = match step {
            Step::First => client.query_one(&statement, &[]).await,
            Step::Inserted | Step::Updated => client.query_one(&statement, &[&last_key]).await,
        };
        if row.context("look at the replica")?.get(0) {
            return Ok(Instant::now());
        }
        tick.tick().await;
    }
}
