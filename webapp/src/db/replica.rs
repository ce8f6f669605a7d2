//! The replicas: their pools, and what is known about each.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_postgres::Row;
use tokio_postgres::types::PgLsn;

use super::error::DbError;
use super::lsn::Lsn;
use super::pool::{Access, BadUrl, Target, limits, pipelined, settle};
use super::route::strategy::Rotation;
use super::route::{Preference, ReplicaView};
use super::statement::Read;
use super::token::{History, Standing, Token};
use crate::config::{ConnectionUrl, ReplicaConfig, Timeouts};

/// The one row that says where a replica stands. It is read ahead of every read, in the same snapshot.
pub const PROGRESS_SQL: &str = "SELECT state, watermark, xid, history, committed_at FROM replicator.progress";

/// Both statements of a read see one snapshot. As two transactions in one round trip the rows could be newer than the
/// watermark says: enough for somebody's own write, but what the caller has seen would be noted too low, and the next
/// replica could show an older state. READ ONLY is every session's default.
const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";

/// Where a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// All of its tables are copied.
    pub live: bool,
    /// Every commit of the leader up to here is visible on it.
    pub watermark: Lsn,
    /// The last transaction applied, in 32 bits.
    pub xid: Option<u32>,
    /// Which history of the leader the watermark is of, where the replica was told.
    pub history: Option<History>,
    /// When the leader made the commit at the watermark.
    pub committed_at: Option<Timestamp>,
}

impl Progress {
    /// From the row of [`PROGRESS_SQL`].
    ///
    /// # Errors
    /// When the replica's contract schema is another one than this application knows.
    pub fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            live: row.try_get::<_, &str>("state")? == "live",
            watermark: super::position(row.try_get::<_, PgLsn>("watermark")?),
            xid: row.try_get::<_, Option<i64>>("xid")?.and_then(|xid| u32::try_from(xid).ok()),
            history: row.try_get::<_, Option<&str>>("history")?.and_then(|text| text.parse().ok()),
            committed_at: row.try_get("committed_at")?,
        })
    }

    /// What tokens are compared with.
    pub fn standing(&self) -> Standing {
        Standing { watermark: self.watermark, xid: self.xid, history: self.history }
    }

    /// Whether a read of the same snapshot may be shown to a caller with this preference.
    pub fn answers(&self, preference: Preference) -> bool {
        self.live
            && match preference {
                Preference::Any => true,
                Preference::AtLeast(token) => token.is_met_by(&self.standing()),
            }
    }

    /// How far behind the leader the replica is, at most: the heartbeat moves an idle leader's watermark every second.
    /// A leader's clock ahead of ours counts as no lag.
    pub fn lag(&self, now: Timestamp) -> Option<Duration> {
        let behind = now.duration_since(self.committed_at?);
        Some(Duration::try_from(behind).unwrap_or_default())
    }
}

/// Whether a replica takes part, and since when not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// The last exchange with it went well.
    Up,
    /// It is left out until its monitor reaches it.
    Down {
        /// When it was left out.
        since: Instant,
        /// What happened, in words for anybody.
        reason: &'static str,
    },
}

/// A replica's state, as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it takes part.
    pub health: Health,
    /// Where it stood when it last answered.
    pub progress: Option<Progress>,
    /// When that was.
    pub seen_at: Option<Instant>,
}

/// What was heard of a replica less than this ago is taken for what is: a replica under load applies the next group about
/// then, and asking it costs about as long.
const FRESH: Duration = Duration::from_millis(2);

/// One replica.
pub struct Replica {
    name: String,
    url: ConnectionUrl,
    pool: Pool,
    read_limit: Duration,
    in_flight: AtomicUsize,
    drained: AtomicBool,
    status: Mutex<Status>,
    changed: watch::Sender<()>,
}

impl Replica {
    fn new(
        config: &ReplicaConfig,
        timeouts: &Timeouts,
        pool_size: usize,
        changed: watch::Sender<()>,
    ) -> Result<Self, BadUrl> {
        let (read_limit, connect_timeout) = limits(timeouts, Access::ReadOnly);
        let target = Target {
            database: &config.name,
            url: &config.url,
            access: Access::ReadOnly,
            statement_timeout: read_limit,
            connect_timeout,
        };
        let health = Health::Down { since: Instant::now(), reason: "not reached yet" };
        metrics::gauge!("web_replica_in_rotation", "replica" => config.name.clone()).set(0.0);
        Ok(Self {
            name: config.name.clone(),
            url: config.url.clone(),
            pool: target.pool(pool_size)?,
            read_limit,
            in_flight: AtomicUsize::new(0),
            drained: AtomicBool::new(false),
            status: Mutex::new(Status { health, progress: None, seen_at: None }),
            changed,
        })
    }

