//! One reading position: records from the source, assembled into parcels for the applier.
//!
//! ```text
//! partitions ─▶ decode ─▶ Assembler ─▶ ParcelBuilder ─▶ bounded channel ─▶ applier
//!               └────────── LaneCore (pure) ───────┘
//! ```
//!
//! A lane reads and decodes for as long as the applier keeps up; then the channel's bytes are used up, the lane waits,
//! the assembler's queues fill and the source stops fetching. Nothing in between grows without a limit.

mod builder;
pub mod core;
mod error;
mod phase;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use self::core::{CoreStart, LaneCore, Turn};
use crate::decode::debezium::RawRecord;
use crate::source::kafka::{KafkaSource, Record, SourceError};
use crate::status::StatusCell;
use crate::vocabulary::offset::{Offsets, PartitionIndex, PartitionNames, Place};
use crate::vocabulary::parcel::Parcel;
pub use error::LaneError;

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
    /// Bytes between lane and applier.
    pub channel_bytes: usize,
}

/// A parcel on its way to the applier, and the room that it takes there.
#[derive(Debug)]
pub struct Sealed {
    /// The parcel.
    pub parcel: Parcel,
    _room: OwnedSemaphorePermit,
}

/// How often a lane looks for new topics and reports what it waits for.
const TICK: Duration = Duration::from_secs(1);

/// How many records of the transaction topic before the checkpoint are read again, to recognise events that a killed
/// connector wrote twice. Such events stand right behind their first writing, so what matters is how far one table's topic
/// may be read behind the transaction topic: at ten thousand transactions a second this is two and a half seconds.
const LOOK_BACK: i64 = 50_000;

/// Ticks for which the same is waited for before it is logged.
const TICKS_TO_WARN: u32 = 10;

/// Ticks between looking for topics that nothing has asked for.
const TICKS_PER_DISCOVERY: u32 = 10;

/// Reads for one replica from its checkpoint on.
#[derive(Debug)]
pub struct Lane {
    source: KafkaSource,
    core: LaneCore,
    names: PartitionNames,
    channel_bytes: usize,
    room: Arc<Semaphore>,
    parcels: mpsc::Sender<Sealed>,
    status: StatusCell,
    /// What was waited for at the last tick, and for how many ticks.
    waiting: (Option<String>, u32),
}

impl Lane {
    /// Finds the partitions, checks that they hold what the checkpoint needs, and begins to read.
    ///
    /// # Errors
    /// When the source is not there, or has lost what is needed.
    pub async fn open(
        mut source: KafkaSource,
        start: CoreStart,
        status: StatusCell,
    ) -> Result<(Self, mpsc::Receiver<Sealed>, PartitionNames), LaneError> {
        let partitions = source.discover().await?;
        // Taken for a new one later, it would be read from its beginning.
        if let Some(missing) = start.offsets.keys().find(|p| !partitions.contains(p)) {
            return Err(SourceError::Unavailable(format!(
                "{missing}, which the replica was fed from, is not there"
            ))
            .into());
        }
        let bounds = source.check_positions(&partitions, &start.offsets).await?;
        let mut read_from = start.offsets.clone();
        if let Some(spine) = partitions.first()
            && let Some(needed) = read_from.get_mut(spine)
        {
            let low = bounds.get(spine).map_or(0, |(low, _)| *low);
            *needed = (*needed - LOOK_BACK).max(low);
        }
        source.add(&partitions, &read_from)?;
        let channel_bytes = start.limits.channel_bytes;
        let mut core = LaneCore::new(start);
        partitions.into_iter().for_each(|partition| core.add_partition(partition));
        let names = core.names();
        // The bytes are the limit; the number of parcels only has to be large enough not to be one.
        let (parcels, receiver) = mpsc::channel(16_384);
        let room = Arc::new(Semaphore::new(permits(channel_bytes)));
        let lane = Lane {
            source,
            core,
            names: names.clone(),
            channel_bytes,
            room,
            parcels,
            status,
            waiting: (None, 0),
        };
        Ok((lane, receiver, names))
    }

    /// Reads until `stop`, which leaves unfinished transactions to the next start.
    ///
    /// # Errors
    /// When the source fails, or its records can't be understood. What was sent before is complete and may be applied.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), LaneError> {
        let result = self.read(stop).await;
        // librdkafka joins its threads, which may be within a system call.
        drop(tokio::task::spawn_blocking(move || drop(self)));
        result
    }

    async fn read(&mut self, stop: CancellationToken) -> Result<(), LaneError> {
        let wake = self.source.wake();
        let mut tick = tokio::time::interval_at(Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0u32;
        loop {
            let taken = self.fill()?;
            if !self.emit(&stop).await? {
                return Ok(());
            }
            if taken > 0 {
                // Other tasks of this thread, the applier's among them, get their turn.
                tokio::task::yield_now().await;
                continue;
            }
            // In this order: stopping must not wait for anything, and records matter more than reports.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = wake.notified() => {}
                _ = tick.tick() => {
                    ticks = ticks.wrapping_add(1);
                    self.report();
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

    /// Sends all that can be assembled. False when the applier is gone or the lane is to stop.
    async fn emit(&mut self, stop: &CancellationToken) -> Result<bool, LaneError> {
        loop {
            match self.core.turn()? {
                Turn::Starved => return Ok(true),
                Turn::NeedsEnds => {
                    let bounds = self.source.bounds(self.names.all()).await?;
                    self.core.set_ends(bounds.into_iter().map(|(p, (_, end))| (p, end)).collect());
                }
                Turn::Parcel(parcel) => {
                    if !self.send(parcel, stop).await {
                        return Ok(false);
                    }
                }
            }
        }
    }

    async fn send(&self, parcel: Parcel, stop: &CancellationToken) -> bool {
        let wanted = permits(parcel.size_bytes).min(permits(self.channel_bytes));
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let sending = async {
            let room = Arc::clone(&self.room).acquire_many_owned(wanted).await.ok()?;
            self.parcels.send(Sealed { parcel, _room: room }).await.ok()
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            sent = sending => sent.is_some(),
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
        self.status.reading(waiting_for, self.core.duplicates());
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

/// One semaphore permit is a KiB, so that a channel of many GiB still fits its counter.
fn permits(bytes: usize) -> usize {
    bytes.div_ceil(1024).max(1)
}

fn index(partition: usize) -> PartitionIndex {
    PartitionIndex(u32::try_from(partition).expect("the lane numbered it"))
}

fn raw<'a>(partition: usize, record: Record<'a>) -> RawRecord<'a> {
    let place = Place { partition: index(partition), offset: record.offset };
    RawRecord { place, value: record.value, old_key: record.old_key, new_key: record.new_key }
}
