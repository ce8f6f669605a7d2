//! What a connector makes of a leader's history: records, and the topics that hold them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::dice::Dice;
use super::world::{Layout, Leader, PREFIX, Rows, TABLES, Told, object};
use crate::vocabulary::offset::{Offsets, TopicPartition};

/// A transaction's BEGIN.
pub(in crate::lane) fn begin(xid: u32, lsn: u64) -> String {
    format!(r#"{{"status":"BEGIN","id":"{xid}:{lsn}","ts_ms":1}}"#)
}

/// A transaction's END, which counts the events of each collection.
pub(in crate::lane) fn end(xid: u32, lsn: u64, counts: &BTreeMap<String, u64>) -> String {
    let total: u64 = counts.values().sum();
    let counts: Vec<_> =
        counts.iter().map(|(c, n)| format!(r#"{{"data_collection":"{c}","event_count":{n}}}"#)).collect();
    format!(
        r#"{{"status":"END","id":"{xid}:{lsn}","event_count":{total},"ts_ms":{lsn},"data_collections":[{}]}}"#,
        counts.join(",")
    )
}

/// A row of `items` with this key: its number in the transaction and in its table, and its position.
pub(in crate::lane) fn row(xid: u32, (order, lsn): (u64, u64), key: &str) -> String {
    let (table, columns, _) = TABLES[0];
    let after = Some(object(columns, &[key.to_owned(), "1".to_owned(), "2".to_owned()]));
    let told = Told { table, op: "c", before: None, after, key: None, old_key: None, new_key: None };
    event(&told, xid, lsn, None, (order, order))
}

/// A row of an incremental snapshot.
pub(super) fn incremental(table: &str, after: &str) -> String {
    format!(
        r#"{{"before":null,"after":{after},"op":"r","transaction":null,"source":
           {{"schema":"public","table":"{table}","lsn":null,"snapshot":"incremental"}}}}"#
    )
}

/// A change with its numbers in the transaction and in its table, behind the commit at `after`.
fn event(told: &Told, xid: u32, lsn: u64, after: Option<u64>, (order, table_order): (u64, u64)) -> String {
    let after = after.map_or("null".to_owned(), |lsn| format!("\\\"{lsn}\\\""));
    format!(
        r#"{{"before":{},"after":{},"op":"{}","source":{{"schema":"public","table":"{}","txId":{xid},
           "lsn":{lsn},"sequence":"[{after},\"{lsn}\"]","snapshot":null,"ts_ms":{lsn}}},
           "transaction":{{"id":"{xid}:{lsn}","total_order":{order},"data_collection_order":{table_order}}}}}"#,
        told.before.as_deref().unwrap_or("null"),
        told.after.as_deref().unwrap_or("null"),
        told.op,
        told.table,
    )
}

/// A record of a topic.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) value: Option<String>,
    pub(super) old_key: Option<String>,
    pub(super) new_key: Option<String>,
}

impl Record {
    /// A record with nothing but this value.
    pub(super) fn of(value: impl Into<String>) -> Self {
        Record { value: Some(value.into()), old_key: None, new_key: None }
    }
}

/// A record that the connector writes, before its partition is chosen.
#[derive(Debug, Clone)]
struct Written {
    /// None for a transaction boundary.
    table: Option<&'static str>,
    key: Option<String>,
    record: Record,
}

/// The topics after the connector's run.
#[derive(Debug)]
pub(super) struct Topics {
    /// The transaction topic's partition first.
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) records: Vec<Vec<Record>>,
    /// Where each partition's snapshot rows end.
    pub(super) copied_to: Vec<i64>,
}

impl Topics {
    /// Topics without a record.
    pub(super) fn empty(layout: Layout) -> Self {
        let partitions = partitions(layout);
        Topics { records: vec![Vec::new(); partitions.len()], copied_to: Vec::new(), partitions }
    }

    /// A transaction begins.
    pub(super) fn begin(&mut self, xid: u32) {
        self.put(None, begin(xid, 1));
    }

    /// It has ended, with so many events of `items`.
    pub(super) fn end(&mut self, xid: u32, lsn: u64, items: u64) {
        let counts = (items > 0).then(|| ("public.items".to_owned(), items));
        self.put(None, end(xid, lsn, &counts.into_iter().collect()));
    }

