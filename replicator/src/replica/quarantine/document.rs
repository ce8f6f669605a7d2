//! Changes as JSON documents and back: an object with a member for each column that the change carries, its value as
//! PostgreSQL's text or null.

use std::collections::BTreeMap;

use crate::replica::ReplicaError;
use crate::vocabulary::change::Operation;
use crate::vocabulary::row::{Cell, Key, Row, RowBuilder};
use crate::vocabulary::schema::Table;

/// The three documents of an operation: key, before, after.
///
/// # Errors
/// When its values are not text: a document without them would be taken for a change that does not carry them.
pub(super) fn of_operation(
    table: &Table,
    operation: &Operation,
) -> Result<[Option<String>; 3], ReplicaError> {
    let row = |row: &Row| of_cells(table, 0..table.columns.len(), row).map(Some);
    let key = |key: &Key| of_cells(table, table.key.iter().copied(), &key.0).map(Some);
    let key_of = |row: &Row| if table.has_key() { key(&row.project(&table.key)) } else { Ok(None) };
    Ok(match operation {
        Operation::Insert(new) | Operation::Copy(new) | Operation::Fill(new) | Operation::Update(new) => {
            [key_of(new)?, None, row(new)?]
        }
        Operation::Rekey { old, row: new } => [key(old)?, None, row(new)?],
        Operation::Delete(old) => [key(old)?, None, None],
        Operation::UpdateKeyless { old, new } => [None, row(old)?, row(new)?],
        Operation::DeleteKeyless(old) => [None, row(old)?, None],
        Operation::Truncate | Operation::Clear => [None, None, None],
    })
}

/// `row` holds a value for each of `columns`, in that order.
fn of_cells(table: &Table, columns: impl Iterator<Item = usize>, row: &Row) -> Result<String, ReplicaError> {
    let mut members: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for (column, cell) in columns.zip(row.select(0..row.width())) {
        let value = match cell {
            Cell::Absent => continue,
            Cell::Null => None,
            Cell::Text(text) => Some(text),
            Cell::Binary(_) => return Err(ReplicaError::Plan("a binary value for the quarantine")),
        };
        members.insert(&table.columns[column].name, value);
    }
    // Strings and nulls only: it can't fail.
    Ok(serde_json::to_string(&members).unwrap_or_default())
}

/// The operation that the documents of an entry describe.
pub(super) fn to_operation(
    table: &Table,
    name: &str,
    [key, before, after]: [Option<&str>; 3],
) -> Result<Operation, String> {
    let row = |document: Option<&str>| to_row(table, document.ok_or("a part of the entry is missing")?);
    let key = || row(key).map(|row| row.project(&table.key));
    Ok(match (name, before) {
        ("insert", _) => Operation::Insert(row(after)?),
        ("copy", _) => Operation::Copy(row(after)?),
        ("fill", _) => Operation::Fill(row(after)?),
        ("update", None) => Operation::Update(row(after)?),
        ("update", Some(_)) => Operation::UpdateKeyless { old: row(before)?, new: row(after)? },
        ("rekey", _) => Operation::Rekey { old: key()?, row: row(after)? },
        ("delete", None) => Operation::Delete(key()?),
        ("delete", Some(_)) => Operation::DeleteKeyless(row(before)?),
        _ => return Err(format!("operation '{name}' can't be applied again")),
    })
}

/// The keys of the rows that the documents of an entry are about, also where they don't fit the table any more; none of which
/// the table lacks a column.
pub(super) fn keys(table: &Table, name: &str, [key, _, after]: [Option<&str>; 3]) -> Vec<Key> {
    let documents = [key, after.filter(|_| name == "rekey")];
    let key = |document: &str| {
        let members: BTreeMap<String, Option<String>> = serde_json::from_str(document).ok()?;
        let mut row = RowBuilder::new(table.columns.len());
        for &column in &table.key {
            let value = members.get(&table.columns[column].name)?;
            row.set(column, value.as_deref().map_or(Cell::Null, Cell::Text));
        }
        table.has_key().then(|| row.finish().project(&table.key))
    };
    documents.into_iter().flatten().filter_map(key).collect()
}

fn to_row(table: &Table, document: &str) -> Result<Row, String> {
    let members: BTreeMap<String, Option<String>> =
        serde_json::from_str(document).map_err(|error| format!("the entry is unreadable: {error}"))?;
    let mut row = RowBuilder::new(table.columns.len());
    for (name, value) in &members {
        let column =
            table.column(name).ok_or_else(|| format!("{} has no column {name} any more", table.name))?;
        row.set(column, value.as_deref().map_or(Cell::Null, Cell::Text));
    }
    Ok(row.finish())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::vocabulary::row::Form;
    use crate::vocabulary::schema::{Column, TableName};

    fn table(key: Vec<usize>) -> Arc<Table> {
        let columns = ["v", "a", "b", "w"].map(Column::text).to_vec();
        Arc::new(Table::new(TableName::new("public", "t"), columns, key))
    }

    fn row(cells: &[Cell<'_>]) -> Row {
        let mut row = RowBuilder::new(cells.len());
        cells.iter().enumerate().for_each(|(i, cell)| row.set(i, *cell));
        row.finish()
    }

    #[test]
    fn every_operation_survives_the_trip_through_its_documents() {
        let full = row(&[Cell::Text("\u{0}\"\n"), Cell::Text("1"), Cell::Text("2"), Cell::Null]);
        let partial = row(&[Cell::Absent, Cell::Text("1"), Cell::Text("3"), Cell::Absent]);
        // A key's order need not be that of the columns.
        let keyed = table(vec![2, 1]);
        let old = full.project(&keyed.key);
        let operations = [
            Operation::Insert(full.clone()),
            Operation::Copy(full.clone()),
            Operation::Fill(full.clone()),
            Operation::Update(partial.clone()),
            Operation::Rekey { old: old.clone(), row: partial.clone() },
            Operation::Delete(old),
        ];
        let keyless = table(vec![]);
        let keyless_operations = [
            Operation::Insert(full.clone()),
            Operation::UpdateKeyless { old: full.clone(), new: full.clone() },
            Operation::DeleteKeyless(full),
        ];
        for (table, operations) in [(keyed, &operations[..]), (keyless, &keyless_operations[..])] {
            for operation in operations {
                let [key, before, after] = of_operation(&table, operation).unwrap();
                let documents = [key.as_deref(), before.as_deref(), after.as_deref()];
                assert_eq!(to_operation(&table, operation.name(), documents).as_ref(), Ok(operation));
            }
        }
    }

    #[test]
    fn binary_values_are_refused_rather_than_left_out() {
        let row = Row::new(Form::Binary, &[Cell::Binary(b"v"), Cell::Null, Cell::Null, Cell::Null]);
        let keyless = Operation::DeleteKeyless(row.clone());
        assert!(matches!(of_operation(&table(vec![]), &keyless), Err(ReplicaError::Plan(_))));
        let keyed = table(vec![0]);
        let delete = Operation::Delete(row.project(&keyed.key));
        assert!(matches!(of_operation(&keyed, &delete), Err(ReplicaError::Plan(_))));
    }

    #[test]
    fn an_entry_that_does_not_fit_the_table_any_more_is_refused() {
        let error =
            to_operation(&table(vec![1]), "insert", [None, None, Some("{\"gone\":\"1\"}")]).unwrap_err();
        assert!(error.contains("no column gone"), "{error}");
        assert!(to_operation(&table(vec![1]), "insert", [None, None, None]).is_err());
        assert!(to_operation(&table(vec![1]), "truncate", [None, None, None]).is_err());
    }
}
