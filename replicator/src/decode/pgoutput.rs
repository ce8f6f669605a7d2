//! The messages of `pgoutput`, PostgreSQL's own logical replication plugin, in protocol versions 1 and 2 (streaming).
//!
//! A large transaction arrives in version 2 while it still runs, in blocks that other transactions come between:
//!
//! ```text
//! Begin 7 · Relation · Insert · Update · Commit        a transaction that has ended, whole
//! StreamStart 8 · Insert(xid 8) · StreamStop           the first block of one that has not
//! Begin 9 · Insert · Commit
//! StreamStart 8 · Insert(xid 10) · StreamStop          10 is a subtransaction of 8
//! StreamAbort 8/10                                     what carried xid 10 never happened
//! StreamCommit 8                                       what carried xid 8 did
//! ```
//!
//! Nothing is allocated or copied: names and values are borrowed from the message. Any bytes give a message or an error
//! that says where they stopped making sense; none makes the decoder panic.
//!
//! Layouts are those of the chapters "Logical Streaming Replication Protocol" and "Logical Replication Message Formats" of
//! PostgreSQL's documentation; where these leave something open, of `src/backend/replication/logical/proto.c`.

mod changes;
mod error;
mod frame;
#[cfg(test)]
pub(crate) mod model;
mod reader;
mod relation;
mod tuple;

pub use changes::{Tables, Values};
pub use error::{PgOutputError, Problem};
pub use frame::{Frame, Keepalive, StatusUpdate, WalData, decode_frame};
pub use relation::{Relation, RelationColumn, RelationColumns, RelationId, RelationIds, ReplicaIdentity};
pub use tuple::{Column, Columns, Tuple};

use self::reader::Reader;
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};

/// One message of the stream, borrowed from its bytes.
///
/// `xid` of a change is there inside a streamed block only: the transaction or subtransaction that made it. Elsewhere the
/// last [`Message::Begin`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction that has committed follows, whole.
    Begin {
        /// Where its commit record begins: [`Message::Commit`] repeats it. Not its [`CommitLsn`].
        commit_record: Lsn,
        /// When the leader committed it, in milliseconds since 1970, by the leader's clock.
        committed_at_ms: i64,
        /// Its id.
        xid: Xid,
    },
    /// The transaction that was begun ends here.
    Commit {
        /// Where its commit record begins.
        commit_record: Lsn,
        /// Where it ends.
        lsn: CommitLsn,
        /// When the leader committed it, in milliseconds since 1970, by the leader's clock.
        committed_at_ms: i64,
    },
    /// The transaction came to the leader by replication from elsewhere.
    Origin {
        /// Its commit position there.
        lsn: Lsn,
        /// The name of the replication origin.
        name: &'a str,
    },
    /// The columns of a table as the changes that follow have them. Sent before a table's first change, and again after its
    /// definition may have changed.
    Relation {
        /// See [`Message`].
        xid: Option<Xid>,
        /// The table.
        relation: Relation<'a>,
    },
    /// The name of a type that is not built in; sent before the relation that has it.
    Type {
        /// See [`Message`].
        xid: Option<Xid>,
        /// `pg_type.oid`.
        oid: u32,
        /// Its schema; `pg_catalog` where the wire has an empty name.
        schema: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A new row.
    Insert {
        /// See [`Message`].
        xid: Option<Xid>,
        /// Its table.
        relation: RelationId,
        /// Its values.
        new: Tuple<'a>,
    },
    /// New values for a row.
    Update {
        /// See [`Message`].
        xid: Option<Xid>,
        /// Its table.
        relation: RelationId,
        /// What the row was, as far as it is sent: nothing while its key stays the same.
        old: Option<OldRow<'a>>,
        /// Its values after; large ones that stayed as they were are [`Column::Unchanged`].
        new: Tuple<'a>,
    },
    /// A row is gone.
    Delete {
        /// See [`Message`].
        xid: Option<Xid>,
        /// Its table.
        relation: RelationId,
        /// What finds it.
        old: OldRow<'a>,
    },
    /// Tables are emptied, together.
    Truncate {
        /// See [`Message`].
        xid: Option<Xid>,
        /// The tables.
        relations: RelationIds<'a>,
        /// Whether `CASCADE` was said. The tables it reached are among `relations`, if they are published.
        cascade: bool,
        /// Whether `RESTART IDENTITY` was said.
        restart_identity: bool,
    },
    /// What `pg_logical_emit_message` wrote.
    Message {
        /// See [`Message`].
        xid: Option<Xid>,
        /// Whether it belongs to the transaction around it. One that doesn't comes at once and between transactions.
        transactional: bool,
        /// Its position.
        lsn: Lsn,
        /// What tells whose it is.
        prefix: &'a str,
        /// What it says.
        content: &'a [u8],
    },
    /// A block of a transaction that has not ended begins.
    StreamStart {
        /// The transaction's id.
        xid: Xid,
        /// Whether this is its first block.
        first: bool,
    },
    /// The block ends. Other transactions may come now.
    StreamStop,
    /// A transaction that came in blocks has committed.
    StreamCommit {
        /// Its id.
        xid: Xid,
        /// Where its commit record begins.
        commit_record: Lsn,
        /// Where it ends.
        lsn: CommitLsn,
        /// When the leader committed it, in milliseconds since 1970, by the leader's clock.
        committed_at_ms: i64,
    },
    /// A transaction that came in blocks, or a part of it, was rolled back.
    StreamAbort {
        /// The transaction.
        xid: Xid,
        /// The subtransaction that is gone; equal to `xid` when it is the whole.
        subxid: Xid,
    },
}

