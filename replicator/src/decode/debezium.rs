//! Debezium's change events as `JsonConverter` writes them, with and without embedded schemas.
//!
//! A table topic's record (schema-less; with `schemas.enable=true` it stands under `"payload"`):
//!
//! ```json
//! {"before":null,"after":{"id":1,"owner":"ada"},"op":"c",
//!  "source":{"schema":"public","table":"accounts","txId":571,"lsn":53195829,"snapshot":null},
//!  "transaction":{"id":"571:53195829","total_order":1,"data_collection_order":1}}
//! ```
//!
//! A transaction topic's record:
//!
//! ```json
//! {"status":"END","id":"571:53195900","event_count":1,"ts_ms":1795244532878,
//!  "data_collections":[{"data_collection":"public.accounts","event_count":1}]}
//! ```
//!
//! No tree of values is built: the envelope is read once with its rows left as borrowed text, and each column goes from
//! there straight into the row's buffer.

mod array;
mod binary;
mod codec;
mod embedded;
mod envelope;
mod geometry;
mod hstore;
mod iso;
mod loss;
mod modes;
mod number;
mod placeholder;
mod row;
mod structured;
mod temporal;
mod value;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use super::error::{Converter, DecodeError, ValueError};
pub(super) use loss::NO_SETTING;
pub use loss::{Extent, LossyColumn, lossy_columns};
pub use modes::{BinaryMode, DecimalMode, IntervalMode, Modes, TimeMode, UnknownTypes};

use self::codec::ColumnCodec;
use self::embedded::{Known, Schemas};
use self::envelope::{Envelope, Op, SnapshotMarker, TransactionRecord, Unwrapped, json, parse};
use self::placeholder::Placeholders;
use self::row::{Columns, Role, decode_key, decode_row};
use crate::vocabulary::change::{Change, Operation};
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use crate::vocabulary::offset::Place;
use crate::vocabulary::schema::{Catalog, Table, TableName};

/// A record as it came from a topic.
#[derive(Debug, Clone, Copy)]
pub struct RawRecord<'a> {
    /// Where it stood.
    pub place: Place,
    /// When it was written, in milliseconds since 1970, if its topic tells.
    pub written_at_ms: Option<i64>,
    /// The value's bytes; none for a tombstone.
    pub value: Option<&'a [u8]>,
    /// The header `__debezium.oldkey`: this insert is the second half of a key change.
    pub old_key: Option<&'a [u8]>,
    /// The header `__debezium.newkey`: this delete is the first half of a key change.
    pub new_key: Option<&'a [u8]>,
}

/// A decoded record of a table topic or of the message topic.
#[derive(Debug, Clone)]
pub enum Decoded {
    /// Belongs to a transaction.
    Member(Member),
    /// A streamed event where transactions are absent.
    Loose(Loose),
    /// A row of a snapshot, which belongs to no transaction.
    Copy(CopiedRow),
    /// Nothing to apply: a tombstone, a message outside transactions.
    Ignored,
    /// It can't be understood. An error when its turn comes, so that what stands before it is applied first.
    Refused(Box<DecodeError>),
}

impl Decoded {
    /// What a streamed event changes, and its WAL position.
    pub fn change(&self) -> Option<(&Change, Lsn)> {
        let (change, lsn) = match self {
            Decoded::Member(member) => (&member.change, member.lsn),
            Decoded::Loose(loose) => (&loose.change, loose.lsn),
            Decoded::Copy(_) | Decoded::Ignored | Decoded::Refused(_) => return None,
        };
        change.as_ref().map(|change| (change, lsn))
    }
}

/// One counted event of a transaction.
#[derive(Debug, Clone)]
pub struct Member {
    /// The transaction.
    pub xid: Xid,
    /// The event's number within the transaction, from 1, over all tables.
    pub total_order: u64,
    /// The same among the events of its table.
    pub table_order: u64,
    /// Its WAL position: never falls while `total_order` rises, and rows of one multi-row record share one.
    pub lsn: Lsn,
    /// The last commit before its transaction (`source.sequence`); none when the connector has seen none.
    pub after: Option<CommitLsn>,
    /// What END counts it under.
    pub collection: Collection,
    /// What it changes; none for a logical message and for the first half of a key change, whose second half does it all.
    pub change: Option<Change>,
}

