//! A lane's reader of Debezium's topics.
//!
//! ```text
//! partitions ─▶ decode ─▶ Assembler ─▶ ParcelBuilder
//!               └────────── LaneCore (pure) ───────┘
//! ```

mod stranded;
#[cfg(test)]
mod tests;
mod written;

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::stranded::{Step, Watch};
use self::written::Written;
use super::LaneError;
use super::core::{LaneCore, SPINE, Turn};
use super::reader::Reader;
use super::start::{LaneStart, read_from};
use crate::assemble::AssembleError;
use crate::decode::debezium::{DecodeSettings, Decoder, RawRecord, Transactions};
use crate::source::kafka::{KafkaSettings, KafkaSource, Record, SourceError};
use crate::status::now_ms;
use crate::vocabulary::offset::{Offsets, PartitionIndex, PartitionNames, Place, TopicPartition};
use crate::vocabulary::parcel::{Parcel, Passage};
use crate::vocabulary::schema::Catalog;

/// Ticks between looking for topics that nothing has asked for.
const TICKS_PER_DISCOVERY: u32 = 10;

/// Ticks after which whatever the connector's producer had under way has arrived. An outage of a broker in between would
/// show as one of this consumer's own, too.
const LATE_TICKS: u32 = 2;

/// Reads topics and assembles transactions.
#[derive(Debug)]
pub(super) struct KafkaReader {
    source: KafkaSource,
    core: LaneCore,
    names: PartitionNames,
    wake: Arc<Notify>,
    /// When the latest transaction boundaries were written.
    written: Written,
    /// When records were taken last, in milliseconds since 1970.
    taken_at_ms: Option<i64>,
    ticks: u32,
    /// Ticks since it was asked for late ends.
    late_ticks: u32,
    watch: Watch,
    look: Option<Look>,
}

/// A question to the brokers under way: which of these partitions give no record?
#[derive(Debug)]
struct Look {
    wanted: Vec<(TopicPartition, i64)>,
    empty: JoinHandle<Result<Vec<TopicPartition>, SourceError>>,
}

