//! Feeds a replica from records in memory, through the same decoder, assembler and applier that a lane and a worker use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use e2e::postgres::{Cluster, Role};
use e2e::wait::until;
use replicator::decode::debezium::{DecodeSettings, Decoder, Modes, RawRecord, Transactions};
use replicator::lane::LaneLimits;
use replicator::lane::LaneStart;
use replicator::lane::core::{LaneCore, Turn};
use replicator::replica::apply::{Applied, Applier};
use replicator::replica::checkpoint::{self, Checkpoint, CheckpointWriter, Claim};
use replicator::replica::session::Session;
use replicator::replica::{ReplicaError, catalog};
use replicator::vocabulary::offset::{PartitionIndex, PartitionNames, Place, TopicPartition};
use replicator::vocabulary::parcel::{Parcel, ParcelEnd};
use replicator::vocabulary::schema::{Catalog, Filler, TableName};

/// A record of a topic, owned.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) value: Option<String>,
    pub(crate) headers: Vec<(String, Option<String>)>,
}

/// How a replica is fed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options<'a> {
    pub(crate) prefix: &'static str,
    pub(crate) exclude: &'static [&'static str],
    /// Columns of which values may be lost.
    pub(crate) allow_lossy: &'a [String],
    pub(crate) modes: Modes,
    /// Whether the connector writes transaction metadata.
    pub(crate) transactions: Transactions,
    pub(crate) placeholder: &'a str,
    pub(crate) parcel_changes: usize,
    /// Parcels that are applied together.
    pub(crate) group: usize,
}

impl Options<'_> {
    /// How the events are read.
    pub(crate) fn decoding(&self, exclude: &[String]) -> DecodeSettings {
        DecodeSettings {
            placeholder: self.placeholder.to_owned(),
            excluded: exclude.to_vec(),
            modes: self.modes,
            allow_lossy: self.allow_lossy.to_vec(),
            transactions: self.transactions,
        }
    }
}

/// The limits of the tests: small enough that they are reached.
fn limits(parcel_changes: usize) -> LaneLimits {
    LaneLimits {
        queue_records: 1_000_000,
        queue_bytes: usize::MAX,
        parcel_changes,
        parcel_bytes: 1 << 20,
        channel_bytes: 1 << 20,
    }
}

/// Feeds from the replica's checkpoint to the end of the records, or until `stop_after` groups have been applied. Returns
/// what was applied.
pub(crate) async fn feed(
    replica: &Cluster,
    records: &[Record],
    options: Options<'_>,
    stop_after: Option<usize>,
) -> anyhow::Result<Vec<Applied>> {
    feed_as(replica, records, options, stop_after, &Help::default()).await
}

/// What a worker knows besides its checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Help {
    /// Where rows are fetched from that the replica lacks.
    pub(crate) leader: Option<tokio_postgres::Config>,
    /// Columns that events may lack.
    pub(crate) fillers: Vec<(TableName, String, Filler)>,
}

/// As [`feed`], with help.
pub(crate) async fn feed_as(
    replica: &Cluster,
    records: &[Record],
    options: Options<'_>,
    stop_after: Option<usize>,
    help: &Help,
) -> anyhow::Result<Vec<Applied>> {
    let url = replica.url(Role::Replicator).parse()?;
    let session = Session::connect(&url).await?;
    let checkpoint = acquire(&session, options.prefix).await?;
    let tables = catalog::load(session.client()).await?;
    let with_filler = |tables: Catalog, (table, column, filler): &(TableName, String, Filler)| {
        tables.with_filler(table, column, filler.clone())
    };
    let tables = Arc::new(help.fillers.iter().fold(tables, with_filler));
    let writer = CheckpointWriter::prepare(&session, checkpoint.epoch).await?;
    let exclude: Vec<String> = options.exclude.iter().map(|&t| t.to_owned()).collect();
    let decoder = Decoder::new(&tables, options.decoding(&exclude));
    let start = LaneStart {
        catalog: tables,
        watermark: checkpoint.watermark,
        leader: None,
        phase: checkpoint.phase,
        offsets: checkpoint.offsets.clone(),
        snapshots: checkpoint.snapshots.clone(),
        fences: checkpoint.fences.clone(),
        repeats: vec![],
        looks_back: false,
        streaming: false,
        binary: true,
        limits: limits(options.parcel_changes),
    };
    let mut core = LaneCore::new(start, decoder, options.prefix.to_owned())?;
    let partitions = partitions(records, options);
    partitions.iter().for_each(|p| core.add_partition(p.clone()));
    for record in records {
        let name = TopicPartition { topic: record.topic.as_str().into(), partition: record.partition };
        let index = partitions.iter().position(|p| *p == name).context("a partition of the list")?;
        let needed = checkpoint.offsets.get(&name).copied().unwrap_or(0);
        let is_spine = index == 0 && options.transactions == Transactions::Required;
        if is_spine || record.offset >= needed {
            let place = Place { partition: PartitionIndex(u32::try_from(index)?), offset: record.offset };
            core.accept(&raw(record, place))?;
        }
    }
    let mut applier =
        Applier::new(session, writer, core.names()).with_leader(help.leader.clone(), Vec::new());
    let mut applied = Vec::new();
    let mut group: Vec<Parcel> = Vec::new();
    loop {
        let turn = core.turn();
        // As with a worker, what was sent before an error is applied.
        if matches!(turn, Ok(Turn::Starved) | Err(_)) || group.len() >= options.group {
            if !group.is_empty() {
                applied.push(applier.apply(&group.iter().collect::<Vec<_>>()).await?);
                group.clear();
            }
            if stop_after.is_some_and(|groups| applied.len() >= groups) {
                return Ok(applied);
            }
        }
        match turn? {
            Turn::Starved => return Ok(applied),
            Turn::NeedsEnds => core.set_ends(ends(records)),
            Turn::Parcel(parcel) => apply_or_keep(&mut applier, &mut group, &mut applied, parcel).await?,
        }
    }
}

