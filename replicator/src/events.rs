//! What happens, for those who listen: source transactions, and when each became visible on each replica.
//!
//! It costs one atomic load per group while nobody listens. Transactions are sampled when there are more than people can
//! read: the same ones for every replica, or a transaction would be seen to arrive on some only.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::status::now_ms;
use crate::vocabulary::lsn::CommitLsn;
use crate::vocabulary::parcel::{Committed, Parcel, ParcelEnd, Passage};

/// Events that a slow listener may be behind by; then it misses some, and is told how many.
const QUEUE: usize = 1024;

/// Transactions told of in a second.
const PER_SECOND: u32 = 50;

/// Transactions remembered until every replica has told that they arrived: a replica that is further behind than these tells
/// of none of them.
const REMEMBERED: usize = 512;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Event {
    /// A transaction became visible on a first replica.
    Transaction(Transaction),
    /// A transaction that was told of became visible on a replica.
    Applied(Arrival),
}

impl Event {
    /// The event's name in the stream.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Transaction(_) => "transaction",
            Event::Applied(_) => "applied",
        }
    }
}

/// A source transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transaction {
    /// Its id on the leader, in 32 bits.
    pub xid: u32,
    /// Its commit LSN.
    pub lsn: String,
    /// When the leader committed it, in milliseconds since 1970 by the leader's clock.
    pub committed_at_ms: i64,
    /// How many changes of which kind, by table and operation. Of a transaction that came in parts only the last part's.
    pub tables: BTreeMap<String, BTreeMap<&'static str, usize>>,
    /// Whether `tables` is all of it.
    pub complete: bool,
    /// Transactions since the last one told of that were left out, because there were too many.
    pub left_out: u64,
}

/// A transaction's arrival on a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Arrival {
    /// The transaction's commit LSN.
    pub lsn: String,
    /// The replica.
    pub replica: String,
    /// When the walsender, or the connector, sent it on, in milliseconds since 1970 by the clock over there
    /// ([`Passage::sent_at_ms`]); none where that is not known. Here, because replicas on different lanes have different walsenders.
    pub sent_at_ms: Option<i64>,
    /// When all of it had been read for this replica, in milliseconds since 1970 by this host's clock.
    pub read_at_ms: Option<i64>,
    /// When it became visible there, in milliseconds since 1970 by this host's clock.
    pub applied_at_ms: i64,
}

/// Where workers put events, and listeners take them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sender: broadcast::Sender<Event>,
    choice: Mutex<Choice>,
}

impl Default for Feed {
    fn default() -> Self {
        Feed(Arc::new(Inner { sender: broadcast::Sender::new(QUEUE), choice: Mutex::default() }))
    }
}

impl Feed {
    /// Whether anybody listens.
    pub fn is_awaited(&self) -> bool {
        self.0.sender.receiver_count() > 0
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.sender.subscribe()
    }

    /// These parcels were committed on this replica. `complete`: none of them is only the last part of a transaction.
    pub fn applied<'a>(&self, replica: &str, parcels: impl Iterator<Item = &'a Parcel>, complete: bool) {
        if !self.is_awaited() {
            return;
        }
        let at_ms = now_ms();
        for parcel in parcels {
            let ParcelEnd::Commit(point) = &parcel.end else { continue };
            let Some(committed) = point.transaction else { continue };
            let mut choice = self.0.choice.lock().unwrap_or_else(PoisonError::into_inner);
            let verdict = choice.decide(committed.lsn, at_ms);
            drop(choice);
            if let Verdict::First { left_out } = verdict {
                let told = Transaction { complete, left_out, ..describe(committed, parcel) };
                self.send(Event::Transaction(told));
            }
            if verdict != Verdict::LeftOut {
                let Passage { sent_at_ms, read_at_ms } = point.passage;
                self.send(Event::Applied(Arrival {
                    lsn: committed.lsn.to_string(),
                    replica: replica.to_owned(),
                    sent_at_ms,
                    read_at_ms,
                    applied_at_ms: at_ms,
                }));
            }
        }
    }

    fn send(&self, event: Event) {
        // The last listener may have gone meanwhile.
        drop(self.0.sender.send(event));
    }
}

