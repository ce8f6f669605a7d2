//! Messages that own their parts: made by chance, encoded as PostgreSQL does, and compared with what was decoded.

use proptest::prelude::*;

use super::{Column, Message, OldRow, ReplicaIdentity, Tuple};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Unchanged,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Old {
    Key(Vec<Value>),
    Full(Vec<Value>),
}

/// Times are whole milliseconds, which is all that a decoded message has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Model {
    Begin(u64, i64, u32),
    Commit(u64, u64, i64),
    Origin(u64, String),
    Relation(u32, String, String, ReplicaIdentity, Vec<(bool, String, u32, i32)>),
    Type(u32, String, String),
    Insert(u32, Vec<Value>),
    Update(u32, Option<Old>, Vec<Value>),
    Delete(u32, Old),
    Truncate(Vec<u32>, bool, bool),
    Message(bool, u64, String, Vec<u8>),
    StreamStart(u32, bool),
    StreamStop,
    StreamCommit(u32, u64, u64, i64),
    StreamAbort(u32, u32),
}

fn values() -> impl Strategy<Value = Vec<Value>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20);
    let value = prop_oneof![
        Just(Value::Null),
        Just(Value::Unchanged),
        bytes().prop_map(Value::Text),
        bytes().prop_map(Value::Binary)
    ];
    prop::collection::vec(value, 0..6)
}

fn old() -> impl Strategy<Value = Old> {
    prop_oneof![values().prop_map(Old::Key), values().prop_map(Old::Full)]
}

fn name() -> impl Strategy<Value = String> {
    "[a-zäö \"]{1,8}"
}

/// A message that may stand in a block, or one that may stand outside.
pub(crate) fn message(in_stream: bool) -> BoxedStrategy<Model> {
    let identity = prop_oneof![
        Just(ReplicaIdentity::Default),
        Just(ReplicaIdentity::Nothing),
        Just(ReplicaIdentity::Full),
        Just(ReplicaIdentity::Index)
    ];
    let columns = prop::collection::vec((any::<bool>(), name(), any::<u32>(), any::<i32>()), 0..5);
    let content = prop::collection::vec(any::<u8>(), 0..30);
    let anywhere = prop_oneof![
        (any::<u64>(), name()).prop_map(|(lsn, name)| Model::Origin(lsn, name)),
        (any::<u32>(), name(), name(), identity, columns).prop_map(
            |(id, schema, name, identity, columns)| Model::Relation(id, schema, name, identity, columns)
        ),
        (any::<u32>(), name(), name()).prop_map(|(oid, schema, name)| Model::Type(oid, schema, name)),
        (any::<u32>(), values()).prop_map(|(id, new)| Model::Insert(id, new)),
        (any::<u32>(), prop::option::of(old()), values())
            .prop_map(|(id, old, new)| Model::Update(id, old, new)),
        (any::<u32>(), old()).prop_map(|(id, old)| Model::Delete(id, old)),
        (prop::collection::vec(any::<u32>(), 0..5), any::<bool>(), any::<bool>())
            .prop_map(|(ids, cascade, restart)| Model::Truncate(ids, cascade, restart)),
        (any::<bool>(), any::<u64>(), name(), content).prop_map(|(transactional, lsn, prefix, content)| {
            Model::Message(transactional, lsn, prefix, content)
        }),
    ];
    if in_stream {
        return prop_oneof![anywhere, Just(Model::StreamStop)].boxed();
    }
    prop_oneof![
        8 => anywhere,
        1 => (any::<u64>(), any::<i32>().prop_map(i64::from), any::<u32>()).prop_map(|(lsn, ms, xid)| Model::Begin(lsn, ms, xid)),
        1 => (any::<u64>(), any::<u64>(), any::<i32>().prop_map(i64::from)).prop_map(|(lsn, end, ms)| Model::Commit(lsn, end, ms)),
        1 => (any::<u32>(), any::<bool>()).prop_map(|(xid, first)| Model::StreamStart(xid, first)),
        1 => (any::<u32>(), any::<u64>(), any::<u64>(), any::<i32>().prop_map(i64::from))
            .prop_map(|(xid, lsn, end, ms)| Model::StreamCommit(xid, lsn, end, ms)),
        1 => (any::<u32>(), any::<u32>()).prop_map(|(xid, subxid)| Model::StreamAbort(xid, subxid)),
    ]
    .boxed()
}

