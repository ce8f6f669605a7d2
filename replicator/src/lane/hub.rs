//! Which lanes there are, and who reads which.
//!
//! Replicas that stand at the same place share a lane, so that everything is read and decoded once. A replica that stands
//! elsewhere, because it was down or is being copied, reads by itself. When it has caught up it asks a lane with more
//! readers to take it in: that lane names a commit point and keeps what follows, the replica goes on by itself up
//! to exactly that point and changes over there. Every lane sees the same transactions in the same order, so the
//! point is certain to come.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::fan_out::{Outlet, Sealed};
use super::kafka::KafkaReader;
use super::reader::Reader;
use super::start::LaneStart;
use super::wal::{Confirmed, WalReader};
use super::{Lane, LaneError, Seed};
use crate::source::SourceSettings;
use crate::status::StatusCell;
use crate::vocabulary::lsn::{CommitLsn, Lsn};
use crate::vocabulary::offset::{self, PartitionNames, TopicPartition};
use crate::vocabulary::schema::Catalog;

/// How long another replica's lane may take to say whether it takes one in: longer than it takes to open one, or to find that the
/// source is not there. One whose only reader is within a long statement says nothing until that has ended.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// How lanes are made.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Where changes come from.
    pub source: SourceSettings,
    /// The replicas' names: the first lane waits a moment for all of them, and the leader keeps what one of them lacks.
    pub replicas: Vec<String>,
    /// How long one replica may keep the others of its lane waiting.
    pub detach_after: Duration,
}

/// A replica asks to be fed by a lane.
#[derive(Debug)]
pub(super) struct Join {
    /// Where the replica stands.
    pub(super) start: LaneStart,
    /// Whether it can get to a later commit point by itself.
    pub(super) catches_up: bool,
    pub(super) status: StatusCell,
    pub(super) answer: oneshot::Sender<Joined>,
}

/// The lane's answer.
#[derive(Debug)]
pub(super) enum Joined {
    /// The outlet gives everything after this commit point.
    Yes { at: CommitLsn, outlet: Outlet, names: PartitionNames },
    /// The lane does not stand where the replica does.
    No,
}

/// How a lane ended: well when it was told to, or when nobody read it any more.
pub(super) type Ending = Result<(), LaneError>;

/// What the hub and the lane both know of the lane.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// How many replicas read it.
    pub(super) readers: AtomicUsize,
    /// The commit LSN up to which it has given out everything.
    pub(super) position: AtomicU64,
}

#[derive(Debug)]
struct Handle {
    id: u64,
    /// Whether it may give transactions out while they run on the leader.
    streams: bool,
    /// Whether values come in binary, where they can: a replica reads either the one or the other.
    binary: bool,
    catalog: Arc<Catalog>,
    joins: mpsc::Sender<Join>,
    shared: Arc<Shared>,
    ending: watch::Receiver<Option<Ending>>,
}

/// All lanes of the daemon.
#[derive(Debug)]
pub struct Hub {
    settings: HubSettings,
    confirmed: Arc<Confirmed>,
    stop: CancellationToken,
    lanes: Mutex<Lanes>,
}

#[derive(Debug, Default)]
struct Lanes {
    next_id: u64,
    running: Vec<Arc<Handle>>,
}

/// Parcels for one replica, from one lane.
#[derive(Debug)]
pub struct Feed {
    lane: Arc<Handle>,
    at: CommitLsn,
    names: PartitionNames,
    outlet: Outlet,
}

/// A lane that a replica might change over to, as it was seen at one moment.
#[derive(Debug)]
pub struct Candidate {
    lane: Arc<Handle>,
    /// Where the lane stood. A replica that has come this far is close enough to ask.
    pub position: CommitLsn,
}

/// A question to a lane that is not answered yet.
#[derive(Debug)]
pub struct Asked {
    lane: Arc<Handle>,
    answer: oneshot::Receiver<Joined>,
}

impl Hub {
    /// A hub without lanes; they end with `stop`.
    pub fn new(settings: HubSettings, stop: CancellationToken) -> Arc<Self> {
        let confirmed = Arc::new(Confirmed::new(settings.replicas.iter().cloned()));
        Arc::new(Hub { settings, confirmed, stop, lanes: Mutex::default() })
    }

    /// Whether the source keeps changes until it is told that they are stored.
    pub fn confirms(&self) -> bool {
        matches!(self.settings.source, SourceSettings::Postgres(_))
    }

    /// Whether a lane that begins so gives transactions out while they run on the leader.
    fn streams(&self, start: &LaneStart) -> bool {
        match &self.settings.source {
            SourceSettings::Postgres(postgres) => postgres.streaming && start.streaming,
            SourceSettings::Debezium { .. } => false,
        }
    }

