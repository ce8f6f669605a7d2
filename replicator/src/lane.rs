//! One reading position: what comes from the source, as parcels for the appliers.
//!
//! ```text
//! source ─▶ Reader (topics, or the leader's own stream) ─▶ FanOut ─▶ a bounded queue per replica ─▶ applier
//! ```
//!
//! A lane reads and decodes once for all replicas that stand at the same place, for as long as they keep up; then their
//! queues' bytes are used up, the lane waits, the reader's queues fill and the source stops sending. Nothing in between
//! grows without a limit.

mod builder;
mod copied;
pub mod core;
mod error;
mod fan_out;
pub mod hub;
mod kafka;
mod phase;
mod reader;
mod recent;
mod start;
#[cfg(test)]
mod tests;
mod wal;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use self::fan_out::FanOut;
use self::hub::{HubSettings, Join, Joined, Shared};
use self::reader::Reader;
use crate::vocabulary::lsn::{CommitLsn, Xid};
use crate::vocabulary::offset::PartitionNames;
use crate::vocabulary::parcel::{Parcel, ParcelEnd, ReplicaPhase, Streamed};
pub use error::LaneError;
pub use fan_out::Sealed;
pub use start::LaneStart;

/// The limits of a lane. All of them bound memory (promise P9).
#[derive(Debug, Clone, Copy)]
pub struct LaneLimits {
    /// Records that wait for their turn, per partition.
    pub queue_records: usize,
    /// Bytes that wait for their turn, per partition; one record may exceed it.
    pub queue_bytes: usize,
    /// Changes in one parcel of a large transaction.
    pub parcel_changes: usize,
    /// Bytes in one parcel of a large transaction.
    pub parcel_bytes: usize,
    /// Bytes between the lane and each replica's applier.
    pub channel_bytes: usize,
}

/// How often a lane reports what it waits for, and its reader looks around.
const TICK: Duration = Duration::from_secs(1);

/// Parcels that are sent together at most, of what has come at the same time; and their bytes, which one may exceed.
const BATCH_PARCELS: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

/// From how many parcels at once on the source is left alone for a moment: in a backlog of small transactions it has the next one
/// ready whenever it is asked, and asking for each costs more than the transaction does.
const BUSY: usize = 4;

/// For how long.
const NAP: Duration = Duration::from_millis(1);

/// Ticks for which the same is waited for before it is logged.
const TICKS_TO_WARN: u32 = 10;

/// How long a new lane waits for the other replicas to join before it gives out its first parcel. Connecting to a
/// replica takes some ten milliseconds; who comes later reads alone until it has caught up.
const GATHER: Duration = Duration::from_millis(500);

/// Reads from one position on, for all replicas that stand there.
#[derive(Debug)]
struct Lane<R> {
    reader: R,
    outlets: Outlets,
    joins: mpsc::Receiver<Join>,
    stop: CancellationToken,
    ticks: Interval,
    /// What was waited for at the last tick, and for how many ticks.
    waiting: (Option<String>, u32),
}

/// Whom a lane feeds, and where it stands.
#[derive(Debug)]
struct Outlets {
    id: u64,
    names: PartitionNames,
    fan_out: FanOut,
    /// Asked to be taken in within a transaction: answered at its end.
    waiting_joins: Vec<Join>,
    shared: Arc<Shared>,
    standing: Standing,
}

/// Where a lane stands, for replicas that want to join.
#[derive(Debug)]
struct Standing {
    /// Where it began. Who stands there too may join as long as nothing has been given out.
    start: LaneStart,
    /// How many replicas are expected to do so, and until when they are waited for.
    expected: usize,
    gather_until: Instant,
    /// Whether a parcel has been given out.
    begun: bool,
    /// The last commit that was given out, or where the lane began; none within a transaction that is given out in parts.
    at: Option<CommitLsn>,
    /// Whether that is a commit, which every other lane comes by.
    is_commit: bool,
    /// Up to where everything was given out, also within a transaction.
    position: CommitLsn,
    phase: ReplicaPhase,
    /// Transactions of which parts were given out while they run on the leader. Who joins lacks these parts.
    streamed: HashSet<Xid>,
}

/// What a hub gives a lane that it makes.
struct Seed {
    id: u64,
    start: LaneStart,
    shared: Arc<Shared>,
    joins: mpsc::Receiver<Join>,
    /// How many replicas will probably stand at the same place.
    expected: usize,
    stop: CancellationToken,
}