fn describe(committed: Committed, parcel: &Parcel) -> Transaction {
    let mut tables: BTreeMap<String, BTreeMap<&'static str, usize>> = BTreeMap::new();
    for change in &parcel.changes {
        let operations = tables.entry(change.table.name.to_string()).or_default();
        *operations.entry(change.operation.name()).or_default() += 1;
    }
    Transaction {
        xid: committed.xid.0,
        lsn: committed.lsn.to_string(),
        committed_at_ms: committed.committed_at_ms,
        tables,
        complete: true,
        left_out: 0,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The first replica has it, and it is told of.
    First { left_out: u64 },
    /// It was told of before.
    Again,
    /// It isn't told of.
    LeftOut,
}

/// Which transactions are told of: decided once for each, in commit order, by whichever replica is ahead.
#[derive(Debug, Default)]
struct Choice {
    decided: CommitLsn,
    told: VecDeque<CommitLsn>,
    second: i64,
    in_second: u32,
    left_out: u64,
}

impl Choice {
    fn decide(&mut self, lsn: CommitLsn, at_ms: i64) -> Verdict {
        if lsn <= self.decided {
            return if self.told.binary_search(&lsn).is_ok() { Verdict::Again } else { Verdict::LeftOut };
        }
        self.decided = lsn;
        let second = at_ms.div_euclid(1000);
        if second != self.second {
            (self.second, self.in_second) = (second, 0);
        }
        if self.in_second >= PER_SECOND {
            self.left_out += 1;
            return Verdict::LeftOut;
        }
        self.in_second += 1;
        if self.told.len() == REMEMBERED {
            self.told.pop_front();
        }
        self.told.push_back(lsn);
        Verdict::First { left_out: std::mem::take(&mut self.left_out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::lsn::{Lsn, Xid};
    use crate::vocabulary::parcel::CommitPoint;

    #[test]
    fn an_arrival_tells_the_way_of_its_own_lane() {
        let feed = Feed::default();
        let mut events = feed.subscribe();
        for (replica, sent_at_ms) in [("replica-1", Some(7)), ("replica-2", Some(9)), ("replica-3", None)] {
            let mut parcel = parcel(20);
            let point = parcel.commit_point_mut().unwrap();
            point.passage = Passage { sent_at_ms, read_at_ms: sent_at_ms.map(|sent| sent + 1) };
            feed.applied(replica, [&parcel].into_iter(), true);
        }
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let Event::Applied(Arrival { sent_at_ms, read_at_ms, .. }) = event {
                told.push((sent_at_ms, read_at_ms));
            }
        }
        assert_eq!(told, [(Some(7), Some(8)), (Some(9), Some(10)), (None, None)]);
    }

    fn parcel(lsn: u64) -> Parcel {
        let committed = Committed { xid: Xid(7), lsn: CommitLsn(Lsn(lsn)), committed_at_ms: 5 };
        let point = CommitPoint { transaction: Some(committed), ..CommitPoint::default() };
        Parcel::new(vec![], 0, ParcelEnd::Commit(Box::new(point)))
    }

    #[test]
    fn a_transaction_is_told_of_once_and_its_arrivals_by_replica() {
        let feed = Feed::default();
        feed.applied("replica-1", [&parcel(10)].into_iter(), true);
        let mut events = feed.subscribe();
        for replica in ["replica-1", "replica-2"] {
            feed.applied(replica, [&parcel(20), &parcel(30)].into_iter(), true);
        }
        let mut names = Vec::new();
        while let Ok(event) = events.try_recv() {
            names.push(event.name());
        }
        let twice = ["transaction", "applied"].repeat(2);
        assert_eq!(names, [twice, vec!["applied"; 2]].concat(), "and none of before somebody listened");
    }

    #[test]
    fn the_same_ones_are_left_out_for_every_replica() {
        let mut choice = Choice::default();
        let mut decide = |lsn: u64, at_ms| choice.decide(CommitLsn(Lsn(lsn)), at_ms);
        let first: Vec<_> = (1..=60).map(|lsn| decide(lsn, 0)).collect();
        assert_eq!(first.iter().filter(|v| **v == Verdict::LeftOut).count(), 10);
        let second: Vec<_> = (1..=60).map(|lsn| decide(lsn, 1500)).collect();
        assert!(second[..50].iter().all(|v| *v == Verdict::Again));
        assert!(second[50..].iter().all(|v| *v == Verdict::LeftOut));
        assert_eq!(decide(61, 1500), Verdict::First { left_out: 10 });
    }
}