/// What an update or delete says about the row before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldRow<'a> {
    /// The columns of the replica identity; the others are NULL here, whatever they were.
    Key(Tuple<'a>),
    /// All values (`REPLICA IDENTITY FULL`).
    Full(Tuple<'a>),
}

/// Decodes the messages of one stream, in order.
///
/// Inside a streamed block a change carries an xid in front of the rest, and nothing in the message itself says so: that is
/// what a decoder remembers from one message to the next.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    in_stream: bool,
}

impl Decoder {
    /// A decoder for a stream that starts now.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the last message left a streamed block open.
    pub fn in_stream(&self) -> bool {
        self.in_stream
    }

    /// The message in these bytes.
    ///
    /// # Errors
    /// As [`decode`]. The decoder is then as it was before.
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<Message<'a>, PgOutputError> {
        let message = decode(bytes, self.in_stream)?;
        match message {
            Message::StreamStart { .. } => self.in_stream = true,
            Message::StreamStop => self.in_stream = false,
            _ => {}
        }
        Ok(message)
    }
}

/// The message in these bytes; `in_stream` when it stands between a Stream Start and its Stream Stop.
///
/// # Errors
/// When the bytes are not exactly one message of protocol version 1 or 2, or one that can't stand here.
pub fn decode(bytes: &[u8], in_stream: bool) -> Result<Message<'_>, PgOutputError> {
    let (mut reader, kind) = Reader::of_message(bytes)?;
    let name = kind_name(kind).ok_or_else(|| reader.error(Problem::UnknownMessage(kind)))?;
    reader.name(name);
    if !may_stand(kind, in_stream) {
        let place = if in_stream { "inside a streamed block" } else { "outside a streamed block" };
        return Err(reader.error(Problem::Misplaced(place)));
    }
    let message = match kind {
        b'B' => begin(&mut reader)?,
        b'C' => commit(&mut reader)?,
        b'O' => {
            Message::Origin { lsn: reader.lsn("the origin's LSN")?, name: reader.text("the origin's name")? }
        }
        b'S' => {
            Message::StreamStart { xid: reader.xid()?, first: reader.flag("whether it is the first block")? }
        }
        b'E' => Message::StreamStop,
        b'c' => stream_commit(&mut reader)?,
        b'A' => Message::StreamAbort { xid: reader.xid()?, subxid: reader.xid()? },
        _ => {
            let xid = if in_stream { Some(reader.xid()?) } else { None };
            change(&mut reader, kind, xid)?
        }
    };
    reader.end()?;
    Ok(message)
}

/// What the documentation calls the message that begins with this byte; none for a byte that begins none.
fn kind_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        b'B' => "Begin",
        b'C' => "Commit",
        b'O' => "Origin",
        b'R' => "Relation",
        b'Y' => "Type",
        b'I' => "Insert",
        b'U' => "Update",
        b'D' => "Delete",
        b'T' => "Truncate",
        b'M' => "Message",
        b'S' => "Stream Start",
        b'E' => "Stream Stop",
        b'c' => "Stream Commit",
        b'A' => "Stream Abort",
        _ => return None,
    })
}

