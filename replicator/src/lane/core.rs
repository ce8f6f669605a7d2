//! What a lane does with records, without the source they come from: bytes in, parcels out.
//!
//! Pure, so that captured events can be replayed through it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::builder::ParcelBuilder;
use super::phase::PhaseTracker;
use super::{LaneError, LaneLimits};
use crate::assemble::{AssembleError, Assembler, Event};
use crate::decode::debezium::{Boundary, Collection, Decoded, Decoder, RawRecord, decode_boundary};
use crate::source::kafka::SourceError;
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use crate::vocabulary::offset::{Offsets, PartitionIndex, PartitionNames, Place, TopicPartition};
use crate::vocabulary::parcel::{Committed, Parcel, ReplicaPhase};
use crate::vocabulary::schema::{Catalog, TableName};

/// The transaction topic is the first partition of every lane.
pub const SPINE: PartitionIndex = PartitionIndex(0);

/// Where a lane goes on, and with what.
#[derive(Debug, Clone)]
pub struct CoreStart {
    /// The connector's topic prefix.
    pub topic_prefix: String,
    /// The topics' records into changes.
    pub decoder: Decoder,
    /// The replica's tables.
    pub catalog: Arc<Catalog>,
    /// Tables, as `schema.table`, that are counted and not applied.
    pub exclude_tables: Vec<String>,
    /// The replica's watermark.
    pub watermark: CommitLsn,
    /// Whether its tables agree.
    pub phase: ReplicaPhase,
    /// The offsets from which reading goes on.
    pub offsets: Offsets,
    /// At which position each table's snapshot was taken.
    pub snapshots: HashMap<TableName, Lsn>,
    /// Transactions known to be applied although they stand ahead in the topics.
    pub repeats: Vec<Xid>,
    /// Bounds.
    pub limits: LaneLimits,
}

impl CoreStart {
    /// Whether both replicas need exactly the same records, and the same of them.
    pub fn stands_with(&self, other: &CoreStart) -> bool {
        self.watermark == other.watermark
            && self.phase == other.phase
            && self.offsets == other.offsets
            && self.snapshots == other.snapshots
            && self.repeats == other.repeats
    }

    /// Whether the watermark says all about the replica: every table stands there.
    pub fn is_plain(&self) -> bool {
        self.phase == ReplicaPhase::Live && self.is_plain_at(self.watermark)
    }

    /// Whether no table was copied at a later position than this.
    pub fn is_plain_at(&self, watermark: CommitLsn) -> bool {
        self.snapshots.values().all(|copied_at| *copied_at <= watermark.0)
    }
}

/// What the core has for its lane.
#[derive(Debug)]
pub enum Turn {
    /// For the applier.
    Parcel(Parcel),
    /// [`LaneCore::set_ends`] has to be called with the end of every partition's log before it can go on.
    NeedsEnds,
    /// For records.
    Starved,
}

/// A lane's state.
#[derive(Debug)]
pub struct LaneCore {
    topic_prefix: String,
    names: PartitionNames,
    topics: HashMap<String, Collection>,
    decoder: Decoder,
    assembler: Assembler,
    builder: ParcelBuilder,
    phase: PhaseTracker,
    /// From where each partition is needed.
    offsets: Offsets,
    limits: LaneLimits,
    /// Where the transaction topic goes on; what stands before it only tells what was applied.
    spine_from: i64,
    /// The replica's watermark at the start.
    watermark: CommitLsn,
    /// Whether anything before `spine_from` was read, and whether the transaction at the watermark was there.
    looked_back: bool,
    anchored: bool,
    /// The last offset of each partition.
    last_offsets: Vec<i64>,
    /// A transaction that is complete while the phase is not known.
    held: Option<Committed>,
}

impl LaneCore {
    /// A core without partitions. The transaction topic's has to be added first.
    pub fn new(start: CoreStart) -> Self {
        LaneCore {
            topics: topics_of(&start.catalog, &start.exclude_tables, &start.topic_prefix),
            topic_prefix: start.topic_prefix,
            names: PartitionNames::default(),
            decoder: start.decoder,
            assembler: Assembler::new(SPINE, start.watermark, &start.repeats),
            builder: ParcelBuilder::new(start.limits, start.snapshots),
            phase: PhaseTracker::new(start.phase, start.offsets.clone()),
            offsets: start.offsets,
            limits: start.limits,
            spine_from: 0,
            watermark: start.watermark,
            looked_back: false,
            anchored: false,
            last_offsets: Vec::new(),
            held: None,
        }
    }

    /// The partitions' names; shared, and growing with [`LaneCore::add_partition`].
    pub fn names(&self) -> PartitionNames {
        self.names.clone()
    }

    /// Adds a partition. The first is the transaction topic's.
    pub fn add_partition(&mut self, partition: TopicPartition) {
        let messages = *partition.topic == *format!("{}.message", self.topic_prefix);
        let table = self.topics.get(&*partition.topic).cloned();
        if self.names.is_empty() {
            self.spine_from = self.offsets.get(&partition).copied().unwrap_or(0);
        }
        let index = self.names.add(partition);
        self.last_offsets.push(-1);
        if index != SPINE {
            let collection = if messages { Some(Collection::Messages) } else { table };
            self.assembler.add_partition(index, collection);
        }
    }

