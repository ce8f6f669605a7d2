//! One reading position: records from the source, assembled into parcels for the applier.
//!
//! ```text
//! partitions ─▶ decode ─▶ Assembler ─▶ ParcelBuilder ─▶ bounded channel ─▶ applier
//! ```
//!
//! A lane reads and decodes for as long as the applier keeps up; then the channel's bytes are used up, the lane waits,
//! the assembler's queues fill and the source stops fetching. Nothing in between grows without a limit.

mod builder;
mod error;
mod phase;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::assemble::{Assembler, Event};
use crate::decode::debezium::{Collection, Decoder, RawRecord, decode_boundary};
use crate::replica::checkpoint::Checkpoint;
use crate::source::kafka::{KafkaSource, Record};
use crate::status::StatusCell;
use crate::vocabulary::lsn::Xid;
use crate::vocabulary::offset::{Offsets, PartitionIndex, PartitionNames, Place, TopicPartition};
use crate::vocabulary::parcel::Parcel;
use crate::vocabulary::schema::{Catalog, TableName};
use builder::ParcelBuilder;
pub use error::LaneError;
use phase::PhaseTracker;

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

/// The transaction topic is the first partition of every lane.
const SPINE: PartitionIndex = PartitionIndex(0);

/// How often a lane looks for new topics and reports what it waits for.
const TICK: Duration = Duration::from_secs(1);

/// Ticks between looking for topics that nothing has asked for.
const TICKS_PER_DISCOVERY: u32 = 10;

/// Reads for one replica from its checkpoint on.
pub struct Lane {
    source: KafkaSource,
    assembler: Assembler,
    decoder: Decoder,
    names: PartitionNames,
    builder: ParcelBuilder,
    phase: PhaseTracker,
    topics: HashMap<String, Collection>,
    limits: LaneLimits,
    room: Arc<Semaphore>,
    parcels: mpsc::Sender<Sealed>,
    status: StatusCell,
}

/// What a lane needs to begin.
pub struct LaneStart<'a> {
    /// The consumer, without partitions.
    pub source: KafkaSource,
    /// The replica's tables.
    pub catalog: Arc<Catalog>,
    /// Where to go on.
    pub checkpoint: &'a Checkpoint,
    /// The connector's topic prefix.
    pub topic_prefix: &'a str,
    /// The connector's `unavailable.value.placeholder`.
    pub placeholder: &'a str,
    /// Transactions known to be applied although they stand ahead in the topics.
    pub repeats: &'a [Xid],
    /// Bounds.
    pub limits: LaneLimits,
    /// Where to report.
    pub status: StatusCell,
}

impl Lane {
    /// Finds the partitions, checks that they hold what the checkpoint needs, and begins to read.
    ///
    /// # Errors
    /// When the source is not there, or has lost what is needed.
    pub async fn open(
        start: LaneStart<'_>,
    ) -> Result<(Self, mpsc::Receiver<Sealed>, PartitionNames), LaneError> {
        let LaneStart { mut source, catalog, checkpoint, topic_prefix, placeholder, repeats, limits, status } =
            start;
        let partitions = source.discover().await?;
        source.check_positions(&partitions, &checkpoint.offsets).await?;
        source.add(&partitions, &checkpoint.offsets)?;
        let names = PartitionNames::default();
        let topics = topics_of(&catalog, topic_prefix);
        let mut assembler = Assembler::new(SPINE, checkpoint.watermark, repeats);
        for partition in partitions {
            add_partition(&mut assembler, &names, &topics, partition, topic_prefix);
        }
        // The bytes are the limit; the number of parcels only has to be large enough not to be one.
        let (sender, receiver) = mpsc::channel(16_384);
        let lane = Lane {
            source,
            assembler,
            decoder: Decoder::new(catalog, placeholder),
            names: names.clone(),
            builder: ParcelBuilder::new(limits, checkpoint.snapshots.clone()),
            phase: PhaseTracker::new(checkpoint.phase, checkpoint.offsets.clone()),
            topics,
            limits,
            room: Arc::new(Semaphore::new(permits(limits.channel_bytes))),
            parcels: sender,
            status,
        };
        Ok((lane, receiver, names))
    }

