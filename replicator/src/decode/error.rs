//! What can be wrong with a record or message, and the way out.

use super::debezium::NO_SETTING;
use super::pgoutput::PgOutputError;
use crate::vocabulary::schema::TableName;

/// A record that can't be decoded without guessing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not JSON of the expected shape.
    #[error("not a JSON change event: {}", brief(.0))]
    NotJson(String),
    /// The bytes start as a schema registry's formats do.
    #[error("Avro, Protobuf or JSON Schema of a schema registry (schema id {id}), not plain JSON")]
    RegistryEncoded {
        /// The schema, if it is one.
        id: u32,
        /// Who wrote it.
        converter: Converter,
    },
    /// The bytes are of a format that can't be JSON.
    #[error("not a JSON change event: {what}")]
    OtherFormat {
        /// What shows it.
        what: &'static str,
        /// Who wrote it.
        converter: Converter,
    },
    /// The envelope lacks a field.
    #[error("the envelope has no \"{0}\"")]
    MissingField(&'static str),
    /// An operation that this version doesn't know.
    #[error("unknown operation \"{}\"", brief(.0))]
    UnknownOp(String),
    /// A `source.snapshot` that this version doesn't know.
    #[error("unknown snapshot marker {}", brief(.0))]
    UnknownSnapshotMarker(String),
    /// A transaction record that is neither BEGIN nor END.
    #[error("unknown transaction status \"{}\"", brief(.0))]
    UnknownStatus(String),
    /// A transaction's id is not `xid:lsn`.
    #[error("transaction id \"{}\" is not xid:lsn", brief(.0))]
    BadTransactionId(String),
    /// The connector does not say which transaction an event belongs to.
    #[error("the event has no transaction block")]
    NoTransactionBlock,
    /// The event's table does not exist on the replica.
    #[error("table {} does not exist on the replica", brief(.0))]
    UnknownTable(TableName),
    /// The event's fields are not the columns of the replica's table: the leader's table was altered, or the connector
    /// leaves a column out.
    #[error("the event of {table} {}", mismatch(.unknown, .missing))]
    Shape {
        /// The table.
        table: TableName,
        /// Fields that the replica's table lacks, in the event's order.
        unknown: Vec<String>,
        /// Columns of the replica's table that the event does not carry.
        missing: Vec<String>,
    },
    /// A field stands twice in a row.
    #[error("column \"{}\" of {table} stands twice in the event", brief(.column))]
    RepeatedColumn {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
    },
    /// An update or delete of a table without a key came without the old row.
    #[error("the event has no old row, and {0} needs it to find the row")]
    NoOldRow(TableName),
    /// A key of the replica's table is not told by the leader's replica identity, so that a row can't be found.
    #[error(
        "column \"{column}\" is part of the key of {table} on the replica, and not of its replica identity on the leader"
    )]
    OtherIdentity {
        /// The table.
        table: TableName,
        /// The key column.
        column: String,
    },
    /// A value comes in binary whose binary form does not mean the same on the replica. Not a fault: read again as text, the
    /// replica can have it.
    #[error("the values of \"{column}\" of {table} mean the same on leader and replica as text only")]
    NotPortable {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
    },
    /// The leader's stream does not follow its protocol.
    #[error("the leader's stream: {0}")]
    Stream(#[from] PgOutputError),
    /// A change names a table of which the leader has not said what it is.
    #[error("the leader's stream names table {0} by its OID before it has described it")]
    UndescribedRelation(u32),
    /// A message stands where none of its kind can.
    #[error("the leader's stream: {0}")]
    OutOfOrder(&'static str),
    /// A key column has no value.
    #[error("the key of {table} has no value for \"{column}\"")]
    IncompleteKey {
        /// The table.
        table: TableName,
        /// The key column.
        column: String,
    },
    /// One value can't be read.
    #[error("column \"{column}\" of {table}: {error}")]
    Value {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
        /// What is wrong with the value.
        error: ValueError,
    },
}

/// The connector's setting that decides how a part of a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Converter {
    /// Of the value.
    Value,
    /// Of headers.
    Header,
}

impl Converter {
    fn setting(self) -> &'static str {
        match self {
            Converter::Value => "value.converter",
            Converter::Header => "header.converter",
        }
    }
}

