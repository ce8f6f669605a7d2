//! Tables as a replica has them: what the decoder needs to turn an event's fields into column values.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A table's name. Never built by splitting a topic's name, which Debezium sanitises and transforms may change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema's name, as in the catalog (unquoted).
    pub schema: String,
    /// The table's name, as in the catalog (unquoted).
    pub name: String,
}

impl TableName {
    /// A name from its two parts.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        TableName { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// How the wire's form of a value becomes text that PostgreSQL reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnKind {
    /// `true` / `false`.
    Boolean,
    /// Numbers that JSON carries exactly as a token: `int2`, `int4`, `int8`, `oid`.
    Integer,
    /// `float4`, `float8`; NaN and the infinities come as strings.
    Float,
    /// `numeric`, `money`: a decimal string (`decimal.handling.mode=string`).
    Numeric,
    /// `date`: days since 1970-01-01.
    Date,
    /// `time`: microseconds since midnight.
    Time,
    /// `timestamp`: microseconds since 1970-01-01, without zone.
    Timestamp,
    /// `timestamptz`: an ISO 8601 string in UTC.
    TimestampTz,
    /// `bytea`: base64.
    Bytea,
    /// `bit(n)`: a boolean or base64 of little-endian bytes. Holds n.
    Bit(u32),
    /// `hstore`: a JSON object in a string.
    Hstore,
    /// `point`: an object with `x` and `y`.
    Point,
    /// An array; elements as their own kind.
    Array(Box<ColumnKind>),
    /// Whatever comes as a string that the type's input function reads: text types, uuid, json, ranges, network
    /// addresses, enumerations, intervals as ISO 8601.
    Text,
    /// A type of which the wire loses a part, with what it loses. NULL is carried; any other value is refused.
    NotCarried(&'static str),
    /// Types that Debezium does not know and sends as base64 of PostgreSQL's text (`include.unknown.datatypes=true`).
    Opaque,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type with modifiers as `format_type()` prints it.
    pub type_name: String,
    /// The same without modifiers, fit for a cast: a cast to `varchar(10)` would cut what an assignment refuses.
    pub cast: String,
    /// How its values arrive.
    pub kind: ColumnKind,
    /// `GENERATED ALWAYS AS (...) STORED`: computed on the replica, never written.
    pub generated: bool,
    /// `GENERATED ALWAYS AS IDENTITY`: inserts need `OVERRIDING SYSTEM VALUE`.
    pub identity_always: bool,
}

/// A table of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// Its columns in the order of the catalog, dropped ones left out.
    pub columns: Vec<Column>,
    /// Positions in `columns` of the primary key, else of the replica identity's index; empty: rows have no key.
    pub key: Vec<usize>,
    /// `schema.table`, the name under which Debezium counts its events.
    pub full_name: Arc<str>,
    by_name: HashMap<String, usize>,
}

impl Table {
    /// A table from its parts. `key` holds positions in `columns`.
    pub fn new(name: TableName, columns: Vec<Column>, key: Vec<usize>) -> Self {
        let by_name = columns.iter().enumerate().map(|(i, c)| (c.name.clone(), i)).collect();
        Table { full_name: name.to_string().into(), name, columns, key, by_name }
    }

    /// The position of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Whether rows can be told apart by a key.
    pub fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// The key columns' names, for messages.
    pub fn key_names(&self) -> String {
        let names: Vec<_> = self.key.iter().map(|&i| self.columns[i].name.as_str()).collect();
        names.join(", ")
    }
}

/// The tables of one replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// By schema, then by name: found for each event without building a [`TableName`].
    schemas: HashMap<String, HashMap<String, Arc<Table>>>,
}

impl Catalog {
    /// A catalog of these tables.
    pub fn new(tables: impl IntoIterator<Item = Table>) -> Self {
        let mut schemas: HashMap<String, HashMap<String, Arc<Table>>> = HashMap::new();
        for table in tables {
            let schema = schemas.entry(table.name.schema.clone()).or_default();
            schema.insert(table.name.name.clone(), Arc::new(table));
        }
        Catalog { schemas }
    }

    /// The table of that name.
    pub fn table(&self, schema: &str, name: &str) -> Option<&Arc<Table>> {
        self.schemas.get(schema)?.get(name)
    }

    /// All tables, in no order.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.schemas.values().flat_map(HashMap::values)
    }
}
