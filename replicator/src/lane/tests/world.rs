//! A leader, its connector and its topics, made up from what a property test draws.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::dice::Dice;
use crate::vocabulary::offset::TopicPartition;
use crate::vocabulary::schema::{Column, Table, TableName};

pub(super) const PREFIX: &str = "app";
pub(super) const PLACEHOLDER: &str = "__debezium_unavailable_value";
/// Captured by the connector, not read here.
pub(super) const EXCLUDED: &str = "public.ignored";

/// Names, columns and how many of them make the key, which come first.
const TABLES: [(&str, &[&str], usize); 3] =
    [("items", &["id", "a", "b"], 1), ("pairs", &["x", "y", "v"], 2), ("log", &["a", "b"], 0)];

pub(super) fn tables() -> Vec<Table> {
    let table = |(name, columns, key): &(&str, &[&str], usize)| {
        Table::new(
            TableName::new("public", *name),
            columns.iter().map(|name| Column::text(name)).collect(),
            (0..*key).collect(),
        )
    };
    TABLES.iter().map(table).collect()
}

/// How events are spread over topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// A topic for each table, with so many partitions.
    PerTable(usize),
    /// One topic for all tables, with so many partitions.
    Routed(usize),
    /// One partition for all tables and the transaction boundaries.
    Everything,
}

pub(super) fn layout() -> impl Strategy<Value = Layout> {
    prop_oneof![
        (1usize..4).prop_map(Layout::PerTable),
        (1usize..4).prop_map(Layout::Routed),
        Just(Layout::Everything),
    ]
}

/// What a client of the leader might do next; what makes no sense there does nothing.
#[derive(Debug, Clone)]
pub(super) enum Intent {
    Put { table: u8, key: u8, value: u8, keeps_large_value: bool },
    Delete { table: u8, key: u8 },
    Rekey { table: u8, key: u8, to: u8, keeps_large_value: bool },
    Swap { table: u8, key: u8, with: u8 },
    Truncate { tables: u8 },
    Log { value: u8 },
    UpdateLog { nth: u8, value: u8 },
    DeleteLog { nth: u8 },
    Message,
    Elsewhere,
}

pub(super) fn intent() -> impl Strategy<Value = Intent> {
    let (table, key) = (0u8..2, 0u8..4);
    prop_oneof![
        6 => (table.clone(), key.clone(), any::<u8>(), any::<bool>()).prop_map(
            |(table, key, value, keeps_large_value)| Intent::Put { table, key, value, keeps_large_value }
        ),
        3 => (table.clone(), key.clone()).prop_map(|(table, key)| Intent::Delete { table, key }),
        2 => (table.clone(), key.clone(), key.clone(), any::<bool>()).prop_map(
            |(table, key, to, keeps_large_value)| Intent::Rekey { table, key, to, keeps_large_value }
        ),
        1 => (table, key.clone(), key).prop_map(|(table, key, with)| Intent::Swap { table, key, with }),
        1 => (1u8..8).prop_map(|tables| Intent::Truncate { tables }),
        2 => (0u8..3).prop_map(|value| Intent::Log { value }),
        1 => (any::<u8>(), 0u8..3).prop_map(|(nth, value)| Intent::UpdateLog { nth, value }),
        1 => any::<u8>().prop_map(|nth| Intent::DeleteLog { nth }),
        1 => Just(Intent::Message),
        1 => Just(Intent::Elsewhere),
    ]
}

/// Rows in order, per table: what a database holds.
pub(super) type Rows = BTreeMap<String, Vec<Vec<String>>>;

/// A change as the connector tells it, before it has a place in a transaction.
#[derive(Debug, Clone)]
struct Told {
    table: &'static str,
    op: &'static str,
    before: Option<String>,
    after: Option<String>,
    /// What the partition is chosen by; none for rows without a key and for truncates.
    key: Option<String>,
    old_key: Option<String>,
    new_key: Option<String>,
}

/// The leader: its rows, and what it told since it was last asked.
#[derive(Debug, Default)]
pub(super) struct Leader {
    rows: Rows,
    told: Vec<Told>,
}

impl Leader {
    pub(super) fn rows(&self) -> Rows {
        let mut rows = self.rows.clone();
        rows.retain(|_, rows| !rows.is_empty());
        rows.values_mut().for_each(|rows| rows.sort());
        rows
    }

    fn key_of(table: u8, key: u8) -> Vec<String> {
        match table {
            0 => vec![key.to_string()],
            _ => vec![(key / 2).to_string(), (key % 2).to_string()],
        }
    }

    fn find(&mut self, table: usize, key: &[String]) -> Option<&mut Vec<String>> {
        let (name, _, width) = TABLES[table];
        self.rows.entry(name.to_owned()).or_default().iter_mut().find(|row| row[..width] == *key)
    }

    fn tell(&mut self, table: usize, op: &'static str, before: Option<&[String]>, after: Option<&[String]>) {
        let (name, columns, width) = TABLES[table];
        let key = after.or(before).filter(|_| width > 0).map(|row| object(&columns[..width], &row[..width]));
        // Without REPLICA IDENTITY FULL only the key of the old row is told, and that only of a row that goes.
        let before = before.filter(|_| width == 0 || op == "d").map(|row| object(columns, row));
        let after = after.map(|row| object(columns, row));
        self.told.push(Told { table: name, op, before, after, key, old_key: None, new_key: None });
    }

