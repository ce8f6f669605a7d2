//! The transactions that the transaction topic has shown to be over, to tell what a restarted connector writes again from
//! what is new. After a restart of the daemon it is filled from the transaction topic: the topic is the memory.
//!
//! A streamed event says after which commit its transaction came (`source.sequence`). Commits come in order, so an event
//! is a repetition exactly when that commit lies before the newest one that has passed here; nothing has to be remembered
//! for that. Only the first transaction that a connector ever streams says nothing, and is recognised by its xid.

use std::collections::{HashMap, VecDeque};

use crate::vocabulary::fence::Fence;
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};

/// How many are remembered. A connector repeats at most what it did since its last offset flush (a minute by default);
/// at a thousand transactions a second that is 60 000.
const REMEMBERED: usize = 131_072;

/// How much later than the newest passed transaction one may have been committed, by the leader's clock, that is still
/// taken for an older one. Commit times are taken before the order of commits is settled.
const CLOCK_SLACK_MS: i64 = 10_000;

/// What has passed.
#[derive(Debug, Default)]
pub(super) struct Passed {
    by_xid: HashMap<Xid, CommitLsn>,
    order: VecDeque<(Xid, CommitLsn)>,
    /// Every transaction that ended from here to `newest` is remembered.
    complete_from: CommitLsn,
    /// The newest one's commit LSN, and when the leader committed it.
    newest: Option<(CommitLsn, i64)>,
    /// Known to be applied from elsewhere, without a position.
    told: Vec<Xid>,
    /// Of the copy that the replica was made from: what it covers is applied, too.
    copied: Option<Fence>,
}

impl Passed {
    pub(super) fn new(told: &[Xid]) -> Self {
        Passed { told: told.to_vec(), ..Passed::default() }
    }

    /// Whether the replica has this transaction from its copy, and not from the stream.
    pub(super) fn is_copied(&self, xid: Xid) -> bool {
        self.copied.as_ref().is_some_and(|fence| fence.covers(xid))
    }

    pub(super) fn set_copied(&mut self, fence: Option<Fence>) {
        if let Some(fence) = &fence {
            // Of what is in the copy much has never passed here.
            self.forget_to(CommitLsn(fence.lsn));
        }
        self.copied = fence;
    }

    /// A transaction ended at `lsn`, and is applied.
    pub(super) fn note(&mut self, xid: Xid, lsn: CommitLsn, committed_at_ms: i64) {
        match self.newest {
            None => {
                self.complete_from = self.complete_from.max(lsn);
                self.newest = Some((lsn, committed_at_ms));
            }
            Some((newest, _)) if lsn > newest => self.newest = Some((lsn, committed_at_ms)),
            Some(_) => {}
        }
        match self.by_xid.insert(xid, lsn) {
            Some(known) if known == lsn => return,
            // The xid came round; the older transaction is no longer remembered.
            Some(older) => self.forget_to(older),
            None => {}
        }
        self.order.push_back((xid, lsn));
        if self.order.len() > REMEMBERED
            && let Some((oldest, at)) = self.order.pop_front()
            && self.by_xid.get(&oldest) == Some(&at)
        {
            self.by_xid.remove(&oldest);
            self.forget_to(at);
        }
    }

    fn forget_to(&mut self, lsn: CommitLsn) {
        self.complete_from = self.complete_from.max(CommitLsn(Lsn(lsn.0.0 + 1)));
    }

    pub(super) fn knows(&self, xid: Xid) -> bool {
        self.by_xid.contains_key(&xid) || self.told.contains(&xid) || self.is_copied(xid)
    }

    /// Whether an event belongs to a transaction that has passed. `after` is the commit before that transaction.
    pub(super) fn includes(&self, xid: Xid, after: Option<CommitLsn>) -> bool {
        match (after, self.newest) {
            (Some(after), Some((newest, _))) => {
                after < newest || self.told.contains(&xid) || self.is_copied(xid)
            }
            _ => self.knows(xid),
        }
    }

    /// Whether a transaction that ends at or below the watermark can't be a repetition: it lies among those that have
    /// passed and is none of them, or is older by position and newer by the leader's clock. The leader's WAL went back.
    pub(super) fn is_foreign(&self, xid: Xid, lsn: CommitLsn, committed_at_ms: i64) -> bool {
        let Some((newest, newest_at_ms)) = self.newest else { return false };
        if self.told.contains(&xid) || self.by_xid.get(&xid) == Some(&lsn) || lsn > newest {
            return false;
        }
        lsn >= self.complete_from || committed_at_ms > newest_at_ms.saturating_add(CLOCK_SLACK_MS)
    }
}
