//! What a lane does with records, without the source they come from: bytes in, parcels out.
//!
//! Pure, so that captured events can be replayed through it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::builder::ParcelBuilder;
use super::phase::PhaseTracker;
use super::{LaneError, LaneLimits};
use crate::assemble::{Assembler, Event};
use crate::decode::debezium::{Collection, Decoder, RawRecord, decode_boundary};
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use crate::vocabulary::offset::{Offsets, PartitionIndex, PartitionNames, TopicPartition};
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
    /// A transaction that is complete while the phase is not known.
    held: Option<Committed>,
}

impl LaneCore {
    /// A core without partitions. The transaction topic's has to be added first.
    pub fn new(start: CoreStart) -> Self {
        LaneCore {
            topics: topics_of(&start.catalog, &start.topic_prefix),
            topic_prefix: start.topic_prefix,
            names: PartitionNames::default(),
            decoder: start.decoder,
            assembler: Assembler::new(SPINE, start.watermark, &start.repeats),
            builder: ParcelBuilder::new(start.limits, start.snapshots),
            phase: PhaseTracker::new(start.phase, start.offsets.clone()),
            offsets: start.offsets,
            limits: start.limits,
            spine_from: 0,
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

    /// Takes in a record. Records of one partition come in the order of their offsets.
    ///
    /// # Errors
    /// When it can't be understood.
    pub fn accept(&mut self, record: &RawRecord<'_>) -> Result<(), LaneError> {
        let place = record.place;
        let refused = |error| LaneError::Decode { at: self.names.describe(place), error: Box::new(error) };
        if place.partition == SPINE {
            let boundary = record.value.map(decode_boundary).transpose().map_err(refused)?;
            match boundary {
                Some(boundary) if place.offset < self.spine_from => self.assembler.remember(&boundary),
                boundary => self.assembler.push_boundary(place.offset, boundary),
            }
        } else {
            let decoded = self.decoder.decode(record).map_err(refused)?;
            let size_bytes = record.value.map_or(0, <[u8]>::len);
            self.assembler.push(place.partition, place.offset, size_bytes, decoded);
        }
        Ok(())
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
