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

/// What a column holds, as far as it decides how a value arrives and what its text looks like.
///
/// A [`Row`](super::row::Row) holds values in PostgreSQL's own output form wherever the wire allows it, under
/// `DateStyle=ISO`, `IntervalStyle=postgres` and `TimeZone=UTC`: `t`/`f` are spelt out, dates are `YYYY-MM-DD`, times
/// `HH:MM:SS[.ffffff]`, timestamps `YYYY-MM-DD HH:MM:SS[.ffffff]` (with `+00` behind it for `timestamptz`), a year before
/// Christ has ` BC` at the very end, and the infinities are words. Fractions have no zeros at their end, years at least
/// four digits. `bytea` is `\x` and lower-case hex. Floats are any number that PostgreSQL reads, and array elements are
/// always quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnKind {
    /// `bool`: `true` / `false`.
    Boolean,
    /// `int2`, `int4`, `int8`, `oid`.
    Integer,
    /// `float4`, `float8`.
    Float,
    /// `numeric`, with the scale that the column fixes; none when each value has its own, or when the scale is negative.
    Numeric(Option<u32>),
    /// `money`.
    Money,
    /// `date`.
    Date,
    /// `time`, with its precision: digits of the second's fraction.
    Time(u8),
    /// `timetz`.
    TimeTz,
    /// `timestamp`, with its precision.
    Timestamp(u8),
    /// `timestamptz`: in UTC.
    TimestampTz,
    /// `interval`: as ISO 8601 or PostgreSQL prints it.
    Interval,
    /// `bytea`.
    Bytea,
    /// `bit(n)`. Holds n.
    Bit(u32),
    /// `bit varying`.
    VarBit,
    /// `hstore`.
    Hstore,
    /// A geometric type.
    Shape(Shape),
    /// An enumeration.
    Enum,
    /// `name`, which Debezium's stream does not know as a type (its snapshot does).
    Name,
    /// An array of one dimension; elements as their own kind.
    Array(Box<ArrayKind>),
    /// What the type's input function reads and PostgreSQL itself printed: text types, uuid, json, built-in ranges, network
    /// addresses.
    Text,
    /// A type of which the wire loses a part, with what it loses. NULL is carried; any other value is refused.
    NotCarried(&'static str),
    /// A type whose values are left out of events, or come as NULL, with the reason.
    NotSent(&'static str),
    /// Types that Debezium does not know and sends as bytes of PostgreSQL's text (`include.unknown.datatypes=true`).
    Opaque,
}

/// What an array holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayKind {
    /// Its elements.
    pub element: ColumnKind,
    /// Whether Debezium has a placeholder for an unchanged value of this type; otherwise it sends NULL.
    pub has_placeholder: bool,
}

/// The geometric types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `(x,y)`.
    Point,
    /// `{a,b,c}`.
    Line,
    /// `[(x,y),(x,y)]`.
    Lseg,
    /// `(x,y),(x,y)`, the upper right corner first.
    Box,
    /// `((x,y),…)` when closed, `[(x,y),…]` when open.
    Path,
    /// `((x,y),…)`.
    Polygon,
    /// `<(x,y),r>`.
    Circle,
}

/// The type whose binary form the values of a column have, where that form means the same on every server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireType {
    /// `pg_type.oid` of a type that every PostgreSQL has, domains followed to what they are made of. Enumerations, whose binary
    /// form is the label, have that of `anyenum`, all of them.
    pub oid: u32,
    /// Whether it is an array: such values of many rows don't fit into one array.
    pub is_array: bool,
}

/// The types of one server that have a [`WireType`], by `pg_type.oid`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WireTypes(pub HashMap<u32, WireType>);

