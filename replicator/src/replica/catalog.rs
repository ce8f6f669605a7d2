//! The tables of a replica, from `pg_catalog`.

use tokio_postgres::{Client, Row as PgRow};

use super::ReplicaError;
use crate::vocabulary::schema::{ArrayKind, Catalog, Column, ColumnKind, Shape, Table, TableName, WireTypes};

/// Reads every table that is not PostgreSQL's or the contract's. Works on a leader, too.
///
/// # Errors
/// When the server can't be asked.
pub async fn load(client: &Client) -> Result<Catalog, ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "read the catalog", source };
    let types = client.query(include_str!("wire_types.sql"), &[]).await.map_err(failed)?;
    let types = WireTypes::read(types.iter().map(|row| [row.get(0), row.get(1), row.get(2)]))
        .ok_or_else(|| ReplicaError::Contract("pg_type lists a type in an unknown way".to_owned()))?;
    let rows = client.query(include_str!("catalog.sql"), &[]).await.map_err(failed)?;
    Ok(assemble(&rows, &types))
}

/// The name in a row's first two columns.
pub(crate) fn table_name(row: &PgRow) -> TableName {
    TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1))
}

fn assemble(rows: &[PgRow], types: &WireTypes) -> Catalog {
    let tables = rows.chunk_by(|a, b| table_name(a) == table_name(b)).map(|columns| {
        let mut key: Vec<(i32, usize)> = columns
            .iter()
            .enumerate()
            .filter_map(|(i, row)| row.get::<_, Option<i32>>("key_position").map(|position| (position, i)))
            .collect();
        key.sort_unstable();
        let table = Table::new(
            table_name(&columns[0]),
            columns.iter().map(|row| column(row, types)).collect(),
            key.into_iter().map(|(_, i)| i).collect(),
        );
        let table = if columns[0].get("inherited") { table.with_heirs() } else { table };
        if columns[0].get("identity_index") { table.with_identity_index() } else { table }
    });
    Catalog::new(tables)
}

fn column(row: &PgRow, types: &WireTypes) -> Column {
    let base = TypeRow {
        name: row.get("base_name"),
        sort: row.get("base_type"),
        namespace: row.get("base_namespace"),
        modifier: row.get("modifier"),
    };
    let kind = match row.get::<_, Option<&str>>("element_name") {
        // Only what the table declares: PostgreSQL lets any array column hold any number of dimensions.
        Some(_) if row.get::<_, i32>("dimensions") > 1 => {
            ColumnKind::NotCarried("Debezium does not carry arrays of several dimensions")
        }
        Some(name) => array(&TypeRow {
            name,
            sort: row.get("element_type"),
            namespace: row.get("element_namespace"),
            modifier: base.modifier,
        }),
        None => kind(&base),
    };
    Column {
        name: row.get("column_name"),
        type_name: row.get("type_name"),
        cast: cast(row.get("cast_name")),
        kind,
        wire: types.of(row.get("type_oid")),
        generated: row.get("generated"),
        identity_always: row.get("identity_always"),
    }
}

/// What `pg_type` says of a type, domains already followed to what they are made of.
struct TypeRow<'a> {
    name: &'a str,
    /// `pg_type.typtype`.
    sort: &'a str,
    namespace: &'a str,
    /// `atttypmod`, or the domain's `typtypmod`.
    modifier: i32,
}

impl TypeRow<'_> {
    /// `numeric(p,s)` has both in one number above a header of four; the scale is the low eleven bits, signed.
    fn scale(&self) -> Option<u32> {
        let packed = u32::try_from(self.modifier).ok()?.checked_sub(4)?;
        let scale = packed & 0x7ff;
        (scale < 1 << 10).then_some(scale)
    }

    /// Digits of the second's fraction; six when the column does not say.
    fn precision(&self) -> u8 {
        u8::try_from(self.modifier).ok().filter(|p| *p <= 6).unwrap_or(6)
    }
}

