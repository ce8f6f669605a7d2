//! Steps as SQL text. Every name is quoted, every value is a parameter.
//!
//! Values travel as text and are cast to the column's type, so PostgreSQL's own input functions read them: what the leader
//! printed and what the replica stores can't differ by a conversion of ours.

use crate::plan::{ColumnSet, StepKind};
use crate::vocabulary::schema::{Table, TableName};

/// What a statement is cached under, within one table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Insert(ColumnSet),
    Upsert(ColumnSet),
    Update(ColumnSet),
    Delete,
    Rekey(ColumnSet),
    UpdateKeyless(ColumnSet),
    DeleteKeyless,
}

impl Shape {
    /// The shape of a step; none for emptying tables, which is not worth preparing.
    pub(super) fn of(kind: &StepKind<'_>) -> Option<Self> {
        Some(match kind {
            StepKind::Insert(columns, _) => Shape::Insert(columns.clone()),
            StepKind::Upsert(columns, _) => Shape::Upsert(columns.clone()),
            StepKind::Update(columns, _) => Shape::Update(columns.clone()),
            StepKind::Delete(_) => Shape::Delete,
            StepKind::Rekey(columns, ..) => Shape::Rekey(columns.clone()),
            StepKind::UpdateKeyless(columns, ..) => Shape::UpdateKeyless(columns.clone()),
            StepKind::DeleteKeyless(_) => Shape::DeleteKeyless,
            StepKind::Truncate(_) | StepKind::Clear => return None,
        })
    }

    /// Whether its parameters are arrays with an element per row, rather than single values.
    pub(super) fn takes_arrays(&self) -> bool {
        matches!(self, Shape::Insert(_) | Shape::Upsert(_) | Shape::Update(_) | Shape::Delete)
    }

    /// The statement and how many parameters it has.
    pub(super) fn sql(&self, table: &Table) -> (String, usize) {
        match self {
            Shape::Insert(columns) => insert(table, columns, ""),
            Shape::Upsert(columns) => insert(table, columns, &on_conflict(table, columns)),
            Shape::Update(columns) => update(table, columns),
            Shape::Delete => delete(table),
            Shape::Rekey(columns) => rekey(table, columns),
            Shape::UpdateKeyless(columns) => update_keyless(table, columns),
            Shape::DeleteKeyless => delete_keyless(table),
        }
    }
}

/// An identifier, quoted.
pub(super) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A table's name, quoted.
pub(super) fn quoted_table(name: &TableName) -> String {
    format!("{}.{}", quoted(&name.schema), quoted(&name.name))
}

/// `TRUNCATE` of tables that may refer to each other.
pub(super) fn truncate<'a>(tables: impl Iterator<Item = &'a TableName>) -> String {
    let names: Vec<_> = tables.map(quoted_table).collect();
    format!("TRUNCATE {}", names.join(", "))
}

/// All rows of one table go. `TRUNCATE` would refuse a table that another one refers to.
pub(super) fn clear(table: &TableName) -> String {
    format!("DELETE FROM {}", quoted_table(table))
}

/// `unnest` of the parameters from `$1` as rows `u (c0, c1, …)`.
fn unnest(parameters: usize) -> String {
    let values: Vec<_> = (1..=parameters).map(|p| format!("${p}")).collect();
    let names: Vec<_> = (0..parameters).map(|p| format!("c{p}")).collect();
    format!("unnest({}) AS u ({})", values.join(", "), names.join(", "))
}

/// The unnested column `position` as the type of the table's column.
fn unnested(table: &Table, column: usize, position: usize) -> String {
    format!("u.c{position}::{}", table.columns[column].cast)
}

/// The single parameter `$n` as the type of the table's column.
fn single(table: &Table, column: usize, parameter: usize) -> String {
    format!("${parameter}::text::{}", table.columns[column].cast)
}

fn column(table: &Table, column: usize) -> String {
    quoted(&table.columns[column].name)
}

