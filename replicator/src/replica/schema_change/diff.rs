//! What follows from an event and two definitions of its table. Pure: the catalogs have been read, nothing is run here.
//!
//! The event is what tells an addition from a renaming: a table's fields in an event are its columns at that moment, so an
//! event with a new field *and* every old one comes from a column that was added, and one that only lacks a field from a
//! column that was dropped. The leader's catalog, which may be far ahead of the event, says what exactly was added.

use super::ddl;
use crate::replica::definition::{
    ColumnDefinition, OldRows, Origin, TableDefinition, TypeDefinition, TypeKind,
};
use crate::vocabulary::schema::{ColumnKind, Filler, Table, TableName};

/// How an event differs from the replica's table.
#[derive(Debug, Clone, Copy)]
pub struct Mismatch<'a> {
    /// Fields that the table lacks.
    pub unknown: &'a [String],
    /// Columns that the event lacks.
    pub missing: &'a [String],
}

/// The replica's side of a table.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// Its definition.
    pub definition: &'a TableDefinition,
    /// What the decoder knows of it.
    pub table: &'a Table,
    /// Whether it has no rows, so that no value for old rows is needed.
    pub is_empty: bool,
}

/// What makes the replica understand the event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remedy {
    /// To run on the replica, in order.
    pub statements: Vec<String>,
    /// Columns that events may lack from now on.
    pub fillers: Vec<(String, Filler)>,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// What nobody but the operator can decide, with the statements to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: String,
    /// The SQL that ends it, for the replica.
    pub sql: Vec<String>,
}

/// One difference between a table of the leader and of a replica, and the SQL that ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub what: String,
    /// For the replica.
    pub sql: Vec<String>,
}

/// What to do about an event whose fields are not the replica's columns.
///
/// # Errors
/// When it can't be done by adding alone, or would be guessing.
pub fn remedy(leader: &TableDefinition, own: Own<'_>, mismatch: Mismatch<'_>) -> Result<Remedy, Refusal> {
    let name = &leader.name;
    let mut remedy = Remedy::default();
    let gone: Vec<&String> = mismatch.missing.iter().filter(|m| leader.column(m).is_none()).collect();
    for field in mismatch.unknown {
        if !gone.is_empty() {
            return Err(renamed_or_replaced(name, leader, field, &gone));
        }
        let Some(column) = leader.column(field) else {
            return Err(Refusal {
                reason: format!(
                    "{name} had a column \"{field}\" when the event was written; the leader has dropped or renamed it since"
                ),
                sql: vec![ddl::add_forgotten_column(name, field)],
            });
        };
        addition(name, column, own.is_empty, &mut remedy)?;
    }
    for field in mismatch.missing {
        let filler = match leader.column(field) {
            Some(column) => filler_of_added(name, column, own.table)?,
            None => filler_of_dropped(name, field, own)?,
        };
        remedy.fillers.push((field.clone(), filler));
    }
    Ok(remedy)
}

fn renamed_or_replaced(name: &TableName, leader: &TableDefinition, field: &str, gone: &[&String]) -> Refusal {
    let mut sql: Vec<String> = gone
        .iter()
        .map(|old| format!("{};  -- if it was renamed", ddl::rename_column(name, old, field)))
        .collect();
    if let Some(column) = leader.column(field) {
        let add = ddl::add_column(name, column).join("; ");
        sql.push(format!("{add};  -- if it was added and the other one dropped"));
    }
    let gone: Vec<_> = gone.iter().map(|old| format!("\"{old}\"")).collect();
    Refusal {
        reason: format!(
            "the leader has \"{field}\" in {name} and no longer {}: whether it was renamed the events don't say",
            gone.join(", ")
        ),
        sql,
    }
}

/// A column that the event has and the replica lacks.
fn addition(
    name: &TableName,
    column: &ColumnDefinition,
    is_empty: bool,
    remedy: &mut Remedy,
) -> Result<(), Refusal> {
    let own_values = match &column.origin {
        Origin::Generated(_) => false,
        Origin::Identity => true,
        Origin::Default(_) => column.old_rows == OldRows::Unknown,
        Origin::Null => column.not_null && column.old_rows == OldRows::Unknown,
    };
    if own_values && !is_empty {
        let add = ddl::add_column(name, column).join("; ");
        return Err(Refusal {
            reason: format!(
                "\"{}\" of {name} gave each row that was there a value of its own, or the leader has forgotten the one value",
                column.name
            ),
            sql: vec![format!("{add};  -- then copy the table afresh: replicator rebuild")],
        });
    }
    if column.old_rows == OldRows::Unknown && !is_empty {
        remedy.notes.push(format!(
            "\"{}\" of {name} is NULL in the rows that were there: the leader wrote the table anew meanwhile and can't tell",
            column.name
        ));
    }
    remedy.statements.extend(ddl::add_column(name, column));
    // The transaction that added the column may have written to the table before.
    if !own_values && !matches!(column.origin, Origin::Generated(_)) {
        let value = match &column.old_rows {
            OldRows::Value(value) => Some(value.clone()),
            OldRows::Null | OldRows::Unknown => None,
        };
        remedy.fillers.push((column.name.clone(), Filler::Value(value)));
    }
    Ok(())
}

