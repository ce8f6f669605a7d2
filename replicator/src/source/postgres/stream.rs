//! A slot, streamed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend::{self, CopyData};

use super::error::{Phase, PostgresSourceError, ServerError, classify};
use super::wire::{Raw, notice};
use super::{ReplicationConnection, slot};
use crate::decode::pgoutput::{Frame, StatusUpdate, decode_frame};
use crate::vocabulary::lsn::Lsn;
use crate::vocabulary::row::Form;

/// How long stopping may take. A walsender in the midst of a transaction sends that one to its end first.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What the stream carries, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptions {
    /// The publications whose tables and operations are wanted.
    pub publications: Vec<String>,
    /// How values come; as text, too, where a type has no send function.
    pub values: Form,
    /// Whether transactions larger than the session's `logical_decoding_work_mem` come while they run (protocol 2). Without,
    /// everything comes after its commit (protocol 1).
    pub streaming: bool,
    /// Whether `pg_logical_emit_message` is carried.
    pub messages: bool,
}

impl StreamOptions {
    pub(super) fn command(&self, slot: &str, from: Lsn) -> String {
        let names: Vec<_> = self.publications.iter().map(|name| slot::identifier(name)).collect();
        let names = slot::literal(&names.join(","));
        let streaming =
            if self.streaming { "proto_version '2', streaming 'on'" } else { "proto_version '1'" };
        let binary = if self.values == Form::Binary { ", binary 'true'" } else { "" };
        let messages = if self.messages { ", messages 'true'" } else { "" };
        let slot = slot::identifier(slot);
        format!(
            "START_REPLICATION SLOT {slot} LOGICAL {from} ({streaming}{binary}{messages}, publication_names {names})"
        )
    }
}

/// The frames of a slot, in order.
///
/// The leader ends a connection of which it has heard nothing for its `wal_sender_timeout` (a minute). It asks in time by a
/// keepalive, and that is answered here, but only in [`next`](Self::next) and [`try_next`](Self::try_next): who does not call
/// them for long calls [`send_status`](Self::send_status) every few seconds instead.
#[derive(Debug)]
pub struct ReplicationStream {
    connection: ReplicationConnection,
    slot: String,
    status: StatusUpdate,
}

impl ReplicationStream {
    pub(super) fn new(connection: ReplicationConnection, slot: &str) -> Self {
        ReplicationStream { connection, slot: slot.to_owned(), status: StatusUpdate::default() }
    }

    /// The slot's name.
    pub fn slot(&self) -> &str {
        &self.slot
    }

