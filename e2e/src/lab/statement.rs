//! Single statements on a table of the lab.

use super::shape::{Column, Table};
use crate::random::Random;

/// Inserts `count` rows.
pub(super) fn insert(table: &Table, count: u64) -> String {
    let names: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let values: Vec<_> = table.columns.iter().map(|column| column.value("n")).collect();
    format!(
        "INSERT INTO {} ({}) SELECT {} FROM generate_series(1, {count}) AS n",
        table.sql_name(),
        names.join(", "),
        values.join(", ")
    )
}

/// Inserts `copies` equal rows into a table without a key.
pub(super) fn insert_equal(table: &Table, copies: u64) -> String {
    let values: Vec<_> = table.columns.iter().map(|column| column.value("1")).collect();
    format!(
        "INSERT INTO {} SELECT r.* FROM (SELECT {}) AS r, generate_series(1, {copies})",
        table.sql_name(),
        values.join(", ")
    )
}

/// Changes one to three columns of up to `count` rows, never the key's. What is long stays unchanged as a rule.
pub(super) fn update(table: &Table, count: u64, random: &mut Random) -> String {
    let mut columns: Vec<_> = table.columns[table.key_columns..].iter().collect();
    random.shuffle(&mut columns);
    columns.truncate(random.index(3) + 1);
    assign(table, &columns, count)
}

/// Changes the weight of up to `count` rows and nothing else.
pub(super) fn touch(table: &Table, count: u64) -> String {
    let rows = some(table, count);
    format!("UPDATE {} SET weight = weight + 1 WHERE {rows}", table.sql_name())
}

/// Gives up to `count` rows another key.
pub(super) fn rekey(table: &Table, count: u64, random: &mut Random) -> String {
    let key = random.pick(&table.columns[..table.key_columns]);
    assign(table, &[key], count)
}

/// Deletes up to `count` rows.
pub(super) fn delete(table: &Table, count: u64) -> String {
    format!("DELETE FROM {} WHERE {}", table.sql_name(), some(table, count))
}

/// Deletes all but `count` rows.
pub(super) fn trim(table: &Table, count: u64) -> String {
    let name = table.sql_name();
    format!("DELETE FROM {name} WHERE (tableoid, ctid) IN (SELECT tableoid, ctid FROM {name} OFFSET {count})")
}

fn assign(table: &Table, columns: &[&Column], count: u64) -> String {
    let number = "(random() * 1000)::int";
    let set: Vec<_> =
        columns.iter().map(|column| format!("{} = {}", column.name, column.value(number))).collect();
    format!("UPDATE {} SET {} WHERE {}", table.sql_name(), set.join(", "), some(table, count))
}

/// A condition for up to `count` rows, whichever. By their place, because rows may be equal otherwise.
fn some(table: &Table, count: u64) -> String {
    format!(
        "(tableoid, ctid) IN (SELECT tableoid, ctid FROM {} ORDER BY random() LIMIT {count})",
        table.sql_name()
    )
}
