//! What is known of each replica, for people and probes: every state that is not "caught up" has a cause and a way out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::watch;

use crate::replica::apply::Applied;
use crate::replica::checkpoint::Checkpoint;
use crate::replica::quarantine::Quarantine;
use crate::snapshot::CopyProgress;
use crate::vocabulary::parcel::ReplicaPhase;

/// What a replica's worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Connecting, reading the checkpoint, finding topics.
    Starting,
    /// Somebody wants the replica to stand still.
    Paused,
    /// Another daemon owns the replica; this one takes over when it stops.
    Standby,
    /// A snapshot is being loaded.
    Copying,
    /// Applying what comes.
    Live,
    /// Applying what comes without knowing its transactions (`source.transactions = "absent"`).
    Degraded,
    /// An outage; tried again with growing pauses.
    Retrying,
    /// Stopped on data or schema that can't be applied; others go on. Tried again slowly, in case it was mended.
    Halted,
    /// The daemon is stopping.
    Stopped,
}

impl WorkerState {
    /// All states, for the metric that has a series for each.
    pub const ALL: [WorkerState; 9] = [
        WorkerState::Starting,
        WorkerState::Paused,
        WorkerState::Standby,
        WorkerState::Copying,
        WorkerState::Live,
        WorkerState::Degraded,
        WorkerState::Retrying,
        WorkerState::Halted,
        WorkerState::Stopped,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkerState::Starting => "starting",
            WorkerState::Paused => "paused",
            WorkerState::Standby => "standby",
            WorkerState::Copying => "copying",
            WorkerState::Live => "live",
            WorkerState::Degraded => "degraded",
            WorkerState::Retrying => "retrying",
            WorkerState::Halted => "halted",
            WorkerState::Stopped => "stopped",
        }
    }

    /// Whether changes are being applied.
    pub fn is_applying(self) -> bool {
        matches!(self, WorkerState::Copying | WorkerState::Live | WorkerState::Degraded)
    }
}

/// A replica's state at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct ReplicaStatus {
    /// Its name in the configuration.
    pub name: String,
    /// What its worker does.
    pub state: WorkerState,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// Why it is not live.
    pub cause: Option<String>,
    /// What ends that.
    pub hint: Option<String>,
    /// What the next change is waited for, when that takes long.
    pub waiting_for: Option<String>,
    /// The lane that it is fed from; replicas with the same number share one reading and decoding.
    pub lane: Option<u64>,
    /// Complete up to this commit LSN.
    pub watermark: Option<String>,
    /// The transaction at the watermark.
    pub xid: Option<u32>,
    /// When the leader committed it, in milliseconds since 1970.
    pub committed_at_ms: Option<i64>,
    /// When it became visible here, in milliseconds since 1970; none before the first of this run.
    pub applied_at_ms: Option<i64>,
    /// Source transactions applied by this run.
    pub transactions: u64,
    /// Changes applied by this run.
    pub changes: u64,
    /// Repeated events dropped by this run.
    pub duplicates: u64,
    /// Updates of rows that were missing and were made whole, by this run.
    pub inserted_for_missing: u64,
    /// Changes that the replica's quarantine holds.
    pub quarantined: usize,
    /// Tables, as `schema.table`, that differ from the leader's because of it.
    pub diverged: Vec<String>,
    /// Updates of rows that were missing and whose rest was fetched from the leader, by this run.
    pub fetched_for_missing: u64,
    /// Failures that made the worker start again, in this run.
    pub restarts: u64,
    /// How far the copy from the leader is, while one is made.
    pub copy: Option<CopyProgress>,
    /// Whether the replica's tables agree.
    #[serde(skip)]
    phase: ReplicaPhase,
}

