//! One replica: own it, read from its checkpoint on, apply, and start again after whatever goes wrong.
//!
//! Workers share nothing but lanes, which let a slow reader go, so one replica that is down, slow or halted costs the
//! others nothing (promise P5).

mod course;
mod error;
mod filling;
mod group;
mod leader;
mod schema;
mod streaming;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::course::Course;
use self::error::{WorkerError, at_line};
pub use self::filling::CopySettings;
use self::group::Group;
use self::schema::SchemaFollower;
use self::streaming::{Streaming, beside};
use crate::backoff::Backoff;
use crate::events::Feed;
use crate::lane::hub::Hub;
use crate::lane::{LaneError, LaneLimits, LaneStart};
use crate::metrics::ReplicaMetrics;
use crate::replica::apply::{Applied, Applier};
use crate::replica::checkpoint::{self, Checkpoint, CheckpointWriter, Claim};
use crate::replica::copy::CopyScope;
use crate::replica::lease::Lease;
use crate::replica::quarantine::{FailurePolicy, Quarantine};
use crate::replica::session::Session;
use crate::replica::side::Sides;
use crate::replica::{Disposition, ReplicaError, catalog};
use crate::snapshot::Target;
use crate::status::{StatusCell, WorkerState};
use crate::vocabulary::leader::LeaderRun;
use crate::vocabulary::lsn::Xid;
use crate::vocabulary::offset::Offsets;
use crate::vocabulary::parcel::{Parcel, ParcelEnd, Streamed};
use crate::vocabulary::schema::Catalog;

/// What every worker needs to know.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The replica's name.
    pub name: String,
    /// The replica's address.
    pub url: tokio_postgres::Config,
    /// Which stream the positions belong to, e.g. `debezium:app`.
    pub source_id: String,
    /// How this daemon names itself in the checkpoint.
    pub owner: String,
    /// How long its ownership lasts without being renewed.
    pub lease: Duration,
    /// What follows from data that the replica refuses.
    pub failure: FailurePolicy,
    /// The leader's address, to follow its schema and to fetch rows that the replica lacks.
    pub leader: Option<tokio_postgres::Config>,
    /// Whether what the leader adds to its schema is added to the replica.
    pub additive: bool,
    /// Bounds of the lane.
    pub lane: LaneLimits,
    /// Copies from the leader.
    pub copy: CopySettings,
    /// Changes in one target transaction.
    pub group_changes: usize,
    /// How long a halted replica is left alone before it is tried again.
    pub halt_pause: Duration,
    /// Where it tells what became visible.
    pub feed: Feed,
}

/// How long the replica may take to answer before it is tried again. An answer takes milliseconds.
const OWN_SECONDS: u64 = 30;

/// A replica that is owned, and what it says of itself.
struct Owned {
    session: Session,
    lease: Lease,
    checkpoint: Checkpoint,
}

/// What it takes to apply.
struct Ready {
    applier: Applier,
    sides: Sides,
    lease: Lease,
    course: Course,
}

