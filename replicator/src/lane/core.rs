//! What a lane does with records, without the source they come from: bytes in, parcels out.
//!
//! Pure, so that captured events can be replayed through it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::builder::ParcelBuilder;
use super::copied::Copied;
use super::phase::PhaseTracker;
use super::recent::{Beside, Recent};
use super::start::LaneStart;
use super::{LaneError, LaneLimits};
use crate::assemble::{AssembleError, Assembler, Event};
use crate::decode::debezium::{
    Boundary, Collection, CopiedRow, Decoded, Decoder, RawRecord, Transactions, decode_boundary, is_boundary,
};
use crate::source::kafka::SourceError;
use crate::vocabulary::change::Change;
use crate::vocabulary::fence::Fence;
use crate::vocabulary::lsn::CommitLsn;
use crate::vocabulary::offset::{Offsets, PartitionIndex, PartitionNames, Place, TopicPartition};
use crate::vocabulary::parcel::{Committed, Parcel, ReplicaPhase};
use crate::vocabulary::schema::Catalog;

/// The transaction topic is the first partition of every lane, unless transactions are absent.
pub const SPINE: PartitionIndex = PartitionIndex(0);

/// How long after the last row of an incremental snapshot it need not be known any more which rows were changed.
const QUIET_MS: i64 = 600_000;

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
    transactions: Transactions,
    /// Whether the transaction topic holds other events, too.
    mixed: bool,
    /// Whether a table is spread over several partitions.
    split: bool,
    /// Where each partition goes on; what stands before it only tells what was applied.
    needed_from: Vec<i64>,
    /// The replica's watermark at the start.
    watermark: CommitLsn,
    /// What the replica was made from, while the watermark has not passed it.
    copied: Option<Fence>,
    /// What is to be found there of transactions before the position to go on from, until the first one ends behind it.
    before: Option<Copied>,
    /// Whether anything of the transaction topic before that was read, and whether the transaction at the watermark was there.
    looked_back: bool,
    anchored: bool,
    /// Which rows were changed lately, if that has to be known.
    recent: Option<Recent>,
    /// When the newest record was written that was taken in, in milliseconds since 1970; and the newest row of an incremental
    /// snapshot that was given out.
    written_to_ms: Option<i64>,
    incremental_at_ms: Option<i64>,
    /// The partitions of which what stands before the position to go on from is still to come, if that has to be known, with
    /// the offset from which they are read: it may concern rows that come through others.
    looking_back: BTreeMap<PartitionIndex, i64>,
    /// The last offset of each partition.
    last_offsets: Vec<i64>,
    /// A transaction that is complete while the phase is not known.
    held: Option<Committed>,
}

impl LaneCore {
    /// A core without partitions. The transaction topic's has to be added first. `topic_prefix` is the connector's.
    ///
    /// # Errors
    /// When the replica was fed without transactions, and is to have them now: from where on is not known.
    pub fn new(start: LaneStart, decoder: Decoder, topic_prefix: String) -> Result<Self, LaneError> {
        let transactions = decoder.transactions();
        if transactions == Transactions::Required && start.phase == ReplicaPhase::Degraded {
            return Err(LaneError::WithoutTransactions);
        }
        let spine = (transactions == Transactions::Required).then_some(SPINE);
        let fenced_until = start.fences.end();
        let mut assembler = Assembler::new(spine, start.watermark, &start.repeats);
        assembler.set_copied(start.fences.whole.clone());
        assembler.set_queue_records(start.limits.queue_records);
        Ok(LaneCore {
            topics: topics_of(&start.catalog, decoder.excluded(), &topic_prefix),
            topic_prefix,
            names: PartitionNames::default(),
            decoder,
            assembler,
            before: start.fences.whole.clone().map(Copied::new),
            copied: start.fences.whole.clone(),
            builder: ParcelBuilder::new(start.limits, start.snapshots, start.fences),
            recent: start.looks_back.then(Recent::default),
            written_to_ms: None,
            incremental_at_ms: None,
            phase: PhaseTracker::new(start.phase, transactions, start.offsets.clone(), fenced_until),
            offsets: start.offsets,
            limits: start.limits,
            transactions,
            mixed: false,
            split: false,
            needed_from: Vec::new(),
            watermark: start.watermark,
            looked_back: false,
            anchored: false,
            looking_back: BTreeMap::new(),
            last_offsets: Vec::new(),
            held: None,
        })
    }