    /// Reads until `stop`, which leaves unfinished transactions to the next start.
    ///
    /// # Errors
    /// When the source fails, or its records can't be understood. What was sent before is complete and may be applied.
    pub async fn run(mut self, topic_prefix: String, stop: CancellationToken) -> Result<(), LaneError> {
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
                    if ticks.is_multiple_of(TICKS_PER_DISCOVERY) || !self.assembler.unknown_collections().is_empty() {
                        self.discover(&topic_prefix).await?;
                    }
                }
            }
        }
    }

    /// Takes records of every partition that has room for them.
    fn fill(&mut self) -> Result<usize, LaneError> {
        let Lane { source, assembler, decoder, names, .. } = self;
        let mut push = |partition: usize, record: Record<'_>| {
            let index = PartitionIndex(u32::try_from(partition).expect("the lane numbered it"));
            let place = Place { partition: index, offset: record.offset };
            accept(assembler, decoder, place, record)
                .map_err(|error| LaneError::Decode { at: names.describe(place), error: Box::new(error) })
        };
        source.serve::<LaneError>(&mut push)?;
        let mut taken = 0;
        for partition in 0..self.names.len() {
            let index = PartitionIndex(u32::try_from(partition).expect("the lane numbered it"));
            let (records, bytes) = self.assembler.queued(index);
            if records >= self.limits.queue_records || bytes >= self.limits.queue_bytes {
                continue;
            }
            let Lane { source, assembler, decoder, names, .. } = self;
            let free = self.limits.queue_records - records;
            taken += source.take::<LaneError>(partition, free, |record| {
                let place = Place { partition: index, offset: record.offset };
                accept(assembler, decoder, place, record)
                    .map_err(|error| LaneError::Decode { at: names.describe(place), error: Box::new(error) })
            })?;
        }
        Ok(taken)
    }

    /// Sends all that can be assembled. False when the applier is gone or the lane is to stop.
    async fn emit(&mut self, stop: &CancellationToken) -> Result<bool, LaneError> {
        loop {
            let event = self.assembler.next_event().map_err(|error| LaneError::Assemble {
                at: self.names.get(error.partition().unwrap_or(SPINE)).to_string(),
                error: Box::new(error),
            })?;
            let parcel = match event {
                Some(Event::Change(change)) => self.builder.change(change),
                Some(Event::Copy(row)) => {
                    self.phase.copying();
                    self.builder.copy(row, &mut self.assembler, self.phase.current())
                }
                Some(Event::Commit(committed)) => {
                    let phase = self.phase.at_commit(&self.source, &self.names, &self.assembler).await?;
                    Some(self.builder.commit(committed, self.assembler.take_moved(), phase))
                }
                Some(Event::Discard(xid)) => self.builder.discard(xid)?,
                None => match self.builder.flush_copies(&mut self.assembler, self.phase.current()) {
                    Some(parcel) => Some(parcel),
                    None => return Ok(true),
                },
            };
            if let Some(parcel) = parcel
                && !self.send(parcel, stop).await
            {
                return Ok(false);
            }
        }
    }

    async fn send(&self, parcel: Parcel, stop: &CancellationToken) -> bool {
        let bytes: usize = parcel.changes.iter().map(crate::vocabulary::change::Change::size_bytes).sum();
        let wanted = permits(bytes).min(permits(self.limits.channel_bytes));
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

    fn report(&self) {
        let waiting = self.source.trouble().or_else(|| self.assembler.waiting_for());
        self.status.set_waiting_for(waiting);
        self.status.set_duplicates(self.assembler.duplicates());
    }

    /// Adds partitions that have appeared since.
    async fn discover(&mut self, topic_prefix: &str) -> Result<(), LaneError> {
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
        let nothing = Offsets::new();
        self.source.check_positions(&new, &nothing).await?;
        self.source.add(&new, &nothing)?;
        for partition in new {
            tracing::info!(partition = %partition, "reading a new partition");
            add_partition(&mut self.assembler, &self.names, &self.topics, partition, topic_prefix);
        }
        Ok(())
    }
}

/// One semaphore permit is a KiB, so that a channel of many GiB still fits its counter.
fn permits(bytes: usize) -> usize {
    bytes.div_ceil(1024).max(1)
}

fn accept(
    assembler: &mut Assembler,
    decoder: &Decoder,
    place: Place,
    record: Record<'_>,
) -> Result<(), crate::decode::debezium::DecodeError> {
    if place.partition == SPINE {
        let boundary = record.value.map(decode_boundary).transpose()?;
        assembler.push_boundary(place.offset, boundary);
        return Ok(());
    }
    let raw = RawRecord { place, value: record.value, old_key: record.old_key, new_key: record.new_key };
    let decoded = decoder.decode(&raw)?;
    assembler.push(place.partition, place.offset, record.value.map_or(0, <[u8]>::len), decoded);
    Ok(())
}

fn add_partition(
    assembler: &mut Assembler,
    names: &PartitionNames,
    topics: &HashMap<String, Collection>,
    partition: TopicPartition,
    topic_prefix: &str,
) {
    let collection = topics.get(&*partition.topic).cloned();
    let messages = *partition.topic == *format!("{topic_prefix}.message");
    let index = names.add(partition);
    if index != SPINE {
        assembler.add_partition(index, if messages { Some(Collection::Messages) } else { collection });
    }
}

/// The topics that Debezium writes these tables to: names that Kafka refuses are sanitised, and two tables may end up in
/// one topic. Only a hint for the assembler; which table an event is about, the event itself says.
fn topics_of(catalog: &Catalog, prefix: &str) -> HashMap<String, Collection> {
    let topic = |name: &TableName| -> String {
        let legal = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        format!("{prefix}.{}.{}", name.schema, name.name).chars().map(legal).collect()
    };
    let mut tables: HashMap<String, Vec<Collection>> = HashMap::new();
    for table in catalog.tables() {
        let collection = Collection::Table(Arc::clone(&table.full_name));
        tables.entry(topic(&table.name)).or_default().push(collection);
    }
    let single = tables.into_iter().filter(|(_, collections)| collections.len() == 1);
    single.filter_map(|(topic, collections)| Some((topic, collections.into_iter().next()?))).collect()
}