impl Model {
    /// As `proto.c` writes it, with `xid` where one belongs inside a block.
    pub(crate) fn encode(&self, xid: Option<u32>) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Model::Begin(lsn, ms, xid) => {
                out.push(b'B');
                out.extend(lsn.to_be_bytes());
                out.extend(time(*ms));
                out.extend(xid.to_be_bytes());
            }
            Model::Commit(lsn, end, ms) => {
                out.extend(b"C\0");
                out.extend([lsn.to_be_bytes(), end.to_be_bytes(), time(*ms)].concat());
            }
            Model::Origin(lsn, name) => {
                out.push(b'O');
                out.extend(lsn.to_be_bytes());
                text(&mut out, name);
            }
            Model::StreamStart(xid, first) => {
                out.push(b'S');
                out.extend(xid.to_be_bytes());
                out.push(u8::from(*first));
            }
            Model::StreamStop => out.push(b'E'),
            Model::StreamCommit(xid, lsn, end, ms) => {
                out.push(b'c');
                out.extend(xid.to_be_bytes());
                out.push(0);
                out.extend([lsn.to_be_bytes(), end.to_be_bytes(), time(*ms)].concat());
            }
            Model::StreamAbort(xid, subxid) => {
                out.push(b'A');
                out.extend(xid.to_be_bytes());
                out.extend(subxid.to_be_bytes());
            }
            change => change.encode_change(xid, &mut out),
        }
        out
    }

    fn encode_change(&self, xid: Option<u32>, out: &mut Vec<u8>) {
        let change = |out: &mut Vec<u8>, kind: u8, number: u32| {
            out.push(kind);
            out.extend(xid.into_iter().flat_map(u32::to_be_bytes));
            out.extend(number.to_be_bytes());
        };
        match self {
            Model::Relation(id, schema, name, identity, columns) => {
                change(out, b'R', *id);
                text(out, schema);
                text(out, name);
                out.push(match identity {
                    ReplicaIdentity::Default => b'd',
                    ReplicaIdentity::Nothing => b'n',
                    ReplicaIdentity::Full => b'f',
                    ReplicaIdentity::Index => b'i',
                });
                out.extend(u16::try_from(columns.len()).unwrap().to_be_bytes());
                for (is_key, name, oid, modifier) in columns {
                    out.push(u8::from(*is_key));
                    text(out, name);
                    out.extend(oid.to_be_bytes());
                    out.extend(modifier.to_be_bytes());
                }
            }
            Model::Type(oid, schema, name) => {
                change(out, b'Y', *oid);
                text(out, schema);
                text(out, name);
            }
            Model::Insert(id, new) => {
                change(out, b'I', *id);
                tuple(out, b'N', new);
            }
            Model::Update(id, before, new) => {
                change(out, b'U', *id);
                before.iter().for_each(|before| old_row(out, before));
                tuple(out, b'N', new);
            }
            Model::Delete(id, before) => {
                change(out, b'D', *id);
                old_row(out, before);
            }
            Model::Truncate(ids, cascade, restart) => {
                change(out, b'T', u32::try_from(ids.len()).unwrap());
                out.push(u8::from(*cascade) | u8::from(*restart) << 1);
                ids.iter().for_each(|id| out.extend(id.to_be_bytes()));
            }
            Model::Message(transactional, lsn, prefix, content) => {
                out.push(b'M');
                out.extend(xid.into_iter().flat_map(u32::to_be_bytes));
                out.push(u8::from(*transactional));
                out.extend(lsn.to_be_bytes());
                text(out, prefix);
                counted(out, content);
            }
            _ => unreachable!("not a change"),
        }
    }

    /// What a decoded message says, and the xid that it carries as a change.
    pub(crate) fn of(message: Message<'_>) -> (Self, Option<u32>) {
        let ms = |ms: i64| ms - 946_684_800_000;
        let mut carried = None;
        let mut note = |xid: Option<crate::vocabulary::lsn::Xid>| carried = xid.map(|xid| xid.0);
        let model = match message {
            Message::Begin { commit_record, committed_at_ms, xid } => {
                Model::Begin(commit_record.0, ms(committed_at_ms), xid.0)
            }
            Message::Commit { commit_record, lsn, committed_at_ms } => {
                Model::Commit(commit_record.0, lsn.0.0, ms(committed_at_ms))
            }
            Message::Origin { lsn, name } => Model::Origin(lsn.0, name.to_owned()),
            Message::Relation { xid, relation } => {
                note(xid);
                let columns = relation.columns();
                let columns =
                    columns.map(|c| (c.is_key, c.name.to_owned(), c.type_oid, c.type_modifier)).collect();
                let (schema, name) = (relation.schema.to_owned(), relation.name.to_owned());
                Model::Relation(relation.id.0, schema, name, relation.identity, columns)
            }
            Message::Type { xid, oid, schema, name } => {
                note(xid);
                Model::Type(oid, schema.to_owned(), name.to_owned())
            }
            Message::Insert { xid, relation, new } => {
                note(xid);
                Model::Insert(relation.0, owned(new))
            }
            Message::Update { xid, relation, old, new } => {
                note(xid);
                Model::Update(relation.0, old.map(owned_old), owned(new))
            }
            Message::Delete { xid, relation, old } => {
                note(xid);
                Model::Delete(relation.0, owned_old(old))
            }
            Message::Truncate { xid, relations, cascade, restart_identity } => {
                note(xid);
                Model::Truncate(relations.iter().map(|id| id.0).collect(), cascade, restart_identity)
            }
            Message::Message { xid, transactional, lsn, prefix, content } => {
                note(xid);
                Model::Message(transactional, lsn.0, prefix.to_owned(), content.to_vec())
            }
            Message::StreamStart { xid, first } => Model::StreamStart(xid.0, first),
            Message::StreamStop => Model::StreamStop,
            Message::StreamCommit { xid, commit_record, lsn, committed_at_ms } => {
                Model::StreamCommit(xid.0, commit_record.0, lsn.0.0, ms(committed_at_ms))
            }
            Message::StreamAbort { xid, subxid } => Model::StreamAbort(xid.0, subxid.0),
        };
        (model, carried)
    }

    /// Whether it carries the xid of the transaction that made it, inside a block.
    pub(crate) fn is_change(&self) -> bool {
        !matches!(self, Model::Origin(..) | Model::StreamStop)
    }
}

