//! Values from one form into the other. The server does it: whatever it reads in one form it writes in the other.
//!
//! By the type that stands behind the column, domains followed: a value that the column itself refuses has to be told, too.

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::ReplicaError;
use super::bind::{Parameter, Raw};
use super::sql::quoted;
use crate::vocabulary::change::Operation;
use crate::vocabulary::row::{Cell, Form, Key, Row};
use crate::vocabulary::schema::Table;

/// The operation with all its values as text.
///
/// # Errors
/// When the replica does not answer.
pub(super) async fn in_text(
    client: &Client,
    table: &Table,
    operation: &Operation,
) -> Result<Operation, ReplicaError> {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let row = async |row: &Row| row_in_text(client, table, &all, row).await;
    let key = async |key: &Key| row_in_text(client, table, &table.key, &key.0).await.map(Key);
    Ok(match operation {
        Operation::Insert(new) => Operation::Insert(row(new).await?),
        Operation::Copy(new) => Operation::Copy(row(new).await?),
        Operation::Fill(new) => Operation::Fill(row(new).await?),
        Operation::Update(new) => Operation::Update(row(new).await?),
        Operation::Rekey { old, row: new } => Operation::Rekey { old: key(old).await?, row: row(new).await? },
        Operation::Delete(old) => Operation::Delete(key(old).await?),
        Operation::UpdateKeyless { old, new } => {
            Operation::UpdateKeyless { old: row(old).await?, new: row(new).await? }
        }
        Operation::DeleteKeyless(old) => Operation::DeleteKeyless(row(old).await?),
        Operation::Truncate => Operation::Truncate,
        Operation::Clear => Operation::Clear,
    })
}

/// `columns` says to which of the table's columns each value of the row belongs.
async fn row_in_text(
    client: &Client,
    table: &Table,
    columns: &[usize],
    row: &Row,
) -> Result<Row, ReplicaError> {
    if row.form() == Form::Text {
        return Ok(row.clone());
    }
    let present = |position: &usize| row.cell(*position).bytes().is_some();
    let positions: Vec<usize> = (0..row.width()).filter(present).collect();
    let mut expressions = Vec::with_capacity(positions.len());
    for (&position, parameter) in positions.iter().zip(1..) {
        let cast = type_behind(table, columns[position])?;
        expressions.push(format!("${parameter}::{cast}::text"));
    }
    let sql = format!("SELECT {}", expressions.join(", "));
    let parameters: Vec<_> = positions.iter().map(|p| Parameter::One(row.cell(*p))).collect();
    let parameters: Vec<_> = parameters.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
    let texts = client.query_one(&sql, &parameters).await.map_err(failed)?;
    let mut cells: Vec<_> = (0..row.width())
        .map(|position| if row.cell(position) == Cell::Null { Cell::Null } else { Cell::Absent })
        .collect();
    for (index, &position) in positions.iter().enumerate() {
        cells[position] = Cell::Text(texts.try_get(index).map_err(failed)?);
    }
    Ok(Row::new(Form::Text, &cells))
}

/// Keys of a table, whose values are text, in binary. Left out are those that can't come in binary: all of them when the key has a
/// column of which none does, and those with a value that is none of its type's.
///
/// Outside of transactions: of several keys it may take a second attempt.
///
/// # Errors
/// When the replica does not answer.
pub(super) async fn keys_in_binary(
    client: &Client,
    table: &Table,
    keys: &[Key],
) -> Result<Vec<Key>, ReplicaError> {
    if keys.is_empty() || table.key.iter().any(|&column| table.columns[column].wire.is_none()) {
        return Ok(Vec::new());
    }
    match read_in_binary(client, table, keys).await {
        Err(error) if is_refusal(&error) && keys.len() > 1 => {
            let mut read = Vec::with_capacity(keys.len());
            for key in keys {
                match read_in_binary(client, table, std::slice::from_ref(key)).await {
                    Ok(key) => read.extend(key),
                    Err(error) if is_refusal(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(read)
        }
        Err(error) if is_refusal(&error) => Ok(Vec::new()),
        read => read,
    }
}

async fn read_in_binary(client: &Client, table: &Table, keys: &[Key]) -> Result<Vec<Key>, ReplicaError> {
    let width = table.key.len();
    let mut expressions = Vec::with_capacity(width);
    for (position, &column) in table.key.iter().enumerate() {
        expressions.push(format!("u.c{position}::{}", type_behind(table, column)?));
    }
    let arrays: Vec<_> = (1..=width).map(|parameter| format!("${parameter}::text[]")).collect();
    let names: Vec<_> = (0..width).map(|position| format!("c{position}")).collect();
    let sql = format!(
        "SELECT {} FROM unnest({}) AS u ({})",
        expressions.join(", "),
        arrays.join(", "),
        names.join(", ")
    );
    let borrowed: Vec<&Key> = keys.iter().collect();
    let parameters: Vec<_> = (0..width).map(|position| Parameter::OfKeys(&borrowed, position)).collect();
    let parameters: Vec<_> = parameters.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
    let rows = client.query(&sql, &parameters).await.map_err(failed)?;
    let key = |row: &tokio_postgres::Row| {
        let value = |position| row.try_get::<_, Option<Raw<'_>>>(position).map_err(failed);
        let cells = (0..width).map(|p| value(p).map(|raw| raw.map_or(Cell::Null, |raw| Cell::Binary(raw.0))));
        Ok(Key(Row::new(Form::Binary, &cells.collect::<Result<Vec<_>, _>>()?)))
    };
    rows.iter().map(key).collect()
}

/// Whether the server has answered, and does not take a value.
fn is_refusal(error: &ReplicaError) -> bool {
    error.of_database().is_some_and(|error| error.as_db_error().is_some())
}

fn failed(source: tokio_postgres::Error) -> ReplicaError {
    ReplicaError::Postgres { action: "read values in their other form", source }
}

/// The type in whose binary form the column's values come, for a cast.
fn type_behind(table: &Table, column: usize) -> Result<String, ReplicaError> {
    let column = &table.columns[column];
    let oid = column.wire.ok_or(ReplicaError::Plan("a binary value of a type that has none"))?.oid;
    Ok(match Type::from_oid(oid) {
        // Their form is their text: an enumeration's the label, and that of char(n) with the spaces that a cast to text would cut.
        Some(Type::ANYENUM | Type::BPCHAR) => "pg_catalog.text".to_owned(),
        Some(ty) => format!("pg_catalog.{}", quoted(ty.name())),
        // One that PostgreSQL got after the driver was written. The column's own will do, unless it is a domain that refuses.
        None => column.cast.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::schema::{Column, TableName, WireType};

    #[test]
    fn a_value_is_read_as_the_type_behind_its_column_and_keeps_its_spaces() {
        let behind = |oid| {
            let wire = Some(WireType { oid, is_array: false });
            let column = Column { wire, ..Column::text("c") };
            type_behind(&Table::new(TableName::new("public", "t"), vec![column], vec![]), 0).unwrap()
        };
        assert_eq!(behind(Type::INT8.oid()), "pg_catalog.\"int8\"");
        assert_eq!(behind(Type::CHAR.oid()), "pg_catalog.\"char\"");
        assert_eq!(behind(Type::ANYENUM.oid()), "pg_catalog.text");
        assert_eq!(behind(Type::BPCHAR.oid()), "pg_catalog.text");
    }
}
