//! Bytes to and from the leader: one buffer in each direction.
//!
//! No future here loses anything when it is dropped: what has been read stays in the buffer, and what was not yet written
//! goes out before anything else, with the next call of any kind.

use std::fmt;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use postgres_protocol::message::backend::{self, ErrorFields, Message};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::error::{PostgresSourceError, ServerError};

/// The room for one read. A walsender sends row by row; what piles up between two looks comes in one piece.
const READ_BYTES: usize = 128 * 1024;

/// An empty buffer larger than this is given back: it has grown for one large value.
const KEEP_BYTES: usize = 1024 * 1024;

/// The largest answer to a command. Only a stream has larger messages; a peer that is no PostgreSQL is found out by this.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// How long what is to be sent may wait. Commands and status updates are tiny: a socket that takes none of it has a dead or
/// frozen leader behind it.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// The tag of CopyBothResponse, which the crate of messages does not know.
const COPY_BOTH: u8 = b'W';

/// A byte stream in both directions.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Transport for T {}

/// One answer of the leader outside of a stream.
pub(super) enum Answer {
    /// A refusal, or the reason why the session ends.
    Refusal(Box<ServerError>),
    /// The stream begins.
    CopyBoth,
    /// Anything else.
    Message(Message),
}

/// A message in the buffer, until the next read.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) tag: u8,
    /// The whole message.
    whole: Range<usize>,
}

/// The connection's two buffers.
pub(super) struct Wire {
    socket: Box<dyn Transport>,
    /// `input[start..end]` has been read and not been taken.
    input: Vec<u8>,
    start: usize,
    end: usize,
    output: BytesMut,
    /// Since when the socket has taken nothing of what is to be sent.
    stuck_since: Option<Instant>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("unread_bytes", &(self.end - self.start))
            .field("unsent_bytes", &self.output.len())
            .finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn new(socket: Box<dyn Transport>) -> Self {
        let input = vec![0; READ_BYTES];
        Wire { socket, input, start: 0, end: 0, output: BytesMut::new(), stuck_since: None }
    }