impl ReplicaStatus {
    fn new(name: &str, now_ms: i64) -> Self {
        ReplicaStatus {
            name: name.to_owned(),
            state: WorkerState::Starting,
            since_ms: now_ms,
            cause: None,
            hint: None,
            waiting_for: None,
            lane: None,
            watermark: None,
            xid: None,
            committed_at_ms: None,
            applied_at_ms: None,
            transactions: 0,
            changes: 0,
            duplicates: 0,
            inserted_for_missing: 0,
            quarantined: 0,
            diverged: Vec::new(),
            fetched_for_missing: 0,
            restarts: 0,
            copy: None,
            phase: ReplicaPhase::Empty,
        }
    }

    /// Changes are being applied, or would be if there were any.
    fn go_on(&mut self) {
        let state = state_of(self.phase);
        if self.state != state {
            self.since_ms = now_ms();
            self.state = state;
            (self.cause, self.hint) = why(self.phase).unzip();
        }
    }

    /// How old the newest transaction is that this replica has: an upper bound of how far it is behind, by the leader's
    /// and this host's clocks.
    pub fn lag_ms(&self, now_ms: i64) -> Option<i64> {
        self.committed_at_ms.map(|committed| (now_ms - committed).max(0))
    }
}

/// One replica's status, written by its worker and lane, read by everyone.
#[derive(Debug, Clone)]
pub struct StatusCell(Arc<Cell>);

#[derive(Debug)]
struct Cell {
    status: Mutex<ReplicaStatus>,
    changed: watch::Sender<()>,
}

impl StatusCell {
    /// A replica that has just been configured.
    pub fn new(name: &str) -> Self {
        let status = Mutex::new(ReplicaStatus::new(name, now_ms()));
        StatusCell(Arc::new(Cell { status, changed: watch::Sender::new(()) }))
    }

    /// The status now.
    pub fn get(&self) -> ReplicaStatus {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells of every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    fn change(&self, f: impl FnOnce(&mut ReplicaStatus)) {
        f(&mut self.0.status.lock().unwrap_or_else(PoisonError::into_inner));
        // One load, where nobody listens.
        if self.0.changed.receiver_count() > 0 {
            self.0.changed.send_replace(());
        }
    }

    /// Enters a state; `why` is its cause and the way out.
    pub fn enter(&self, state: WorkerState, why: Option<(String, String)>) {
        self.change(|s| {
            if s.state != state {
                s.since_ms = now_ms();
            }
            s.state = state;
            s.waiting_for = None;
            s.lane = None;
            (s.cause, s.hint) = why.unzip();
        });
    }

    /// What the replica says of itself at the start. A halted replica stays so until it has shown that it goes on.
    pub fn loaded(&self, checkpoint: &Checkpoint) {
        let halted = self.get().state == WorkerState::Halted;
        self.change(|s| {
            s.phase = checkpoint.phase;
            s.watermark = Some(checkpoint.watermark.to_string());
            s.xid = checkpoint.xid.map(|xid| xid.0);
            s.committed_at_ms = checkpoint.committed_at_ms;
        });
        if !halted {
            self.enter(state_of(checkpoint.phase), why(checkpoint.phase));
        }
    }

    /// A group was committed.
    pub fn applied(&self, applied: &Applied) {
        self.change(|s| {
            s.phase = applied.phase;
            s.go_on();
            if let Some(last) = applied.last {
                s.watermark = Some(last.lsn.to_string());
                s.xid = Some(last.xid.0);
                s.committed_at_ms = Some(last.committed_at_ms);
            }
            if let Some(reached) = applied.reached {
                s.watermark = Some(reached.lsn.to_string());
                s.committed_at_ms = Some(reached.at_ms);
            }
            s.applied_at_ms = Some(now_ms());
            s.transactions += applied.transactions;
            s.changes += applied.changes;
            s.inserted_for_missing += applied.inserted_for_missing;
            s.fetched_for_missing += applied.fetched_for_missing;
        });
    }

    /// The lane has been reading for a while: what it waits for, and how many repeated events it has dropped.
    pub fn reading(&self, waiting_for: Option<String>, duplicates: u64, lane: u64) {
        self.change(|s| {
            s.go_on();
            s.lane = Some(lane);
            s.waiting_for = waiting_for;
            s.duplicates = duplicates;
        });
    }

    /// What the replica's quarantine holds now.
    pub fn quarantine(&self, quarantine: &Quarantine) {
        let diverged: Vec<String> = quarantine.diverged().map(ToString::to_string).collect();
        self.change(|s| {
            s.quarantined = quarantine.len();
            s.diverged = diverged;
        });
    }

    /// How far the copy from the leader is; none when it is over.
    pub fn copying(&self, progress: Option<CopyProgress>) {
        self.change(|s| s.copy = progress);
    }

    /// The worker starts again.
    pub fn restarted(&self) {
        self.change(|s| s.restarts += 1);
    }
}

/// A replica whose tables agree is live, also when nothing was copied yet because there was nothing.
fn state_of(phase: ReplicaPhase) -> WorkerState {
    match phase {
        ReplicaPhase::Live => WorkerState::Live,
        ReplicaPhase::Degraded => WorkerState::Degraded,
        ReplicaPhase::Empty | ReplicaPhase::Copying => WorkerState::Copying,
    }
}

/// Why a replica is in a state that its phase asks for, and what ends it; none where that is how it should be.
fn why(phase: ReplicaPhase) -> Option<(String, String)> {
    (phase == ReplicaPhase::Degraded).then(|| {
        (
            "without transaction metadata each table follows the leader by itself: reads may see half a transaction, and \
             no token is honoured"
                .to_owned(),
            "Set provide.transaction.metadata=true in the connector and source.transactions = \"required\", then copy the \
             replica afresh."
                .to_owned(),
        )
    })
}

/// Milliseconds since 1970 by this host's clock.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::replica::copy::CopyScope;
    use crate::vocabulary::fence::Fences;
    use crate::vocabulary::lsn::CommitLsn;
    use crate::vocabulary::offset::Offsets;

