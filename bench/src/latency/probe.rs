//! One commit after the other: when did it return, when could its records be read, when did all replicas show it?
//!
//! Looking costs CPU that the measured processes want, so it begins when a replica can have the row at the earliest: once
//! its records are readable here. From then on one prepared query follows the other without a pause, to one replica at
//! a time: as soon as it shows the row, to the next one. So one core at most is busy with looking, for the own part's
//! milliseconds only, and a result is late by at most two looks of about 0.1 ms. A timer would be coarser, and a trigger
//! with NOTIFY would be more work inside the measured transaction.

use std::time::{Duration, Instant};

use anyhow::Context;
use e2e::wait;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::{Client, Statement};

use crate::arrivals::{self, Arrival, Watched};
use crate::stats::milliseconds;
use crate::system::{DATABASE, System};
use crate::watch;

/// How long one commit may take to arrive: far more than it does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records that an applier needs for one of these transactions: its row and its END.
const RECORDS: usize = 2;

/// One commit, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) path: f64,
    pub(super) readable: f64,
    /// Negative when a replica showed the row before the consumer here had read it.
    pub(super) own: f64,
}

/// Where single-row commits are made and looked for.
pub(super) struct Probe {
    leader: Client,
    insert: Statement,
    replicas: Vec<(Client, Statement)>,
    next_key: i64,
}

impl Probe {
    /// Makes the first commit, with which the connector makes the topics.
    pub(super) async fn new(system: &System) -> anyhow::Result<Self> {
        let leader = system.connect(0, DATABASE).await?;
        let insert = leader.prepare(include_str!("../../sql/mark.sql")).await?;
        let replicas = watch::rows(system).await?;
        let mut probe = Self { leader, insert, replicas, next_key: 0 };
        probe.commit().await?;
        Ok(probe)
    }

    /// Waits until every replica follows, then reads the topics too.
    pub(super) async fn follow(self, system: &System, prefix: &str) -> anyhow::Result<FollowedProbe> {
        for (client, statement) in &self.replicas {
            wait::until("a replica to show the first row", PATIENCE, async || {
                let row = client.query_one(statement, &[&0_i64]).await.map_err(|error| error.to_string())?;
                if row.get(0) { Ok(()) } else { Err("it has none".to_owned()) }
            })
            .await?;
        }
        let arrivals = arrivals::watch(&system.brokers(), prefix, Watched::EndsAndRows)?;
        Ok(FollowedProbe { probe: self, arrivals })
    }

    /// Its xid.
    async fn commit(&mut self) -> anyhow::Result<u32> {
        let row =
            self.leader.query_one(&self.insert, &[&self.next_key]).await.context("commit on the leader")?;
        self.next_key += 1;
        row.get::<_, String>(0).parse().context("read the commit's xid")
    }

    /// Looks at one replica after the other until each shows the newest row.
    async fn await_visible(&self) -> anyhow::Result<()> {
        let key = self.next_key - 1;
        for (client, statement) in &self.replicas {
            while !client.query_one(statement, &[&key]).await.context("look at a replica")?.get::<_, bool>(0)
            {
            }
        }
        Ok(())
    }
}

/// A probe on a system where everything arrives.
pub(super) struct FollowedProbe {
    probe: Probe,
    arrivals: mpsc::Receiver<Arrival>,
}

impl FollowedProbe {
    /// Commits one row and waits until all replicas show it.
    pub(super) async fn sample(&mut self) -> anyhow::Result<Sample> {
        let xid = self.probe.commit().await?;
        let committed = Instant::now();
        let readable =
            timeout(PATIENCE, self.readable(xid)).await.context("wait for a commit's records")??;
        timeout(PATIENCE, self.probe.await_visible()).await.context("wait for a row on every replica")??;
        let visible = Instant::now();
        Ok(Sample {
            path: milliseconds(committed, visible),
            readable: milliseconds(committed, readable),
            own: milliseconds(readable, visible),
        })
    }

    /// When the last of a transaction's records arrived. What came before is skipped.
    async fn readable(&mut self, xid: u32) -> anyhow::Result<Instant> {
        let mut missing = RECORDS;
        loop {
            let arrival = self.arrivals.recv().await.context("read the topics: the consumer has ended")?;
            if arrival.xid == xid {
                missing -= 1;
            }
            if missing == 0 {
                return Ok(arrival.at);
            }
        }
    }
}
