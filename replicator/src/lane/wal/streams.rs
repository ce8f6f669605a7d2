//! Transactions that the leader sends while they run, block by block.
//!
//! ```text
//! StreamStart 8 · changes of 8 and its subtransactions · StreamStop      a parcel, or several
//! Begin 9 · … · Commit                                                   others come between the blocks
//! StreamAbort 8/10                                                       what 10 did is taken back
//! StreamCommit 8                                                         a parcel that commits
//! ```
//!
//! What a block brings is given out when it ends, so nothing waits here while the leader's transaction does.
//!
//! The leader says which subtransaction made a change, and which one it has rolled back, but not when one has begun or ended.
//! One that has changed something is kept on a stack, with those on top that began to change something later: when it goes on
//! itself, or what is around it does, those on top have ended and can't be rolled back by themselves any more. When it is
//! rolled back, so is everything on top: in between nobody else was able to do anything.

use std::collections::HashMap;

use super::super::LaneLimits;
use crate::decode::DecodeError;
use crate::decode::pgoutput::Tables;
use crate::vocabulary::change::Change;
use crate::vocabulary::lsn::Xid;
use crate::vocabulary::parcel::{Parcel, ParcelEnd, Streamed};

/// How many transactions are given out at once while they run. Each takes a session on every replica.
pub(super) const MAX_OPEN: usize = 4;

/// How many subtransactions may be open around a change. A replica keeps a savepoint for each, and its readers' snapshots get
/// slower beyond PostgreSQL's `PGPROC_MAX_CACHED_SUBXIDS`.
pub(super) const MAX_DEPTH: usize = 64;

/// Why a message can't be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It makes no sense.
    Message(DecodeError),
    /// The transaction that it belongs to has to come whole.
    Unstreamable(Xid, String),
}

impl<E: Into<DecodeError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Refusal::Message(error.into())
    }
}

/// The transactions that have begun to come and not ended.
#[derive(Debug)]
pub(super) struct Streams {
    limits: LaneLimits,
    open: HashMap<Xid, Stream>,
    /// The transaction whose block has begun and not ended.
    block: Option<Xid>,
}

/// One of them.
#[derive(Debug)]
struct Stream {
    xid: Xid,
    /// The relations as it has described them.
    tables: Tables,
    /// The subtransactions that may yet be rolled back by themselves, each around the next one.
    subtransactions: Vec<Xid>,
    /// What of the block has not been given out.
    changes: Vec<Change>,
    bytes: usize,
    /// Whether anything has been given out.
    has_begun: bool,
}

/// What a transaction leaves that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The relations as it has described them.
    pub(super) tables: Tables,
    /// Its last parcel's place; none when no part of it was given out.
    pub(super) streamed: Option<Streamed>,
}

impl Streams {
    /// None is open.
    pub(super) fn new(limits: LaneLimits) -> Self {
        Streams { limits, open: HashMap::new(), block: None }
    }

    /// Whether none is open.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The transaction to which what comes now belongs.
    pub(super) fn block(&self) -> Option<Xid> {
        self.block
    }

    /// The relations of the block's transaction; none outside of a block.
    pub(super) fn tables(&mut self) -> Option<&mut Tables> {
        self.block.and_then(|xid| self.open.get_mut(&xid)).map(|stream| &mut stream.tables)
    }

    /// A block begins. `tables` are those of the replica.
    ///
    /// # Errors
    /// When it can't be the next one, or is of one transaction too many.
    pub(super) fn start(&mut self, xid: Xid, first: bool, tables: &Tables) -> Result<(), Refusal> {
        match (first, self.open.contains_key(&xid)) {
            (true, false) if self.open.len() >= MAX_OPEN => {
                let why = format!("{MAX_OPEN} others are being applied that way");
                return Err(Refusal::Unstreamable(xid, why));
            }
            (true, false) => {
                self.open.insert(xid, Stream::new(xid, tables.undescribed()));
            }
            (false, true) => {}
            (true, true) => return Err(out_of_order("a streamed transaction begins twice")),
            (false, false) => return Err(out_of_order("a streamed transaction goes on that has not begun")),
        }
        self.block = Some(xid);
        Ok(())
    }