    fn live() -> Checkpoint {
        Checkpoint {
            epoch: 1,
            phase: ReplicaPhase::Live,
            watermark: CommitLsn::default(),
            xid: None,
            last_commit: None,
            leader: None,
            committed_at_ms: None,
            offsets: Offsets::new(),
            snapshots: HashMap::new(),
            fences: Fences::default(),
            to_copy: CopyScope::None,
        }
    }

    #[test]
    fn a_halted_replica_shows_its_cause_until_it_goes_on() {
        let cell = StatusCell::new("replica-1");
        let why = Some(("a bad row".to_owned(), "mend it".to_owned()));
        cell.enter(WorkerState::Halted, why.clone());
        let since = cell.get().since_ms;
        // Another attempt: connecting again proves nothing.
        cell.loaded(&live());
        cell.enter(WorkerState::Halted, why);
        let status = cell.get();
        assert_eq!((status.state, status.since_ms), (WorkerState::Halted, since));
        assert_eq!(status.cause.as_deref(), Some("a bad row"));
        cell.loaded(&live());
        cell.reading(None, 0, 1);
        let status = cell.get();
        assert_eq!((status.state, status.cause, status.hint), (WorkerState::Live, None, None));
    }

    #[test]
    fn a_degraded_replica_says_why_and_how_to_end_it() {
        let cell = StatusCell::new("replica-1");
        cell.loaded(&Checkpoint { phase: ReplicaPhase::Degraded, ..live() });
        let status = cell.get();
        assert_eq!(status.state, WorkerState::Degraded);
        assert!(status.state.is_applying(), "changes are applied");
        assert!(status.hint.unwrap().contains("provide.transaction.metadata=true"));
    }

    #[test]
    fn an_outage_ends_when_the_checkpoint_is_read() {
        let cell = StatusCell::new("replica-1");
        cell.enter(WorkerState::Retrying, Some(("gone".to_owned(), "start it".to_owned())));
        cell.loaded(&live());
        assert_eq!(cell.get().state, WorkerState::Live);
        assert_eq!(cell.get().lag_ms(now_ms()), None, "no transaction yet is not a lag of 0");
    }
}