/// A streamed event of which only the order within its partition is known.
#[derive(Debug, Clone)]
pub struct Loose {
    /// Its WAL position.
    pub lsn: Lsn,
    /// The last commit before its transaction, as in [`Member::after`].
    pub after: Option<CommitLsn>,
    /// The leader's clock at commit, in milliseconds since 1970.
    pub committed_at_ms: Option<i64>,
    /// What it changes, as in [`Member::change`].
    pub change: Option<Change>,
}

/// Whether the connector says which transaction an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transactions {
    /// It has to (`provide.transaction.metadata=true`): replicas are transaction-consistent.
    #[default]
    Required,
    /// It does not, and whoever runs this knows: each partition's order is all that is kept.
    Absent,
}

/// What END counts events by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collection {
    /// A table, as `schema.table`.
    Table(Arc<str>),
    /// Logical messages, which Debezium counts under a name that says nothing.
    Messages,
}

impl Collection {
    /// Equality that looks at the names only when they are not the same one.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Collection::Table(a), Collection::Table(b)) => Arc::ptr_eq(a, b) || a == b,
            (a, b) => a == b,
        }
    }
}

impl std::fmt::Display for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Collection::Table(name) => f.write_str(name),
            Collection::Messages => f.write_str("logical messages"),
        }
    }
}

/// A row of a snapshot.
#[derive(Debug, Clone)]
pub struct CopiedRow {
    /// The row.
    pub change: Change,
    /// Where in the WAL the snapshot was taken; none for an incremental snapshot.
    pub snapshot_lsn: Option<Lsn>,
    /// When it was written, in milliseconds since 1970, if its topic tells.
    pub written_at_ms: Option<i64>,
    /// Whether it is the first row of its table, in a table of several.
    pub first_of_table: bool,
    /// Whether it is the last row of its table.
    pub last_of_table: bool,
}

impl CopiedRow {
    /// Whether its snapshot comes before the stream, which may go on from any position behind it. An incremental one comes within
    /// the stream.
    pub fn begins_history(&self) -> bool {
        self.snapshot_lsn.is_some()
    }
}

/// A record of the transaction topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boundary {
    /// The transaction's events follow.
    Begin {
        /// The transaction.
        xid: Xid,
    },
    /// The transaction is complete when all counted events have been seen.
    End {
        /// The transaction.
        xid: Xid,
        /// Where its commit record ends.
        lsn: CommitLsn,
        /// The leader's clock at commit, in milliseconds since 1970.
        committed_at_ms: i64,
        /// Events per table; empty for an empty transaction.
        counts: Vec<(Collection, u64)>,
    },
}

/// What has to be known to read a connector's events.
#[derive(Debug, Clone, Default)]
pub struct DecodeSettings {
    /// The connector's `unavailable.value.placeholder`.
    pub placeholder: String,
    /// Tables, as `schema.table`, whose events are counted and not decoded.
    pub excluded: Vec<String>,
    /// How values are written where an event does not bring its schema.
    pub modes: Modes,
    /// Columns, as `schema.table.column`, of which some or all values are lost on the way, and that is accepted. A value
    /// that can't be had is left out: a new row gets the column's default, an update leaves it as it is.
    pub allow_lossy: Vec<String>,
    /// Whether events say which transaction they belong to.
    pub transactions: Transactions,
}

/// Decodes records against one replica's catalog.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// By schema, then by name: found for each event without building a [`TableName`].
    tables: Arc<HashMap<String, HashMap<String, KnownTable>>>,
    schemas: Schemas,
    settings: Arc<DecodeSettings>,
    placeholders: Placeholders,
    excluded: HashSet<String>,
}

/// A table, and how its columns are read when an event brings no schema.
#[derive(Debug)]
struct KnownTable {
    table: Arc<Table>,
    codecs: Arc<[ColumnCodec]>,
}

impl Decoder {
    /// A decoder for these tables.
    pub fn new(catalog: &Catalog, settings: DecodeSettings) -> Self {
        let placeholders = Placeholders::new(&settings.placeholder);
        let mut tables: HashMap<String, HashMap<String, KnownTable>> = HashMap::new();
        for table in catalog.tables() {
            let codecs = resolve(table, &settings, &placeholders, None);
            let schema = tables.entry(table.name.schema.clone()).or_default();
            schema.insert(table.name.name.clone(), KnownTable { table: Arc::clone(table), codecs });
        }
        Decoder {
            tables: Arc::new(tables),
            schemas: Schemas::default(),
            excluded: settings.excluded.iter().cloned().collect(),
            settings: Arc::new(settings),
            placeholders,
        }
    }