    /// Its name in the configuration, which its `cluster_name` must equal.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its connection URL, for the monitor's own connection.
    pub fn url(&self) -> &ConnectionUrl {
        &self.url
    }

    /// Its state, as last seen.
    pub fn status(&self) -> Status {
        self.lock().clone()
    }

    /// How many reads it is answering now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether an operator took it out of rotation.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Takes it out of rotation, or returns it. Reads that it is answering are not disturbed. Kept in memory: a restart
    /// of this process forgets it. Returns whether that changes anything.
    pub fn set_drained(&self, drained: bool) -> bool {
        let changes = self.drained.swap(drained, Ordering::Relaxed) != drained;
        if changes {
            tracing::info!(replica = self.name, drained, "an operator changed the rotation");
            self.changed.send_replace(());
        }
        changes
    }

    /// What the router looks at.
    pub fn view(&self) -> ReplicaView {
        let status = self.lock();
        ReplicaView {
            in_rotation: status.health == Health::Up,
            drained: self.is_drained(),
            in_flight: self.in_flight(),
            live: status.progress.is_some_and(|p| p.live),
            standing: status.progress.map(|p| p.standing()).unwrap_or_default(),
            is_fresh: status.seen_at.is_some_and(|at| at.elapsed() < FRESH),
            ..ReplicaView::default()
        }
    }

    /// Asks for the replica's progress and the answer to `read`, in one snapshot and one round trip, so what the progress
    /// says is exactly what the answer shows. `delay` is waited before, as if the replica
    /// were that slow.
    ///
    /// # Errors
    /// When the replica gives no answer; if that puts the replica itself in doubt, it also leaves the rotation.
    pub async fn read<R: Read>(&self, read: &R, delay: Duration) -> Result<(Progress, R::Output), DbError> {
        let _counted = Counted::new(&self.in_flight);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let answer = self.exchange(read).await;
        match &answer {
            Ok((progress, _)) => self.observe(*progress),
            Err(error) if error.is_unreachable() => self.eject(error),
            Err(_) => {}
        }
        answer
    }

    async fn exchange<R: Read>(&self, read: &R) -> Result<(Progress, R::Output), DbError> {
        let connection = self.pool.get().await?;
        let outcome = tokio::time::timeout(self.read_limit, ask(&connection, read)).await;
        settle(connection, outcome, self.read_limit)
    }

    /// Notes where the replica stands, without a word on its health.
    fn observe(&self, progress: Progress) {
        let mut status = self.lock();
        status.seen_at = Some(Instant::now());
        if status.progress != Some(progress) {
            status.progress = Some(progress);
            drop(status);
            self.changed.send_replace(());
        }
    }

    /// Notes that the monitor reached the replica: it takes part again.
    pub fn reached(&self, progress: Progress) {
        self.observe(progress);
        let before = std::mem::replace(&mut self.lock().health, Health::Up);
        if let Health::Down { since, reason } = before {
            metrics::gauge!("web_replica_in_rotation", "replica" => self.name.clone()).set(1.0);
            let out_for_ms = since.elapsed().as_millis();
            tracing::info!(replica = self.name, out_for_ms, was = reason, "replica joins the rotation");
            self.changed.send_replace(());
        }
    }