    /// A row of `items`.
    pub(super) fn row(&mut self, xid: u32, place: (u64, u64), key: &str) {
        self.put(Some(TABLES[0].0), row(xid, place, key));
    }

    /// A row of `items` in an incremental snapshot, in this one of the table's partitions: an older one than [`Topics::row`] gives.
    pub(super) fn copied(&mut self, partition: usize, key: &str) {
        let (table, columns, _) = TABLES[0];
        let after = object(columns, &[key.to_owned(), "0".to_owned(), "0".to_owned()]);
        self.put_in(Some(table), partition, incremental(table, &after));
    }

    /// `items` is emptied.
    pub(super) fn truncate(&mut self, xid: u32, (order, lsn): (u64, u64)) {
        let (table, ..) = TABLES[0];
        let told =
            Told { table, op: "t", before: None, after: None, key: None, old_key: None, new_key: None };
        self.put(Some(table), event(&told, xid, lsn, None, (order, order)));
    }

    /// The offsets behind all that is there.
    pub(super) fn ends(&self) -> Offsets {
        let ends = self.records.iter().map(|records| i64::try_from(records.len()).unwrap());
        self.partitions.iter().cloned().zip(ends).collect()
    }

    fn put(&mut self, table: Option<&str>, value: String) {
        self.put_in(table, 0, value);
    }

    fn put_in(&mut self, table: Option<&str>, partition: usize, value: String) {
        let topic = topic_of(Layout::PerTable(1), table);
        let index = self.partitions.iter().position(|partition| *partition.topic == *topic).unwrap();
        self.records[index + partition].push(Record::of(value));
    }
}

/// What a connector does with a leader's history.
#[derive(Debug)]
pub(super) struct Connector {
    written: Vec<Written>,
    lsn: u64,
    after: Option<u64>,
    pub(super) watermark: u64,
    snapshot_rows: usize,
    /// Whether only those events share a position that PostgreSQL writes as one record; otherwise any two may.
    pub(super) shares_positions_as_postgresql: bool,
}