impl WireTypes {
    /// From the answer to `wire_types.sql`, each column as text; none when it can't be understood.
    pub fn read<'a>(rows: impl Iterator<Item = [Option<&'a str>; 3]>) -> Option<Self> {
        let read = |[oid, wire, is_array]: [Option<&str>; 3]| {
            let wire = WireType { oid: wire?.parse().ok()?, is_array: is_array? == "true" };
            Some((oid?.parse().ok()?, wire))
        };
        rows.map(read).collect::<Option<_>>().map(WireTypes)
    }

    /// The form of a type; none when it differs from server to server.
    pub fn of(&self, oid: u32) -> Option<WireType> {
        self.0.get(&oid).copied()
    }
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
    /// What its values are in binary; none where only their text means the same on leader and replica.
    pub wire: Option<WireType>,
    /// `GENERATED ALWAYS AS (...) STORED`: computed on the replica, never written.
    pub generated: bool,
    /// `GENERATED ALWAYS AS IDENTITY`: inserts need `OVERRIDING SYSTEM VALUE`.
    pub identity_always: bool,
}

#[cfg(test)]
impl Column {
    /// An ordinary column of type `text`.
    pub(crate) fn text(name: &str) -> Self {
        Self::of_type(name, "text", ColumnKind::Text)
    }

    /// An ordinary column of this type.
    pub(crate) fn of_type(name: &str, type_name: &str, kind: ColumnKind) -> Self {
        Column {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            cast: type_name.split('(').next().unwrap_or_default().to_owned(),
            kind,
            wire: None,
            generated: false,
            identity_always: false,
        }
    }
}

/// What an event that was written when its table had no such column says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filler {
    /// What the leader's rows got when the column was added; none is NULL.
    Value(Option<String>),
    /// Nothing: the leader has no such column any more, or not yet. The replica's own default holds.
    Nothing,
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
    /// Whether `key` is an index that the table has as replica identity beside its primary key. Then deletes and key changes
    /// carry the index's columns and nothing else: what an event says of an old primary key is made up.
    pub identity_index: bool,
    /// Whether other tables inherit from it, whose rows are not its own: the leader tells of them under their own names. Not so
    /// for partitions, nor for what an extension keeps a table's rows in (TimescaleDB's chunks).
    pub inherited: bool,
    by_name: HashMap<String, usize>,
    /// The columns that events may lack.
    fillers: HashMap<usize, Filler>,
}

impl Table {
    /// A table from its parts. `key` holds positions in `columns`.
    pub fn new(name: TableName, columns: Vec<Column>, key: Vec<usize>) -> Self {
        let by_name = columns.iter().enumerate().map(|(i, c)| (c.name.clone(), i)).collect();
        let full_name = name.to_string().into();
        let (identity_index, inherited, fillers) = (false, false, HashMap::new());
        Table { full_name, name, columns, key, identity_index, inherited, by_name, fillers }
    }

    /// The same table, from which others inherit.
    #[must_use]
    pub fn with_heirs(self) -> Self {
        Table { inherited: true, ..self }
    }

    /// The same table, whose key is the replica identity's index beside a primary key.
    #[must_use]
    pub fn with_identity_index(self) -> Self {
        Table { identity_index: true, ..self }
    }

    /// The same table, whose events may lack a column. What the table doesn't have is left aside.
    pub fn with_filler(mut self, column: &str, filler: Filler) -> Self {
        if let Some(position) = self.column(column) {
            self.fillers.insert(position, filler);
        }
        self
    }

    /// What stands in for a column that an event lacks; none where its absence is an error.
    pub fn filler(&self, column: usize) -> Option<&Filler> {
        self.fillers.get(&column)
    }

    /// The position of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The columns that are written; the others the server computes.
    pub fn stored(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().enumerate().filter(|(_, column)| !column.generated).map(|(position, _)| position)
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

    /// The same catalog, with a table whose events may lack a column.
    pub fn with_filler(mut self, table: &TableName, column: &str, filler: Filler) -> Self {
        let tables = self.schemas.get_mut(&table.schema);
        if let Some(table) = tables.and_then(|tables| tables.get_mut(&table.name)) {
            *table = Arc::new(Table::clone(table).with_filler(column, filler));
        }
        self
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