    /// How many more records a partition may have waiting.
    pub fn room(&self, partition: PartitionIndex) -> usize {
        let (records, bytes) = self.assembler.queued(partition);
        if bytes >= self.limits.queue_bytes { 0 } else { self.limits.queue_records.saturating_sub(records) }
    }

    /// Takes in a record. One that can't be understood is reported when its turn comes, so that what stands before it is
    /// applied first.
    ///
    /// # Errors
    /// When the topic is not the one that the replica was fed from, or its records come out of order.
    pub fn accept(&mut self, record: &RawRecord<'_>) -> Result<(), LaneError> {
        let place = record.place;
        let last = &mut self.last_offsets[place.partition.get()];
        if *last >= place.offset {
            let at = self.names.describe(place);
            return Err(SourceError::Unavailable(format!("{at} came again, after {last}")).into());
        }
        *last = place.offset;
        if place.partition == SPINE {
            return self.accept_boundary(record);
        }
        let decoded = self.decoder.decode(record).unwrap_or_else(|error| Decoded::Refused(Box::new(error)));
        let size_bytes = record.value.map_or(0, <[u8]>::len);
        self.assembler.push(place.partition, place.offset, size_bytes, decoded);
        Ok(())
    }

    fn accept_boundary(&mut self, record: &RawRecord<'_>) -> Result<(), LaneError> {
        let place = record.place;
        let boundary = record.value.map(decode_boundary).transpose().map_err(Box::new);
        if place.offset >= self.spine_from {
            self.check_anchor()?;
            self.assembler.push_boundary(place.offset, boundary);
            return Ok(());
        }
        self.looked_back = true;
        if let Ok(Some(boundary)) = boundary {
            self.anchored |= matches!(&boundary, Boundary::End { lsn, .. } if *lsn == self.watermark);
            self.assembler.remember(&boundary);
        }
        Ok(())
    }

    /// The transaction at the watermark has to stand before the position to go on from. A topic that was made anew holds
    /// other records at the same offsets.
    fn check_anchor(&self) -> Result<(), LaneError> {
        if self.anchored || !self.looked_back || self.watermark == CommitLsn::default() {
            return Ok(());
        }
        let partition = self.names.get(SPINE);
        Err(SourceError::Replaced { partition, needed: self.spine_from, watermark: self.watermark }.into())
    }

    /// What can be said with the records that have come.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn turn(&mut self) -> Result<Turn, LaneError> {
        loop {
            if let Some(committed) = self.held {
                let Some(phase) = self.phase.at_commit(&self.names, &self.assembler) else {
                    return Ok(Turn::NeedsEnds);
                };
                self.held = None;
                return Ok(Turn::Parcel(self.builder.commit(committed, self.assembler.take_moved(), phase)));
            }
            let event = self.assembler.next_event().map_err(|error| {
                let at = match &error {
                    AssembleError::Refused { partition, offset, .. } => {
                        self.names.describe(Place { partition: *partition, offset: *offset })
                    }
                    error => self.names.get(error.partition().unwrap_or(SPINE)).to_string(),
                };
                LaneError::Assemble { at, error: Box::new(error) }
            })?;
            let parcel = match event {
                Some(Event::Change(change)) => self.builder.change(change),
                Some(Event::Copy(row)) => {
                    self.phase.copying();
                    self.builder.copy(row, &mut self.assembler, self.phase.current())
                }
                Some(Event::Commit(committed)) => {
                    self.held = Some(committed);
                    None
                }
                Some(Event::Discard(xid)) => self.builder.discard(xid)?,
                None => {
                    let copied = self.builder.flush_copies(&mut self.assembler, self.phase.current());
                    return Ok(copied.map_or(Turn::Starved, Turn::Parcel));
                }
            };
            if let Some(parcel) = parcel {
                return Ok(Turn::Parcel(parcel));
            }
        }
    }

    /// The offsets after the last record of every partition, as of now.
    pub fn set_ends(&mut self, ends: BTreeMap<TopicPartition, i64>) {
        self.phase.set_ends(ends);
    }

    /// What the open transaction lacks, in words.
    pub fn waiting_for(&self) -> Option<String> {
        self.assembler.waiting_for()
    }

    /// Whether the open transaction counts tables whose topic is not known yet.
    pub fn misses_topics(&self) -> bool {
        !self.assembler.unknown_collections().is_empty()
    }

    /// Repeated events dropped so far.
    pub fn duplicates(&self) -> u64 {
        self.assembler.duplicates()
    }
}

/// The topics that Debezium writes these tables to: names that Kafka refuses are sanitised, and two tables may end up in
/// one topic. Only a hint for the assembler; which table an event is about, the event itself says.
fn topics_of(catalog: &Catalog, excluded: &[String], prefix: &str) -> HashMap<String, Collection> {
    let topic = |table: &str| -> String {
        let legal = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        format!("{prefix}.{table}").chars().map(legal).collect()
    };
    let names =
        catalog.tables().map(|t| Arc::clone(&t.full_name)).chain(excluded.iter().map(|t| t.as_str().into()));
    let mut tables: HashMap<String, BTreeSet<Collection>> = HashMap::new();
    for name in names {
        tables.entry(topic(&name)).or_default().insert(Collection::Table(name));
    }
    let single = tables.into_iter().filter(|(_, collections)| collections.len() == 1);
    single.filter_map(|(topic, collections)| Some((topic, collections.into_iter().next()?))).collect()
}