    /// Whether events say which transaction they belong to.
    pub fn transactions(&self) -> Transactions {
        self.settings.transactions
    }

    /// Tables, as `schema.table`, whose events are counted and not decoded.
    pub fn excluded(&self) -> impl Iterator<Item = &str> {
        self.excluded.iter().map(String::as_str)
    }

    /// Decodes a record of a table topic or of the message topic.
    ///
    /// # Errors
    /// When the record can't be understood without guessing. The error names the table and column, the caller knows the
    /// place.
    pub fn decode(&mut self, record: &RawRecord<'_>) -> Result<Decoded, DecodeError> {
        let Some(value) = record.value else { return Ok(Decoded::Ignored) };
        let (payload, known) = self.schemas.unwrap(json(value, Converter::Value)?)?;
        let envelope: Envelope<'_> = parse(payload)?;
        let op = Op::parse(envelope.op.as_deref().ok_or(DecodeError::MissingField("op"))?)?;
        if op == Op::Message {
            return self.message(&envelope);
        }
        let source = envelope.source.as_ref().ok_or(DecodeError::MissingField("source"))?;
        let schema = source.schema.as_deref().ok_or(DecodeError::MissingField("source.schema"))?;
        let name = source.table.as_deref().ok_or(DecodeError::MissingField("source.table"))?;
        if !self.excluded.is_empty() {
            let full_name = format!("{schema}.{name}");
            if self.excluded.contains(&full_name) {
                return match op {
                    Op::Read => Ok(Decoded::Ignored),
                    _ => self.streamed(&envelope, Collection::Table(full_name.into()), None),
                };
            }
        }
        let Some(KnownTable { table, codecs }) = self.tables.get(schema).and_then(|t| t.get(name)) else {
            return Err(DecodeError::UnknownTable(TableName::new(schema, name)));
        };
        let codecs = match known {
            None => codecs,
            Some(known) => known.codecs(table, &self.settings, &self.placeholders),
        };
        let moved_away = op == Op::Delete && record.new_key.is_some() && !table.identity_index;
        let operation =
            if moved_away { None } else { Some(operation(op, table, codecs, &envelope, record)?) };
        let change =
            operation.map(|operation| Change { table: Arc::clone(table), operation, place: record.place });
        let marker = SnapshotMarker::parse(source.snapshot.map(RawValue::get))?;
        match (op, change) {
            (Op::Read, Some(change)) => Ok(Decoded::Copy(CopiedRow {
                change,
                snapshot_lsn: match marker {
                    SnapshotMarker::Incremental => None,
                    _ => Some(Lsn(source.lsn.ok_or(DecodeError::MissingField("source.lsn"))?)),
                },
                written_at_ms: record.written_at_ms,
                first_of_table: marker == SnapshotMarker::FirstOfTable,
                last_of_table: marker == SnapshotMarker::LastOfTable,
            })),
            (_, change) => self.streamed(&envelope, Collection::Table(Arc::clone(&table.full_name)), change),
        }
    }

    /// An event of the stream with its place in its transaction.
    fn streamed(
        &self,
        envelope: &Envelope<'_>,
        collection: Collection,
        change: Option<Change>,
    ) -> Result<Decoded, DecodeError> {
        let source = envelope.source.as_ref().ok_or(DecodeError::MissingField("source"))?;
        let lsn = Lsn(source.lsn.ok_or(DecodeError::MissingField("source.lsn"))?);
        let after = source.after();
        if self.settings.transactions == Transactions::Absent {
            return Ok(Decoded::Loose(Loose { lsn, after, committed_at_ms: source.ts_ms, change }));
        }
        let block = envelope.transaction.as_ref().ok_or(DecodeError::NoTransactionBlock)?;
        let (xid, total_order, table_order) = (block.xid()?, block.total_order, block.data_collection_order);
        Ok(Decoded::Member(Member { xid, total_order, table_order, lsn, after, collection, change }))
    }

    fn message(&self, envelope: &Envelope<'_>) -> Result<Decoded, DecodeError> {
        // Written outside any transaction, nothing counts it; and nothing is to be applied of any message.
        if envelope.transaction.is_none() || self.settings.transactions == Transactions::Absent {
            return Ok(Decoded::Ignored);
        }
        self.streamed(envelope, Collection::Messages, None)
    }
}

