//! What was seen, without judgement. Whatever was not seen is absent: an unknown number is never a zero.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::topics::Partition;
use crate::model::lsn::Lsn;

/// Something that is looked at again and again, and may fail to answer. What it said last is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen<T> {
    value: Option<(T, Timestamp)>,
    /// Why there is no answer now, in words for anybody.
    pub failure: Option<String>,
}

impl<T> Seen<T> {
    /// Not looked at yet.
    pub fn not_yet() -> Self {
        Self { value: None, failure: None }
    }

    /// Takes the latest answer, or notes why there is none.
    pub fn update(&mut self, answer: Result<T, String>, at: Timestamp) {
        match answer {
            Ok(value) => *self = Self { value: Some((value, at)), failure: None },
            Err(reason) => self.failure = Some(reason),
        }
    }

    /// What it says now; nothing while it does not answer.
    pub fn now(&self) -> Option<&T> {
        if self.failure.is_some() { None } else { self.last() }
    }

    /// What it said last, however long ago.
    pub fn last(&self) -> Option<&T> {
        self.value.as_ref().map(|(value, _)| value)
    }

    /// When it said that.
    pub fn last_at(&self) -> Option<Timestamp> {
        self.value.as_ref().map(|(_, at)| *at)
    }
}

/// The leader as seen by the application's own login.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaderFacts {
    /// Where its log ends.
    pub position: Lsn,
    /// It is a standby, so it takes no writes.
    pub in_recovery: bool,
    /// `wal_level`.
    pub wal_level: String,
    /// Row changes that its statistics have counted; they follow within a second.
    pub row_changes: i64,
    /// Tables of the application that no publication carries.
    pub unpublished: Vec<String>,
    /// The name of a publication, when there is one.
    pub publication: Option<String>,
    /// `max_slot_wal_keep_size` in bytes; `None` when there is no limit.
    pub keep_bytes: Option<i64>,
    /// Its lasting logical slots in this database.
    pub slots: Vec<SlotFacts>,
}

/// A logical replication slot.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotFacts {
    /// Its name.
    pub name: String,
    /// Somebody reads from it.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
    /// The log that is kept for it, in bytes.
    pub retained: Option<i64>,
    /// What may still be written before it is lost, in bytes; `None` when there is no limit.
    pub safe: Option<i64>,
}

/// A replica as its contract schema says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaFacts {
    /// `empty`, `copying`, `live` or `degraded`.
    pub state: String,
    /// Every commit of the leader up to here is visible.
    pub watermark: Lsn,
    /// When the leader made the commit at the watermark.
    pub committed_at: Option<Timestamp>,
    /// When that became visible, by the replica's clock.
    pub applied_at: Option<Timestamp>,
    /// Transactions applied since the replica was made.
    pub transactions: i64,
    /// Changes applied since then.
    pub changes: i64,
    /// Which replicator owns it.
    pub owner: Option<String>,
    /// Whether that owner has shown a sign of life in time.
    pub owner_lives: bool,
    /// Since when somebody wants it to stand still, and who.
    pub paused: Option<(Timestamp, String)>,
    /// Changes in its quarantine that nobody has decided about.
    pub quarantined: i64,
    /// Tables that differ from the leader's because of the quarantine.
    pub diverged: Vec<String>,
    /// The first offset that it still needs of each partition of Kafka's topics; none on the direct source.
    pub offsets: BTreeMap<Partition, i64>,
    /// How far its clock is ahead of ours, in milliseconds; as exact as the answer was fast.
    pub clock_ahead_ms: i64,
}

impl ReplicaFacts {
    /// How long the newest transaction took from the leader's commit until it was visible.
    pub fn delay(&self) -> Option<Duration> {
        Duration::try_from(self.applied_at?.duration_since(self.committed_at?)).ok()
    }
}

/// What the replicator says (`/v1/replicas`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ReplicatorFacts {
    /// Its workers, one for each replica.
    pub replicas: Vec<WorkerFacts>,
    /// Where the topics end; none on the direct source, and none while it does not know.
    #[serde(default)]
    pub topics: Vec<TopicEnd>,
}

/// Where a partition ends, as the replicator knows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TopicEnd {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The offset after its last record.
    pub end: i64,
    /// How old that knowledge is, in milliseconds.
    pub age_ms: i64,
}

/// What the replicator says of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WorkerFacts {
    /// The replica.
    pub name: String,
    /// What its worker does.
    pub state: String,
    /// Why it does not apply.
    pub cause: Option<String>,
    /// What ends that.
    pub hint: Option<String>,
    /// What the next change is waited for, when that takes long.
    pub waiting_for: Option<String>,
    /// The lane it reads from.
    pub lane: Option<u64>,
    /// Failures that made the worker start again.
    #[serde(default)]
    pub restarts: u64,
}

/// Kafka Connect's connector (`/connectors/NAME/status`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorFacts {
    /// The connector's state. `RUNNING` says little: look at the tasks.
    pub state: String,
    /// Each task's state, and the first line of what it failed of.
    pub tasks: Vec<(String, Option<String>)>,
}
