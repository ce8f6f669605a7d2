//! One commit after the other: when did it return, when could its records be read, when did all replicas show it?
//!
//! Looking costs CPU that the measured processes want, and the looks themselves take a while on a busy machine. So there are
//! two ways, of which the first disturbs least and the second believes least:
//!
//! - *commits*: the replicas' own notes of when they committed (`track_commit_timestamp`), read some milliseconds later.
//!   PostgreSQL takes the time when it begins to commit, which with `synchronous_commit = off` is some ten microseconds
//!   before others see the rows.
//! - *looks*: once the records are readable here, one prepared query follows the other without a pause, to one replica at a
//!   time: as soon as it shows the row, to the next one. So one core at most is busy with looking, for the own part's
//!   milliseconds only, and a result is late by at most two looks of about 0.1 ms. A timer would be coarser, and a trigger
//!   with NOTIFY would be more work inside the measured transaction.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::ValueEnum;
use e2e::wait;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Statement};

use crate::arrivals::{self, Arrival, Watched};
use crate::stats::milliseconds;
use crate::system::{DATABASE, System};
use crate::watch;

/// How long one commit may take to arrive: far more than it does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records that an applier needs for one of these transactions: its row and its END.
const RECORDS: usize = 2;

/// Before the replicas' notes are read: longer than nearly every own part, so that reading disturbs none.
const REST: Duration = Duration::from_millis(10);

/// Between two readings of notes that are not there yet.
const PAUSE: Duration = Duration::from_millis(2);

/// How it is found out when a replica has shown a row; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sight {
    Commits,
    Looks,
}

impl Sight {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Commits => "commits",
            Self::Looks => "looks",
        }
    }
}

/// One commit, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) path: f64,
    pub(super) readable: f64,
    /// Negative when a replica showed the row before the consumer here had read it.
    pub(super) own: f64,
}

/// A connection that looks.
struct Replica {
    client: Client,
    /// Whether the row is there.
    shows: Statement,
    /// When its transaction committed, in microseconds since 1970.
    noted: Statement,
}

/// Where single-row commits are made and looked for.
pub(super) struct Probe {
    leader: Client,
    insert: Statement,
    replicas: Vec<Replica>,
    next_key: i64,
}

impl Probe {
    /// Makes the first commit, with which the connector makes the topics.
    pub(super) async fn new(system: &System) -> anyhow::Result<Self> {
        let leader = system.connect(0, DATABASE).await?;
        let insert = leader.prepare(include_str!("../../sql/mark.sql")).await?;
        let mut replicas = Vec::new();
        for (client, shows) in watch::rows(system).await? {
            let noted = client.prepare(include_str!("../../sql/noted.sql")).await?;
            replicas.push(Replica { client, shows, noted });
        }
        let mut probe = Self { leader, insert, replicas, next_key: 0 };
        probe.commit().await?;
        Ok(probe)
    }

    /// Waits until every replica follows, then reads the topics too.
    pub(super) async fn follow(self, system: &System, prefix: &str) -> anyhow::Result<FollowedProbe> {
        for replica in &self.replicas {
            wait::until("a replica to show the first row", PATIENCE, async || {
                let is_there = replica.shows(0).await.map_err(|error| format!("{error:#}"))?;
                if is_there { Ok(()) } else { Err("it has none".to_owned()) }
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

    /// When the last replica showed the newest row.
    async fn visible(&self, sight: Sight) -> anyhow::Result<Instant> {
        let key = self.next_key - 1;
        match sight {
            Sight::Looks => {
                for replica in &self.replicas {
                    while !replica.shows(key).await? {}
                }
                Ok(Instant::now())
            }
            Sight::Commits => {
                sleep(REST).await;
                let mut last = Duration::ZERO;
                for replica in &self.replicas {
                    last = last.max(replica.noted(key).await?);
                }
                instant_of(last)
            }
        }
    }
}

impl Replica {
    async fn shows(&self, key: i64) -> anyhow::Result<bool> {
        Ok(self.client.query_one(&self.shows, &[&key]).await.context("look at a replica")?.get(0))
    }

    /// When it committed the row, since 1970.
    async fn noted(&self, key: i64) -> anyhow::Result<Duration> {
        loop {
            let row = self.client.query_opt(&self.noted, &[&key]).await.context("read a replica's notes")?;
            if let Some(row) = row {
                let noted: Option<i64> = row.get(0);
                let micros = noted.context("the replica does not note when it commits")?;
                return Ok(Duration::from_micros(u64::try_from(micros)?));
            }
            sleep(PAUSE).await;
        }
    }
}

/// The servers run on this machine, so their clock is this one's.
fn instant_of(since_1970: Duration) -> anyhow::Result<Instant> {
    let (now, clock) = (Instant::now(), SystemTime::now());
    let age = clock.duration_since(UNIX_EPOCH)?.checked_sub(since_1970);
    now.checked_sub(age.context("a replica's note is of the future")?).context("a replica's note is too old")
}

/// A probe on a system where everything arrives.
pub(super) struct FollowedProbe {
    probe: Probe,
    arrivals: mpsc::Receiver<Arrival>,
}

impl FollowedProbe {
    /// Commits one row and waits until all replicas show it.
    pub(super) async fn sample(&mut self, sight: Sight) -> anyhow::Result<Sample> {
        let xid = self.probe.commit().await?;
        let committed = Instant::now();
        let readable =
            timeout(PATIENCE, self.readable(xid)).await.context("wait for a commit's records")??;
        let visible = timeout(PATIENCE, self.probe.visible(sight)).await;
        let visible = visible.context("wait for a row on every replica")??;
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
