//! One replica: its pool, and what is known about it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool};
use jiff::Timestamp;
use metrics::{Counter, Histogram};
use tokio_util::sync::CancellationToken;

use super::error::DbError;
use super::lsn::Lsn;
use super::pool::{Access, BadUrl, Target, judge, limits};
use super::progress::{Progress, Texts, part};
use super::route::ReplicaView;
use super::set::Signals;
use super::shared::{Session, Shared};
use super::statement::Read;
use crate::config::{Config, ConnectionUrl, ReplicaConfig};

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
    shared: Shared,
    read_limit: Duration,
    lag_max: Option<Duration>,
    in_flight: AtomicUsize,
    drained: AtomicBool,
    /// Its watermarks are pushed.
    is_heard: AtomicBool,
    status: Mutex<Status>,
    meters: Meters,
    texts: Texts,
    signals: Arc<Signals>,
    /// Cancelled when it is no longer one of the configuration's.
    removed: CancellationToken,
}

/// What is counted of a replica's reads. Looked up once: by name and labels each time, it would cost a read more than all
/// that is counted.
pub(super) struct Meters {
    pub(super) ok: Counter,
    /// It answered after another one had failed.
    pub(super) retried: Counter,
    pub(super) error: Counter,
    /// In seconds, waiting included.
    pub(super) duration: Histogram,
}

impl Meters {
    fn of(replica: &str) -> Self {
        let reads = |outcome: &'static str| metrics::counter!("web_reads_total", "replica" => replica.to_owned(), "outcome" => outcome);
        Self {
            ok: reads("ok"),
            retried: reads("retried"),
            error: reads("error"),
            duration: metrics::histogram!("web_read_duration_seconds", "replica" => replica.to_owned()),
        }
    }
}

impl Replica {
    /// Makes the pool, without connecting.
    ///
    /// # Errors
    /// When the connection URL can't be understood.
    pub(super) fn new(
        replica: &ReplicaConfig,
        config: &Config,
        signals: Arc<Signals>,
    ) -> Result<Self, BadUrl> {
        let (read_limit, connect_timeout) = limits(&config.timeouts, Access::ReadOnly);
        let target = Target {
            database: &replica.name,
            url: &replica.url,
            access: Access::ReadOnly,
            statement_timeout: read_limit,
            connect_timeout,
        };
        let health = Health::Down { since: Instant::now(), reason: "not reached yet" };
        metrics::gauge!("web_replica_in_rotation", "replica" => replica.name.clone()).set(0.0);
        Ok(Self {
            name: replica.name.clone(),
            url: replica.url.clone(),
            pool: target.pool(config.replica_pool)?,
            shared: Shared::default(),
            read_limit,
            lag_max: config.health.lag_max_ms.map(Duration::from_millis),
            in_flight: AtomicUsize::new(0),
            drained: AtomicBool::new(false),
            is_heard: AtomicBool::new(false),
            status: Mutex::new(Status { health, progress: None, seen_at: None }),
            meters: Meters::of(&replica.name),
            texts: Texts::default(),
            signals,
            removed: CancellationToken::new(),
        })
    }

    /// Its name in the configuration, which its `cluster_name` must equal.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Its connection URL, for the monitor's own connection.
    pub fn url(&self) -> &ConnectionUrl {
        &self.url
    }

    /// Cancelled when it is no longer one of the configuration's.
    pub fn removed(&self) -> &CancellationToken {
        &self.removed
    }

    /// Nobody configures it any more: its monitor ends, and its connections when the last request lets go of it.
    pub(super) fn remove(&self) {
        self.removed.cancel();
        metrics::gauge!("web_replica_in_rotation", "replica" => self.name.clone()).set(0.0);
    }

