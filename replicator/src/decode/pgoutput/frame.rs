//! What the messages travel in: the contents of CopyData while a slot is streamed, in both directions.
//!
//! Layouts are those of the chapter "Streaming Replication Protocol" of PostgreSQL's documentation.

use super::error::{PgOutputError, Problem};
use super::reader::{Reader, postgres_microseconds};
use crate::vocabulary::lsn::Lsn;

/// What the leader sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// One message of the plugin.
    Data(WalData<'a>),
    /// A sign of life.
    Keepalive(Keepalive),
}

/// One message of the plugin, and where it stands (`XLogData`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalData<'a> {
    /// The position of what the message is about; 0 where it has none.
    pub start: Lsn,
    /// As `start` for logical slots: no statement about how far the leader is.
    pub end: Lsn,
    /// When it was sent, in milliseconds since 1970, by the leader's clock.
    pub sent_at_ms: i64,
    /// The message, for [`decode`](super::decode).
    pub payload: &'a [u8],
}

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// How far the leader has decoded and sent: every commit below has been sent before this.
    pub wal_end: Lsn,
    /// When it was sent, in milliseconds since 1970, by the leader's clock.
    pub sent_at_ms: i64,
    /// Whether the leader ends the connection unless it gets a [`StatusUpdate`] soon.
    pub reply_requested: bool,
}

/// The frame in these bytes.
///
/// # Errors
/// When they are neither of the two.
pub fn decode_frame(bytes: &[u8]) -> Result<Frame<'_>, PgOutputError> {
    let mut reader = Reader::new("CopyData", bytes);
    match reader.u8("the frame's 'w' or 'k'")? {
        b'w' => {
            reader.name("XLogData");
            let start = reader.lsn("the data's start")?;
            let end = reader.lsn("the data's end")?;
            let sent_at_ms = reader.time_ms("the time of sending")?;
            Ok(Frame::Data(WalData { start, end, sent_at_ms, payload: reader.rest() }))
        }
        b'k' => {
            reader.name("Primary keepalive");
            let wal_end = reader.lsn("the end of WAL")?;
            let sent_at_ms = reader.time_ms("the time of sending")?;
            let reply_requested = reader.flag("whether to reply")?;
            reader.end()?;
            Ok(Frame::Keepalive(Keepalive { wal_end, sent_at_ms, reply_requested }))
        }
        found => {
            let problem = Problem::Unexpected { expected: "the frame's 'w' or 'k'", found };
            Err(PgOutputError { at: 0, ..reader.error(problem) })
        }
    }
}

/// What the leader is told (`Standby status update`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusUpdate {
    /// Up to where everything has arrived.
    pub written: Lsn,
    /// Up to where everything is stored for good. **The slot forgets what lies before**: a later start goes on from here.
    pub flushed: Lsn,
    /// Up to where everything is visible to readers.
    pub applied: Lsn,
    /// Whether the leader shall answer with a keepalive at once.
    pub reply_requested: bool,
}

impl StatusUpdate {
    /// How many bytes one has.
    pub const LENGTH: usize = 34;

    /// Its bytes, as the content of CopyData. `now_ms`: milliseconds since 1970, by this machine's clock; the leader computes
    /// the age of replies from it.
    pub fn encode(&self, now_ms: i64) -> [u8; Self::LENGTH] {
        let mut bytes = [b'r'; Self::LENGTH];
        let time = postgres_microseconds(now_ms).to_be_bytes();
        let [written, flushed, applied] =
            [self.written, self.flushed, self.applied].map(|lsn| lsn.0.to_be_bytes());
        let content = [written, flushed, applied, time];
        let content = content.as_flattened().iter().copied().chain([u8::from(self.reply_requested)]);
        bytes.iter_mut().skip(1).zip(content).for_each(|(to, from)| *to = from);
        bytes
    }
}
