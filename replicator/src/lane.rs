//! One reading position: records from the source, assembled into parcels for the appliers.
//!
//! ```text
//! partitions ─▶ decode ─▶ Assembler ─▶ ParcelBuilder ─▶ FanOut ─▶ a bounded queue per replica ─▶ applier
//!               └────────── LaneCore (pure) ───────┘
//! ```
//!
//! A lane reads and decodes once for all replicas that stand at the same place, for as long as they keep up; then their
//! queues' bytes are used up, the lane waits, the assembler's queues fill and the source stops fetching. Nothing in between
//! grows without a limit.

mod builder;
pub mod core;
mod error;
mod fan_out;
pub mod hub;
mod phase;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use self::core::{CoreStart, LaneCore, Turn};
use self::fan_out::FanOut;
use self::hub::{HubSettings, Join, Joined, Shared};
use crate::decode::debezium::RawRecord;
use crate::source::kafka::{KafkaSource, Record, SourceError};
use crate::vocabulary::lsn::CommitLsn;
use crate::vocabulary::offset::{Offsets, PartitionIndex, PartitionNames, Place};
use crate::vocabulary::parcel::{Parcel, ParcelEnd, ReplicaPhase};
pub use error::LaneError;
pub use fan_out::Sealed;

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

/// How often a lane looks for new topics and reports what it waits for.
const TICK: Duration = Duration::from_secs(1);

/// Ticks for which the same is waited for before it is logged.
const TICKS_TO_WARN: u32 = 10;

/// Ticks between looking for topics that nothing has asked for.
const TICKS_PER_DISCOVERY: u32 = 10;

/// How long a new lane waits for the other replicas to join before it gives out its first parcel. Connecting to a
/// replica takes some ten milliseconds; who comes later reads alone until it has caught up.
const GATHER: Duration = Duration::from_millis(500);

/// Reads from one position on, for all replicas that stand there.
#[derive(Debug)]
struct Lane {
    id: u64,
    source: KafkaSource,
    core: LaneCore,
    names: PartitionNames,
    fan_out: FanOut,
    joins: mpsc::Receiver<Join>,
    /// Asked to be taken in within a transaction: answered at its end.
    waiting_joins: Vec<Join>,
    shared: Arc<Shared>,
    standing: Standing,
    /// What was waited for at the last tick, and for how many ticks.
    waiting: (Option<String>, u32),
}

/// Where a lane stands, for replicas that want to join.
#[derive(Debug)]
struct Standing {
    /// Where it began. Who stands there too may join as long as nothing has been given out.
    start: CoreStart,
    /// How many replicas are expected to do so, and until when they are waited for.
    expected: usize,
    gather_until: Instant,
    /// Whether a parcel has been given out.
    begun: bool,
    /// The last commit point; none within a transaction that is given out in parts.
    at: Option<CommitLsn>,
    /// The same, also within a transaction.
    position: CommitLsn,
    phase: ReplicaPhase,
}

impl Lane {
    /// Finds the partitions, checks that they hold what the checkpoint needs, and begins to read.
    ///
    /// # Errors
    /// When the source is not there, or has lost what is needed.
    async fn open(
        id: u64,
        settings: &HubSettings,
        start: CoreStart,
        shared: Arc<Shared>,
        joins: mpsc::Receiver<Join>,
        expected: usize,
    ) -> Result<Self, LaneError> {
        start.check()?;
        let expected_partitions = start.offsets.len().max(start.catalog.tables().count());
        let client_id = format!("replicator.{id}");
        let mut source = KafkaSource::new(settings.kafka.clone(), &client_id, expected_partitions)?;
        let partitions = source.discover().await?;
        // Taken for a new one later, it would be read from its beginning.
        if let Some(missing) = start.offsets.keys().find(|p| source.needs(p) && !partitions.contains(p)) {
            return Err(SourceError::Unavailable(format!(
                "{missing}, which the replica was fed from, is not there"
            ))
            .into());
        }
        let bounds = source.check_positions(&partitions, &start.offsets).await?;
        let read_from = start.read_from(&partitions, &bounds);
        source.add(&partitions, &read_from)?;
        let mut core = LaneCore::new(start.clone());
        partitions.into_iter().for_each(|partition| core.add_partition(partition));
        let names = core.names();
        tracing::info!(watermark = %start.watermark, partitions = names.len(), "reading");
        Ok(Lane {
            id,
            source,
            core,
            names,
            fan_out: FanOut::new(start.limits.channel_bytes, settings.detach_after),
            joins,
            waiting_joins: Vec::new(),
            shared,
            standing: Standing {
                at: Some(start.watermark),
                position: start.watermark,
                phase: start.phase,
                start,
                expected,
                gather_until: Instant::now() + GATHER,
                begun: false,
            },
            waiting: (None, 0),
        })
    }