    /// Leaves the replica out until its monitor reaches it.
    pub fn eject(&self, error: &DbError) {
        let mut status = self.lock();
        match &mut status.health {
            Health::Up => {
                let now = Health::Down { since: Instant::now(), reason: error.words() };
                status.health = now;
            }
            // Still down, perhaps for another reason by now.
            Health::Down { reason, .. } => {
                *reason = error.words();
                return;
            }
        }
        drop(status);
        metrics::gauge!("web_replica_in_rotation", "replica" => self.name.clone()).set(0.0);
        metrics::counter!("web_replica_ejections_total", "replica" => self.name.clone(), "reason" => error.label()).increment(1);
        tracing::warn!(
            replica = self.name,
            error = super::error::reason(error),
            "replica leaves the rotation"
        );
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        // The status is replaced whole, so one that a panicking thread left behind is still consistent.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask<R: Read>(connection: &Object, read: &R) -> Result<(Progress, R::Output), tokio_postgres::Error> {
    let (progress, statement) =
        pipelined(connection.prepare_cached(PROGRESS_SQL), connection.prepare_cached(R::SQL)).await?;
    let params = read.params();
    // Queued in this order at once, COMMIT included: whatever becomes of this future, no transaction stays open.
    let (_, progress, rows, _) = futures_util::future::try_join4(
        connection.batch_execute(BEGIN_SNAPSHOT),
        connection.query_one(&progress, &[]),
        connection.query(&statement, &params),
        connection.batch_execute("COMMIT"),
    )
    .await?;
    Ok((Progress::from_row(&progress)?, read.decode(&rows)?))
}

/// All replicas.
pub struct ReplicaSet {
    replicas: Vec<Replica>,
    rotation: Rotation,
    changed: watch::Sender<()>,
    waiters: AtomicUsize,
    waiter_came: Notify,
}

impl ReplicaSet {
    /// Makes the pools, without connecting.
    ///
    /// # Errors
    /// When a connection URL can't be understood.
    pub fn new(
        configs: &[ReplicaConfig],
        timeouts: &Timeouts,
        pool_size: usize,
        rotation: Rotation,
    ) -> Result<Self, BadUrl> {
        let changed = watch::Sender::new(());
        let replicas =
            configs.iter().map(|config| Replica::new(config, timeouts, pool_size, changed.clone()));
        Ok(Self {
            replicas: replicas.collect::<Result<_, _>>()?,
            rotation,
            changed,
            waiters: AtomicUsize::new(0),
            waiter_came: Notify::new(),
        })
    }

    /// The replicas, in the order of the configuration.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Replica> {
        self.replicas.iter()
    }

    /// How many there are, up or down.
    pub fn len(&self) -> usize {
        self.replicas.len()
    }

    /// Whether none is configured.
    pub fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// One replica, by its place in the configuration.
    pub fn get(&self, index: usize) -> &Replica {
        &self.replicas[index]
    }

    /// The rotation that ordinary requests share.
    pub fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// One replica, by its name.
    pub fn find(&self, name: &str) -> Option<&Replica> {
        self.iter().find(|replica| replica.name == name)
    }

    /// Returns when a usable replica is known to have what `token` stands for. While somebody waits here, the monitors
    /// look often; one look serves all who wait.
    pub async fn wait_for(&self, token: Token) {
        let _waiting = Counted::new(&self.waiters);
        self.waiter_came.notify_waiters();
        let mut changes = self.changed.subscribe();
        let has_it = |replica: &Replica| {
            let view = replica.view();
            view.in_rotation && !view.drained && view.live && token.is_met_by(&view.standing)
        };
        while !self.iter().any(has_it) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether somebody waits for a watermark.
    pub fn is_awaited(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) > 0
    }

    /// Returns when somebody begins to wait for a watermark.
    pub async fn awaited(&self) {
        self.waiter_came.notified().await;
    }
}

/// Counts one of something for as long as it lives: a dropped request must not count for ever.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(live: bool, watermark: u64, committed_at: Option<&str>) -> Progress {
        let committed_at = committed_at.map(|text| text.parse().unwrap());
        Progress { live, watermark: Lsn(watermark), xid: None, history: None, committed_at }
    }

    #[test]
    fn only_a_live_replica_with_the_write_answers() {
        let token = Preference::AtLeast(Token::of_read(Lsn(10), None));
        assert!(progress(true, 10, None).answers(token));
        assert!(!progress(true, 9, None).answers(token));
        assert!(!progress(false, 10, None).answers(token));
        assert!(progress(true, 0, None).answers(Preference::Any));
        assert!(!progress(false, 0, None).answers(Preference::Any));
    }

    #[test]
    fn lag_is_never_negative_and_unknown_is_not_zero() {
        let now: Timestamp = "2026-01-01T00:00:01Z".parse().unwrap();
        let lag = |committed_at| progress(true, 1, committed_at).lag(now);
        assert_eq!(lag(Some("2026-01-01T00:00:00.6Z")), Some(Duration::from_millis(400)));
        assert_eq!(lag(Some("2026-01-01T00:00:05Z")), Some(Duration::ZERO));
        assert_eq!(lag(None), None);
    }
}