    /// The next frame, if it has arrived. Never waits. A keepalive that asks for an answer has got it by then: the status that
    /// was sent last.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<Frame<'_>>, PostgresSourceError> {
        match self.take()? {
            Some(raw) => self.frame(&raw).map(Some),
            None => Ok(None),
        }
    }

    /// The next frame. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the leader gives up the stream, the connection ends, or what comes is no frame. The stream is then of no more use.
    pub async fn next(&mut self) -> Result<Frame<'_>, PostgresSourceError> {
        let raw = loop {
            match self.take()? {
                Some(raw) => break raw,
                None => self.connection.wire.fill().await?,
            }
        };
        self.frame(&raw)
    }

    /// Waits until more has arrived, which [`try_next`](Self::try_next) then looks at. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn ready(&mut self) -> Result<(), PostgresSourceError> {
        self.connection.wire.fill().await
    }

    /// The next CopyData that has arrived.
    fn take(&mut self) -> Result<Option<Raw>, PostgresSourceError> {
        while let Some(raw) = self.connection.wire.take(usize::MAX)? {
            if raw.tag == b'd' {
                return Ok(Some(raw));
            }
            match self.connection.wire.parse(&raw)? {
                Message::ErrorResponse(body) => {
                    let error = ServerError::parse(body.fields())?;
                    return Err(classify(Phase::Stream { slot: &self.slot }, error));
                }
                Message::NoticeResponse(body) => {
                    let remark = notice(body.fields())?;
                    // Since PostgreSQL 18 a publication that was missing makes a warning and not an error, and the changes are
                    // left out: of all that a stream warns of, the only one with this SQLSTATE.
                    if remark.code == "55000" {
                        return Err(PostgresSourceError::PublicationMissing(remark));
                    }
                }
                Message::ParameterStatus(_) | Message::NotificationResponse(_) => {}
                Message::CopyDone | Message::CommandComplete(_) => {
                    return Err(PostgresSourceError::Lost("the leader ended the stream".to_owned()));
                }
                _ => {
                    let what = format!("a message '{}' in a stream", raw.tag.escape_ascii());
                    return Err(PostgresSourceError::Protocol(what));
                }
            }
        }
        Ok(None)
    }

    fn frame(&mut self, raw: &Raw) -> Result<Frame<'_>, PostgresSourceError> {
        if let Ok(Frame::Keepalive(keepalive)) = decode_frame(self.connection.wire.body(raw)) {
            if keepalive.reply_requested {
                self.queue_status(false)?;
            }
            return Ok(Frame::Keepalive(keepalive));
        }
        Ok(decode_frame(self.connection.wire.body(raw))?)
    }

    /// Tells the leader how far this side is, now and whenever it asks from now on.
    ///
    /// Never waits: what the socket does not take at once goes out with the next calls. So a leader that is itself stuck in
    /// writing to us can't make both sides wait for each other.
    ///
    /// # Errors
    /// When the connection is gone, or the leader has taken nothing for ten seconds.
    pub fn send_status(&mut self, status: StatusUpdate) -> Result<(), PostgresSourceError> {
        self.status = status;
        self.queue_status(status.reply_requested)
    }

    fn queue_status(&mut self, reply_requested: bool) -> Result<(), PostgresSourceError> {
        let status = StatusUpdate { reply_requested, ..self.status };
        // Before 1970, the clock is wrong anyway; the leader uses this time for a statistic only.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let bytes = status.encode(i64::try_from(now).unwrap_or(i64::MAX));
        let message = CopyData::new(&bytes[..]).map_err(|e| super::wire::garbled(&e))?;
        message.write(self.connection.wire.output());
        self.connection.wire.push()
    }

    /// Ends the stream in order and gives the session back for commands: temporary slots live as long as it does. Frames that
    /// come meanwhile are thrown away; they come again from what was confirmed.
    ///
    /// # Errors
    /// When the leader does not end the stream in time, as in the midst of a very large transaction. Drop the stream then.
    pub async fn stop(mut self) -> Result<ReplicationConnection, PostgresSourceError> {
        frontend::copy_done(self.connection.wire.output());
        tokio::time::timeout(STOP_WITHIN, self.drain()).await.unwrap_or_else(|_| {
            let reason = format!("the leader went on streaming for {} s", STOP_WITHIN.as_secs());
            Err(PostgresSourceError::Lost(reason))
        })?;
        (self.connection.busy, self.connection.has_streamed) = (false, true);
        Ok(self.connection)
    }

    async fn drain(&mut self) -> Result<(), PostgresSourceError> {
        let wire = &mut self.connection.wire;
        wire.push()?;
        loop {
            // Data is passed over here: an answer's limit of size is not for it.
            let Some(raw) = wire.take(usize::MAX)? else {
                wire.fill().await?;
                continue;
            };
            if raw.tag == b'd' {
                continue;
            }
            match wire.parse(&raw)? {
                Message::ErrorResponse(body) => {
                    return Err(classify(
                        Phase::Stream { slot: &self.slot },
                        ServerError::parse(body.fields())?,
                    ));
                }
                Message::ReadyForQuery(_) => return Ok(()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::wire::Wire;
    use super::*;

    #[tokio::test]
    async fn what_has_arrived_is_given_out_without_waiting_and_keepalives_are_answered() {
        let (near, mut far) = tokio::io::duplex(100_000);
        let connection =
            ReplicationConnection { wire: Wire::new(Box::new(near)), busy: true, has_streamed: false };
        let mut stream = ReplicationStream::new(connection, "s");
        stream.send_status(StatusUpdate { flushed: Lsn(5), ..StatusUpdate::default() }).unwrap();
        let mut told = [0; 5 + StatusUpdate::LENGTH];
        far.read_exact(&mut told).await.unwrap();

        let frame = |content: &[u8]| {
            [b"d", &u32::try_from(content.len() + 4).unwrap().to_be_bytes()[..], content].concat()
        };
        let data = frame(&[b"w", &[0; 24][..], b"payload"].concat());
        let keepalive = frame(&[b"k", &[0; 16][..], &[1]].concat());
        far.write_all(&[data.repeat(99), keepalive].concat()).await.unwrap();
        assert_eq!(stream.try_next(), Ok(None), "nothing has been read");
        assert!(matches!(stream.next().await, Ok(Frame::Data(data)) if data.payload == b"payload"));
        for _ in 0..98 {
            assert!(matches!(stream.try_next(), Ok(Some(Frame::Data(_)))));
        }
        assert!(matches!(stream.try_next(), Ok(Some(Frame::Keepalive(_)))));
        assert_eq!(stream.try_next(), Ok(None));
        let mut answer = [0; 5 + StatusUpdate::LENGTH];
        far.read_exact(&mut answer).await.unwrap();
        // But for the clock they are alike.
        assert_eq!(answer[..30], told[..30]);
    }

    #[tokio::test]
    async fn a_warning_of_changes_that_are_left_out_ends_the_stream() {
        let (near, mut far) = tokio::io::duplex(10_000);
        let connection =
            ReplicationConnection { wire: Wire::new(Box::new(near)), busy: true, has_streamed: false };
        let mut stream = ReplicationStream::new(connection, "s");
        let notice = |code: &str, text: &str| {
            let fields = format!("SWARNING\0C{code}\0M{text}\0\0");
            let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
            [b"N", &length[..], fields.as_bytes()].concat()
        };
        let harmless = notice("01000", "something");
        let grave = notice("55000", "skipped loading publication \"p\"");
        far.write_all(&[harmless, grave].concat()).await.unwrap();
        let error = stream.next().await.unwrap_err();
        assert!(matches!(&error, PostgresSourceError::PublicationMissing(_)), "{error}");
        assert!(error.to_string().contains("\"p\""), "{error}");
    }

    #[test]
    fn the_command_quotes_its_names_and_asks_for_what_is_wanted() {
        let options = StreamOptions {
            publications: vec!["a".to_owned(), "it's \"b\"".to_owned()],
            values: Form::Binary,
            streaming: true,
            messages: true,
        };
        assert_eq!(
            options.command("s", Lsn(0x1_0000_0002)),
            "START_REPLICATION SLOT \"s\" LOGICAL 1/2 (proto_version '2', streaming 'on', binary 'true', messages 'true', \
             publication_names '\"a\",\"it''s \"\"b\"\"\"')"
        );
        let plain = StreamOptions { values: Form::Text, streaming: false, messages: false, ..options };
        assert!(plain.command("s", Lsn(0)).contains("LOGICAL 0/0 (proto_version '1', publication_names"));
    }
}