    /// A replica has everything before these offsets on its disk, so that a source that keeps changes may forget them.
    pub fn stored<'a>(
        &self,
        replica: &str,
        offsets: impl IntoIterator<Item = (&'a TopicPartition, &'a i64)>,
    ) {
        let wal = offset::wal();
        for (_, position) in offsets.into_iter().filter(|(partition, _)| **partition == wal) {
            self.confirmed.stored(replica, offset::wal_position(*position));
        }
    }

    /// Parcels from where a replica stands: of a lane that stands there too, else of a lane of its own.
    ///
    /// # Errors
    /// When the source is not there, or has lost what is needed.
    pub async fn feed(&self, start: LaneStart, status: &StatusCell) -> Result<Feed, LaneError> {
        let mut asked = Vec::new();
        loop {
            let (lane, is_own) = self.find_or_open(&start, &asked);
            asked.push(lane.id);
            let answer = Arc::clone(&lane).join(start.clone(), false, status).await.answer;
            // One's own takes as long as its source does.
            let answer = if is_own { Ok(answer.await) } else { timeout(ANSWER_WITHIN, answer).await };
            match answer {
                Ok(Ok(joined)) => {
                    if let Some(feed) = joined.into_feed(&lane) {
                        return Ok(feed);
                    }
                }
                Ok(Err(_)) if is_own => return Err(lane.ended().await.err().unwrap_or(LaneError::Stopped)),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// The lane that a replica had better read, if it is not the one that it reads: one that streams, of these the one with
    /// most readers, of equal ones the oldest.
    pub fn better_than(&self, feed: &Feed) -> Option<Candidate> {
        let rank = |lane: &Handle| {
            (lane.streams, lane.shared.readers.load(Ordering::Relaxed), std::cmp::Reverse(lane.id))
        };
        let running = self.running(&feed.lane.catalog).into_iter();
        let best = running.filter(|lane| lane.binary == feed.lane.binary).max_by_key(|lane| rank(lane))?;
        if rank(&best) <= rank(&feed.lane) {
            return None;
        }
        let position = CommitLsn(Lsn(best.shared.position.load(Ordering::Relaxed)));
        Some(Candidate { lane: best, position })
    }

    /// Whether a lane runs for replicas with other tables than this feed's.
    pub fn has_other_tables(&self, feed: &Feed) -> bool {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.running().any(|lane| !lane.knows(&feed.lane.catalog))
    }

    fn running(&self, catalog: &Arc<Catalog>) -> Vec<Arc<Handle>> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.of(catalog).map(Arc::clone).collect()
    }

    /// A lane that has not been asked yet, else a new one; and whether it is new. Under one lock: replicas that come at the
    /// same time must not open one each.
    fn find_or_open(&self, start: &LaneStart, asked: &[u64]) -> (Arc<Handle>, bool) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // A replica that streams may stand where a lane does that doesn't, and would stay there.
        let streams = self.streams(start);
        let may_take = |lane: &&Arc<Handle>| {
            lane.streams == streams && lane.binary == start.binary && !asked.contains(&lane.id)
        };
        if let Some(lane) = lanes.of(&start.catalog).find(may_take) {
            return (Arc::clone(lane), false);
        }
        lanes.next_id += 1;
        // The others are probably about to come, and then everything is read once.
        let expected = if lanes.running.is_empty() { self.settings.replicas.len() } else { 1 };
        let lane = self.spawn(lanes.next_id, start.clone(), expected);
        lanes.running.push(Arc::clone(&lane));
        (lane, true)
    }

    /// Starts a lane from where a replica stands.
    fn spawn(&self, id: u64, start: LaneStart, expected: usize) -> Arc<Handle> {
        let (joins, requests) = mpsc::channel(16);
        let (ended, ending) = watch::channel(None);
        let shared = Arc::new(Shared::default());
        shared.position.store(start.watermark.0.0, Ordering::Relaxed);
        let catalog = Arc::clone(&start.catalog);
        let handle = Arc::new(Handle {
            id,
            streams: self.streams(&start),
            binary: start.binary,
            catalog,
            joins,
            shared: Arc::clone(&shared),
            ending,
        });
        let (settings, stop, confirmed) =
            (self.settings.clone(), self.stop.clone(), Arc::clone(&self.confirmed));
        let lane = async move {
            let seed = Seed { id, start: start.clone(), shared, joins: requests, expected, stop };
            match settings.source.clone() {
                SourceSettings::Debezium { kafka, decoding } => {
                    run(Box::pin(KafkaReader::open(id, kafka, decoding, start)), &settings, seed).await
                }
                SourceSettings::Postgres(postgres) => {
                    run(Box::pin(WalReader::open(postgres, start, confirmed)), &settings, seed).await
                }
            }
        };
        // A task of its own, so that a panic is an ending like any other.
        let lane = tokio::spawn(lane.instrument(tracing::info_span!(parent: None, "lane", id)));
        tokio::spawn(async move {
            let ending = lane.await.unwrap_or_else(|error| Err(LaneError::Panic(error.to_string())));
            ended.send_replace(Some(ending));
        });
        handle
    }
}