/// A column that both sides have and the event lacks: it is older than the column, or the connector leaves the column out.
/// Taken for the first, the second would write values that nobody gave.
fn filler_of_added(name: &TableName, column: &ColumnDefinition, own: &Table) -> Result<Filler, Refusal> {
    let kind = own.column(&column.name).map(|position| &own.columns[position].kind);
    let is_carried = !matches!(kind, Some(ColumnKind::NotCarried(_) | ColumnKind::Opaque));
    match &column.old_rows {
        OldRows::Value(value) if is_carried => Ok(Filler::Value(Some(value.clone()))),
        OldRows::Null if is_carried && column.altered && !column.not_null => Ok(Filler::Value(None)),
        _ => Err(Refusal {
            reason: format!(
                "the connector leaves \"{}\" of {name} out, or the event is older than the column",
                column.name
            ),
            sql: vec![format!(
                "{};  -- if the event is older: the replicator adds it again when its turn comes. \
                 Else see include.unknown.datatypes and column.exclude.list of the connector",
                ddl::drop_column(name, &column.name)
            )],
        }),
    }
}

/// A column that only the replica has. Its values stay, and new rows get its default.
fn filler_of_dropped(name: &TableName, field: &str, own: Own<'_>) -> Result<Filler, Refusal> {
    let drop = || vec![ddl::drop_column(name, field)];
    if !own.table.has_key() {
        let reason = format!(
            "the leader has dropped \"{field}\" of {name}, whose rows can only be found by all their values"
        );
        return Err(Refusal { reason, sql: drop() });
    }
    match own.definition.column(field) {
        Some(ColumnDefinition { not_null: true, origin: Origin::Null, .. }) => {
            let reason =
                format!("the leader has dropped \"{field}\" of {name}, which the replica wants a value for");
            Err(Refusal { reason, sql: drop() })
        }
        _ => Ok(Filler::Nothing),
    }
}

/// The types of the leader's table that the replica lacks, or whose labels it lacks. `own` are the replica's types of the
/// same names.
///
/// # Errors
/// When only the operator can make one.
pub fn types(wanted: &[TypeDefinition], own: &[TypeDefinition]) -> Result<Vec<String>, Refusal> {
    let mut statements = Vec::new();
    for definition in wanted {
        let found = own.iter().find(|o| o.name == definition.name);
        match (&definition.kind, found.map(|f| &f.kind)) {
            (TypeKind::Enum(labels), Some(TypeKind::Enum(known))) => {
                statements.extend(ddl::add_labels(&definition.name, labels, known));
            }
            (_, Some(_)) => {}
            (TypeKind::Extension(extension), None) => {
                return Err(Refusal {
                    reason: format!("the replica lacks the extension {extension}"),
                    sql: vec![ddl::create_extension(extension, &definition.name.schema)],
                });
            }
            (_, None) => match ddl::create_type(definition) {
                Some(statement) => statements.push(statement),
                None => {
                    return Err(Refusal {
                        reason: format!("the replica lacks the type {}", definition.name),
                        sql: vec![],
                    });
                }
            },
        }
    }
    Ok(statements)
}

/// Everything in which the replica's table differs from the leader's where it matters to applying: columns, types, keys.
pub fn compare(leader: &TableDefinition, own: &TableDefinition) -> Vec<Difference> {
    let name = &leader.name;
    let mut found = Vec::new();
    for wanted in &leader.columns {
        let column = &wanted.name;
        match own.column(column) {
            None => found.push(Difference {
                what: format!("{name} lacks column {column}"),
                sql: ddl::add_column(name, wanted),
            }),
            Some(other) if other.type_name != wanted.type_name => found.push(Difference {
                what: format!(
                    "{name}.{column} is {}, on the leader it is {}",
                    other.type_name, wanted.type_name
                ),
                sql: vec![ddl::retype(name, wanted)],
            }),
            Some(_) => {}
        }
    }
    for extra in own.columns.iter().filter(|c| leader.column(&c.name).is_none()) {
        if !matches!(extra.origin, Origin::Generated(_)) {
            found.push(Difference {
                what: format!("{name} has column {}, which the leader lacks", extra.name),
                sql: vec![ddl::drop_column(name, &extra.name)],
            });
        }
    }
    if leader.primary_key != own.primary_key && !leader.primary_key.is_empty() {
        found.push(Difference {
            what: format!(
                "the primary key of {name} is ({}), on the leader it is ({})",
                own.primary_key.join(", "),
                leader.primary_key.join(", ")
            ),
            sql: vec![ddl::add_primary_key(name, &leader.primary_key)],
        });
    }
    if leader.identity != own.identity && !ddl::replica_identity(leader).is_empty() {
        found.push(Difference {
            what: format!("{name} identifies rows otherwise than on the leader"),
            sql: ddl::replica_identity(leader),
        });
    }
    found
}
