//! `before` and `after` into rows and keys.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::codec::{ColumnCodec, Nulls};
use super::loss::NO_SETTING;
use super::value::append_value;
use super::{DecodeError, ValueError};
use crate::vocabulary::row::{Cell, Key, Row, RowBuilder};
use crate::vocabulary::schema::{Filler, Table};

/// A table, and how each of its columns is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns<'t> {
    pub(super) table: &'t Table,
    pub(super) codecs: &'t [ColumnCodec],
}

/// What a row is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role<'a> {
    /// A new row: whatever stands there is data.
    New,
    /// All values of a row that is to be found: none of them may be left out.
    Old,
    /// New values for a row: those that did not change may be left out. `before` is the old row, as far as it is there.
    Update {
        /// `before` of the event.
        before: Option<&'a RawValue>,
    },
}

/// Reads a whole row.
pub(super) fn decode_row(of: Columns<'_>, json: &RawValue, role: Role<'_>) -> Result<Row, DecodeError> {
    let table = of.table;
    let mut reader = RowReader::new(of, role, json.get().len());
    let mut seen = vec![false; table.columns.len()];
    let mut unknown = Vec::new();
    each_field(json.get(), |name, raw| {
        let Some(column) = reader.column(name) else {
            unknown.push(name.to_owned());
            return Ok(());
        };
        if std::mem::replace(&mut seen[column], true) {
            return Err(DecodeError::RepeatedColumn { table: table.name.clone(), column: name.to_owned() });
        }
        // Snapshots carry generated columns, streams don't; the replica computes them itself.
        if table.columns[column].generated { Ok(()) } else { reader.read(column, raw) }
    })?;
    let allowed = |column: usize| of.codecs[column].allow_lossy && !matches!(role, Role::Old);
    let mut missing = Vec::new();
    for (column, _) in seen.iter().enumerate().filter(|(_, seen)| !**seen) {
        match table.filler(column) {
            _ if table.columns[column].generated => {}
            // A row that exists keeps what it has.
            Some(Filler::Nothing) => {}
            Some(Filler::Value(_)) if matches!(role, Role::Update { .. }) => {}
            Some(Filler::Value(value)) => {
                reader.row.set(column, value.as_deref().map_or(Cell::Null, Cell::Text));
            }
            None if allowed(column) => {}
            None => missing.push(table.columns[column].name.clone()),
        }
    }
    if !unknown.is_empty() || !missing.is_empty() {
        return Err(DecodeError::Shape { table: table.name.clone(), unknown, missing });
    }
    let no_value = |column: usize| !table.columns[column].generated && !reader.row.is_set(column);
    match table.key.iter().find(|&&column| no_value(column)) {
        Some(&column) => Err(DecodeError::IncompleteKey {
            table: table.name.clone(),
            column: table.columns[column].name.clone(),
        }),
        None => Ok(reader.row.finish()),
    }
}

/// Reads the key columns only. With `REPLICA IDENTITY DEFAULT` the other fields of `before` are fillers, not values.
pub(super) fn decode_key(of: Columns<'_>, json: &str) -> Result<Key, DecodeError> {
    let table = of.table;
    let mut reader = RowReader::new(of, Role::Old, json.len().min(256));
    each_field(json, |name, raw| {
        // What is not of the key may come and go.
        match reader.column(name).filter(|column| table.key.contains(column)) {
            Some(column) => reader.read(column, raw),
            None => Ok(()),
        }
    })?;
    let row = reader.row.finish();
    match table.key.iter().find(|&&column| !matches!(row.cell(column), Cell::Text(_))) {
        Some(&column) => Err(DecodeError::IncompleteKey {
            table: table.name.clone(),
            column: table.columns[column].name.clone(),
        }),
        None => Ok(row.project(&table.key)),
    }
}

struct RowReader<'t> {
    table: &'t Table,
    codecs: &'t [ColumnCodec],
    role: Role<'t>,
    row: RowBuilder,
    /// Where the next field probably belongs: events list fields in the catalog's order.
    next: usize,
}

impl<'t> RowReader<'t> {
    fn new(of: Columns<'t>, role: Role<'t>, text_bytes: usize) -> Self {
        let row = RowBuilder::with_capacity(of.table.columns.len(), text_bytes);
        RowReader { table: of.table, codecs: of.codecs, role, row, next: 0 }
    }

    fn column(&mut self, name: &str) -> Option<usize> {
        let guess = self.next;
        let column = match self.table.columns.get(guess) {
            Some(column) if column.name == name => guess,
            _ => self.table.column(name)?,
        };
        self.next = column + 1;
        Some(column)
    }