/// Opens a lane's reader and runs the lane, until it is told to stop.
async fn run<R: Reader>(
    opening: impl Future<Output = Result<R, LaneError>>,
    settings: &HubSettings,
    seed: Seed,
) -> Ending {
    let stop = seed.stop.clone();
    match stop.run_until_cancelled(opening).await {
        Some(reader) => Lane::new(reader?, settings, seed).run().await,
        None => Ok(()),
    }
}

impl Lanes {
    fn running(&mut self) -> impl Iterator<Item = &Arc<Handle>> {
        self.running.retain(|lane| lane.ending.borrow().is_none());
        self.running.iter()
    }

    /// The running lanes that decode for replicas with this catalog.
    fn of<'a>(&'a mut self, catalog: &'a Arc<Catalog>) -> impl Iterator<Item = &'a Arc<Handle>> {
        self.running().filter(move |lane| lane.knows(catalog))
    }
}

impl Handle {
    /// Whether it decodes for replicas with this catalog.
    fn knows(&self, catalog: &Arc<Catalog>) -> bool {
        Arc::ptr_eq(&self.catalog, catalog) || self.catalog == *catalog
    }

    async fn join(self: Arc<Self>, start: LaneStart, catches_up: bool, status: &StatusCell) -> Asked {
        let (sender, answer) = oneshot::channel();
        let join = Join { start, catches_up, status: status.clone(), answer: sender };
        // When the lane has ended, the answer's end is dropped with the request: that is an answer, too.
        drop(self.joins.send(join).await);
        Asked { lane: self, answer }
    }

    async fn ended(&self) -> Ending {
        let mut ending = self.ending.clone();
        match ending.wait_for(Option::is_some).await {
            Ok(ending) => ending.clone().unwrap_or(Ok(())),
            Err(_) => Err(LaneError::Stopped),
        }
    }
}

impl Asked {
    /// The answer, if it has come: a feed, or no.
    pub fn try_answer(&mut self) -> Option<Option<Feed>> {
        match self.answer.try_recv() {
            Ok(joined) => Some(joined.into_feed(&self.lane)),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(None),
        }
    }

    /// The answer, if it comes within this time.
    pub async fn answer_within(&mut self, limit: Duration) -> Option<Option<Feed>> {
        match tokio::time::timeout(limit, &mut self.answer).await {
            Ok(Ok(joined)) => Some(joined.into_feed(&self.lane)),
            Ok(Err(_)) => Some(None),
            Err(_) => None,
        }
    }
}

impl Joined {
    fn into_feed(self, lane: &Arc<Handle>) -> Option<Feed> {
        match self {
            Joined::Yes { at, outlet, names } => Some(Feed { lane: Arc::clone(lane), at, names, outlet }),
            Joined::No => None,
        }
    }
}

impl Candidate {
    /// Asks the lane to take a replica in that stands at `start` and goes on by itself meanwhile.
    pub async fn ask(self, start: LaneStart, status: &StatusCell) -> Asked {
        self.lane.join(start, true, status).await
    }
}

impl Feed {
    /// The commit point after which this feed begins.
    pub fn at(&self) -> CommitLsn {
        self.at
    }

    /// Whether its lane may give transactions out while they run on the leader.
    pub fn streams(&self) -> bool {
        self.lane.streams
    }

    /// The lane's partitions.
    pub fn names(&self) -> &PartitionNames {
        &self.names
    }

    /// The next parcel; none when the lane has ended, or has let this replica go.
    pub async fn recv(&mut self) -> Option<Sealed> {
        self.outlet.recv().await
    }

    /// The next parcel, if it has come.
    pub fn try_recv(&mut self) -> Option<Sealed> {
        self.outlet.try_recv()
    }

    /// Why there are no more parcels. To be asked after [`Feed::recv`] has given none.
    ///
    /// # Errors
    /// What the lane ended with; [`LaneError::Detached`] when only this replica was let go.
    pub async fn ended(&self) -> Result<(), LaneError> {
        if self.outlet.detached.load(Ordering::Acquire) {
            return Err(LaneError::Detached);
        }
        self.lane.ended().await
    }
}
