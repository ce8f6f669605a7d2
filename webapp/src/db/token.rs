//! What a caller has written and seen, as a value that goes with the caller: into a cookie, into a header. Pure.
//!
//! A token demands a state of the database: everything up to a position of the leader's log. It is written
//! `LSN[.XID[.SEEN]][@SYSTEM/TIMELINE]`, for instance `0/1F0AB68.5439.0/1F0AA00@7312345678901234567/1`; each part but the
//! first may be missing, as in tokens of older versions.
//!
//! **Why the xid.** The position is taken behind the COMMIT, so it may lie beyond it: by other commits on a busy leader, by
//! the records of a large transaction that is still open, by a page's header. A replica whose last transaction is the
//! caller's own has the write, though its watermark is below the position.
//!
//! **Why the history.** A position means nothing in another history: after a failover, or when the leader was restored,
//! the same numbers stand for other commits.

use std::fmt;
use std::str::FromStr;

use super::lsn::Lsn;

/// Which history a position is of: the leader's system identifier, and the timeline that a failover or a recovery to a point
/// in time counts up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct History {
    /// Made by `initdb`; the same on every physical copy.
    pub system: u64,
    /// From 1 on.
    pub timeline: u32,
}

/// Where a replica stands, as far as tokens are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Every commit up to here is visible, and no other.
    pub watermark: Lsn,
    /// The last transaction applied, in 32 bits as the log has it.
    pub xid: Option<u32>,
    /// Which history the watermark is of, where the replica knows.
    pub history: Option<History>,
}

/// A state that an answer must not be older than.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// A replica that is complete up to here will do.
    pub lsn: Lsn,
    /// Which history the position is of; unknown where nobody told.
    pub history: Option<History>,
    /// A second way to meet the demand.
    pub shortcut: Option<Shortcut>,
}

/// A replica whose last transaction is `xid`, and that is complete up to `seen`, will do as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shortcut {
    /// The caller's own transaction, in 32 bits.
    pub xid: u32,
    /// What the caller has seen besides. Below the token's position, or the shortcut would be none.
    pub seen: Lsn,
}

/// The same xid in 32 bits comes again after four thousand million transactions. Each of them writes a commit record of more
/// than 16 bytes, so an equal xid within so many bytes of log is the same transaction.
const XID_IS_UNIQUE_WITHIN: u64 = 1 << 36;

impl Token {
    /// What a write demands: `lsn` was taken behind its COMMIT, `xid` within it.
    pub fn of_write(lsn: Lsn, xid: Option<u32>, history: Option<History>) -> Self {
        Self { lsn, history, shortcut: xid.map(|xid| Shortcut { xid, seen: Lsn(0) }) }
    }

    /// What a read demands of the next one: its snapshot held every commit up to `lsn`, and none beyond.
    pub fn of_read(lsn: Lsn, history: Option<History>) -> Self {
        Self { lsn, history, shortcut: None }
    }

    /// Whether an answer of this standing is new enough.
    pub fn is_met_by(&self, standing: &Standing) -> bool {
        !self.is_foreign_to(standing.history) && (standing.watermark >= self.lsn || self.is_last_of(standing))
    }

    /// Whether the shortcut alone is why an answer of this standing is new enough.
    pub fn is_met_by_xid_only(&self, standing: &Standing) -> bool {
        self.is_met_by(standing) && standing.watermark < self.lsn
    }

    fn is_last_of(&self, standing: &Standing) -> bool {
        self.shortcut.is_some_and(|shortcut| {
            standing.xid == Some(shortcut.xid)
                && standing.watermark >= shortcut.seen
                && self.lsn.0.saturating_sub(standing.watermark.0) < XID_IS_UNIQUE_WITHIN
        })
    }

    /// Whether the token is of another history than this one. Where either is unknown it may be the same.
    pub fn is_foreign_to(&self, history: Option<History>) -> bool {
        matches!((self.history, history), (Some(ours), Some(theirs)) if ours != theirs)
    }