    /// Reads until `stop`, which leaves unfinished transactions to the next start, or until nobody listens any more.
    ///
    /// # Errors
    /// When the source fails, or its records can't be understood. What was sent before is complete and may be applied.
    async fn run(mut self, stop: CancellationToken) -> Result<(), LaneError> {
        let result = match stop.run_until_cancelled(self.gather()).await {
            Some(()) => self.read(stop).await,
            None => Ok(()),
        };
        // librdkafka joins its threads, which may be within a system call.
        drop(tokio::task::spawn_blocking(move || drop(self)));
        result
    }

    /// Waits a moment for the replicas that are expected.
    async fn gather(&mut self) {
        while self.fan_out.count() < self.standing.expected {
            let Ok(Some(join)) = tokio::time::timeout_at(self.standing.gather_until, self.joins.recv()).await
            else {
                return;
            };
            self.admit(join);
        }
    }

    /// Takes a replica in if it stands where the lane does.
    fn admit(&mut self, join: Join) {
        let Some(at) = self.standing.at else {
            self.waiting_joins.push(join);
            return;
        };
        let joined = if self.standing.takes(&join, at) {
            let outlet = self.fan_out.subscribe(join.status);
            self.shared.readers.store(self.fan_out.count(), Ordering::Relaxed);
            Joined::Yes { at, outlet, names: self.names.clone() }
        } else {
            Joined::No
        };
        // Who asked may have gone; then nobody listens, and the subscription ends at the next parcel.
        drop(join.answer.send(joined));
    }

    async fn read(&mut self, stop: CancellationToken) -> Result<(), LaneError> {
        let wake = self.source.wake();
        let mut tick = tokio::time::interval_at(Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0u32;
        loop {
            while let Ok(join) = self.joins.try_recv() {
                self.admit(join);
            }
            let taken = self.fill()?;
            if !self.emit(&stop).await? {
                return Ok(());
            }
            if taken > 0 {
                // Other tasks of this thread, the appliers' among them, get their turn.
                tokio::task::yield_now().await;
                continue;
            }
            // In this order: stopping must not wait for anything, and records matter more than reports.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = wake.notified() => {}
                Some(join) = self.joins.recv() => self.admit(join),
                _ = tick.tick() => {
                    ticks = ticks.wrapping_add(1);
                    let readers = self.fan_out.count();
                    self.shared.readers.store(readers, Ordering::Relaxed);
                    if readers == 0 {
                        return Ok(());
                    }
                    self.report();
                    self.look_for_ends().await;
                    if ticks.is_multiple_of(TICKS_PER_DISCOVERY) || self.core.misses_topics() {
                        self.discover().await?;
                    }
                }
            }
        }
    }

    /// Takes records of every partition that has room for them.
    fn fill(&mut self) -> Result<usize, LaneError> {
        let Lane { source, core, names, .. } = self;
        source.serve()?;
        let mut taken = 0;
        for partition in 0..names.len() {
            let room = core.room(index(partition));
            if room > 0 {
                taken += source
                    .take::<LaneError>(partition, room, |record| core.accept(&raw(partition, record)))?;
            }
        }
        Ok(taken)
    }