/// Owns a replica; what applies to it, and its tables.
pub(crate) async fn applier(cluster: &Cluster) -> anyhow::Result<(Applier, Catalog)> {
    let session = Session::connect(&cluster.url(Role::Replicator).parse()?).await?;
    let checkpoint = acquire(&session, "app").await?;
    let catalog = catalog::load(session.client()).await?;
    let writer = CheckpointWriter::prepare(&session, checkpoint.epoch).await?;
    let names = PartitionNames::default();
    for topic in ["app.transaction", "app.public"] {
        names.add(TopicPartition { topic: topic.into(), partition: 0 });
    }
    Ok((Applier::new(session, writer, names), catalog))
}

/// Takes the replica, as soon as the server has noticed that the session of the feed before is gone.
pub(crate) async fn acquire(session: &Session, prefix: &str) -> anyhow::Result<Checkpoint> {
    let source = format!("debezium:{prefix}");
    until("the replica is free", Duration::from_secs(10), async || {
        let claim = Claim { source: &source, owner: "test", lease: Duration::from_secs(60) };
        checkpoint::acquire(session, claim).await.map_err(|error| error.to_string())
    })
    .await
}

/// As the worker does: whole transactions are collected, parts of a large one go into an open transaction.
async fn apply_or_keep(
    applier: &mut Applier,
    group: &mut Vec<Parcel>,
    applied: &mut Vec<Applied>,
    parcel: Parcel,
) -> Result<(), ReplicaError> {
    let whole = matches!(parcel.end, ParcelEnd::Commit(_)) && !applier.is_open();
    if whole {
        group.push(parcel);
        return Ok(());
    }
    if !group.is_empty() {
        applied.push(applier.apply(&group.iter().collect::<Vec<_>>()).await?);
        group.clear();
    }
    match &parcel.end {
        ParcelEnd::Open => applier.apply_part(&parcel).await?,
        ParcelEnd::Discard => applier.discard_open().await?,
        ParcelEnd::Commit(point) => {
            applier.apply_part(&parcel).await?;
            applied.push(applier.commit_open(point).await?);
        }
    }
    Ok(())
}

/// A record as the source gives it.
pub(crate) fn raw(record: &Record, place: Place) -> RawRecord<'_> {
    let header = |name: &str| {
        let found = record.headers.iter().find(|(n, _)| n == name);
        found.and_then(|(_, value)| value.as_deref()).map(str::as_bytes)
    };
    RawRecord {
        place,
        written_at_ms: None,
        value: record.value.as_deref().map(str::as_bytes),
        old_key: header("__debezium.oldkey"),
        new_key: header("__debezium.newkey"),
    }
}

/// All partitions; the transaction topic's first, if there is one.
fn partitions(records: &[Record], options: Options<'_>) -> Vec<TopicPartition> {
    let spine = format!("{}.transaction", options.prefix);
    let mut found = match options.transactions {
        Transactions::Required => vec![TopicPartition { topic: spine.as_str().into(), partition: 0 }],
        Transactions::Absent => Vec::new(),
    };
    for record in records {
        let partition = TopicPartition { topic: record.topic.as_str().into(), partition: record.partition };
        if !found.contains(&partition) {
            found.push(partition);
        }
    }
    found
}

/// What the topics held when the first streamed transaction ended: here, their snapshot rows.
fn ends(records: &[Record]) -> BTreeMap<TopicPartition, i64> {
    let mut ends = BTreeMap::new();
    for record in records.iter().filter(|r| r.value.as_deref().is_some_and(|v| v.contains("\"op\":\"r\""))) {
        let partition = TopicPartition { topic: record.topic.as_str().into(), partition: record.partition };
        ends.insert(partition, record.offset + 1);
    }
    ends
}
