//! One commit after the other: when was COMMIT sent, when did it return, when did all replicas show the row?
//!
//! Looking begins when COMMIT has returned. Then one prepared query follows the other without a pause, to one replica at a
//! time: as soon as it shows the row, to the next one. So one core at most is busy with it, only while a commit is under
//! way, and a result is late by at most two looks. All of it is in one thread with a runtime of its own, so that no answer
//! has to wait for another thread to wake up: one look takes about 0.05 ms.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio_postgres::{Client, Statement};

use crate::stats::milliseconds;
use crate::system::{DATABASE, System};
use crate::watch;

/// How long one commit may take to arrive: far more than it does.
const PATIENCE: Duration = Duration::from_secs(60);

/// One commit, in milliseconds until all replicas show it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// From the moment at which COMMIT was sent.
    pub(crate) issued: f64,
    /// From the moment at which it returned.
    pub(crate) returned: f64,
}

/// How many commits, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    /// The first key; those behind it follow.
    pub(crate) first_key: i64,
    /// Commits that do not count.
    pub(crate) warm_up: u32,
    pub(crate) commits: u32,
    /// From one commit to the next, unless that one takes longer.
    pub(crate) period: Duration,
}

/// Makes the commits, which nobody else's may hold up; blocks the thread.
pub(crate) fn run(system: &System, course: Course) -> anyhow::Result<Vec<Sample>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut probe = Probe::connect(system, course.first_key).await?;
        for _ in 0..course.warm_up {
            probe.sample().await?;
        }
        let mut samples = Vec::new();
        for _ in 0..course.commits {
            let next = Instant::now() + course.period;
            samples.push(probe.sample().await?);
            // Connections have nothing to do meanwhile.
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(samples)
    })
}

struct Probe {
    leader: Client,
    insert: Statement,
    replicas: Vec<(Client, Statement)>,
    next_key: i64,
}

impl Probe {
    async fn connect(system: &System, next_key: i64) -> anyhow::Result<Self> {
        let leader = system.connect(0, DATABASE).await?;
        let insert = leader.prepare(include_str!("../../sql/probe.sql")).await?;
        let replicas = watch::rows(system).await?;
        Ok(Self { leader, insert, replicas, next_key })
    }

    async fn sample(&mut self) -> anyhow::Result<Sample> {
        let transaction = self.leader.transaction().await?;
        transaction.execute(&self.insert, &[&self.next_key]).await.context("insert on the leader")?;
        let issued = Instant::now();
        transaction.commit().await.context("commit on the leader")?;
        let returned = Instant::now();
        for (client, statement) in &self.replicas {
            while !client
                .query_one(statement, &[&self.next_key])
                .await
                .context("look at a replica")?
                .get::<_, bool>(0)
            {
                ensure!(returned.elapsed() < PATIENCE, "a row was not shown within {PATIENCE:?}");
            }
        }
        let shown = Instant::now();
        self.next_key += 1;
        Ok(Sample { issued: milliseconds(issued, shown), returned: milliseconds(returned, shown) })
    }
}
