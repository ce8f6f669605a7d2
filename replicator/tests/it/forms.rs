//! Values in binary, as a server writes them.

use replicator::replica::bind::Raw;
use replicator::vocabulary::change::{Change, Operation};
use replicator::vocabulary::row::{Cell, Form, Key, Row};
use replicator::vocabulary::schema::Table;
use tokio_postgres::Client;

/// The same change with its values, which are text, in binary.
pub(crate) async fn change_in_binary(client: &Client, change: Change) -> anyhow::Result<Change> {
    let operation = in_binary(client, &change.table, &change.operation).await?;
    Ok(Change { operation, ..change })
}

/// The same operation with its values, which are text, in binary.
pub(crate) async fn in_binary(
    client: &Client,
    table: &Table,
    operation: &Operation,
) -> anyhow::Result<Operation> {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let of_row = async |row: &Row| row_in_binary(client, table, &all, row).await;
    let of_key = async |key: &Key| row_in_binary(client, table, &table.key, &key.0).await.map(Key);
    Ok(match operation {
        Operation::Insert(row) => Operation::Insert(of_row(row).await?),
        Operation::Copy(row) => Operation::Copy(of_row(row).await?),
        Operation::Fill(row) => Operation::Fill(of_row(row).await?),
        Operation::Update(row) => Operation::Update(of_row(row).await?),
        Operation::Rekey { old, row } => {
            Operation::Rekey { old: of_key(old).await?, row: of_row(row).await? }
        }
        Operation::Delete(key) => Operation::Delete(of_key(key).await?),
        Operation::UpdateKeyless { old, new } => {
            Operation::UpdateKeyless { old: of_row(old).await?, new: of_row(new).await? }
        }
        Operation::DeleteKeyless(row) => Operation::DeleteKeyless(of_row(row).await?),
        Operation::Truncate => Operation::Truncate,
        Operation::Clear => Operation::Clear,
    })
}

async fn row_in_binary(client: &Client, table: &Table, columns: &[usize], row: &Row) -> anyhow::Result<Row> {
    let mut cells = Vec::new();
    let mut answers = Vec::new();
    for (position, &column) in columns.iter().enumerate() {
        if let Cell::Text(text) = row.cell(position) {
            let sql = format!("SELECT $1::text::{}", table.columns[column].cast);
            answers.push((position, client.query_one(&sql, &[&text]).await?));
        }
        cells.push(if row.cell(position) == Cell::Null { Cell::Null } else { Cell::Absent });
    }
    for (position, answer) in &answers {
        cells[*position] = Cell::Binary(answer.get::<_, Raw<'_>>(0).0);
    }
    Ok(Row::new(Form::Binary, &cells))
}