/// How values of a type arrive. Names are those of `pg_type`; extensions may put theirs into any schema.
fn kind(of: &TypeRow<'_>) -> ColumnKind {
    if of.sort == "e" {
        return ColumnKind::Enum;
    }
    let extension = of.namespace != "pg_catalog";
    match of.name {
        "hstore" if extension => ColumnKind::Hstore,
        "citext" | "ltree" | "isbn" if extension => ColumnKind::Text,
        _ if extension => ColumnKind::Opaque,
        "bool" => ColumnKind::Boolean,
        "int2" | "int4" | "int8" | "oid" => ColumnKind::Integer,
        "float4" | "float8" => ColumnKind::Float,
        "numeric" => ColumnKind::Numeric(of.scale()),
        "money" => ColumnKind::Money,
        "date" => ColumnKind::Date,
        "time" => ColumnKind::Time(of.precision()),
        "timetz" => ColumnKind::TimeTz,
        "timestamp" => ColumnKind::Timestamp(of.precision()),
        "timestamptz" => ColumnKind::TimestampTz,
        "interval" => ColumnKind::Interval,
        "bytea" => ColumnKind::Bytea,
        // The modifier of bit(n) is n.
        "bit" => ColumnKind::Bit(u32::try_from(of.modifier).unwrap_or(1)),
        "varbit" => ColumnKind::VarBit,
        "point" => ColumnKind::Shape(Shape::Point),
        "line" => ColumnKind::Shape(Shape::Line),
        "lseg" => ColumnKind::Shape(Shape::Lseg),
        "box" => ColumnKind::Shape(Shape::Box),
        "name" => ColumnKind::Name,
        "path" => ColumnKind::Shape(Shape::Path),
        "polygon" => ColumnKind::Shape(Shape::Polygon),
        "circle" => ColumnKind::Shape(Shape::Circle),
        // Printed as a name by the leader's search path, or not at all, and read by the replica's.
        name if name.starts_with("reg") => {
            ColumnKind::NotCarried("a reference to the leader's catalog means another object on a replica")
        }
        "text" | "varchar" | "bpchar" | "char" | "uuid" | "json" | "jsonb" | "xml" | "inet" | "cidr"
        | "macaddr" | "macaddr8" | "tsvector" | "int4range" | "int8range" | "numrange" | "tsrange"
        | "tstzrange" | "daterange" => ColumnKind::Text,
        _ => ColumnKind::Opaque,
    }
}

/// How arrays of a type arrive: observed with Debezium 3.7 (`replicator/tests/it/types`).
fn array(element: &TypeRow<'_>) -> ColumnKind {
    let left_out = "Debezium leaves arrays of this type out of its events";
    if element.namespace == "pg_catalog" {
        match element.name {
            "interval" | "money" | "name" | "xml" | "varbit" | "point" | "line" | "lseg" | "path"
            | "polygon" | "circle" => return ColumnKind::NotSent(left_out),
            "bit" | "box" => return ColumnKind::NotSent("Debezium sends arrays of this type as NULL"),
            "tsvector" => {
                return ColumnKind::NotSent(
                    "Debezium sends an array of tsvector as NULL when an element is NULL",
                );
            }
            _ => {}
        }
    }
    // A domain's values inside an array come as those of an unknown type.
    let kind = if element.sort == "d" { ColumnKind::Opaque } else { kind(element) };
    let has_placeholder = element.namespace == "pg_catalog"
        && matches!(
            element.name,
            "text" | "varchar" | "bpchar" | "json" | "jsonb" | "bytea" | "int4" | "int8" | "date" | "uuid"
        );
    ColumnKind::Array(Box::new(ArrayKind { element: kind, has_placeholder }))
}

/// What stands behind `::` to make a value of this type from its text. PostgreSQL has a cast of its own from `text` to
/// `regclass`, which does not know `-`, the text of none; by way of another string type it takes the input function.
fn cast(type_name: String) -> String {
    if type_name == "regclass" { format!("bpchar::{type_name}") } else { type_name }
}