impl DecodeError {
    /// What ends the state that this error causes.
    pub fn hint(&self) -> String {
        match self {
            DecodeError::RegistryEncoded { converter, .. } | DecodeError::OtherFormat { converter, .. } => format!(
                "Set {}=org.apache.kafka.connect.json.JsonConverter in the connector. What is in the topic already stays as it is.",
                converter.setting()
            ),
            DecodeError::NoTransactionBlock | DecodeError::BadTransactionId(_) => {
                "Set provide.transaction.metadata=true in the connector; or, to do without transactions and tokens, \
                 source.transactions = \"absent\" here."
                    .to_owned()
            }
            DecodeError::UnknownTable(table) => {
                let table = brief(table);
                format!(
                    "Create {table} on the replica as it is on the leader, or leave it out: source.exclude_tables = [\"{table}\"]."
                )
            }
            DecodeError::Shape { table, missing, .. } => {
                let names: Vec<_> = missing.iter().map(|column| format!("\"{table}.{column}\"")).collect();
                let left_out = format!(
                    " A column that the connector can't carry needs include.unknown.datatypes=true; source.allow_lossy = [{}] \
                     leaves it as it is.",
                    names.join(", ")
                );
                format!(
                    "Make the replica's table as it is on the leader: `replicator check` prints the SQL.{}",
                    if missing.is_empty() { "" } else { &left_out }
                )
            }
            DecodeError::Stream(_) | DecodeError::UndescribedRelation(_) | DecodeError::OutOfOrder(_) => {
                "The leader speaks another protocol, or something between the two changes what it sends: connect without a \
                 pooler or proxy. The replicator goes on from the last commit when it is started again."
                    .to_owned()
            }
            DecodeError::OtherIdentity { table, .. } => format!(
                "Give both tables the same key; or, on the leader: ALTER TABLE {table} REPLICA IDENTITY FULL;"
            ),
            DecodeError::NoOldRow(table) | DecodeError::IncompleteKey { table, .. } => {
                format!("On the leader: ALTER TABLE {table} REPLICA IDENTITY FULL;")
            }
            DecodeError::Value { error: ValueError::Lossy { setting, .. }, table, column } => {
                format!("{setting} The column is \"{table}.{column}\".")
            }
            DecodeError::Value { error: ValueError::OutOfRange { .. }, table, column } => format!(
                "Perhaps the connector's settings are others than source.modes says. {NO_SETTING} The column is \"{table}.{column}\"."
            ),
            _ => "Look at the record itself; `replicator check` compares the connector's settings with what this version reads."
                .to_owned(),
        }
    }
}

/// Of what an event brought, as much as a log line can have: all of a name, and beginning and end of what is longer than any.
fn brief(text: &impl ToString) -> String {
    const MOST: usize = 160;
    const END: usize = 40;
    let text = text.to_string();
    let Some((cut, _)) = text.char_indices().nth(MOST) else { return text };
    let end = text.char_indices().nth_back(END - 1).map_or(text.len(), |(at, _)| at);
    format!("{}… {} bytes …{}", &text[..cut], text.len(), &text[end..])
}

/// In words, how an event differs from the replica's table.
fn mismatch(unknown: &[String], missing: &[String]) -> String {
    const MOST: usize = 10;
    let names = |names: &[String]| {
        let mut listed: Vec<_> = names.iter().take(MOST).map(|name| format!("\"{}\"", brief(name))).collect();
        if names.len() > MOST {
            listed.push(format!("and {} more", names.len() - MOST));
        }
        listed.join(", ")
    };
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("carries {}, which the replica's table lacks", names(unknown)));
    }
    if !missing.is_empty() {
        parts.push(format!("carries no value for {}", names(missing)));
    }
    parts.join(", and ")
}

/// What is wrong with one value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The JSON token is of the wrong sort.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What the column's type asks for.
        expected: &'static str,
        /// The token's sort; never the value itself, which does not belong in logs.
        found: &'static str,
    },
    /// A number outside what the type can hold.
    #[error("the number is no {what}")]
    OutOfRange {
        /// The type.
        what: &'static str,
    },
    /// The wire has lost part of the value.
    #[error("{reason}")]
    Lossy {
        /// What is lost.
        reason: &'static str,
        /// What to do about it.
        setting: &'static str,
    },
}

impl ValueError {
    /// An unexpected token.
    pub(in crate::decode) fn unexpected(expected: &'static str, raw: &str) -> Self {
        let found = match raw.bytes().next() {
            Some(b'"') => "a string",
            Some(b'[') => "an array",
            Some(b'{') => "an object",
            Some(b't' | b'f') => "a boolean",
            _ => "a number",
        };
        ValueError::Unexpected { expected, found }
    }
}