    /// Where messages to the leader are put.
    pub(super) fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Sends what the socket takes at once. The rest goes out while reading.
    pub(super) fn push(&mut self) -> Result<(), PostgresSourceError> {
        match self.poll_push(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Sends everything.
    pub(super) async fn flush(&mut self) -> Result<(), PostgresSourceError> {
        let sending = std::future::poll_fn(|cx| self.poll_push(cx));
        tokio::time::timeout(SEND_WITHIN, sending).await.unwrap_or_else(|_| Err(stuck()))
    }

    /// Sends everything and ends the connection.
    pub(super) async fn shut_down(&mut self) -> Result<(), PostgresSourceError> {
        self.flush().await?;
        self.socket.shutdown().await.map_err(|e| lost(&e))
    }

    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PostgresSourceError>> {
        while !self.output.is_empty() {
            match Pin::new(&mut *self.socket).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(lost(&io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(written)) => {
                    self.output.advance(written);
                    self.stuck_since = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(lost(&error))),
                Poll::Pending => {
                    let since = *self.stuck_since.get_or_insert_with(Instant::now);
                    let overdue = since.elapsed() > SEND_WITHIN;
                    return if overdue { Poll::Ready(Err(stuck())) } else { Poll::Pending };
                }
            }
        }
        Pin::new(&mut *self.socket).poll_flush(cx).map_err(|e| lost(&e))
    }

    /// Reads once, and sends what is left to send meanwhile: neither direction waits for the other, so a leader that is
    /// stuck in writing is always read from.
    pub(super) async fn fill(&mut self) -> Result<(), PostgresSourceError> {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.poll_push(cx) {
                // What the leader said last explains the failure better than a broken pipe.
                return match self.poll_read(cx) {
                    Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                    _ => Poll::Ready(Err(error)),
                };
            }
            self.poll_read(cx)
        })
        .await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PostgresSourceError>> {
        self.make_room();
        let mut room = ReadBuf::new(&mut self.input[self.end..]);
        ready!(Pin::new(&mut *self.socket).poll_read(cx, &mut room)).map_err(|e| lost(&e))?;
        let read = room.filled().len();
        self.end += read;
        Poll::Ready(if read == 0 { Err(lost(&io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) })
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.input.len() > KEEP_BYTES {
                self.input = vec![0; READ_BYTES];
            }
        }
        if self.input.len() - self.end < READ_BYTES / 2 && self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.input.len() - self.end < READ_BYTES / 2 {
            self.input.resize(self.input.len() * 2, 0);
        }
    }

    /// The next message, if all of it has been read. Never waits.
    pub(super) fn take(&mut self, largest: usize) -> Result<Option<Raw>, PostgresSourceError> {
        let unread = &self.input[self.start..self.end];
        let Some(header) = backend::Header::parse(unread).map_err(|e| garbled(&e))? else { return Ok(None) };
        let tag = header.tag();
        // Whatever is no message of PostgreSQL's is refused before its supposed length is waited for.
        if !b"RKSZTDCEINAWcdnstvGH123".contains(&tag) {
            return Err(PostgresSourceError::Protocol(format!("no message begins with 0x{tag:02x}")));
        }
        let length = usize::try_from(header.len()).map_or(usize::MAX, |length| length.saturating_add(1));
        if length > largest {
            return Err(PostgresSourceError::Protocol(format!("an answer of {length} bytes is too large")));
        }
        if unread.len() < length {
            return Ok(None);
        }
        let whole = self.start..self.start + length;
        self.start = whole.end;
        Ok(Some(Raw { tag, whole }))
    }

    /// What stands in a message that was taken and behind which nothing has been read.
    pub(super) fn body(&self, raw: &Raw) -> &[u8] {
        &self.input[raw.whole.start + 5..raw.whole.end]
    }

    /// The next answer outside of a stream. What the leader says unasked is passed over; warnings are logged.
    pub(super) async fn answer(&mut self) -> Result<Answer, PostgresSourceError> {
        loop {
            let Some(raw) = self.take(ANSWER_BYTES)? else {
                self.fill().await?;
                continue;
            };
            if raw.tag == COPY_BOTH {
                return Ok(Answer::CopyBoth);
            }
            match self.parse(&raw)? {
                Message::ErrorResponse(body) => {
                    return ServerError::parse(body.fields()).map(Answer::Refusal);
                }
                Message::NoticeResponse(body) => drop(notice(body.fields())?),
                Message::ParameterStatus(_) | Message::NotificationResponse(_) => {}
                message => return Ok(Answer::Message(message)),
            }
        }
    }

    /// A message that is not the stream's data: rare and small, so a copy does no harm.
    pub(super) fn parse(&self, raw: &Raw) -> Result<Message, PostgresSourceError> {
        let mut copy = BytesMut::from(&self.input[raw.whole.clone()]);
        let message = Message::parse(&mut copy).map_err(|e| garbled(&e))?;
        message
            .ok_or_else(|| PostgresSourceError::Protocol("a message that is shorter than it says".to_owned()))
    }
}

/// Writes down what the leader remarks, and returns it.
pub(super) fn notice(fields: ErrorFields<'_>) -> Result<Box<ServerError>, PostgresSourceError> {
    let remark = ServerError::parse(fields)?;
    tracing::warn!(sqlstate = %remark.code, "the leader remarks: {}", remark.message);
    Ok(remark)
}

/// Bytes that are no message.
pub(super) fn garbled(error: &io::Error) -> PostgresSourceError {
    PostgresSourceError::Protocol(error.to_string())
}

fn lost(error: &io::Error) -> PostgresSourceError {
    PostgresSourceError::Lost(match error.kind() {
        io::ErrorKind::UnexpectedEof => "the leader closed it".to_owned(),
        _ => error.to_string(),
    })
}

fn stuck() -> PostgresSourceError {
    PostgresSourceError::Lost(format!("the leader has taken nothing for {} s", SEND_WITHIN.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag], &length[..], body].concat()
    }

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut_and_the_buffer_shrinks_again() {
        let (near, mut far) = tokio::io::duplex(7000);
        let mut wire = Wire::new(Box::new(near));
        let large = vec![7; 3 * KEEP_BYTES];
        let sent = [message(b'd', b"first"), message(b'd', &large), message(b'd', b"")].concat();
        let writer = tokio::spawn(async move {
            far.write_all(&sent).await.unwrap();
            far
        });
        for expected in [&b"first"[..], &large, b""] {
            let raw = loop {
                match wire.take(usize::MAX).unwrap() {
                    Some(raw) => break raw,
                    None => wire.fill().await.unwrap(),
                }
            };
            assert!(wire.body(&raw) == expected);
        }
        assert!(wire.input.len() > KEEP_BYTES);
        let mut far = writer.await.unwrap();
        far.write_all(&message(b'd', b"")).await.unwrap();
        wire.fill().await.unwrap();
        assert_eq!(wire.input.len(), READ_BYTES);
    }

    #[tokio::test]
    async fn a_socket_that_takes_nothing_does_not_keep_from_reading() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut wire = Wire::new(Box::new(near));
        wire.output().extend_from_slice(&[b'x'; 100]);
        wire.push().unwrap();
        assert_eq!(wire.output.len(), 84, "the socket is full");
        far.write_all(&message(b'd', b"data")).await.unwrap();
        wire.fill().await.unwrap();
        assert!(wire.take(100).unwrap().is_some());
        wire.stuck_since = Some(Instant::now().checked_sub(2 * SEND_WITHIN).unwrap());
        assert!(matches!(wire.push(), Err(PostgresSourceError::Lost(_))), "but not for ever");
    }

    #[tokio::test]
    async fn what_is_no_postgresql_is_found_out_at_once() {
        let (near, mut far) = tokio::io::duplex(100);
        let mut wire = Wire::new(Box::new(near));
        far.write_all(b"HTTP/1.1 400 Bad Request").await.unwrap();
        assert!(matches!(wire.answer().await, Err(PostgresSourceError::Protocol(_))));
    }
}
