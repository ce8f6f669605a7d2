//! The tables of a replica, from `pg_catalog`.

use tokio_postgres::{Client, Row as PgRow};

use super::ReplicaError;
use crate::vocabulary::schema::{Catalog, Column, ColumnKind, Table, TableName};

/// Reads every table that is not PostgreSQL's or the contract's. Works on a leader, too.
///
/// # Errors
/// When the server can't be asked.
pub async fn load(client: &Client) -> Result<Catalog, ReplicaError> {
    let rows = client
        .query(include_str!("catalog.sql"), &[])
        .await
        .map_err(|source| ReplicaError::Postgres { action: "read the catalog", source })?;
    Ok(assemble(&rows))
}

fn assemble(rows: &[PgRow]) -> Catalog {
    let name_of =
        |row: &PgRow| TableName::new(row.get::<_, &str>("table_schema"), row.get::<_, &str>("table_name"));
    let tables = rows.chunk_by(|a, b| name_of(a) == name_of(b)).map(|columns| {
        let mut key: Vec<(i32, usize)> = columns
            .iter()
            .enumerate()
            .filter_map(|(i, row)| row.get::<_, Option<i32>>("key_position").map(|position| (position, i)))
            .collect();
        key.sort_unstable();
        Table::new(
            name_of(&columns[0]),
            columns.iter().map(column).collect(),
            key.into_iter().map(|(_, i)| i).collect(),
        )
    });
    Catalog::new(tables)
}

fn column(row: &PgRow) -> Column {
    let modifier: i32 = row.get("type_modifier");
    let base = (row.get::<_, &str>("base_name"), row.get::<_, &str>("base_type"));
    let element = row.get::<_, Option<&str>>("element_name").zip(row.get::<_, Option<&str>>("element_type"));
    let kind = match element {
        // Only what the table declares: PostgreSQL lets any array column hold any number of dimensions.
        Some(_) if row.get::<_, i32>("dimensions") > 1 => {
            ColumnKind::NotCarried("Debezium does not carry arrays of several dimensions")
        }
        Some((name, sort)) => ColumnKind::Array(Box::new(kind(name, sort, modifier))),
        None => kind(base.0, base.1, modifier),
    };
    Column {
        name: row.get("column_name"),
        type_name: row.get("type_name"),
        cast: row.get("cast_name"),
        kind,
        generated: row.get("generated"),
        identity_always: row.get("identity_always"),
    }
}

/// How values of a type arrive, by the type's name and `pg_type.typtype`.
fn kind(name: &str, sort: &str, modifier: i32) -> ColumnKind {
    match (sort, name) {
        ("e" | "r", _) => ColumnKind::Text,
        (_, "bool") => ColumnKind::Boolean,
        (_, "int2" | "int4" | "int8" | "oid") => ColumnKind::Integer,
        (_, "float4" | "float8") => ColumnKind::Float,
        (_, "numeric" | "money") => ColumnKind::Numeric,
        (_, "date") => ColumnKind::Date,
        (_, "time") => ColumnKind::Time,
        (_, "timestamp") => ColumnKind::Timestamp,
        (_, "timestamptz") => ColumnKind::TimestampTz,
        (_, "bytea") => ColumnKind::Bytea,
        // The modifier of bit(n) is n.
        (_, "bit") => ColumnKind::Bit(u32::try_from(modifier).unwrap_or(1)),
        (_, "varbit") => ColumnKind::NotCarried("Debezium does not carry the length of a bit varying value"),
        (_, "timetz") => ColumnKind::NotCarried("Debezium does not carry the zone of a time with time zone"),
        (_, "hstore") => ColumnKind::Hstore,
        (_, "point") => ColumnKind::Point,
        (
            _,
            "text" | "varchar" | "bpchar" | "char" | "name" | "uuid" | "json" | "jsonb" | "xml" | "inet"
            | "cidr" | "macaddr" | "macaddr8" | "interval" | "tsvector" | "citext" | "ltree",
        ) => ColumnKind::Text,
        _ => ColumnKind::Opaque,
    }
}
