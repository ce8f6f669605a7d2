//! A steady load: small transactions on the leader at a fixed rate, and when each was committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::system::{DATABASE, System};

/// Rows that are there before the load begins; its updates are of rows so much older than those it inserts.
pub(crate) const SEED: i64 = 20_000;

/// One committed transaction.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    /// When COMMIT returned.
    pub(crate) at: Instant,
    pub(crate) xid: u32,
}

/// A running load. Its transactions have numbers from 1 on; the newest key on a server tells which ones it has.
#[derive(Debug)]
pub(crate) struct Load {
    rows: i64,
    stop: Arc<AtomicBool>,
    writer: JoinHandle<anyhow::Result<Vec<Commit>>>,
}

impl Load {
    /// `rate` transactions per second, each of which inserts `rows` rows and updates as many. Rows to be updated are
    /// inserted first, in a transaction of their own.
    pub(crate) async fn start(system: &System, rate: u32, rows: i64) -> anyhow::Result<Self> {
        ensure!(rate > 0 && rows > 0, "a load needs a rate and rows");
        let leader = system.connect(0, DATABASE).await?;
        leader.execute(include_str!("../sql/insert.sql"), &[&SEED]).await.context("insert the first rows")?;
        let statement = leader.prepare(include_str!("../sql/load.sql")).await.context("prepare the load")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writer = tokio::spawn(async move {
            let mut tick = interval(Duration::from_secs(1) / rate);
            // What a slow commit has delayed follows at once: the rate is kept.
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut commits = Vec::new();
            let mut last = SEED;
            while !stopped.load(Ordering::Relaxed) {
                tick.tick().await;
                let row = leader.query_one(&statement, &[&(last + 1), &(last + rows)]).await;
                let xid = row.context("commit on the leader")?.get::<_, String>(0);
                commits.push(Commit { at: Instant::now(), xid: xid.parse().context("read a xid")? });
                last += rows;
            }
            Ok(commits)
        });
        Ok(Self { rows, stop, writer })
    }

    /// How to number what a server has.
    pub(crate) fn numbering(&self) -> Numbering {
        Numbering { after: SEED, rows: self.rows }
    }

    /// Ends it: every transaction that it made, in order.
    pub(crate) async fn stop(self) -> anyhow::Result<Vec<Commit>> {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.await?
    }
}

/// From keys to the numbers of transactions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbering {
    /// The last key before the first transaction's.
    pub(crate) after: i64,
    /// Rows of each transaction.
    pub(crate) rows: i64,
}

impl Numbering {
    /// The newest transaction that a server has, by its newest key; 0 for none.
    pub(crate) fn of_key(self, newest: Option<i64>) -> usize {
        let transactions = newest.map_or(0, |key| (key - self.after).max(0) / self.rows);
        usize::try_from(transactions).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_key_tells_the_newest_transaction() {
        let numbering = Numbering { after: SEED, rows: 5 };
        assert_eq!(numbering.of_key(None), 0);
        assert_eq!(numbering.of_key(Some(-7)), 0);
        assert_eq!(numbering.of_key(Some(SEED)), 0);
        assert_eq!(numbering.of_key(Some(SEED + 5)), 1);
        assert_eq!(numbering.of_key(Some(SEED + 50)), 10);
    }
}