fn insert(table: &Table, columns: &ColumnSet, suffix: &str) -> (String, usize) {
    let columns: Vec<_> = columns.iter().collect();
    let names: Vec<_> = columns.iter().map(|&c| column(table, c)).collect();
    let values: Vec<_> = columns.iter().enumerate().map(|(p, &c)| unnested(table, c, p)).collect();
    let overriding =
        if table.columns.iter().any(|c| c.identity_always) { " OVERRIDING SYSTEM VALUE" } else { "" };
    let sql = format!(
        "INSERT INTO {} ({}){overriding} SELECT {} FROM {}{suffix}",
        quoted_table(&table.name),
        names.join(", "),
        values.join(", "),
        unnest(columns.len()),
    );
    (sql, columns.len())
}

fn on_conflict(table: &Table, columns: &ColumnSet) -> String {
    let key: Vec<_> = table.key.iter().map(|&c| column(table, c)).collect();
    let set: Vec<_> = settable(table, columns)
        .map(|c| {
            let name = column(table, c);
            format!("{name} = excluded.{name}")
        })
        .collect();
    let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", set.join(", ")) };
    format!(" ON CONFLICT ({}) DO {action}", key.join(", "))
}

/// The columns that an update of an existing row writes: not its key, nor what only DEFAULT may update.
fn settable<'a>(table: &'a Table, columns: &'a ColumnSet) -> impl Iterator<Item = usize> + 'a {
    columns.iter().filter(|c| !table.key.contains(c) && !table.columns[*c].identity_always)
}

fn update(table: &Table, columns: &ColumnSet) -> (String, usize) {
    let position = |wanted| columns.iter().position(|c| c == wanted);
    let mut assigned: Vec<_> = settable(table, columns).collect();
    if assigned.is_empty() {
        // Nothing but the key: still counts the row, and fires what a no-op update on the leader fires.
        assigned.clone_from(&table.key);
    }
    let value = |c: usize| position(c).map(|p| unnested(table, c, p));
    let set: Vec<_> =
        assigned.iter().filter_map(|&c| Some(format!("{} = {}", column(table, c), value(c)?))).collect();
    let matching: Vec<_> =
        table.key.iter().filter_map(|&c| Some(format!("t.{} = {}", column(table, c), value(c)?))).collect();
    let parameters = columns.iter().count();
    let sql = format!(
        "UPDATE {} AS t SET {} FROM {} WHERE {}",
        quoted_table(&table.name),
        set.join(", "),
        unnest(parameters),
        matching.join(" AND "),
    );
    (sql, parameters)
}

fn delete(table: &Table) -> (String, usize) {
    let key = table.key.iter().enumerate();
    let matching: Vec<_> =
        key.map(|(p, &c)| format!("t.{} = {}", column(table, c), unnested(table, c, p))).collect();
    let sql = format!(
        "DELETE FROM {} AS t USING {} WHERE {}",
        quoted_table(&table.name),
        unnest(table.key.len()),
        matching.join(" AND "),
    );
    (sql, table.key.len())
}

/// The columns of one row, each set to a single parameter from `$1` on, and how many parameters that takes. What only
/// DEFAULT may update keeps its parameter and is not set.
fn assignments(table: &Table, columns: &ColumnSet) -> (String, usize) {
    let columns: Vec<_> = columns.iter().collect();
    let set: Vec<_> = columns
        .iter()
        .enumerate()
        .filter(|(_, c)| !table.columns[**c].identity_always)
        .map(|(p, &c)| format!("{} = {}", column(table, c), single(table, c, p + 1)))
        .collect();
    (set.join(", "), columns.len())
}

/// The new values first, then the old key.
fn rekey(table: &Table, columns: &ColumnSet) -> (String, usize) {
    let (set, written) = assignments(table, columns);
    let key = table.key.iter().enumerate();
    let matching: Vec<_> =
        key.map(|(p, &c)| format!("{} = {}", column(table, c), single(table, c, written + p + 1))).collect();
    let sql = format!("UPDATE {} SET {set} WHERE {}", quoted_table(&table.name), matching.join(" AND "));
    (sql, written + table.key.len())
}