    /// Whether this is what the configuration names: a replica of the same name somewhere else is another one.
    pub(super) fn is(&self, config: &ReplicaConfig) -> bool {
        self.name == config.name && self.url.expose() == config.url.expose()
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
            self.signals.tell();
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
            is_fresh: self.is_heard() || status.seen_at.is_some_and(|at| at.elapsed() < FRESH),
            lagging: status.progress.is_some_and(|progress| self.is_too_old(&progress)),
            ..ReplicaView::default()
        }
    }

    /// Whether an answer of this progress is older than the operator allows. Of a replica that does not know it isn't.
    pub fn is_too_old(&self, progress: &Progress) -> bool {
        let Some(max) = self.lag_max else { return false };
        progress.lag(Timestamp::now()).is_some_and(|lag| lag > max)
    }

    /// Whether its watermarks are pushed, so that it need not be asked.
    pub fn is_heard(&self) -> bool {
        self.is_heard.load(Ordering::Relaxed)
    }

    /// Notes a watermark that was pushed; none: it is not known any more where the replica stands. It is believed until the
    /// replica itself says otherwise. Of a replica that was never reached nothing is noted.
    pub fn hint(&self, watermark: Option<Lsn>, xid: Option<u32>) {
        self.is_heard.store(watermark.is_some(), Ordering::Relaxed);
        let Some(watermark) = watermark else { return };
        let mut status = self.lock();
        let Some(progress) = &mut status.progress else { return };
        let moved = watermark > progress.watermark;
        if moved {
            (progress.watermark, progress.xid) = (watermark, xid);
        }
        drop(status);
        if moved {
            self.signals.tell();
        }
    }

    /// Asks for the replica's progress and the answer to `read` in one statement, so what the progress says is exactly what
    /// the answer shows. As two transactions in one round trip the rows could be newer than the watermark says: enough for
    /// somebody's own write, but what the caller has seen would be noted too low, and the next replica could show an older
    /// state. `delay` is waited before, as if the replica were that slow; the answer itself
    /// may take up to `limit`, and never longer than the configuration says.
    ///
    /// # Errors
    /// When the replica gives no answer; if that puts the replica itself in doubt, it also leaves the rotation.
    pub async fn read<R: Read>(
        &self,
        read: &R,
        delay: Duration,
        limit: Duration,
    ) -> Result<(Progress, R::Output), DbError> {
        let _counted = Counted::new(&self.in_flight);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let answer = self.exchange(read, limit.min(self.read_limit)).await;
        match &answer {
            Ok((progress, _)) => self.observe(*progress),
            Err(error) if error.is_unreachable() => self.eject(error),
            Err(_) => {}
        }
        answer
    }

    async fn exchange<R: Read>(&self, read: &R, limit: Duration) -> Result<(Progress, R::Output), DbError> {
        let session = match R::IS_BRIEF {
            true => self.shared.join(&self.pool).await?,
            false => Arc::new(Session::alone(self.pool.get().await?)),
        };
        let outcome = tokio::time::timeout(limit, ask(&session, &self.texts.of(R::SQL), read)).await;
        let answer = judge(outcome, limit);
        if answer.as_ref().is_err_and(DbError::spoils_connection) {
            session.spoil();
        }
        answer?.ok_or_else(|| DbError::Unreachable("replicator.progress is empty".to_owned()))
    }

    /// Notes where the replica stands, without a word on its health.
    fn observe(&self, progress: Progress) {
        let mut status = self.lock();
        status.seen_at = Some(Instant::now());
        if status.progress != Some(progress) {
            status.progress = Some(progress);
            drop(status);
            self.signals.tell();
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
            self.signals.tell();
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
        self.signals.tell();
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        // The status is replaced whole, so one that a panicking thread left behind is still consistent.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `sql` is the text of `read` with the progress. None when the replica does not say where it stands.
async fn ask<R: Read>(
    connection: &Object,
    sql: &str,
    read: &R,
) -> Result<Option<(Progress, R::Output)>, tokio_postgres::Error> {
    let statement = connection.prepare_cached(sql).await?;
    let rows = connection.query(&statement, &read.params()).await?;
    part(&rows)?.map(|(progress, rows)| Ok((progress, read.decode(rows)?))).transpose()
}

/// Counts one of something for as long as it lives: a dropped request must not count for ever.
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    pub(super) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