impl Known {
    /// How the columns are read by this schema; resolved for the first event that has it.
    fn codecs(
        &mut self,
        table: &Arc<Table>,
        settings: &DecodeSettings,
        placeholders: &Placeholders,
    ) -> &Arc<[ColumnCodec]> {
        let row = self.row.as_ref();
        if self.resolved.as_ref().is_some_and(|(name, _)| *name != table.full_name) {
            self.resolved = None;
        }
        let resolved = || (Arc::clone(&table.full_name), resolve(table, settings, placeholders, row));
        &self.resolved.get_or_insert_with(resolved).1
    }
}

fn resolve(
    table: &Table,
    settings: &DecodeSettings,
    placeholders: &Placeholders,
    row: Option<&embedded::Field>,
) -> Arc<[ColumnCodec]> {
    let allow_lossy = |column: &str| {
        let name = || format!("{}.{column}", table.full_name);
        !settings.allow_lossy.is_empty() && settings.allow_lossy.contains(&name())
    };
    codec::of_table(table, settings.modes, placeholders, allow_lossy, |column| row?.get(column)).into()
}

fn operation(
    op: Op,
    table: &Table,
    codecs: &[ColumnCodec],
    envelope: &Envelope<'_>,
    record: &RawRecord<'_>,
) -> Result<Operation, DecodeError> {
    let of = Columns { table, codecs };
    let after = || envelope.after.ok_or(DecodeError::MissingField("after"));
    let before = || envelope.before.ok_or_else(|| DecodeError::NoOldRow(table.name.clone()));
    let update = Role::Update { before: envelope.before };
    match op {
        // Its delete came before, with the old key; of the primary key that the header names the WAL knew nothing (observed).
        Op::Create if table.identity_index && record.old_key.is_some() => {
            let row = decode_row(of, after()?, update)?;
            if row.is_complete(table) {
                Ok(Operation::Insert(row))
            } else {
                Err(DecodeError::NoOldRow(table.name.clone()))
            }
        }
        Op::Create => match record.old_key {
            // The event of a key change says "create", but its large values may be left out: they stand in the old row.
            Some(old_key) => Ok(Operation::Rekey {
                old: decode_key(of, Unwrapped::new(old_key, Converter::Header)?.get())?,
                row: decode_row(of, after()?, update)?,
            }),
            None => Ok(Operation::Insert(decode_row(of, after()?, Role::New)?)),
        },
        Op::Read => Ok(Operation::Copy(decode_row(of, after()?, Role::New)?)),
        Op::Update if table.has_key() => Ok(Operation::Update(decode_row(of, after()?, update)?)),
        Op::Update => Ok(Operation::UpdateKeyless {
            old: decode_row(of, before()?, Role::Old)?,
            new: decode_row(of, after()?, update)?,
        }),
        Op::Delete if table.has_key() => Ok(Operation::Delete(decode_key(of, before()?.get())?)),
        Op::Delete => Ok(Operation::DeleteKeyless(decode_row(of, before()?, Role::Old)?)),
        Op::Truncate => Ok(Operation::Truncate),
        Op::Message => unreachable!("messages have no table and were returned before"),
    }
}

/// Whether a record of a topic in which everything is mixed is a transaction's BEGIN or END: an object that starts with
/// its status, as no change event does.
pub fn is_boundary(value: &[u8]) -> bool {
    Unwrapped::new(value, Converter::Value).is_ok_and(|unwrapped| unwrapped.get().starts_with("{\"status\""))
}

/// Decodes a record of the transaction topic.
///
/// # Errors
/// When it is not one of Debezium's transaction records.
pub fn decode_boundary(value: &[u8]) -> Result<Boundary, DecodeError> {
    let unwrapped = Unwrapped::new(value, Converter::Value)?;
    let record: TransactionRecord<'_> = unwrapped.parse()?;
    let (xid, lsn) = record.xid_and_lsn()?;
    match record.status.as_ref() {
        "BEGIN" => Ok(Boundary::Begin { xid }),
        "END" => Ok(Boundary::End {
            xid,
            lsn: CommitLsn(lsn),
            committed_at_ms: record.ts_ms.ok_or(DecodeError::MissingField("ts_ms"))?,
            counts: record.counts()?,
        }),
        other => Err(DecodeError::UnknownStatus(other.to_owned())),
    }
}

#[cfg(test)]
mod tests;
