//! A cursor over a message that knows where it stands, so that each error can say it.

use super::error::{PgOutputError, Problem};
use crate::vocabulary::lsn::{Lsn, Xid};

/// PostgreSQL counts time from 2000-01-01 00:00 UTC; the rest of this program from 1970.
const EPOCH_MS: i64 = 946_684_800_000;

/// Milliseconds since 1970 of PostgreSQL's microseconds since 2000, rounded down.
pub(super) fn unix_ms(microseconds: i64) -> i64 {
    microseconds.div_euclid(1000) + EPOCH_MS
}

/// PostgreSQL's microseconds since 2000 of milliseconds since 1970; the nearest that it can express.
pub(super) fn postgres_microseconds(ms: i64) -> i64 {
    ms.saturating_sub(EPOCH_MS).saturating_mul(1000)
}

/// The rest of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    message: &'static str,
    length: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A cursor at the beginning of something.
    pub(super) fn new(message: &'static str, bytes: &'a [u8]) -> Self {
        Reader { message, length: bytes.len(), rest: bytes }
    }

    /// A cursor behind the first byte of a message, and that byte.
    pub(super) fn of_message(bytes: &'a [u8]) -> Result<(Self, u8), PgOutputError> {
        let mut reader = Self::new("logical replication message", bytes);
        let kind = reader.u8("the message's kind")?;
        Ok((reader, kind))
    }

    /// What errors call the message from here on.
    pub(super) fn name(&mut self, message: &'static str) {
        self.message = message;
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// A problem at this place.
    pub(super) fn error(&self, problem: Problem) -> PgOutputError {
        PgOutputError { message: self.message, at: self.length - self.rest.len(), problem }
    }

    /// The byte just read is none of those that it may be.
    pub(super) fn unexpected(&self, expected: &'static str, found: u8) -> PgOutputError {
        let mut error = self.error(Problem::Unexpected { expected, found });
        error.at = error.at.saturating_sub(1);
        error
    }

    fn truncated(&self, expected: &'static str, needed: usize) -> PgOutputError {
        self.error(Problem::Truncated { expected, needed, left: self.rest.len() })
    }

    fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], PgOutputError> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.truncated(expected, N))?;
        self.rest = rest;
        Ok(*array)
    }

    /// So many bytes.
    pub(super) fn bytes(&mut self, count: usize, expected: &'static str) -> Result<&'a [u8], PgOutputError> {
        let (bytes, rest) =
            self.rest.split_at_checked(count).ok_or_else(|| self.truncated(expected, count))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self, expected: &'static str) -> Result<u8, PgOutputError> {
        self.array::<1>(expected).map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self, expected: &'static str) -> Result<u32, PgOutputError> {
        self.array(expected).map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self, expected: &'static str) -> Result<i32, PgOutputError> {
        self.array(expected).map(i32::from_be_bytes)
    }

    /// A number of columns: PostgreSQL sends an `int16` that is not negative.
    pub(super) fn column_count(&mut self) -> Result<u16, PgOutputError> {
        const WHAT: &str = "the number of columns";
        let found = self.array(WHAT).map(i16::from_be_bytes)?;
        u16::try_from(found)
            .map_err(|_| self.error(Problem::BadCount { what: WHAT, found: i64::from(found) }))
    }

    pub(super) fn lsn(&mut self, expected: &'static str) -> Result<Lsn, PgOutputError> {
        self.array(expected).map(u64::from_be_bytes).map(Lsn)
    }

    pub(super) fn xid(&mut self) -> Result<Xid, PgOutputError> {
        self.u32("a transaction id").map(Xid)
    }

    /// A point in time, in milliseconds since 1970.
    pub(super) fn time_ms(&mut self, expected: &'static str) -> Result<i64, PgOutputError> {
        self.array(expected).map(i64::from_be_bytes).map(unix_ms)
    }

    /// A byte that is 0 or 1.
    pub(super) fn flag(&mut self, expected: &'static str) -> Result<bool, PgOutputError> {
        match self.u8(expected)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(self.unexpected(expected, found)),
        }
    }

    /// The byte for flags of which there are none yet.
    pub(super) fn no_flags(&mut self) -> Result<(), PgOutputError> {
        self.marker(0, "flags, of which there are none")
    }

    /// One certain byte.
    pub(super) fn marker(&mut self, marker: u8, expected: &'static str) -> Result<(), PgOutputError> {
        match self.u8(expected)? {
            found if found == marker => Ok(()),
            found => Err(self.unexpected(expected, found)),
        }
    }

    /// A name: text up to a zero byte.
    pub(super) fn text(&mut self, expected: &'static str) -> Result<&'a str, PgOutputError> {
        let end = self.rest.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| self.error(Problem::Unterminated(expected)))?;
        let text = self.rest.get(..end).and_then(|bytes| str::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| self.error(Problem::NotUtf8(expected)))?;
        self.bytes(end + 1, expected)?;
        Ok(text)
    }

    /// A schema's name, which the wire leaves empty for `pg_catalog`.
    pub(super) fn schema(&mut self, expected: &'static str) -> Result<&'a str, PgOutputError> {
        self.text(expected).map(|name| if name.is_empty() { "pg_catalog" } else { name })
    }

    /// Bytes behind their number.
    pub(super) fn counted(&mut self, expected: &'static str) -> Result<&'a [u8], PgOutputError> {
        let found = self.i32(expected)?;
        let count = usize::try_from(found).map_err(|_| {
            self.error(Problem::BadCount { what: "the length of what follows", found: i64::from(found) })
        })?;
        self.bytes(count, expected)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), PgOutputError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.error(Problem::Trailing(left))),
        }
    }
}