    /// Sends all that can be assembled. False when nobody listens any more or the lane is to stop.
    async fn emit(&mut self, stop: &CancellationToken) -> Result<bool, LaneError> {
        loop {
            match self.core.turn()? {
                Turn::Starved => return Ok(true),
                Turn::NeedsEnds => {
                    let bounds = self.source.bounds(self.names.all()).await?;
                    self.core.set_ends(bounds.into_iter().map(|(p, (_, end))| (p, end)).collect());
                }
                Turn::Parcel(parcel) => {
                    self.standing.passes(&parcel);
                    if stop.run_until_cancelled(self.fan_out.send(parcel)).await.is_none() {
                        return Ok(false);
                    }
                    let readers = self.fan_out.count();
                    self.shared.readers.store(readers, Ordering::Relaxed);
                    if readers == 0 {
                        return Ok(false);
                    }
                    if let Some(at) = self.standing.at {
                        self.shared.position.store(at.0.0, Ordering::Relaxed);
                        let waiting = std::mem::take(&mut self.waiting_joins);
                        waiting.into_iter().for_each(|join| self.admit(join));
                    }
                }
            }
        }
    }

    /// Once per tick: what is waited for, which is logged when it lasts.
    fn report(&mut self) {
        let waiting_for = self.source.trouble().or_else(|| self.core.waiting_for());
        if waiting_for.is_some() && waiting_for == self.waiting.0 {
            self.waiting.1 += 1;
        } else {
            self.waiting = (waiting_for.clone(), 0);
        }
        if self.waiting.1 == TICKS_TO_WARN {
            tracing::warn!(waiting_for = waiting_for.as_deref().unwrap_or_default(), "nothing moves");
        }
        self.fan_out.report(waiting_for.as_deref(), self.core.duplicates(), self.id);
    }

    /// Where a copy waits for a partition's end and nothing comes, there may be nothing.
    async fn look_for_ends(&mut self) {
        let unreached = self.core.unreached();
        if unreached.is_empty() {
            return;
        }
        match self.source.without_records(unreached).await {
            Ok(empty) => empty.iter().for_each(|partition| self.core.set_reached(partition)),
            Err(error) => tracing::debug!(error = %error, "ends can't be looked for now"),
        }
    }

    /// Adds partitions that have appeared since.
    async fn discover(&mut self) -> Result<(), LaneError> {
        let known = self.names.all();
        let found = match self.source.discover().await {
            Ok(found) => found,
            // The partitions that are being read report an outage themselves.
            Err(error) => {
                tracing::debug!(error = %error, "topics can't be listed now");
                return Ok(());
            }
        };
        let new: Vec<_> = found.into_iter().filter(|p| !known.contains(p)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let from_the_beginning = Offsets::new();
        self.source.check_positions(&new, &from_the_beginning).await?;
        self.source.add(&new, &from_the_beginning)?;
        for partition in new {
            tracing::info!(partition = %partition, "reading a new partition");
            self.core.add_partition(partition);
        }
        Ok(())
    }
}

impl Standing {
    /// Whether a replica may be fed from the commit point `at` on.
    ///
    /// Where nothing has been given out, it has to stand exactly where the lane began. Later only replicas whose tables
    /// all stand at the watermark may join, since the lane knows nothing else of them.
    fn takes(&self, join: &Join, at: CommitLsn) -> bool {
        if !self.begun && self.start.stands_with(&join.start) {
            return true;
        }
        let is_plain =
            self.phase == ReplicaPhase::Live && self.start.is_plain_at(at) && join.start.is_plain();
        is_plain && (join.start.watermark == at || join.catches_up && join.start.watermark < at)
    }

    /// A parcel is given out.
    fn passes(&mut self, parcel: &Parcel) {
        self.begun = true;
        match &parcel.end {
            ParcelEnd::Open => self.at = None,
            ParcelEnd::Commit(point) => {
                self.phase = point.state;
                let lsn = point.transaction.map(|t| t.lsn);
                self.position = lsn.unwrap_or(self.position);
                self.at = Some(self.position);
            }
            // The parts that were given out are taken back: the lane stands where it stood before them.
            ParcelEnd::Discard => self.at = Some(self.position),
        }
    }
}

fn index(partition: usize) -> PartitionIndex {
    PartitionIndex(u32::try_from(partition).expect("the lane numbered it"))
}

fn raw<'a>(partition: usize, record: Record<'a>) -> RawRecord<'a> {
    let place = Place { partition: index(partition), offset: record.offset };
    RawRecord { place, value: record.value, old_key: record.old_key, new_key: record.new_key }
}