    pub(super) fn act(&mut self, intent: &Intent) {
        match *intent {
            Intent::Put { table, key, value, keeps_large_value } => {
                let (t, key) = (usize::from(table), Self::key_of(table, key));
                self.put(t, &key, value, keeps_large_value);
            }
            Intent::Delete { table, key } => {
                let (t, key) = (usize::from(table), Self::key_of(table, key));
                if let Some(row) = self.find(t, &key).cloned() {
                    self.rows.get_mut(TABLES[t].0).unwrap().retain(|r| *r != row);
                    self.tell(t, "d", Some(&row), None);
                }
            }
            Intent::Rekey { table, key, to, keeps_large_value } => {
                let (from, to) = (Self::key_of(table, key), Self::key_of(table, to));
                self.rekey(usize::from(table), &from, &to, keeps_large_value);
            }
            Intent::Swap { table, key, with } if key != with => {
                let (a, b, free) =
                    (Self::key_of(table, key), Self::key_of(table, with), Self::key_of(table, 9));
                let t = usize::from(table);
                if self.find(t, &a).is_some() && self.find(t, &b).is_some() {
                    self.rekey(t, &a, &free, true);
                    self.rekey(t, &b, &a, false);
                    self.rekey(t, &free, &b, true);
                }
            }
            Intent::Swap { .. } => {}
            Intent::Truncate { tables } => {
                for t in (0..TABLES.len()).filter(|t| tables >> t & 1 == 1) {
                    self.rows.remove(TABLES[t].0);
                    self.tell(t, "t", None, None);
                }
            }
            Intent::Log { value } => {
                let row = vec![value.to_string(), "x".to_owned()];
                self.rows.entry("log".to_owned()).or_default().push(row.clone());
                self.tell(2, "c", None, Some(&row));
            }
            Intent::UpdateLog { nth, value } => {
                let log = self.rows.entry("log".to_owned()).or_default();
                if !log.is_empty() {
                    let nth = usize::from(nth) % log.len();
                    let new = vec![value.to_string(), "y".to_owned()];
                    let old = std::mem::replace(&mut log[nth], new.clone());
                    self.tell(2, "u", Some(&old), Some(&new));
                }
            }
            Intent::DeleteLog { nth } => {
                let log = self.rows.entry("log".to_owned()).or_default();
                if !log.is_empty() {
                    let old = log.remove(usize::from(nth) % log.len());
                    self.tell(2, "d", Some(&old), None);
                }
            }
            Intent::Message => self.elsewhere("", "m"),
            Intent::Elsewhere => self.elsewhere("ignored", "c"),
        }
    }

    fn elsewhere(&mut self, table: &'static str, op: &'static str) {
        let after = Some("{\"unread\":1}".to_owned());
        self.told.push(Told { table, op, before: None, after, key: None, old_key: None, new_key: None });
    }

    fn put(&mut self, t: usize, key: &[String], value: u8, keeps_large_value: bool) {
        let width = TABLES[t].1.len();
        let mut new = key.to_vec();
        new.resize(width, value.to_string());
        let Some(row) = self.find(t, key) else {
            self.rows.entry(TABLES[t].0.to_owned()).or_default().push(new.clone());
            return self.tell(t, "c", None, Some(&new));
        };
        let mut told = new.clone();
        if keeps_large_value {
            new[width - 1].clone_from(&row[width - 1]);
            PLACEHOLDER.clone_into(&mut told[width - 1]);
        }
        *row = new;
        self.tell(t, "u", None, Some(&told));
    }

    fn rekey(&mut self, t: usize, from: &[String], to: &[String], keeps_large_value: bool) {
        if self.find(t, to).is_some() {
            return;
        }
        let Some(row) = self.find(t, from) else { return };
        let old = row.clone();
        row[..to.len()].clone_from_slice(to);
        let mut told = row.clone();
        if keeps_large_value {
            PLACEHOLDER.clone_into(told.last_mut().unwrap());
        }
        self.tell(t, "d", Some(&old), None);
        self.tell(t, "c", None, Some(&told));
        let columns = &TABLES[t].1[..from.len()];
        let [.., gone, come] = &mut self.told[..] else { unreachable!("both were just told") };
        gone.new_key = Some(object(columns, to));
        come.old_key = Some(object(columns, from));
    }
}

fn object(columns: &[&str], values: &[String]) -> String {
    let fields: Vec<_> = columns.iter().zip(values).map(|(c, v)| format!("\"{c}\":\"{v}\"")).collect();
    format!("{{{}}}", fields.join(","))
}

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

    fn put(&mut self, table: Option<&str>, value: String) {
        let topic = topic_of(Layout::PerTable(1), table);
        let index = self.partitions.iter().position(|partition| *partition.topic == *topic).unwrap();
        self.records[index].push(Record::of(value));
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