/// A table of `public` with text columns, each with whether it belongs to the key.
pub(crate) fn relation(id: u32, name: &str, columns: &[(bool, &str)]) -> Model {
    let columns = columns.iter().map(|(is_key, name)| (*is_key, (*name).to_owned(), 25, -1)).collect();
    Model::Relation(id, "public".to_owned(), name.to_owned(), ReplicaIdentity::Default, columns)
}

fn time(ms: i64) -> [u8; 8] {
    (ms * 1000).to_be_bytes()
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.as_bytes());
    out.push(0);
}

fn counted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    out.extend(bytes);
}

fn old_row(out: &mut Vec<u8>, old: &Old) {
    match old {
        Old::Key(values) => tuple(out, b'K', values),
        Old::Full(values) => tuple(out, b'O', values),
    }
}

fn tuple(out: &mut Vec<u8>, marker: u8, values: &[Value]) {
    out.push(marker);
    out.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        match value {
            Value::Null => out.push(b'n'),
            Value::Unchanged => out.push(b'u'),
            Value::Text(bytes) => {
                out.push(b't');
                counted(out, bytes);
            }
            Value::Binary(bytes) => {
                out.push(b'b');
                counted(out, bytes);
            }
        }
    }
}

fn owned(tuple: Tuple<'_>) -> Vec<Value> {
    assert_eq!(tuple.columns().len(), tuple.width());
    let value = |column| match column {
        Column::Null => Value::Null,
        Column::Unchanged => Value::Unchanged,
        Column::Text(bytes) => Value::Text(bytes.to_vec()),
        Column::Binary(bytes) => Value::Binary(bytes.to_vec()),
    };
    tuple.columns().map(value).collect()
}

fn owned_old(old: OldRow<'_>) -> Old {
    match old {
        OldRow::Key(tuple) => Old::Key(owned(tuple)),
        OldRow::Full(tuple) => Old::Full(owned(tuple)),
    }
}