impl Look {
    /// Those that do give one. In an outage for everybody that is not known.
    async fn found(self) -> Vec<(TopicPartition, i64)> {
        match self.empty.await {
            Ok(Ok(empty)) => {
                self.wanted.into_iter().filter(|(partition, _)| !empty.contains(partition)).collect()
            }
            Ok(Err(error)) => {
                tracing::debug!(error = %error, "records can't be looked for now");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }
}

/// Whether a topic is called as those of tables are, `prefix.schema.table`, and the replica has no such table.
fn is_of_no_table(topic: &str, prefix: &str, catalog: &Catalog) -> bool {
    let name = topic.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
    let table = name.and_then(|name| name.split_once('.'));
    table.is_some_and(|(schema, table)| !table.contains('.') && catalog.table(schema, table).is_none())
}

impl KafkaReader {
    /// Finds the partitions, checks that they hold what the checkpoint needs, and begins to read.
    ///
    /// # Errors
    /// When the source is not there, or has lost what is needed.
    pub(super) async fn open(
        id: u64,
        kafka: KafkaSettings,
        decoding: DecodeSettings,
        start: LaneStart,
    ) -> Result<Self, LaneError> {
        let decoder = Decoder::new(&start.catalog, decoding);
        let (offsets, looks_back) = (start.offsets.clone(), start.looks_back);
        let expected_partitions = offsets.len().max(start.catalog.tables().count());
        let transactions = decoder.transactions();
        let catalog = Arc::clone(&start.catalog);
        let prefix = kafka.topic_prefix.clone();
        let mut core = LaneCore::new(start, decoder, prefix.clone())?;
        let mut source = KafkaSource::new(kafka, &format!("replicator.{id}"), expected_partitions)?;
        let partitions = source.discover().await?;
        // Taken for a new one later, it would be read from its beginning. The topic of a table that is gone may be gone, too: what
        // transactions still count of it would be missed.
        let is_left_behind = |p: &TopicPartition| {
            transactions == Transactions::Required && is_of_no_table(&p.topic, &prefix, &catalog)
        };
        let needs = |p: &&TopicPartition| source.needs(p) && !is_left_behind(p);
        if let Some(missing) = offsets.keys().filter(needs).find(|p| !partitions.contains(p)) {
            return Err(SourceError::Unavailable(format!(
                "{missing}, which the replica was fed from, is not there"
            ))
            .into());
        }
        let bounds = source.check_positions(&partitions, &offsets).await?;
        let from = read_from(transactions, looks_back, &offsets, &partitions, &bounds);
        source.add(&partitions, &from)?;
        partitions.into_iter().for_each(|partition| core.add_partition(partition));
        core.look_back_from(&from);
        let names = core.names();
        tracing::info!(partitions = names.len(), "reading topics");
        let wake = source.wake();
        Ok(KafkaReader {
            source,
            core,
            names,
            wake,
            written: Written::default(),
            taken_at_ms: None,
            ticks: 0,
            late_ticks: 0,
            watch: Watch::default(),
            look: None,
        })
    }

    /// Takes records of every partition that has room for them.
    fn fill(&mut self) -> Result<usize, LaneError> {
        let KafkaReader { source, core, names, written, taken_at_ms, .. } = self;
        source.serve()?;
        // Where one topic holds everything, that would be work for each change.
        let has_spine = core.has_spine_apart();
        let mut taken = 0;
        for partition in 0..names.len() {
            let room = core.room(index(partition));
            if room > 0 {
                taken += source.take::<LaneError>(partition, room, |record| {
                    let record = raw(partition, record);
                    if has_spine && partition == SPINE.get() {
                        written.note(record.place.offset, record.written_at_ms);
                    }
                    core.accept(&record)
                })?;
            }
        }
        if taken > 0 {
            *taken_at_ms = Some(now_ms());
        }
        Ok(taken)
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

    /// Where nothing is given out: whether records are there that this client does not get.
    ///
    /// # Errors
    /// [`SourceError::Stranded`]. The lane's end is what helps: the next one has a new client.
    async fn look_for_stranded(&mut self) -> Result<(), SourceError> {
        if let Some(look) = self.look.take_if(|look| look.empty.is_finished()) {
            self.watch.suspect(look.found().await);
        }
        match self.watch.tick(self.waiting_for().is_some()) {
            // Not waited for: in an outage the answer takes its time, and the lane has others to answer meanwhile.
            Step::Look if self.look.is_none() => {
                let wanted = self.core.wanted();
                let empty = tokio::spawn(self.source.without_records(wanted.clone()));
                self.look = Some(Look { wanted, empty });
            }
            Step::Look | Step::Nothing => {}
            Step::Judge => {
                if let Some((partition, offset)) = self.watch.stranded(&self.core.wanted()) {
                    return Err(SourceError::Stranded { partition, offset });
                }
            }
        }
        Ok(())
    }

    /// What ends the lane. Missing events may lie in a partition that was added to their topic and is not read yet.
    async fn unless_unread(&self, error: LaneError) -> LaneError {
        if !matches!(&error, LaneError::Assemble { error, .. } if matches!(**error, AssembleError::Missing { .. }))
        {
            return error;
        }
        match self.unread().await {
            Ok(unread) => match unread.into_iter().next() {
                Some(partition) => SourceError::Unread { partition }.into(),
                None => error,
            },
            // Not known as long as the brokers don't answer.
            Err(outage) => outage.into(),
        }
    }

    /// Partitions that have appeared since.
    async fn unread(&self) -> Result<Vec<TopicPartition>, SourceError> {
        let known = self.names.all();
        let found = self.source.discover().await?;
        Ok(found.into_iter().filter(|partition| !known.contains(partition)).collect())
    }

    /// Reads them, too.
    async fn discover(&mut self) -> Result<(), LaneError> {
        let new = match self.unread().await {
            Ok(new) => new,
            // A client that can't is found out by what it does not read.
            Err(error) => {
                tracing::debug!(error = %error, "topics can't be listed now");
                return Ok(());
            }
        };
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

impl Reader for KafkaReader {
    fn names(&self) -> PartitionNames {
        self.names.clone()
    }

    fn begins_at_commit(&self) -> bool {
        true
    }

    async fn next(&mut self) -> Result<Option<Parcel>, LaneError> {
        loop {
            let turn = match self.core.turn() {
                Ok(turn) => turn,
                Err(error) => return Err(self.unless_unread(error).await),
            };
            match turn {
                Turn::Parcel(mut parcel) => {
                    if let Some(point) = parcel.commit_point_mut() {
                        let spine = point.offsets.iter().find(|(partition, _)| *partition == SPINE);
                        let sent_at_ms = spine.and_then(|(_, needed)| self.written.before(*needed));
                        point.passage = Passage { sent_at_ms, read_at_ms: self.taken_at_ms };
                    }
                    if self.core.waits_for_every_partition() {
                        self.watch.moves();
                    }
                    return Ok(Some(parcel));
                }
                Turn::NeedsEnds if self.core.wants_late_ends() && self.late_ticks < LATE_TICKS => {
                    if self.fill()? == 0 {
                        return Ok(None);
                    }
                }
                Turn::NeedsEnds => {
                    self.late_ticks = 0;
                    let bounds = self.source.bounds(self.names.all()).await?;
                    self.core.set_ends(bounds.into_iter().map(|(p, (_, end))| (p, end)).collect());
                }
                Turn::Starved => {
                    if self.fill()? == 0 {
                        return Ok(None);
                    }
                    // Other tasks of this thread, the appliers' among them, get their turn.
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    async fn ready(&mut self) -> Result<(), LaneError> {
        self.wake.notified().await;
        Ok(())
    }

    async fn tick(&mut self, is_idle: bool) -> Result<(), LaneError> {
        if !is_idle {
            // Nobody may look for records for long, and librdkafka's statistics must not pile up meanwhile.
            return Ok(self.source.serve()?);
        }
        self.ticks = self.ticks.wrapping_add(1);
        self.late_ticks = if self.core.wants_late_ends() { self.late_ticks + 1 } else { 0 };
        self.look_for_ends().await;
        self.look_for_stranded().await?;
        if self.ticks.is_multiple_of(TICKS_PER_DISCOVERY) || self.core.misses_topics() {
            self.discover().await?;
        }
        Ok(())
    }

    fn waiting_for(&self) -> Option<String> {
        self.source.trouble().or_else(|| self.core.waiting_for())
    }

    fn duplicates(&self) -> u64 {
        self.core.duplicates()
    }

    fn close(self) {
        // librdkafka joins its threads, which may be within a system call.
        drop(tokio::task::spawn_blocking(move || drop(self)));
    }
}

fn index(partition: usize) -> PartitionIndex {
    PartitionIndex(u32::try_from(partition).expect("the lane numbered it"))
}

fn raw<'a>(partition: usize, record: Record<'a>) -> RawRecord<'a> {
    let place = Place { partition: index(partition), offset: record.offset };
    RawRecord {
        place,
        written_at_ms: record.written_at_ms(),
        value: record.value,
        old_key: record.old_key,
        new_key: record.new_key,
    }
}