impl<R: Reader> Lane<R> {
    /// A lane that reads with this reader, which stands where `seed` says.
    fn new(reader: R, settings: &HubSettings, seed: Seed) -> Self {
        let Seed { id, start, shared, joins, expected, stop } = seed;
        tracing::info!(watermark = %start.watermark, "reading");
        let mut ticks = tokio::time::interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Lane {
            outlets: Outlets {
                id,
                names: reader.names(),
                fan_out: FanOut::new(start.limits.channel_bytes, settings.detach_after),
                waiting_joins: Vec::new(),
                shared,
                standing: Standing {
                    at: Some(start.watermark),
                    is_commit: reader.begins_at_commit(),
                    position: start.watermark,
                    phase: start.phase,
                    streamed: HashSet::new(),
                    start,
                    expected,
                    gather_until: Instant::now() + GATHER,
                    begun: false,
                },
            },
            reader,
            joins,
            stop,
            ticks,
            waiting: (None, 0),
        }
    }

    /// Reads until told to stop, which leaves unfinished transactions to the next start, or until nobody listens any more.
    ///
    /// # Errors
    /// When the source fails, or its records can't be understood. What was sent before is complete and may be applied.
    async fn run(mut self) -> Result<(), LaneError> {
        let stop = self.stop.clone();
        let result = match stop.run_until_cancelled(self.gather()).await {
            Some(()) => self.read().await,
            None => Ok(()),
        };
        self.reader.close();
        result
    }

    /// Waits a moment for the replicas that are expected.
    async fn gather(&mut self) {
        while self.outlets.fan_out.count() < self.outlets.standing.expected {
            let until = self.outlets.standing.gather_until;
            let Ok(Some(join)) = tokio::time::timeout_at(until, self.joins.recv()).await else {
                return;
            };
            self.outlets.admit(join);
        }
    }

    async fn read(&mut self) -> Result<(), LaneError> {
        loop {
            while let Ok(join) = self.joins.try_recv() {
                self.outlets.admit(join);
            }
            let (batch, more) = self.collect().await;
            let is_busy = batch.len() >= BUSY;
            if !batch.is_empty() && !self.send(batch).await? {
                return Ok(());
            }
            if more? {
                continue;
            }
            // In this order: stopping must not wait for anything, and records matter more than reports.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                ready = ready(&mut self.reader, is_busy) => ready?,
                Some(join) = self.joins.recv() => self.outlets.admit(join),
                _ = self.ticks.tick() => {
                    if self.outlets.readers() == 0 {
                        return Ok(());
                    }
                    self.report();
                    self.reader.tick(true).await?;
                }
            }
        }
    }

    /// The parcels of what has come, as far as they go together; and whether there may be more.
    ///
    /// # Errors
    /// As [`Reader::next`]; the parcels before that are complete and may be applied.
    async fn collect(&mut self) -> (Vec<Parcel>, Result<bool, LaneError>) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_PARCELS && bytes < BATCH_BYTES {
            match self.reader.next().await {
                Ok(Some(parcel)) => {
                    bytes += parcel.size_bytes;
                    batch.push(parcel);
                }
                Ok(None) => return (batch, Ok(false)),
                Err(error) => return (batch, Err(error)),
            }
        }
        (batch, Ok(true))
    }

    /// Gives parcels to everybody. False when nobody listens any more or the lane is to stop.
    async fn send(&mut self, batch: Vec<Parcel>) -> Result<bool, LaneError> {
        let Lane { reader, outlets, stop, ticks, .. } = self;
        batch.iter().for_each(|parcel| outlets.standing.passes(parcel));
        {
            let mut sending = std::pin::pin!(outlets.fan_out.send(batch));
            loop {
                // The tick first: parcels that are taken at once must not keep the leader waiting for ever for an answer.
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(false),
                    _ = ticks.tick() => reader.tick(false).await?,
                    () = &mut sending => break,
                }
            }
        }
        if outlets.readers() == 0 {
            return Ok(false);
        }
        outlets.settle();
        Ok(true)
    }

    /// Once per tick: what is waited for, which is logged when it lasts.
    fn report(&mut self) {
        let waiting_for = self.reader.waiting_for();
        if waiting_for.is_some() && waiting_for == self.waiting.0 {
            self.waiting.1 += 1;
        } else {
            self.waiting = (waiting_for.clone(), 0);
        }
        if self.waiting.1 == TICKS_TO_WARN {
            tracing::warn!(waiting_for = waiting_for.as_deref().unwrap_or_default(), "nothing moves");
        }
        let Outlets { id, fan_out, .. } = &self.outlets;
        fan_out.report(waiting_for.as_deref(), self.reader.duplicates(), *id);
    }
}