    /// The partitions' names; shared, and growing with [`LaneCore::add_partition`].
    pub fn names(&self) -> PartitionNames {
        self.names.clone()
    }

    /// Adds a partition. The first is the transaction topic's, unless transactions are absent.
    pub fn add_partition(&mut self, partition: TopicPartition) {
        let topic = Arc::clone(&partition.topic);
        let is_spine = self.names.is_empty() && self.transactions == Transactions::Required;
        let is_only_spine = is_spine && *topic == *format!("{}.transaction", self.topic_prefix);
        let needed_from = self.offsets.get(&partition).copied();
        self.mixed |= is_spine && !is_only_spine;
        self.split |= partition.partition > 0;
        let index = self.names.add(partition);
        self.last_offsets.push(-1);
        self.needed_from.push(needed_from.unwrap_or(0));
        if self.split {
            self.builder.split();
            self.assembler.split();
        }
        if !is_only_spine {
            let messages = *topic == *format!("{}.message", self.topic_prefix);
            let named = if messages { Some(&Collection::Messages) } else { self.topics.get(&*topic) };
            self.assembler.add_partition(index, named);
        }
    }

    /// Tells from where the partitions are read, once they were added.
    pub fn look_back_from(&mut self, from: &Offsets) {
        if self.recent.is_none() {
            return;
        }
        let names = (0u32..).zip(self.names.all()).zip(&self.needed_from);
        let read_before = names.filter_map(|((index, name), needed)| {
            let from = *from.get(&name)?;
            (from < *needed).then_some((PartitionIndex(index), from))
        });
        self.looking_back = read_before.collect();
    }

    /// How many more records a partition may have waiting.
    pub fn room(&self, partition: PartitionIndex) -> usize {
        let (records, bytes) = self.assembler.queued(partition);
        let is_spine = partition == SPINE && self.has_spine_apart();
        let ahead = is_spine.then(|| self.assembler.looks_ahead()).flatten();
        let limit = ahead.unwrap_or(self.limits.queue_records);
        if bytes >= self.limits.queue_bytes { 0 } else { limit.saturating_sub(records) }
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
        if place.offset + 1 >= self.needed_from[place.partition.get()] {
            self.looking_back.remove(&place.partition);
        }
        let is_spine = place.partition == SPINE && self.transactions == Transactions::Required;
        if is_spine && (!self.mixed || record.value.is_some_and(is_boundary)) {
            return self.accept_boundary(record);
        }
        let decoded = self.decoder.decode(record).unwrap_or_else(|error| Decoded::Refused(Box::new(error)));
        if place.offset < self.needed_from[place.partition.get()] {
            self.assembler.remember_loose(place.partition, &decoded);
            if let Some(recent) = &mut self.recent
                && let Some((change, lsn)) = decoded.change()
            {
                recent.remember(change, lsn, record.written_at_ms);
            }
            return Ok(());
        }
        self.written_to_ms = self.written_to_ms.max(record.written_at_ms);
        let size_bytes = record.value.map_or(0, <[u8]>::len);
        self.assembler.push(place.partition, place.offset, size_bytes, decoded);
        Ok(())
    }

    fn accept_boundary(&mut self, record: &RawRecord<'_>) -> Result<(), LaneError> {
        let place = record.place;
        let boundary = record.value.map(decode_boundary).transpose().map_err(Box::new);
        if place.offset >= self.needed_from[SPINE.get()] {
            self.check_anchor()?;
            if let Ok(Some(Boundary::End { xid, lsn, .. })) = &boundary
                && let Some(before) = self.before.take()
            {
                before.check(*xid, *lsn)?;
            }
            self.assembler.push_boundary(place.offset, boundary);
            return Ok(());
        }
        self.looked_back = true;
        if let Ok(Some(boundary)) = boundary {
            if let Boundary::End { xid, lsn, .. } = &boundary {
                self.anchored |= *lsn == self.watermark;
                if let Some(before) = &mut self.before {
                    before.note(*xid, *lsn, self.watermark);
                }
            }
            self.assembler.remember(&boundary);
        }
        Ok(())
    }