    fn read(&mut self, column: usize, raw: &str) -> Result<(), DecodeError> {
        let codec = &self.codecs[column];
        let result = if raw == "null" {
            self.read_null(column)
        } else if !codec.unchanged.is_empty() && codec.unchanged.iter().any(|token| **token == *raw) {
            self.read_unchanged(column, raw)
        } else {
            self.read_value(column, raw)
        };
        match result {
            Ok(()) => Ok(()),
            // The row has to be found by it.
            Err(_) if codec.allow_lossy && !matches!(self.role, Role::Old) => Ok(()),
            Err(error) => Err(DecodeError::Value {
                table: self.table.name.clone(),
                column: self.table.columns[column].name.clone(),
                error,
            }),
        }
    }

    fn read_value(&mut self, column: usize, raw: &str) -> Result<(), ValueError> {
        let codec = &self.codecs[column];
        if let Some(loss) = codec.loss
            && !codec.allow_lossy
        {
            return Err(ValueError::Lossy { reason: loss.what, setting: loss.setting });
        }
        self.row.write(column, |out| append_value(&codec.codec, raw, out))
    }

    /// NULL, unless it may be what became of a value.
    fn read_null(&mut self, column: usize) -> Result<(), ValueError> {
        match (self.codecs[column].nulls, self.role) {
            (Nulls::MayBeLost, _) => {
                return Err(ValueError::Lossy {
                    reason: "NULL may stand for a value that Debezium could not convert",
                    setting: NO_SETTING,
                });
            }
            (Nulls::MayBeUnchanged, Role::Update { before }) => match self.before(column, before) {
                // NULL as before: it stays what it is.
                Some("null") => return Ok(()),
                // The old row is there, so Debezium could have told that the value did not change.
                Some(_) => {}
                None => {
                    return Err(ValueError::Lossy {
                        reason: "NULL may stand for a large value that did not change",
                        setting: "On the leader: ALTER TABLE … REPLICA IDENTITY FULL; or accept the loss with \
                                  source.allow_lossy.",
                    });
                }
            },
            _ => {}
        }
        self.row.set(column, Cell::Null);
        Ok(())
    }

    /// The placeholder for an unchanged value, unless it is a text that somebody wrote.
    fn read_unchanged(&mut self, column: usize, raw: &str) -> Result<(), ValueError> {
        let Role::Update { before } = self.role else { return self.read_value(column, raw) };
        match self.before(column, before) {
            // Either it did not change, or it is what it was.
            None => Ok(()),
            Some(old) if old == raw => Ok(()),
            Some("null") => Err(ValueError::Lossy {
                reason: "a text equals the placeholder for unchanged values",
                setting: "Set unavailable.value.placeholder to a long random text in the connector, and \
                          source.placeholder.",
            }),
            // The old row is there, so Debezium would have taken an unchanged value from it.
            Some(_) => self.read_value(column, raw),
        }
    }

    /// The old value of a column, as it stands in the JSON. Only asked for when a value is ambiguous.
    fn before<'a>(&self, column: usize, before: Option<&'a RawValue>) -> Option<&'a str> {
        let wanted = &self.table.columns[column].name;
        let mut found = None;
        let read = each_field(before?.get(), |name, raw| {
            if name == wanted {
                found = Some(raw);
            }
            Ok(())
        });
        // Whoever can't be read can't be asked.
        read.ok().and(found)
    }
}

/// Calls `f` with each field's name and its value as it stands in the JSON.
fn each_field<'j>(
    json: &'j str,
    f: impl FnMut(&str, &'j str) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    struct Fields<F> {
        f: F,
        /// What `f` complained of: serde's own error type has no room for it.
        failure: Option<DecodeError>,
    }

    #[derive(Deserialize)]
    struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

    impl<'de, F: FnMut(&str, &'de str) -> Result<(), DecodeError>> Visitor<'de> for &mut Fields<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a row as an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some((Name(name), raw)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                if let Err(failure) = (self.f)(&name, raw.get()) {
                    self.failure = Some(failure);
                    return Err(serde::de::Error::custom("refused"));
                }
            }
            Ok(())
        }
    }

    let mut fields = Fields { f, failure: None };
    let result = serde_json::Deserializer::from_str(json).deserialize_map(&mut fields);
    match (fields.failure, result) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(DecodeError::NotJson(error.to_string())),
        (None, Ok(())) => Ok(()),
    }
}
