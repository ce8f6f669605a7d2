//! The latest transactions, and when each became visible where. Pure: what the replicator pushes goes in, what the page
//! shows comes out.

pub mod stages;

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::Deserialize;

use stages::Stages;

/// Transactions that are kept.
pub const KEPT: usize = 200;

/// A transaction of the leader, as the replicator tells of it (`event: transaction`).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Transaction {
    /// Its id on the leader, in 32 bits.
    pub xid: u32,
    /// Its commit LSN, which names it.
    pub lsn: String,
    /// When the leader committed it, in milliseconds since 1970.
    pub committed_at_ms: i64,
    /// How many changes of which kind, by table and operation.
    pub tables: BTreeMap<String, BTreeMap<String, u64>>,
    /// Whether `tables` is all of it.
    pub complete: bool,
    /// Transactions before it that were not told of, because there were too many.
    pub left_out: u64,
    /// The replicas that show it.
    #[serde(skip)]
    pub arrived: Vec<Arrived>,
}

/// A replica shows a transaction. Times are in milliseconds since 1970, by the replicator's clock where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The replica.
    pub replica: String,
    /// When it was sent on to the replica's lane, by the leader's walsender, or to the broker by the connector, by the clock over
    /// there; `None` where nobody tells.
    pub sent_at_ms: Option<i64>,
    /// When the replicator had read all of the transaction for it; `None` where it does not tell.
    pub read_at_ms: Option<i64>,
    /// When it became visible.
    pub applied_at_ms: i64,
}

impl Transaction {
    /// When the leader committed it.
    pub fn committed_at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.committed_at_ms).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// "public.posts: 2 inserts, 1 update", a line for each table.
    pub fn lines(&self) -> Vec<String> {
        let counted = |(operation, count): (&String, &u64)| {
            let ending = if *count == 1 { "" } else { "s" };
            format!("{count} {operation}{ending}")
        };
        let line = |(table, operations): (&String, &BTreeMap<String, u64>)| {
            format!("{table}: {}", operations.iter().map(counted).collect::<Vec<_>>().join(", "))
        };
        self.tables.iter().map(line).collect()
    }

    /// The milliseconds that it took to this replica; `None` while it is on its way. Clocks that differ a little may make it
    /// arrive before it was sent, which counts as at once.
    pub fn delay(&self, replica: &str) -> Option<i64> {
        let arrived = self.arrived.iter().find(|arrived| arrived.replica == replica)?;
        Some((arrived.applied_at_ms - self.committed_at_ms).max(0))
    }

    /// Whether it is but a sign of life.
    pub fn is_heartbeat(&self) -> bool {
        !self.tables.is_empty() && self.tables.keys().all(|table| table.ends_with(".heartbeat"))
    }
}

/// A transaction became visible on a replica (`event: applied`).
#[derive(Clone, Debug, Deserialize)]
struct Applied {
    lsn: String,
    replica: String,
    sent_at_ms: Option<i64>,
    read_at_ms: Option<i64>,
    applied_at_ms: i64,
}

/// The latest transactions, the newest first.
#[derive(Debug, Default)]
pub struct Changes(VecDeque<Transaction>);

impl Changes {
    /// Notes an event. One that is unknown, or can't be understood, is nobody's loss: the stream is a hint.
    pub fn note(&mut self, event: &str, data: &str) {
        match event {
            "transaction" => {
                let Ok(transaction) = serde_json::from_str::<Transaction>(data) else { return };
                if self.0.iter().any(|known| known.lsn == transaction.lsn) {
                    return;
                }
                self.0.push_front(transaction);
                self.0.truncate(KEPT);
            }
            "applied" => {
                let Ok(applied) = serde_json::from_str::<Applied>(data) else { return };
                let Some(transaction) = self.0.iter_mut().find(|known| known.lsn == applied.lsn) else {
                    return;
                };
                if transaction.delay(&applied.replica).is_none() {
                    let Applied { replica, sent_at_ms, read_at_ms, applied_at_ms, .. } = applied;
                    transaction.arrived.push(Arrived { replica, sent_at_ms, read_at_ms, applied_at_ms });
                }
            }
            _ => {}
        }
    }

    /// The newest `count` of those that `wanted` takes.
    pub fn latest(&self, count: usize, wanted: impl Fn(&Transaction) -> bool) -> Vec<Transaction> {
        self.0.iter().filter(|transaction| wanted(transaction)).take(count).cloned().collect()
    }
}

impl Changes {
    /// How the delay of the latest transactions on a replica is made up; `None` before the first one is told of.
    pub fn stages(&self, replica: &str) -> Option<Stages> {
        Stages::of(self.0.iter(), replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(lsn: &str, table: &str) -> String {
        format!(
            r#"{{"xid":7,"lsn":"{lsn}","committed_at_ms":1000,"tables":{{"{table}":{{"insert":2,"update":1}}}},"complete":true,"left_out":0}}"#
        )
    }

    fn applied(lsn: &str, replica: &str, at: i64) -> String {
        format!(r#"{{"lsn":"{lsn}","replica":"{replica}","applied_at_ms":{at}}}"#)
    }

    #[test]
    fn a_transaction_gets_a_tick_per_replica() {
        let mut changes = Changes::default();
        changes.note("transaction", &transaction("0/1", "public.posts"));
        changes.note("transaction", &transaction("0/1", "public.posts"));
        changes.note("applied", &applied("0/1", "replica-1", 1012));
        changes.note("applied", &applied("0/1", "replica-1", 9999));
        changes.note("applied", &applied("0/1", "replica-2", 990));
        changes.note("applied", &applied("0/9", "replica-2", 990));
        let [one] = &changes.latest(9, |_| true)[..] else { panic!("one transaction") };
        assert_eq!(
            (one.delay("replica-1"), one.delay("replica-2"), one.delay("replica-3")),
            (Some(12), Some(0), None)
        );
        assert_eq!(one.lines(), ["public.posts: 2 inserts, 1 update"]);
    }

    #[test]
    fn what_is_kept_has_an_end_and_signs_of_life_can_be_left_out() {
        let mut changes = Changes::default();
        for n in 0..2 * KEPT {
            let table = if n % 2 == 0 { "public.posts" } else { "cdc.heartbeat" };
            changes.note("transaction", &transaction(&format!("0/{n}"), table));
        }
        assert_eq!(changes.latest(9999, |_| true).len(), KEPT);
        assert_eq!(changes.latest(9999, |t| !t.is_heartbeat()).len(), KEPT / 2);
        assert_eq!(changes.latest(1, |_| true)[0].lsn, format!("0/{}", 2 * KEPT - 1), "the newest first");
    }

    #[test]
    fn what_can_not_be_understood_changes_nothing() {
        let mut changes = Changes::default();
        for (event, data) in [("transaction", "{}"), ("applied", "no"), ("missed", "{}"), ("transaction", "")]
        {
            changes.note(event, data);
        }
        assert_eq!(changes.latest(9, |_| true), []);
    }
}