    /// The transaction at the watermark has to stand before the position to go on from. A topic that was made anew holds
    /// other records at the same offsets.
    fn check_anchor(&self) -> Result<(), LaneError> {
        // A copy brings its own position with it, in topics that may be other ones than the watermark is from.
        let is_copy = self.copied.as_ref().is_some_and(|copied| !copied.is_passed_by(self.watermark));
        if self.anchored || is_copy || !self.looked_back || self.watermark == CommitLsn::default() {
            return Ok(());
        }
        let partition = self.names.get(SPINE);
        Err(SourceError::Replaced {
            partition,
            needed: self.needed_from[SPINE.get()],
            watermark: self.watermark,
        }
        .into())
    }

    /// What can be said with the records that have come.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn turn(&mut self) -> Result<Turn, LaneError> {
        if !self.looking_back.is_empty() {
            // What is still to come may say something about any row.
            return Ok(Turn::Starved);
        }
        loop {
            if let Some(committed) = self.held {
                let Some(phase) = self.phase.at_commit(committed.lsn, &self.names, &self.assembler) else {
                    return Ok(Turn::NeedsEnds);
                };
                self.held = None;
                if self.copied.take_if(|copied| copied.is_passed_by(committed.lsn)).is_some() {
                    // Kept for ever, it would take ids for its own that have come round.
                    self.assembler.set_copied(None);
                }
                return Ok(Turn::Parcel(self.builder.commit(committed, self.assembler.take_moved(), phase)));
            }
            let event = if self.split && !self.phase.stream_may_begin(&self.names, &self.assembler) {
                // Between the partitions of one table only transactions tell the order, and snapshot rows are in none: all
                // of them first.
                match self.assembler.next_copy() {
                    None if self.phase.wants_ends() && self.assembler.has_begun() => {
                        return Ok(Turn::NeedsEnds);
                    }
                    None => {
                        self.assembler.check_refused().map_err(|error| self.located(error))?;
                        None
                    }
                    copy => copy.map(Event::Copy),
                }
            } else {
                self.next_event()?
            };
            let parcel = match event {
                Some(Event::Change(change)) => {
                    self.note(&change);
                    self.builder.change(change, self.assembler.open_xid())
                }
                Some(Event::Copy(row)) => {
                    let Some(Beside { row, rest }) = self.admit(row)? else { continue };
                    self.phase.copying();
                    self.builder.copy(row, rest, &mut self.assembler, self.phase.current())
                }
                Some(Event::Commit(committed)) => {
                    self.held = Some(committed);
                    None
                }
                Some(Event::Loose(change)) => {
                    self.note(&change);
                    self.builder.loose(change, &mut self.assembler, self.phase.current())
                }
                Some(Event::Discard(xid)) => self.builder.discard(xid)?,
                None if self.assembler.wants_ends() => return Ok(Turn::NeedsEnds),
                None => {
                    let copied = self.builder.flush(&mut self.assembler, self.phase.current());
                    return Ok(copied.map_or(Turn::Starved, Turn::Parcel));
                }
            };
            if let Some(parcel) = parcel {
                return Ok(Turn::Parcel(parcel));
            }
        }
    }

    /// A change is given out.
    fn note(&mut self, change: &Change) {
        let Some(recent) = &mut self.recent else { return };
        let quiet_ms = self.written_to_ms.zip(self.incremental_at_ms).map(|(now, then)| now - then);
        if quiet_ms.is_some_and(|quiet_ms| quiet_ms > QUIET_MS) {
            self.recent = None;
            return;
        }
        // Not when the change itself was written, which is no later.
        recent.note(change, self.written_to_ms);
    }

    /// What is to become of a snapshot row, beside what the stream has said.
    ///
    /// # Errors
    /// When it has to be known which rows were changed lately.
    fn admit(&mut self, row: CopiedRow) -> Result<Option<Beside>, LaneError> {
        if self.builder.is_superseded(&row, self.phase.current()) {
            return Ok(None);
        }
        if row.begins_history() {
            return Ok(Some(Beside { row, rest: None }));
        }
        self.incremental_at_ms = self.incremental_at_ms.max(row.written_at_ms);
        let Some(recent) = &self.recent else {
            return Err(LaneError::LookBack { table: row.change.table.name.clone() });
        };
        Ok(recent.beside(row))
    }

    fn next_event(&mut self) -> Result<Option<Event>, LaneError> {
        self.assembler.next_event().map_err(|error| self.located(error))
    }

    /// The error, with its place.
    fn located(&self, error: AssembleError) -> LaneError {
        let at = match &error {
            AssembleError::Refused { partition, offset, .. } => {
                self.names.describe(Place { partition: *partition, offset: *offset })
            }
            error => self.names.get(error.partition().unwrap_or(SPINE)).to_string(),
        };
        LaneError::Assemble { at, error: Box::new(error) }
    }

    /// Partitions whose end has to be reached before the replica is live, and that have given nothing for now: with the
    /// offset that would come next.
    pub fn unreached(&self) -> Vec<(TopicPartition, i64)> {
        let mut unreached = self.phase.unreached(&self.names, &self.assembler);
        unreached.extend(self.looking_back.keys().map(|index| (self.names.get(*index), self.next(*index))));
        let of_transaction = self.assembler.unreached();
        unreached.extend(
            of_transaction
                .into_iter()
                .map(|(index, next)| (self.names.get(index), next.max(self.needed_from[index.get()]))),
        );
        unreached
    }

    /// The partitions that have room, with the offset of the record that each wants next.
    pub fn wanted(&self) -> Vec<(TopicPartition, i64)> {
        let names = self.names.all().into_iter().zip((0u32..).map(PartitionIndex));
        let wanted = names.filter(|(_, index)| self.room(*index) > 0);
        wanted.map(|(name, index)| (name, self.next(index))).collect()
    }

    /// The offset of the record that a partition is to give next.
    fn next(&self, partition: PartitionIndex) -> i64 {
        let last = self.last_offsets[partition.get()];
        // Before the first record: what only tells of the past is not wanted for itself.
        let from = self.looking_back.get(&partition).unwrap_or(&self.needed_from[partition.get()]);
        if last < 0 { *from } else { last + 1 }
    }

    /// There is no record between a partition's position and its end as it was told: only marks of Kafka's own
    /// transactions, or records of aborted ones.
    pub fn set_reached(&mut self, partition: &TopicPartition) {
        self.phase.set_reached(partition);
        let index = self.names.all().iter().position(|p| p == partition);
        if let Some(index) = index.and_then(|index| u32::try_from(index).ok()) {
            self.looking_back.remove(&PartitionIndex(index));
            self.assembler.set_reached(PartitionIndex(index));
        }
    }

    /// The offsets after the last record of every partition, as of now.
    pub fn set_ends(&mut self, ends: BTreeMap<TopicPartition, i64>) {
        if self.assembler.wants_ends() {
            let names = self.names.all();
            let unread =
                (0u32..).zip(names.iter().zip(&self.needed_from)).filter_map(|(index, (name, from))| {
                    let end = *ends.get(name)?;
                    (*from < end).then_some((PartitionIndex(index), end))
                });
            self.assembler.set_ends(unread.collect());
        }
        self.phase.set_ends(ends);
    }

    /// Whether the ends that are needed are to confirm that nothing more comes: they are to be asked a second or so after
    /// everything was read that had come.
    pub fn wants_late_ends(&self) -> bool {
        self.assembler.wants_late_ends()
    }

    /// What is waited for, in words: above all what the open transaction lacks.
    pub fn waiting_for(&self) -> Option<String> {
        if let Some(index) = self.looking_back.keys().next() {
            return Some(format!("what was changed lately is read again: {}", self.names.get(*index)));
        }
        self.assembler.waiting_for().or_else(|| self.phase.waiting_for())
    }

    /// Whether a partition from which nothing comes holds everything up: a transaction misses its rows, or its END.
    pub fn waits_for_every_partition(&self) -> bool {
        self.transactions == Transactions::Required
    }

    /// Whether transaction boundaries have a topic of their own.
    pub fn has_spine_apart(&self) -> bool {
        self.transactions == Transactions::Required && !self.mixed
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
fn topics_of<'a>(
    catalog: &Catalog,
    excluded: impl Iterator<Item = &'a str>,
    prefix: &str,
) -> HashMap<String, Collection> {
    let topic = |table: &str| -> String {
        let legal = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        format!("{prefix}.{table}").chars().map(legal).collect()
    };
    let names = catalog.tables().map(|t| Arc::clone(&t.full_name)).chain(excluded.map(Into::into));
    let mut tables: HashMap<String, BTreeSet<Collection>> = HashMap::new();
    for name in names {
        tables.entry(topic(&name)).or_default().insert(Collection::Table(name));
    }
    let single = tables.into_iter().filter(|(_, collections)| collections.len() == 1);
    single.filter_map(|(topic, collections)| Some((topic, collections.into_iter().next()?))).collect()
}