/// Returns when more may have come; `is_busy` while so much comes that a moment's patience saves a look at each transaction.
async fn ready(reader: &mut impl Reader, is_busy: bool) -> Result<(), LaneError> {
    if is_busy {
        tokio::time::sleep(NAP).await;
    }
    reader.ready().await
}

impl Outlets {
    /// How many replicas read this lane.
    fn readers(&mut self) -> usize {
        let readers = self.fan_out.count();
        self.shared.readers.store(readers, Ordering::Relaxed);
        readers
    }

    /// Takes a replica in if it stands where the lane does.
    fn admit(&mut self, join: Join) {
        let joined = match self.standing.takes(&join) {
            Takes::Later => return self.waiting_joins.push(join),
            Takes::From(at) => {
                let outlet = self.fan_out.subscribe(join.status);
                self.readers();
                Joined::Yes { at, outlet, names: self.names.clone() }
            }
            Takes::No => Joined::No,
        };
        // Who asked may have gone; then nobody listens, and the subscription ends at the next parcel.
        drop(join.answer.send(joined));
    }

    /// At a commit point: says where the lane stands, and answers those that waited for one.
    fn settle(&mut self) {
        if let Some(at) = self.standing.at {
            self.shared.position.store(at.0.0, Ordering::Relaxed);
            let waiting = std::mem::take(&mut self.waiting_joins);
            waiting.into_iter().for_each(|join| self.admit(join));
        }
    }
}

/// Whether a replica may be fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// With everything after this position.
    From(CommitLsn),
    /// That is known at the next commit.
    Later,
    /// Not by this lane.
    No,
}

impl Standing {
    /// Whether a replica may be fed from here on.
    ///
    /// Where nothing has been given out, it has to stand exactly where the lane began. Later only replicas whose tables
    /// all stand at the watermark may join, since the lane knows nothing else of them.
    fn takes(&self, join: &Join) -> Takes {
        if !self.begun && self.start.stands_with(&join.start) {
            return Takes::From(self.start.watermark);
        }
        if !self.streamed.is_empty() {
            return Takes::No;
        }
        let Some(at) = self.at else {
            // The transaction's END may be far. Who can't go on by itself meanwhile had better not wait for it, perhaps to be refused.
            return if join.catches_up { Takes::Later } else { Takes::No };
        };
        let is_plain = self.phase == ReplicaPhase::Live
            && self.start.is_plain_at(self.position)
            && join.start.is_plain()
            && join.start.leader == self.start.leader;
        let watermark = join.start.watermark;
        if !is_plain {
            Takes::No
        } else if (at..=self.position).contains(&watermark) {
            // No commit lies between the two.
            Takes::From(watermark)
        } else if !join.catches_up || watermark > self.position {
            Takes::No
        } else if self.is_commit {
            Takes::From(at)
        } else {
            Takes::Later
        }
    }

    /// A parcel is given out.
    fn passes(&mut self, parcel: &Parcel) {
        self.begun = true;
        if let Some(Streamed { xid, depth, .. }) = parcel.streamed {
            match &parcel.end {
                ParcelEnd::Open => self.streamed.insert(xid),
                ParcelEnd::Discard if depth > 0 => false,
                ParcelEnd::Discard | ParcelEnd::Commit(_) => self.streamed.remove(&xid),
            };
        }
        match &parcel.end {
            ParcelEnd::Open | ParcelEnd::Discard if parcel.streamed.is_some() => {}
            ParcelEnd::Open => self.at = None,
            ParcelEnd::Commit(point) => {
                self.phase = point.state;
                self.position = point.watermark().unwrap_or(self.position);
                if let Some(transaction) = point.transaction {
                    (self.at, self.is_commit) = (Some(transaction.lsn), true);
                } else if point.reached.is_none() {
                    self.at = Some(self.position);
                }
            }
            // The parts that were given out are taken back: the lane stands where it stood before them.
            ParcelEnd::Discard => self.at = Some(self.position),
        }
    }
}