impl Connector {
    /// A connector that begins with a snapshot of the leader as it is.
    pub(super) fn new(leader: &mut Leader, knows_a_commit: bool) -> Self {
        leader.told.clear();
        let lsn = 1_000;
        let mut connector = Connector {
            written: Vec::new(),
            lsn,
            after: knows_a_commit.then_some(lsn),
            watermark: 0,
            snapshot_rows: 0,
            shares_positions_as_postgresql: false,
        };
        for (name, columns, width) in TABLES {
            let rows = leader.rows.get(name).cloned().unwrap_or_default();
            for (number, row) in rows.iter().enumerate() {
                let marker = match number {
                    0 if connector.written.is_empty() => "first",
                    0 => "first_in_data_collection",
                    n if n + 1 == rows.len() => "last_in_data_collection",
                    _ => "true",
                };
                let value = format!(
                    r#"{{"before":null,"after":{},"op":"r","transaction":null,"source":
                       {{"schema":"public","table":"{name}","lsn":{lsn},"snapshot":"{marker}"}}}}"#,
                    object(columns, row)
                );
                let key = (width > 0).then(|| object(&columns[..width], &row[..width]));
                connector.write(Some(name), key, Some(value));
            }
        }
        connector.snapshot_rows = connector.written.len();
        connector
    }

    /// Writes rows of an incremental snapshot, which has read these.
    pub(super) fn chunk(&mut self, rows: &Rows) {
        for (name, columns, width) in TABLES {
            // Debezium has none of tables without a key.
            for row in rows.get(name).into_iter().flatten().filter(|_| width > 0) {
                let value = incremental(name, &object(columns, row));
                self.write(Some(name), Some(object(&columns[..width], &row[..width])), Some(value));
            }
        }
    }

    fn write(&mut self, table: Option<&'static str>, key: Option<String>, value: Option<String>) {
        let record = Record { value, old_key: None, new_key: None };
        self.written.push(Written { table, key, record });
    }

    /// Writes what the leader did since the last call as one transaction.
    pub(super) fn commit(&mut self, leader: &mut Leader, xid: u32) {
        self.write(None, None, Some(begin(xid, self.lsn)));
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let mut last: Option<(&str, &str)> = None;
        for (told, order) in std::mem::take(&mut leader.told).into_iter().zip(1u64..) {
            // Rows of one multi-row record share a position, and so do the halves of a change of key.
            let this = (told.table, told.op);
            let shares = match self.shares_positions_as_postgresql {
                true => told.old_key.is_some() || (told.op == "c" && last == Some(this) && order % 3 == 0),
                false => order % 3 == 0,
            };
            last = told.old_key.is_none().then_some(this);
            self.lsn += u64::from(!shares) * 8;
            let collection = match told.op {
                "m" => "LOGICAL_DECODING_MESSAGE".to_owned(),
                _ => format!("public.{}", told.table),
            };
            let table_order = counts.entry(collection).or_default();
            *table_order += 1;
            let value = event(&told, xid, self.lsn, self.after, (order, *table_order));
            let is_gone = told.op == "d";
            let record = Record { value: Some(value), old_key: told.old_key, new_key: told.new_key.clone() };
            let table = if told.op == "m" { "message" } else { told.table };
            self.written.push(Written { table: Some(table), key: told.key.clone(), record });
            if is_gone && told.key.is_some() {
                // A tombstone carries the headers of the event that it follows.
                let record = Record { value: None, old_key: None, new_key: told.new_key };
                self.written.push(Written { table: Some(table), key: told.key, record });
            }
        }
        self.lsn += 40;
        self.write(None, None, Some(end(xid, self.lsn, &counts)));
        self.after = Some(self.lsn);
        self.watermark = self.lsn;
    }

    /// The topics. `kills`: after so many streamed records the connector is killed and goes back by so many, and chooses the
    /// partitions of records without a key anew.
    pub(super) fn topics(&self, layout: Layout, kills: &[(usize, usize)], dice: &mut Dice) -> Topics {
        let mut topics = Topics::empty(layout);
        let mut put = |topics: &mut Topics, written: &Written| {
            let topic = topic_of(layout, written.table);
            let first = topics.partitions.iter().position(|p| *p.topic == *topic).unwrap();
            let width = topics.partitions.iter().filter(|p| *p.topic == *topic).count();
            let partition = match &written.key {
                Some(key) => key.bytes().map(usize::from).sum::<usize>() % width,
                None => dice.below(width),
            };
            topics.records[first + partition].push(written.record.clone());
        };
        let (snapshot, stream) = self.written.split_at(self.snapshot_rows);
        snapshot.iter().for_each(|written| put(&mut topics, written));
        topics.copied_to = topics.records.iter().map(|r| i64::try_from(r.len()).unwrap()).collect();
        let mut position = 0;
        for (after, back) in kills {
            let killed_at = (position + after).min(stream.len());
            stream[position..killed_at].iter().for_each(|written| put(&mut topics, written));
            position = killed_at.saturating_sub(*back);
        }
        stream[position..].iter().for_each(|written| put(&mut topics, written));
        topics
    }
}

pub(super) fn transaction_topic(layout: Layout) -> String {
    topic_of(layout, None)
}

fn topic_of(layout: Layout, table: Option<&str>) -> String {
    match (layout, table) {
        (Layout::Everything, _) => "everything".to_owned(),
        (_, None) => format!("{PREFIX}.transaction"),
        (_, Some("message")) => format!("{PREFIX}.message"),
        (Layout::Routed(_), Some(_)) => "routed".to_owned(),
        (Layout::PerTable(_), Some(table)) => format!("{PREFIX}.public.{table}"),
    }
}

fn partitions(layout: Layout) -> Vec<TopicPartition> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let tables = [None, Some("message"), Some("items"), Some("pairs"), Some("log"), Some("ignored")];
    for table in tables {
        let topic = topic_of(layout, table);
        let width = match (layout, table) {
            (_, None | Some("message")) | (Layout::Everything, _) => 1,
            (Layout::PerTable(n) | Layout::Routed(n), _) => n,
        };
        if seen.insert(topic.clone()) {
            let topic: Arc<str> = topic.into();
            let of = |partition| TopicPartition { topic: Arc::clone(&topic), partition };
            found.extend((0..i32::try_from(width).unwrap()).map(of));
        }
    }
    found
}
