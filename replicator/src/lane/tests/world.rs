//! A leader, made up from what a property test draws.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::vocabulary::schema::{Column, Table, TableName};

pub(super) const PREFIX: &str = "app";
pub(super) const PLACEHOLDER: &str = "__debezium_unavailable_value";
/// Captured by the connector, not read here.
pub(super) const EXCLUDED: &str = "public.ignored";

/// Names, columns and how many of them make the key, which come first.
pub(super) const TABLES: [(&str, &[&str], usize); 3] =
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
pub(super) struct Told {
    pub(super) table: &'static str,
    pub(super) op: &'static str,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    /// What the partition is chosen by; none for rows without a key and for truncates.
    pub(super) key: Option<String>,
    pub(super) old_key: Option<String>,
    pub(super) new_key: Option<String>,
}

/// The leader: its rows, and what it told since it was last asked.
#[derive(Debug, Default)]
pub(super) struct Leader {
    /// In the order in which they were written.
    pub(super) rows: Rows,
    pub(super) told: Vec<Told>,
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

pub(super) fn object(columns: &[&str], values: &[String]) -> String {
    let fields: Vec<_> = columns.iter().zip(values).map(|(c, v)| format!("\"{c}\":\"{v}\"")).collect();
    format!("{{{}}}", fields.join(","))
}