    /// A change of the block's transaction, made by `by`: itself or a subtransaction.
    ///
    /// # Errors
    /// When it belongs to no block, or to one subtransaction too many.
    pub(super) fn push(&mut self, by: Xid, change: Change) -> Result<Option<Parcel>, Refusal> {
        let limits = self.limits;
        let Some(stream) = self.block.and_then(|xid| self.open.get_mut(&xid)) else {
            return Err(out_of_order("a streamed change belongs to no block"));
        };
        let depth = stream.subtransactions.len();
        let is_of = if by == stream.xid {
            0
        } else {
            stream.subtransactions.iter().position(|sub| *sub == by).map_or(depth + 1, |below| below + 1)
        };
        if is_of > MAX_DEPTH {
            let why = format!("it has more than {MAX_DEPTH} subtransactions within each other");
            return Err(Refusal::Unstreamable(stream.xid, why));
        }
        let is_full = stream.changes.len() >= limits.parcel_changes || stream.bytes >= limits.parcel_bytes;
        let before = if is_of != depth || is_full { stream.part() } else { None };
        stream.subtransactions.truncate(is_of);
        if is_of > depth {
            stream.subtransactions.push(by);
        }
        stream.bytes += change.size_bytes();
        stream.changes.push(change);
        Ok(before)
    }

    /// The block ends.
    pub(super) fn stop(&mut self) -> Option<Parcel> {
        let xid = self.block.take()?;
        self.open.get_mut(&xid)?.part()
    }

    /// A transaction has committed.
    ///
    /// # Errors
    /// When it has not begun.
    pub(super) fn commit(&mut self, xid: Xid) -> Result<Ended, Refusal> {
        let stream = self.open.remove(&xid);
        let stream =
            stream.ok_or_else(|| out_of_order("a streamed transaction commits that has not begun"))?;
        let streamed = stream.has_begun.then(|| stream.place(0));
        Ok(Ended { streamed, tables: stream.tables })
    }

    /// A transaction, or the subtransaction `sub` of it, was rolled back. What was given out of it has to be taken back; of
    /// one that is unknown, nothing was.
    pub(super) fn abort(&mut self, xid: Xid, sub: Xid) -> Option<Parcel> {
        let depth = if xid == sub {
            0
        } else {
            let stream = self.open.get_mut(&xid)?;
            let below = stream.subtransactions.iter().position(|open| *open == sub)?;
            stream.subtransactions.truncate(below);
            below + 1
        };
        let streamed = self.open.get(&xid)?.place(depth);
        if depth == 0 {
            self.open.remove(&xid);
        }
        (!streamed.begins).then(|| discard(streamed))
    }
}

impl Stream {
    fn new(xid: Xid, tables: Tables) -> Self {
        let (subtransactions, changes) = (Vec::new(), Vec::new());
        Stream { xid, tables, subtransactions, changes, bytes: 0, has_begun: false }
    }

    fn place(&self, depth: usize) -> Streamed {
        Streamed { xid: self.xid, begins: !self.has_begun, depth }
    }

    /// What has been collected and not given out.
    fn part(&mut self) -> Option<Parcel> {
        if self.changes.is_empty() {
            return None;
        }
        let streamed = Some(self.place(self.subtransactions.len()));
        self.has_begun = true;
        let size_bytes = std::mem::take(&mut self.bytes);
        let changes = std::mem::take(&mut self.changes);
        Some(Parcel { changes, size_bytes, end: ParcelEnd::Open, streamed })
    }
}

/// What takes a part of a transaction back.
pub(super) fn discard(streamed: Streamed) -> Parcel {
    Parcel { changes: Vec::new(), size_bytes: 0, end: ParcelEnd::Discard, streamed: Some(streamed) }
}

fn out_of_order(what: &'static str) -> Refusal {
    Refusal::Message(DecodeError::OutOfOrder(what))
}