    /// The demand of both. Of two histories the later timeline counts; of two systems `other`'s, for it came later.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if let (Some(ours), Some(theirs)) = (self.history, other.history)
            && ours != theirs
        {
            return if ours.system == theirs.system && ours > theirs { self } else { other };
        }
        let (high, low) = if self.lsn >= other.lsn { (self, other) } else { (other, self) };
        let history = high.history.or(low.history);
        let shortcut = match (high.shortcut, low.shortcut) {
            // The same write twice.
            (Some(a), Some(b)) if a.xid == b.xid && high.lsn == low.lsn => {
                Some(Shortcut { seen: a.seen.max(b.seen), ..a })
            }
            // The lower token may be of a write that committed after the higher one's: it must be met by itself.
            (Some(shortcut), _) => Some(Shortcut { seen: shortcut.seen.max(low.lsn), ..shortcut }),
            (None, _) => None,
        };
        Self { lsn: high.lsn, history, shortcut: shortcut.filter(|shortcut| shortcut.seen < high.lsn) }
    }
}

/// What one caller has written and seen. The two are kept apart, because a browser may send several requests at a time: the
/// answer to a read that arrives late must not overwrite what a write has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The caller's own writes.
    pub written: Option<Token>,
    /// The newest state that the caller was shown.
    pub seen: Option<Token>,
}

/// What a caller demands of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Nothing: any live replica may answer.
    None,
    /// The caller's own writes.
    ReadYourWrites,
    /// The caller's own writes, and nothing older than what the caller was shown before.
    #[default]
    Monotonic,
}

impl Tokens {
    /// What a read must hold; none when anything will do.
    pub fn demand(&self, consistency: Consistency) -> Option<Token> {
        match consistency {
            Consistency::None => None,
            Consistency::ReadYourWrites => self.written,
            Consistency::Monotonic => both(self.written, self.seen),
        }
    }

    /// The caller wrote.
    pub fn wrote(&mut self, token: Token) {
        self.written = both(self.written, Some(token));
    }

    /// The caller was shown a state.
    pub fn saw(&mut self, token: Token) {
        self.seen = both(self.seen, Some(token));
    }
}

fn both(first: Option<Token>, second: Option<Token>) -> Option<Token> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first.and(second)),
        (one, other) => one.or(other),
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.system, self.timeline)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.lsn)?;
        if let Some(Shortcut { xid, seen }) = self.shortcut {
            write!(f, ".{xid}")?;
            if seen > Lsn(0) {
                write!(f, ".{seen}")?;
            }
        }
        self.history.map_or(Ok(()), |history| write!(f, "@{history}"))
    }
}

/// The text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token: LSN[.XID[.SEEN]][@SYSTEM/TIMELINE]")]
pub struct NotAToken;

impl FromStr for History {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let (system, timeline) = text.split_once('/').ok_or(NotAToken)?;
        Ok(Self { system: digits(system)?, timeline: digits(timeline)? })
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let (position, history) = match text.split_once('@') {
            Some((position, history)) => (position, Some(history.parse()?)),
            None => (text, None),
        };
        let mut parts = position.split('.');
        let mut lsn = || parts.next().map(str::parse::<Lsn>).transpose().map_err(|_| NotAToken);
        let end = lsn()?.ok_or(NotAToken)?;
        let Some(xid) = parts.next() else { return Ok(Self::of_read(end, history)) };
        let seen = parts.next().map(str::parse).transpose().map_err(|_| NotAToken)?.unwrap_or_default();
        if parts.next().is_some() {
            return Err(NotAToken);
        }
        let shortcut = Some(Shortcut { xid: digits(xid)?, seen }).filter(|shortcut| shortcut.seen < end);
        Ok(Self { lsn: end, history, shortcut })
    }
}

/// A number without the sign that `parse` would take.
fn digits<T: FromStr>(text: &str) -> Result<T, NotAToken> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { text.parse().map_err(|_| NotAToken) } else { Err(NotAToken) }
}

#[cfg(test)]
mod tests;
