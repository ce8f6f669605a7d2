//! Observers that run beside a load: one reads snapshots and looks for half transactions, one samples the lag.
//!
//! Both reconnect when their replica goes away, because faults are part of the loads they watch.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_postgres::{Client, Row};

use crate::postgres;

/// The cheap invariant, in every read: every account starts with 1000, and transfers move money only.
const SUM: &str = "SELECT (sum(balance) - 1000 * count(*))::text FROM accounts";

/// The expensive ones, in every [`FULL_READ_EVERY`]th read, each a count of wrong rows in one snapshot: accounts that
/// disagree with their transfers; comments and likes without their post; rows of rolled back transactions.
const FULL: &str = "
SELECT (SELECT count(*) FROM accounts AS a LEFT JOIN (
            SELECT id, sum(amount) AS amount
            FROM (SELECT src AS id, -amount AS amount FROM transfers UNION ALL SELECT dst, amount FROM transfers) AS m
            GROUP BY id) AS moved USING (id)
        WHERE a.balance <> 1000 + coalesce(moved.amount, 0))
     + (SELECT count(*) FROM comments AS c WHERE NOT EXISTS (SELECT FROM posts AS p WHERE p.id = c.post_id))
     + (SELECT count(*) FROM likes AS l WHERE NOT EXISTS (SELECT FROM posts AS p WHERE p.id = l.post_id))
     + (SELECT count(*) FROM posts WHERE user_id = 'nobody' OR user_id LIKE 'gone-%' OR content IN ('first', 'second'))";

/// Keeps the observer from becoming most of the load.
const FULL_READ_EVERY: u64 = 50;

/// Time between two samples of the lag, as the issue asks for.
const LAG_INTERVAL: Duration = Duration::from_millis(100);

/// Time between two attempts to reach a replica that is down.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(50);

/// A background observer; [`Observer::finish`] stops it and returns what it saw.
#[derive(Debug)]
pub struct Observer<T> {
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<T>>,
}

impl<T: Send + 'static> Observer<T> {
    fn start<F>(observe: impl FnOnce(watch::Receiver<bool>) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(observe(stopped)) }
    }

    /// Stops the observer and returns its report.
    pub async fn finish(self) -> anyhow::Result<T> {
        self.stop.send_replace(true);
        self.task.await.context("join the observer")?
    }
}

/// What a snapshot observer saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// Snapshots read.
    pub reads: u64,
    /// Of these, read with all invariants.
    pub full_reads: u64,
    /// Connections lost and made again.
    pub reconnects: u64,
    /// Every wrong snapshot, in words.
    pub violations: Vec<String>,
}

/// Reads snapshots of the replica at `url` in a loop, with `pause` between two reads, and checks each.
pub fn snapshots(url: &str, pause: Duration) -> Observer<Snapshots> {
    let url = url.to_owned();
    Observer::start(|stopped| read_snapshots(url, pause, stopped))
}

async fn read_snapshots(
    url: String,
    pause: Duration,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Snapshots> {
    let mut seen = Snapshots::default();
    let mut connection = None;
    while !*stopped.borrow() {
        let Some(client) = reach(&url, &mut connection, &mut seen.reconnects).await else { continue };
        // Alternating would leave the sum unchecked where the full read is; the full read comes on top.
        let is_full = seen.reads % FULL_READ_EVERY == 0;
        match read_snapshot(client, is_full).await {
            Ok(violation) => {
                seen.reads += 1;
                seen.full_reads += u64::from(is_full);
                seen.violations.extend(violation);
            }
            Err(_) => connection = None,
        }
        sleep(pause).await;
    }
    Ok(seen)
}

/// Reads one snapshot and says what is wrong with it.
pub async fn read_snapshot(client: &Client, is_full: bool) -> Result<Option<String>, tokio_postgres::Error> {
    // NULL: the snapshot has no accounts yet, so there is nothing to sum.
    let error: Option<String> = client.query_one(SUM, &[]).await?.get(0);
    if let Some(error) = error.filter(|error| error.chars().any(|c| ('1'..='9').contains(&c))) {
        return Ok(Some(format!("the sum of all balances is off by {error}")));
    }
    if is_full {
        let wrong: i64 = client.query_one(FULL, &[]).await?.get(0);
        return Ok((wrong != 0).then(|| format!("{wrong} rows contradict other rows of the same snapshot")));
    }
    Ok(None)
}

/// What a lag observer saw.
#[derive(Debug, Clone, Default)]
pub struct Lag {
    /// Of each sample, the age of the newest transaction that the replica had applied, in milliseconds.
    pub ages_ms: Vec<f64>,
    /// The longest time for which the watermark stood still, as sampled.
    pub longest_pause: Duration,
    /// Samples in which the watermark was below an earlier one of the same run of the server; must stay 0 (promise P4).
    ///
    /// A server that was killed comes back without its last commits, rows and watermark alike: replicas run with
    /// `synchronous_commit=off`, and what they lost is applied again.
    pub went_back: u64,
    /// Connections lost and made again.
    pub reconnects: u64,
}

impl Lag {
    /// The age below which `share` of the samples are, `share` from 0 to 1.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let mut sorted = self.ages_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let index = (last as f64 * share).round() as usize;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }
}

/// Samples the progress of the replica at `url` every 100 ms.
pub fn lag(url: &str) -> Observer<Lag> {
    let url = url.to_owned();
    Observer::start(|stopped| sample_lag(url, stopped))
}

async fn sample_lag(url: String, stopped: watch::Receiver<bool>) -> anyhow::Result<Lag> {
    const QUERY: &str = "
        SELECT (watermark - '0/0')::bigint, extract(epoch FROM clock_timestamp() - committed_at)::float8 * 1000,
               extract(epoch FROM pg_postmaster_start_time())::float8
        FROM replicator.progress WHERE committed_at IS NOT NULL";
    let mut seen = Lag::default();
    let mut connection = None;
    let mut moved: Option<(i64, Instant)> = None;
    let mut started_at = 0.0;
    let mut ticks = interval(LAG_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stopped.borrow() {
        ticks.tick().await;
        let Some(client) = reach(&url, &mut connection, &mut seen.reconnects).await else { continue };
        let row: Row = match client.query_opt(QUERY, &[]).await {
            Ok(Some(row)) => row,
            Ok(None) => continue,
            Err(_) => {
                connection = None;
                continue;
            }
        };
        let (watermark, age_ms): (i64, f64) = (row.get(0), row.get(1));
        seen.ages_ms.push(age_ms);
        let run: f64 = row.get(2);
        if run > started_at {
            started_at = run;
            moved = moved.map(|(_, since)| (watermark, since));
        }
        match moved {
            Some((last, since)) if watermark <= last => {
                seen.went_back += u64::from(watermark < last);
                seen.longest_pause = seen.longest_pause.max(since.elapsed());
            }
            _ => moved = Some((watermark, Instant::now())),
        }
    }
    Ok(seen)
}

/// The present connection, or a new one, or `None` after a short wait when the replica can't be reached.
async fn reach<'a>(
    url: &str,
    connection: &'a mut Option<Client>,
    reconnects: &mut u64,
) -> Option<&'a Client> {
    if connection.is_none() {
        match postgres::connect(url).await {
            Ok(client) => *connection = Some(client),
            Err(_) => {
                *reconnects += 1;
                sleep(RECONNECT_INTERVAL).await;
            }
        }
    }
    connection.as_ref()
}