/// Finds one row with exactly these values, among equals any. Compared as text: some types have no equality, and the
/// cast there and back gives both sides the same spelling. Parameters from `first`, one per column that is written.
fn one_row(table: &Table, first: usize) -> (String, usize) {
    let stored: Vec<_> = (0..table.columns.len()).filter(|&c| !table.columns[c].generated).collect();
    let matching: Vec<_> = stored
        .iter()
        .enumerate()
        .map(|(p, &c)| {
            format!("{}::text IS NOT DISTINCT FROM ({})::text", column(table, c), single(table, c, first + p))
        })
        .collect();
    let name = quoted_table(&table.name);
    // tableoid: the ctid alone is ambiguous in a partitioned table.
    let sql = format!(
        "(tableoid, ctid) = (SELECT tableoid, ctid FROM {name} WHERE {} LIMIT 1)",
        matching.join(" AND ")
    );
    (sql, stored.len())
}

/// The new values first, then all old values.
fn update_keyless(table: &Table, columns: &ColumnSet) -> (String, usize) {
    let (set, written) = assignments(table, columns);
    let (matching, parameters) = one_row(table, written + 1);
    let sql = format!("UPDATE {} SET {set} WHERE {matching}", quoted_table(&table.name));
    (sql, written + parameters)
}

fn delete_keyless(table: &Table) -> (String, usize) {
    let (matching, parameters) = one_row(table, 1);
    (format!("DELETE FROM {} WHERE {matching}", quoted_table(&table.name)), parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::row::{Cell, RowBuilder};
    use crate::vocabulary::schema::{Column, ColumnKind};

    fn table(key: Vec<usize>) -> Table {
        let column = |name: &str, type_name: &str| Column {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            cast: type_name.split('(').next().unwrap_or_default().to_owned(),
            kind: ColumnKind::Text,
            generated: false,
            identity_always: false,
        };
        let columns = vec![column("id", "uuid"), column("we\"ird", "text"), column("n", "numeric(12,2)")];
        Table::new(TableName::new("public", "My Table"), columns, key)
    }

    fn columns(present: &[usize]) -> ColumnSet {
        let mut row = RowBuilder::new(3);
        present.iter().for_each(|&c| row.set(c, Cell::Null));
        ColumnSet::present_in(&row.finish())
    }

    #[test]
    fn names_are_quoted_and_values_are_cast_parameters() {
        let (sql, parameters) = Shape::Insert(columns(&[0, 1, 2])).sql(&table(vec![0]));
        assert_eq!(parameters, 3);
        assert_eq!(
            sql,
            "INSERT INTO \"public\".\"My Table\" (\"id\", \"we\"\"ird\", \"n\") \
             SELECT u.c0::uuid, u.c1::text, u.c2::numeric FROM unnest($1, $2, $3) AS u (c0, c1, c2)"
        );
    }

    #[test]
    fn an_update_writes_only_the_columns_that_the_event_carries() {
        let (sql, parameters) = Shape::Update(columns(&[0, 2])).sql(&table(vec![0]));
        assert_eq!(parameters, 2);
        assert_eq!(
            sql,
            "UPDATE \"public\".\"My Table\" AS t SET \"n\" = u.c1::numeric \
             FROM unnest($1, $2) AS u (c0, c1) WHERE t.\"id\" = u.c0::uuid"
        );
    }

    #[test]
    fn a_key_change_sets_the_key_and_looks_for_the_old_one() {
        let (sql, parameters) = Shape::Rekey(columns(&[0, 1])).sql(&table(vec![0]));
        assert_eq!(parameters, 3);
        assert_eq!(
            sql,
            "UPDATE \"public\".\"My Table\" SET \"id\" = $1::text::uuid, \"we\"\"ird\" = $2::text::text \
             WHERE \"id\" = $3::text::uuid"
        );
    }

    #[test]
    fn a_keyless_row_is_found_by_all_its_values_and_only_once() {
        let (sql, parameters) = Shape::DeleteKeyless.sql(&table(vec![]));
        assert_eq!(parameters, 3);
        assert!(sql.contains("LIMIT 1"), "{sql}");
        assert_eq!(sql.matches("IS NOT DISTINCT FROM").count(), 3);
    }
}
