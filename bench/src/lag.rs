//! How far a replica is behind a load: its newest transaction, looked at all the time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_postgres::{Client, Statement};

use crate::load::{Commit, Numbering};
use crate::stats::milliseconds;
use crate::system::{DATABASE, System};

/// Time between two looks, and so how exact a lag is. One look costs a server about 0.1 ms.
const INTERVAL: Duration = Duration::from_millis(5);

/// What the sessions that look call themselves, for who does not want to count them.
pub(crate) const LOOKING: &str = "bench looking";

/// Time between two attempts to reach a replica that is away.
const RETRY: Duration = Duration::from_millis(50);

/// A replica's newest transaction changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    pub(crate) newest: usize,
    pub(crate) at: Instant,
}

/// Looks at one replica until it is stopped, also when the replica goes away and comes back.
#[derive(Debug)]
pub(crate) struct Watcher {
    newest: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<Sight>>,
}

impl Watcher {
    pub(crate) fn start(system: &System, server: usize, numbering: Numbering) -> Self {
        let (newest, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let task =
            tokio::spawn(look(system.clone(), server, numbering, Arc::clone(&newest), Arc::clone(&stop)));
        Self { newest, stop, task }
    }

    /// What it saw last.
    pub(crate) fn newest(&self) -> usize {
        self.newest.load(Ordering::Relaxed)
    }

    pub(crate) async fn stop(self) -> anyhow::Result<Vec<Sight>> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.task.await?)
    }
}

async fn look(
    system: System,
    server: usize,
    numbering: Numbering,
    newest: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> Vec<Sight> {
    let mut sights = Vec::new();
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        let Ok((client, statement)) = prepare(&system, server).await else {
            sleep(RETRY).await;
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            tick.tick().await;
            let Ok(row) = client.query_one(&statement, &[]).await else { break };
            let found = numbering.of_key(row.get(0));
            if found != newest.swap(found, Ordering::Relaxed) {
                sights.push(Sight { newest: found, at: Instant::now() });
            }
        }
    }
    sights
}

async fn prepare(system: &System, server: usize) -> anyhow::Result<(Client, Statement)> {
    let client = system.connect(server, DATABASE).await?;
    client.batch_execute(&format!("SET application_name = '{LOOKING}'")).await?;
    let statement = client.prepare("SELECT max(id) FROM bench.accounts").await?;
    Ok((client, statement))
}

/// When each transaction of a load was first seen on a replica; `None` for those that never were.
pub(crate) fn visible(sights: &[Sight], transactions: usize) -> Vec<Option<Instant>> {
    let mut moments = vec![None; transactions];
    let mut known = 0;
    for sight in sights {
        let newest = sight.newest.min(transactions);
        if newest > known {
            moments[known..newest].fill(Some(sight.at));
            known = newest;
        }
    }
    moments
}

/// Milliseconds until each transaction that was committed in the window was visible on a replica, counted from the moment
/// that `from` gives for it.
pub(crate) fn lags(
    commits: &[Commit],
    visible: &[Option<Instant>],
    window: &Range<Instant>,
    from: impl Fn(&Commit) -> Option<Instant>,
) -> Vec<f64> {
    let both = commits.iter().zip(visible);
    both.filter(|(commit, _)| window.contains(&commit.at))
        .filter_map(|(commit, at)| Some(milliseconds(from(commit)?, (*at)?)))
        .collect()
}

/// The longest lag of each second, in milliseconds, by the second in which the transactions were committed; seconds are counted
/// from `start`, and those without a commit that became visible are left out.
pub(crate) fn course(commits: &[Commit], visible: &[Option<Instant>], start: Instant) -> Vec<(f64, f64)> {
    let mut longest: BTreeMap<u64, f64> = BTreeMap::new();
    for (commit, at) in commits.iter().zip(visible) {
        if let (Some(at), Some(since)) = (at, commit.at.checked_duration_since(start)) {
            let lag = longest.entry(since.as_secs()).or_default();
            *lag = lag.max(milliseconds(commit.at, *at));
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds of a benchmark stay far below 2^53")]
    let points = longest.into_iter().map(|(second, lag)| (second as f64, lag));
    points.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sight_shows_all_transactions_up_to_the_newest() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        // A replica that comes back from a crash may show less than before.
        let sights = [(2, 10), (1, 20), (3, 30)].map(|(newest, ms)| Sight { newest, at: after(ms) });
        let moments = visible(&sights, 4);
        assert_eq!(moments, [Some(after(10)), Some(after(10)), Some(after(30)), None]);

        let commits = [0, 5, 25, 40].map(|ms| Commit { at: after(ms), xid: 1 });
        let committed = |commit: &Commit| Some(commit.at);
        assert_eq!(lags(&commits, &moments, &(after(0)..after(20)), committed), [10.0, 5.0]);
        assert_eq!(lags(&commits, &moments, &(after(20)..after(50)), committed), [5.0]);
        let readable = |commit: &Commit| (commit.at > start).then_some(after(9));
        assert_eq!(lags(&commits, &moments, &(after(0)..after(20)), readable), [1.0]);
    }
    #[test]
    fn a_course_has_the_longest_lag_of_each_second() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let commits = [0, 900, 1100, 3000, 4000].map(|ms| Commit { at: after(ms), xid: 1 });
        let visible = [Some(after(10)), Some(after(905)), Some(after(1300)), Some(after(3000)), None];
        assert_eq!(course(&commits, &visible, start), [(0.0, 10.0), (1.0, 200.0), (3.0, 0.0)]);
        assert_eq!(course(&commits, &visible, after(1000)), [(0.0, 200.0), (2.0, 0.0)]);
    }
}
