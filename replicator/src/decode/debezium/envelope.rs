//! The wire's shapes, exactly as the JSON has them. Nothing here leaves `decode::debezium`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Collection, Converter, DecodeError};
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};

/// A record's JSON without the `{"schema": …, "payload": …}` that `schemas.enable=true` puts around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unwrapped<'a>(&'a str);

#[derive(Deserialize)]
struct Wrapper<'a> {
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

impl<'a> Unwrapped<'a> {
    /// Finds the payload. A schema-less event never starts with the field "schema", an embedded one always does.
    pub(super) fn new(bytes: &'a [u8], converter: Converter) -> Result<Self, DecodeError> {
        Self::of_text(json(bytes, converter)?)
    }

    pub(super) fn of_text(text: &'a str) -> Result<Self, DecodeError> {
        let text = text.trim();
        let wrapped = text.strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with("\"schema\""));
        if !wrapped {
            return Ok(Unwrapped(text));
        }
        let wrapper: Wrapper<'a> = parse(text)?;
        wrapper.payload.map(|p| Unwrapped(p.get())).ok_or(DecodeError::MissingField("payload"))
    }

    /// The JSON itself.
    pub(super) fn get(self) -> &'a str {
        self.0
    }

    pub(super) fn parse<T: Deserialize<'a>>(self) -> Result<T, DecodeError> {
        parse(self.0)
    }
}

/// A record's bytes as text, unless it is no JSON object at a glance: then `converter` wrote another format.
pub(super) fn json(bytes: &[u8], converter: Converter) -> Result<&str, DecodeError> {
    // What serializers of a schema registry put before Avro, Protobuf and JSON alike: zero, and the schema's id.
    if let [0, a, b, c, d, ..] = bytes {
        return Err(DecodeError::RegistryEncoded { id: u32::from_be_bytes([*a, *b, *c, *d]), converter });
    }
    let other = |what| DecodeError::OtherFormat { what, converter };
    let text = std::str::from_utf8(bytes).map_err(|_| other("it is not UTF-8"))?;
    if text.trim_start().starts_with('{') { Ok(text) } else { Err(other("it does not begin with {")) }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, DecodeError> {
    serde_json::from_str(text).map_err(|e| DecodeError::NotJson(e.to_string()))
}

#[derive(Debug, Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow)]
    pub(super) before: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) after: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) source: Option<Source<'a>>,
    #[serde(borrow)]
    pub(super) transaction: Option<TransactionBlock<'a>>,
    #[serde(borrow)]
    pub(super) op: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Source<'a> {
    #[serde(borrow)]
    pub(super) schema: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) table: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) snapshot: Option<&'a RawValue>,
    pub(super) lsn: Option<u64>,
    pub(super) ts_ms: Option<i64>,
    #[serde(borrow)]
    sequence: Option<&'a RawValue>,
}

impl Source<'_> {
    /// The first element of `sequence`, the end of the last commit before this event's transaction: an array inside a
    /// string, `"[\"608746112\",\"608746400\"]"`, whose first element is null before the first commit.
    pub(super) fn after(&self) -> Option<CommitLsn> {
        let first = self.sequence?.get().strip_prefix("\"[\\\"")?;
        let (digits, _) = first.split_once('\\')?;
        Some(CommitLsn(Lsn(digits.parse().ok()?)))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct TransactionBlock<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    pub(super) total_order: u64,
    pub(super) data_collection_order: u64,
}

impl TransactionBlock<'_> {
    pub(super) fn xid(&self) -> Result<Xid, DecodeError> {
        split_id(&self.id).map(|(xid, _)| xid)
    }
}

/// `xid:lsn`. The LSN is each record's own: BEGIN, rows and END of one transaction all differ, so join on the xid.
fn split_id(id: &str) -> Result<(Xid, Lsn), DecodeError> {
    let parts = || {
        let (xid, lsn) = id.split_once(':')?;
        // Streamed events carry 32 bits; keep the low half should that ever change.
        let xid = xid.parse::<u64>().ok()? & u64::from(u32::MAX);
        Some((Xid(u32::try_from(xid).ok()?), Lsn(lsn.parse().ok()?)))
    };
    parts().ok_or_else(|| DecodeError::BadTransactionId(id.to_owned()))
}

#[derive(Debug, Deserialize)]
pub(super) struct TransactionRecord<'a> {
    #[serde(borrow)]
    pub(super) status: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    pub(super) ts_ms: Option<i64>,
    event_count: Option<u64>,
    #[serde(borrow)]
    data_collections: Option<Vec<CollectionCount<'a>>>,
}

#[derive(Debug, Deserialize)]
struct CollectionCount<'a> {
    #[serde(borrow)]
    data_collection: Cow<'a, str>,
    event_count: u64,
}

impl TransactionRecord<'_> {
    pub(super) fn xid_and_lsn(&self) -> Result<(Xid, Lsn), DecodeError> {
        split_id(&self.id)
    }

    /// Events per collection; a transaction without any has neither list nor count, or zero.
    pub(super) fn counts(&self) -> Result<Vec<(Collection, u64)>, DecodeError> {
        let counts: Vec<_> = self
            .data_collections
            .iter()
            .flatten()
            .map(|c| {
                // Observed: "io.debezium…LogicalDecodingMessageId@5c20825d"; older versions say LOGICAL_DECODING_MESSAGE.
                let name = c.data_collection.as_ref();
                let messages = name.contains("LogicalDecodingMessage") || name == "LOGICAL_DECODING_MESSAGE";
                let collection = if messages { Collection::Messages } else { Collection::Table(name.into()) };
                (collection, c.event_count)
            })
            .collect();
        let total = counts.iter().try_fold(0_u64, |total, (_, n)| total.checked_add(*n));
        match self.event_count {
            Some(n) if Some(n) == total => Ok(counts),
            Some(_) => Err(DecodeError::MissingField("data_collections of all counted events")),
            None => Err(DecodeError::MissingField("event_count")),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Create,
    Update,
    Delete,
    Read,
    Truncate,
    Message,
}

impl Op {
    pub(super) fn parse(op: &str) -> Result<Self, DecodeError> {
        Ok(match op {
            "c" => Op::Create,
            "u" => Op::Update,
            "d" => Op::Delete,
            "r" => Op::Read,
            "t" => Op::Truncate,
            "m" => Op::Message,
            other => return Err(DecodeError::UnknownOp(other.to_owned())),
        })
    }
}

/// `source.snapshot`, reduced to what matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotMarker {
    /// A streamed event.
    None,
    Initial,
    FirstOfTable,
    LastOfTable,
    Incremental,
}

impl SnapshotMarker {
    /// Debezium leaves the field out when it is false and relies on the schema's default, so it may come as `"false"`,
    /// `false`, null or not at all.
    pub(super) fn parse(raw: Option<&str>) -> Result<Self, DecodeError> {
        Ok(match raw {
            None | Some("null" | "false" | "\"false\"") => SnapshotMarker::None,
            Some("true" | "\"true\"") => SnapshotMarker::Initial,
            Some("\"first\"" | "\"first_in_data_collection\"") => SnapshotMarker::FirstOfTable,
            Some("\"last\"" | "\"last_in_data_collection\"") => SnapshotMarker::LastOfTable,
            Some("\"incremental\"") => SnapshotMarker::Incremental,
            Some(other) => return Err(DecodeError::UnknownSnapshotMarker(other.to_owned())),
        })
    }
}
