//! How old the newest transaction of a replica is, sampled.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::Row;

use super::{Observer, reach};

/// Time between two samples, as the issue asks for.
const LAG_INTERVAL: Duration = Duration::from_millis(100);

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
