//! Marker rows: committed at a fixed rate beside a load, and looked for on every replica all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::wait;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::carrier::Carrying;
use super::stage::Stage;
use crate::lag::{self, Watcher};
use crate::load::{Commit, Numbering};

/// How long a replica may take to show the last mark.
const PATIENCE: Duration = Duration::from_secs(600);

/// Marks on their way. Their keys follow those of earlier ones, of which the last is `after`.
pub(super) struct Marks {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<anyhow::Result<Vec<Commit>>>,
    watchers: Vec<Watcher>,
}

/// Marks that all replicas show.
pub(super) struct Seen {
    pub(super) commits: Vec<Commit>,
    /// When the last replica showed each.
    pub(super) everywhere: Vec<Option<Instant>>,
}

impl Seen {
    /// When all replicas showed what had been committed before `moment`: a mark that was committed behind it is there too.
    pub(super) fn level_after(&self, moment: Instant) -> anyhow::Result<Instant> {
        let behind = self.commits.iter().zip(&self.everywhere).filter(|(commit, _)| commit.at > moment);
        behind.filter_map(|(_, at)| *at).min().context("see a mark that was committed behind the load")
    }
}

impl Marks {
    /// So many per second. The sessions that look at the replicas are called [`lag::LOOKING`].
    pub(super) async fn start(stage: &Stage<'_>, after: i64, rate: u32) -> anyhow::Result<Self> {
        let leader = stage.leader().await?;
        let insert = leader.prepare(include_str!("../../sql/mark.sql")).await?;
        let numbering = Numbering { after, rows: 1 };
        let watchers =
            (1..=stage.servers()).map(|server| Watcher::start(stage.system, server, numbering)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writer = tokio::spawn(async move {
            let mut tick = interval(Duration::from_secs(1) / rate);
            // One after the other: marks don't pile up where the leader is slow.
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut commits, mut key) = (Vec::new(), after);
            while !stopped.load(Ordering::Relaxed) {
                tick.tick().await;
                key += 1;
                let row = leader.query_one(&insert, &[&key]).await.context("commit a mark")?;
                let xid = row.get::<_, String>(0).parse().context("read a xid")?;
                commits.push(Commit { at: Instant::now(), xid });
            }
            Ok(commits)
        });
        Ok(Self { stop, writer, watchers })
    }

    /// Makes no more, and waits until all replicas show every one.
    pub(super) async fn finish(self, carrying: &mut Carrying<'_>) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let commits = self.writer.await??;
        ensure!(!commits.is_empty(), "no mark was made: run for longer, or at a higher rate");
        wait::until("every replica to show the last mark", PATIENCE, async || {
            let newest: Vec<_> = self.watchers.iter().map(Watcher::newest).collect();
            if newest.iter().all(|&newest| newest >= commits.len()) {
                return Ok(());
            }
            match carrying.ensure_runs().await {
                Ok(()) => Err(format!("{newest:?} of {}", commits.len())),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await?;
        let mut everywhere = vec![None; commits.len()];
        for (index, watcher) in self.watchers.into_iter().enumerate() {
            let visible = lag::visible(&watcher.stop().await?, commits.len());
            // What one replica never showed, not all have shown.
            for (latest, at) in everywhere.iter_mut().zip(visible) {
                *latest = if index == 0 { at } else { (*latest).zip(at).map(|(one, other)| one.max(other)) };
            }
        }
        Ok(Seen { commits, everywhere })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_level_with_the_first_mark_behind_a_moment() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let seen = Seen {
            commits: [0, 20, 40].map(|ms| Commit { at: after(ms), xid: 1 }).into(),
            everywhere: vec![Some(after(30)), Some(after(70)), Some(after(80))],
        };
        assert_eq!(seen.level_after(after(10)).unwrap(), after(70));
        assert!(seen.level_after(after(50)).is_err());
    }
}
