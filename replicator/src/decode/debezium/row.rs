//! `before` and `after` into rows and keys.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::DecodeError;
use super::value::{Placeholders, append_value};
use crate::vocabulary::row::{Cell, Key, Row, RowBuilder};
use crate::vocabulary::schema::Table;

/// Reads a whole row. With `placeholders`, values that the connector could not provide stay absent.
pub(super) fn decode_row(
    table: &Table,
    json: &RawValue,
    placeholders: Option<&Placeholders>,
) -> Result<Row, DecodeError> {
    let mut reader = RowReader::new(table, json.get().len());
    let mut seen = vec![false; table.columns.len()];
    each_field(json.get(), |name, raw| {
        let column = reader.column(name)?;
        if std::mem::replace(&mut seen[column], true) {
            return Err(DecodeError::RepeatedColumn { table: table.name.clone(), column: name.to_owned() });
        }
        // Snapshots carry generated columns, streams don't; the replica computes them itself.
        if table.columns[column].generated || placeholders.is_some_and(|p| p.matches(raw)) {
            return Ok(());
        }
        reader.read(column, raw)
    })?;
    match seen.iter().zip(&table.columns).find(|(seen, column)| !**seen && !column.generated) {
        Some((_, column)) => {
            Err(DecodeError::MissingColumn { table: table.name.clone(), column: column.name.clone() })
        }
        None => Ok(reader.row.finish()),
    }
}

/// Reads the key columns only. With `REPLICA IDENTITY DEFAULT` the other fields of `before` are fillers, not values.
pub(super) fn decode_key(table: &Table, json: &str) -> Result<Key, DecodeError> {
    let mut reader = RowReader::new(table, json.len().min(256));
    each_field(json, |name, raw| {
        let column = reader.column(name)?;
        if table.key.contains(&column) { reader.read(column, raw) } else { Ok(()) }
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
    row: RowBuilder,
    /// Where the next field probably belongs: events list fields in the catalog's order.
    next: usize,
}

impl<'t> RowReader<'t> {
    fn new(table: &'t Table, text_bytes: usize) -> Self {
        RowReader { table, row: RowBuilder::with_capacity(table.columns.len(), text_bytes), next: 0 }
    }

    fn column(&mut self, name: &str) -> Result<usize, DecodeError> {
        let guess = self.next;
        let column = match self.table.columns.get(guess) {
            Some(column) if column.name == name => guess,
            _ => self.table.column(name).ok_or_else(|| DecodeError::UnknownColumn {
                table: self.table.name.clone(),
                column: name.to_owned(),
            })?,
        };
        self.next = column + 1;
        Ok(column)
    }

    fn read(&mut self, column: usize, raw: &str) -> Result<(), DecodeError> {
        if raw == "null" {
            self.row.set(column, Cell::Null);
            return Ok(());
        }
        let definition = &self.table.columns[column];
        self.row.write(column, |out| append_value(&definition.kind, raw, out)).map_err(|error| {
            DecodeError::Value { table: self.table.name.clone(), column: definition.name.clone(), error }
        })
    }
}

/// Calls `f` with each field's name and its value as it stands in the JSON.
fn each_field(json: &str, f: impl FnMut(&str, &str) -> Result<(), DecodeError>) -> Result<(), DecodeError> {
    struct Fields<F> {
        f: F,
        /// What `f` complained of: serde's own error type has no room for it.
        failure: Option<DecodeError>,
    }

    #[derive(Deserialize)]
    struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

    impl<'de, F: FnMut(&str, &str) -> Result<(), DecodeError>> Visitor<'de> for &mut Fields<F> {
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
