//! Does a copy hold what stands in the transaction topic before the position at which the stream goes on behind it?
//!
//! That position was taken before the copy's snapshot, so whatever ended before it is in the copy. A leader that waits for a
//! synchronous standby can show otherwise: such a commit is in its log, and is held back from its readers. The stream does not
//! bring it any more, so the replica would lack it for ever.
//!
//! A leader that was restored, or replaced by one that lacked its last commits, goes on with other transactions at the same
//! positions, in the same topics. Those that it has lost are in no copy, and nobody lacks them. What tells them apart:
//!
//! ```text
//! lost    END 900 at 50 · END 910 at 58 · END 950 at 90 · END 903 at 55   goes back, to one that was not there: lost
//! kept    END 900 at 50 · END 910 at 58 · END 950 at 90 · END 900 at 50   a killed connector; what follows comes again
//! ```

use std::collections::BTreeMap;

use super::LaneError;
use crate::vocabulary::fence::Fence;
use crate::vocabulary::lsn::{CommitLsn, Xid};

/// What the transaction topic has shown before the position to go on from.
#[derive(Debug)]
pub(super) struct Copied {
    fence: Fence,
    /// Of the leader as it is the transactions that ended, and whether the replica has each.
    ends: BTreeMap<CommitLsn, (Xid, bool)>,
}

impl Copied {
    pub(super) fn new(fence: Fence) -> Self {
        Copied { fence, ends: BTreeMap::new() }
    }

    /// A transaction ended before the position.
    pub(super) fn note(&mut self, xid: Xid, lsn: CommitLsn, watermark: CommitLsn) {
        // A commit behind the copy's own position can't have been in the topic when that was taken.
        let is_there = lsn <= watermark || self.fence.covers(xid) || lsn.0 > self.fence.lsn;
        self.end(xid, lsn, is_there);
    }

    /// The stream goes on, and this is the first transaction that ends there.
    ///
    /// # Errors
    /// When the replica lacks one that ended before.
    pub(super) fn check(mut self, xid: Xid, lsn: CommitLsn) -> Result<(), LaneError> {
        // One that ended before, too, may have begun before, and come only in part.
        self.end(xid, lsn, true);
        match self.ends.into_iter().find(|(_, (_, is_there))| !is_there) {
            Some((lsn, (xid, _))) => Err(LaneError::NotCopied { xid, lsn }),
            None => Ok(()),
        }
    }

    fn end(&mut self, xid: Xid, lsn: CommitLsn, is_there: bool) {
        let behind = self.ends.split_off(&lsn);
        let known = behind.get(&lsn).filter(|(known, _)| *known == xid).copied();
        if known.is_none() && !behind.is_empty() {
            self.ends.clear();
        }
        self.ends.insert(lsn, known.unwrap_or((xid, is_there)));
    }
}