/// Feeds one replica until `stop`.
pub async fn run(settings: WorkerSettings, hub: Arc<Hub>, status: StatusCell, stop: CancellationToken) {
    let span = tracing::info_span!("replica", replica = %settings.name);
    let mut worker = Worker {
        metrics: ReplicaMetrics::new(&settings.name),
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)),
        schema: SchemaFollower::new(settings.leader.clone(), settings.additive),
        settings,
        hub,
        status,
        stop,
        repeats: Vec::new(),
        looks_back: false,
        streaming: Streaming::new(),
        unportable: None,
        last_failure: String::new(),
    };
    async {
        while !worker.stop.is_cancelled() {
            let before = worker.progress();
            let ended = Box::pin(worker.attempt()).await;
            if worker.progress() != before {
                // Only applying proves that an outage is over; connecting again does not.
                worker.backoff.reset();
                worker.last_failure.clear();
                worker.schema.progressed();
            }
            if let Err(error) = ended {
                if worker.schema.heed(&error) {
                    continue;
                }
                let pause = worker.failed(&error);
                tokio::select! {
                    () = worker.stop.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
        worker.status.enter(WorkerState::Stopped, None);
    }
    .instrument(span)
    .await;
}

struct Worker {
    settings: WorkerSettings,
    hub: Arc<Hub>,
    status: StatusCell,
    metrics: ReplicaMetrics,
    stop: CancellationToken,
    backoff: Backoff,
    schema: SchemaFollower,
    repeats: Vec<Xid>,
    /// Whether the next lane has to know what was changed before: the last one met an incremental snapshot.
    looks_back: bool,
    streaming: Streaming,
    /// The tables among which there is one that values in binary won't do for; none as long as none was met.
    unportable: Option<Arc<Catalog>>,
    /// What was logged last: an outage is logged when it begins, not at every attempt.
    last_failure: String,
}

impl Worker {
    /// What this run has applied: transactions, and changes, which a snapshot's are too.
    fn progress(&self) -> (u64, u64) {
        let status = self.status.get();
        (status.transactions, status.changes)
    }

    /// Owns the replica and feeds it. Returns when told to stop.
    async fn attempt(&mut self) -> Result<(), WorkerError> {
        let stop = self.stop.clone();
        let Some(ready) = stop.run_until_cancelled(self.set_up()).await else { return Ok(()) };
        let Ready { mut applier, mut sides, mut lease, mut course } = ready?;
        let ended = tokio::select! {
            ended = self.apply_all(&mut applier, &mut sides, &mut course) => ended,
            // What is open goes with the session.
            lost = lease.lost() => Err(lost.into()),
        };
        // Once only: a snapshot that goes on says so again.
        self.looks_back = matches!(ended, Err(WorkerError::Lane(LaneError::LookBack { .. })));
        // Not failures: this replica goes on from its checkpoint, by itself.
        match &ended {
            Err(WorkerError::Lane(error @ LaneError::Detached)) => {
                tracing::info!("{error}");
                self.metrics.detached();
                return Ok(());
            }
            Err(WorkerError::Lane(error @ LaneError::Unstreamable { xid, .. })) => {
                tracing::warn!("{error}; it is applied whole after its commit");
                self.metrics.unstreamed();
                self.streaming.give_up(*xid, Instant::now(), random());
            }
            Err(WorkerError::Lane(error @ LaneError::NotPortable { .. })) => {
                tracing::info!("{error}");
                self.unportable = Some(Arc::clone(course.catalog()));
            }
            Err(WorkerError::Lane(error @ LaneError::StreamsAgain)) => {
                tracing::info!("{error}");
                self.streaming.resume();
            }
            Err(WorkerError::Lane(error @ (LaneError::LookBack { .. } | LaneError::TablesChanged))) => {
                tracing::info!("{error}");
            }
            Err(WorkerError::Lane(LaneError::ReadAgain { repeated })) => {
                self.repeats.push(*repeated);
                return ended;
            }
            _ => return ended,
        }
        // So that the next attempt need not wait until the server notices; if it can't be told, the attempt says why.
        drop(sides);
        drop(applier.release().await);
        Ok(())
    }

    /// Everything before the first change: the replica is taken, its checkpoint read, a lane found or opened there.
    async fn set_up(&mut self) -> Result<Ready, WorkerError> {
        let limit = Duration::from_secs(OWN_SECONDS);
        let timed_out =
            ReplicaError::TimedOut { action: "take ownership of the replica", seconds: OWN_SECONDS };
        let owned = tokio::time::timeout(limit, self.own()).await.unwrap_or(Err(timed_out));
        let Owned { session, mut lease, checkpoint } = owned?;
        // Before the copy, so that it finds the leader's columns; but a copy may be what ends a refusal to follow.
        let followed = self.schema.follow(&session, checkpoint.epoch).await;
        let copy = &self.settings.copy;
        let scope = copy.scope(&checkpoint);
        let target = Target {
            session: &session,
            url: &self.settings.url,
            epoch: checkpoint.epoch,
            is_new: checkpoint.is_new(),
        };
        let filling = filling::fill(copy, scope, target, &mut lease, checkpoint, &self.status);
        let checkpoint = Box::pin(filling).await?;
        if scope == CopyScope::All {
            self.schema.forget();
        } else {
            followed?;
        }
        let leader = leader::recognise(copy, &session, &checkpoint).await?;
        let catalog = Arc::new(self.schema.complete(catalog::load(session.client()).await?));
        let writer = CheckpointWriter::prepare(&session, checkpoint.epoch).await?;
        let quarantine = Quarantine::load(&session, &catalog, self.settings.failure).await?;
        let start = self.lane_start(&checkpoint, leader, catalog);
        let course = tokio::select! {
            course = Course::begin(Arc::clone(&self.hub), start, self.status.clone()) => course?,
            lost = lease.lost() => return Err(lost.into()),
        };
        self.status.loaded(&checkpoint);
        self.status.quarantine(&quarantine);
        tracing::info!(
            epoch = checkpoint.epoch,
            watermark = %checkpoint.watermark,
            state = checkpoint.phase.as_str(),
            "applying"
        );
        let leader = self.settings.leader.clone();
        let applier = Applier::new(session, writer, course.names().clone())
            .with_quarantine(quarantine)
            .with_leader(leader, self.schema.followed());
        let sides = Sides::new(self.settings.url.clone(), checkpoint.epoch);
        Ok(Ready { applier, sides, lease, course })
    }

    async fn own(&self) -> Result<Owned, ReplicaError> {
        let session = Session::connect(&self.settings.url).await?;
        let settings = &self.settings;
        let claim = Claim { source: &settings.source_id, owner: &settings.owner, lease: settings.lease };
        let checkpoint = match checkpoint::acquire(&session, claim).await {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                // The leader's slot may be this daemon's even so, and must not wait for a replica that another one feeds.
                if self.hub.confirms() && error.disposition() == Disposition::Yield {
                    self.hub.stored(&settings.name, &checkpoint::kept_offsets(&session).await?);
                }
                return Err(error);
            }
        };
        let (hub, name) = (Arc::clone(&self.hub), settings.name.clone());
        let kept = move |offsets: &Offsets| hub.stored(&name, offsets);
        let lease = Lease::keep(&settings.url, checkpoint.epoch, settings.lease, kept).await?;
        Ok(Owned { session, lease, checkpoint })
    }

    fn lane_start(
        &self,
        checkpoint: &Checkpoint,
        leader: Option<LeaderRun>,
        catalog: Arc<Catalog>,
    ) -> LaneStart {
        let binary = self.unportable.as_deref() != Some(&catalog);
        LaneStart {
            catalog,
            watermark: checkpoint.position(),
            leader,
            phase: checkpoint.phase,
            offsets: checkpoint.offsets.clone(),
            snapshots: checkpoint.snapshots.clone(),
            fences: checkpoint.fences.clone(),
            repeats: self.repeats.clone(),
            looks_back: self.looks_back,
            streaming: self.streaming.is_on(),
            binary,
            limits: self.settings.lane,
        }
    }

    /// Applies parcels until the lane ends. Everything that has come is grouped: alone a transaction goes out at once, in a
    /// backlog many share a commit, and a few milliseconds are waited for more.
    async fn apply_all(
        &mut self,
        applier: &mut Applier,
        sides: &mut Sides,
        course: &mut Course,
    ) -> Result<(), WorkerError> {
        let mut group = Group::new(self.settings.group_changes);
        let mut next = course.recv().await;
        while let Some(sealed) = next.take() {
            let mut reached = None;
            match &sealed.end {
                _ if let Some(streamed) = sealed.streamed => {
                    let is_applied = self.take_aside(&sealed, streamed, applier, sides).await?;
                    reached = is_applied.then_some(sealed);
                }
                ParcelEnd::Commit(_) if !applier.is_open() => {
                    next = group.form(sealed, course).await;
                    let whole = group.parcels();
                    let applied = applier.apply(&whole).await;
                    self.report(applied, applier, sides)?;
                    self.settings.feed.applied(&self.settings.name, whole.into_iter(), true);
                    // Only now the lane gets their room back: what is being applied counts as memory, too.
                    reached = group.clear();
                }
                ParcelEnd::Commit(point) => {
                    let applied = match applier.apply_part(&sealed).await {
                        Ok(()) => applier.commit_open(point).await,
                        Err(error) => Err(error),
                    };
                    self.report(applied, applier, sides)?;
                    self.settings.feed.applied(&self.settings.name, [&*sealed].into_iter(), false);
                    reached = Some(sealed);
                }
                ParcelEnd::Open => {
                    let applied = applier.apply_part(&sealed).await;
                    applied.map_err(|error| at_line(error, applier, sides))?;
                    // A replica that kept it while it waits would never look as if it had nothing to do.
                    drop(sealed);
                }
                ParcelEnd::Discard => {
                    applier.discard_open().await?;
                    drop(sealed);
                }
            }
            if let Some(ParcelEnd::Commit(point)) = reached.as_ref().map(|s| &s.end) {
                if course.passed(point).await {
                    // The new lane brings them from their beginning.
                    sides.discard(applier).await?;
                    applier.renumber(course.names().clone());
                    next = None;
                }
                if !course.streams() && self.streaming.is_over(point, Instant::now()) {
                    return Err(LaneError::StreamsAgain.into());
                }
                // What is applied beside this would have to be read again from its beginning.
                if sides.any().is_none()
                    && course.doubts_tables()
                    && self.have_tables_changed(applier, course).await?
                {
                    return Err(LaneError::TablesChanged.into());
                }
            }
            drop(reached);
            if next.is_none() {
                next = course.recv().await;
            }
        }
        // Stopping within a large transaction: what is open was never visible and comes again.
        applier.discard_open().await?;
        sides.discard(applier).await?;
        Ok(course.ended().await?)
    }

    /// Whether the replica's tables are others than the lane knows.
    async fn have_tables_changed(&self, applier: &Applier, course: &Course) -> Result<bool, ReplicaError> {
        let limit = Duration::from_secs(OWN_SECONDS);
        let loaded = tokio::time::timeout(limit, catalog::load(applier.client())).await;
        let timed_out = ReplicaError::TimedOut { action: "read the catalog", seconds: OWN_SECONDS };
        let now = self.schema.complete(loaded.unwrap_or(Err(timed_out))?);
        Ok(now != **course.catalog())
    }

    /// Applies a parcel of a transaction that runs on the leader. Whether that one has been committed with it.
    async fn take_aside(
        &mut self,
        parcel: &Parcel,
        streamed: Streamed,
        applier: &mut Applier,
        sides: &mut Sides,
    ) -> Result<bool, WorkerError> {
        let xid = streamed.xid;
        if applier.concerns_quarantine(&parcel.changes) {
            let why = "it concerns rows of which changes are in the quarantine".to_owned();
            return Err(LaneError::Unstreamable { xid, why }.into());
        }
        let applied = sides.take(parcel, streamed, applier).await.map_err(|error| beside(error, xid))?;
        let Some(applied) = applied else { return Ok(false) };
        self.streaming.succeeded();
        self.metrics.streamed();
        self.report(Ok(applied), applier, sides)?;
        self.settings.feed.applied(&self.settings.name, [parcel].into_iter(), false);
        Ok(true)
    }

    fn report(
        &self,
        applied: Result<Applied, ReplicaError>,
        applier: &Applier,
        sides: &Sides,
    ) -> Result<(), WorkerError> {
        let applied = applied.map_err(|error| at_line(error, applier, sides))?;
        self.status.applied(&applied);
        if applied.in_source_order {
            self.status.quarantine(applier.quarantine());
        }
        self.metrics.applied(&applied);
        if applied.inserted_for_missing > 0 {
            tracing::warn!(
                rows = applied.inserted_for_missing,
                "updates found no row; the rows were inserted whole"
            );
        }
        if applied.fetched_for_missing > 0 {
            tracing::warn!(
                rows = applied.fetched_for_missing,
                "updates found no row; the rows were fetched from the leader"
            );
        }
        Ok(())
    }

    /// Reports a failure and says how long to pause.
    fn failed(&mut self, error: &WorkerError) -> Duration {
        let (cause, hint) = (error.to_string(), error.hint());
        let first = self.last_failure != cause;
        self.status.restarted();
        let disposition = error.disposition();
        self.metrics.failed(disposition);
        let (state, pause) = match disposition {
            Disposition::Retry => (WorkerState::Retrying, self.backoff.pause(random())),
            Disposition::Yield => (WorkerState::Standby, Duration::from_secs(1)),
            Disposition::Pause => (WorkerState::Paused, Duration::from_secs(1)),
            Disposition::Data | Disposition::Schema | Disposition::Halt => {
                (WorkerState::Halted, self.settings.halt_pause)
            }
        };
        if first {
            match disposition {
                Disposition::Retry => {
                    tracing::warn!(cause = %cause, hint = %hint, "interrupted; trying again");
                }
                Disposition::Yield => tracing::info!(cause = %cause, "standing by"),
                Disposition::Pause => tracing::info!(cause = %cause, hint = %hint, "standing still"),
                Disposition::Data | Disposition::Schema | Disposition::Halt => {
                    tracing::error!(cause = %cause, hint = %hint, "halted");
                }
            }
            self.last_failure.clone_from(&cause);
        }
        self.status.enter(state, Some((cause, hint)));
        pause
    }
}

/// Uniform in 0..1; spreads retries, nothing more, so the standard library's seeds are good enough.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what an f64 holds")]
    let fraction = bits as f64 / (1u64 << 53) as f64;
    fraction
}
