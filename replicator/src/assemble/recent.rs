//! The transactions applied last, to recognise what a restarted connector sends again. After a restart of the daemon it is
//! filled from the transaction topic: the topic is the memory.

use std::collections::{HashSet, VecDeque};

use crate::vocabulary::lsn::Xid;

/// How many are remembered. A connector repeats at most what it did since its last offset flush (a minute by default);
/// at a thousand transactions a second that is 60 000. xids come round only after four billion.
const REMEMBERED: usize = 131_072;

/// A bounded set of applied transactions.
#[derive(Debug, Default)]
pub(super) struct RecentTransactions {
    set: HashSet<Xid>,
    order: VecDeque<Xid>,
}

impl RecentTransactions {
    pub(super) fn contains(&self, xid: Xid) -> bool {
        self.set.contains(&xid)
    }

    pub(super) fn insert(&mut self, xid: Xid) {
        if !self.set.insert(xid) {
            return;
        }
        self.order.push_back(xid);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }
}