/// Blocks neither nest nor hold the boundaries of transactions. A change outside of a block belongs to a Begin, which the
/// caller keeps; an origin stands behind either.
fn may_stand(kind: u8, in_stream: bool) -> bool {
    match kind {
        b'B' | b'C' | b'S' | b'c' | b'A' => !in_stream,
        b'E' => in_stream,
        _ => true,
    }
}

fn begin<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, PgOutputError> {
    Ok(Message::Begin {
        commit_record: reader.lsn("the commit record's LSN")?,
        committed_at_ms: reader.time_ms("the commit's time")?,
        xid: reader.xid()?,
    })
}

fn commit<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, PgOutputError> {
    reader.no_flags()?;
    Ok(Message::Commit {
        commit_record: reader.lsn("the commit record's LSN")?,
        lsn: CommitLsn(reader.lsn("the commit record's end")?),
        committed_at_ms: reader.time_ms("the commit's time")?,
    })
}

fn stream_commit<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, PgOutputError> {
    let xid = reader.xid()?;
    reader.no_flags()?;
    Ok(Message::StreamCommit {
        xid,
        commit_record: reader.lsn("the commit record's LSN")?,
        lsn: CommitLsn(reader.lsn("the commit record's end")?),
        committed_at_ms: reader.time_ms("the commit's time")?,
    })
}

/// What may stand in a block and outside of one.
fn change<'a>(reader: &mut Reader<'a>, kind: u8, xid: Option<Xid>) -> Result<Message<'a>, PgOutputError> {
    Ok(match kind {
        b'I' => {
            let relation = RelationId(reader.u32("the relation's OID")?);
            reader.marker(b'N', "the new row's 'N'")?;
            Message::Insert { xid, relation, new: Tuple::read(reader)? }
        }
        b'U' => update(reader, xid)?,
        b'D' => {
            let relation = RelationId(reader.u32("the relation's OID")?);
            let old = match reader.u8("the old row's 'K' or 'O'")? {
                b'K' => OldRow::Key(Tuple::read(reader)?),
                b'O' => OldRow::Full(Tuple::read(reader)?),
                found => return Err(reader.unexpected("the old row's 'K' or 'O'", found)),
            };
            Message::Delete { xid, relation, old }
        }
        b'R' => Message::Relation { xid, relation: Relation::read(reader)? },
        b'Y' => Message::Type {
            xid,
            oid: reader.u32("the type's OID")?,
            schema: reader.schema("the type's schema")?,
            name: reader.text("the type's name")?,
        },
        b'T' => {
            let count = reader.u32("the number of relations")?;
            let options = reader.u8("the options")?;
            if options & !0b11 != 0 {
                return Err(
                    reader.unexpected("options made of 1 (cascade) and 2 (restart identity)", options)
                );
            }
            let relations = RelationIds::read(reader, count)?;
            let (cascade, restart_identity) = (options & 0b01 != 0, options & 0b10 != 0);
            Message::Truncate { xid, relations, cascade, restart_identity }
        }
        _ => Message::Message {
            xid,
            transactional: reader.flag("whether it is transactional")?,
            lsn: reader.lsn("the message's LSN")?,
            prefix: reader.text("the message's prefix")?,
            content: reader.counted("the message's content")?,
        },
    })
}

fn update<'a>(reader: &mut Reader<'a>, xid: Option<Xid>) -> Result<Message<'a>, PgOutputError> {
    let relation = RelationId(reader.u32("the relation's OID")?);
    const MARKER: &str = "'K' or 'O' of an old row, or 'N' of the new one";
    let old = match reader.u8(MARKER)? {
        b'N' => return Ok(Message::Update { xid, relation, old: None, new: Tuple::read(reader)? }),
        b'K' => OldRow::Key(Tuple::read(reader)?),
        b'O' => OldRow::Full(Tuple::read(reader)?),
        found => return Err(reader.unexpected(MARKER, found)),
    };
    reader.marker(b'N', "the new row's 'N'")?;
    Ok(Message::Update { xid, relation, old: Some(old), new: Tuple::read(reader)? })
}

#[cfg(test)]
mod tests;
