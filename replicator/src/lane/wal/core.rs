//! What a lane does with the leader's stream, without the connection: messages in, parcels out.
//!
//! Pure, so that a recorded stream can be replayed through it.

use std::sync::Arc;

use super::super::builder::ParcelBuilder;
use super::super::{LaneError, LaneStart};
use crate::decode::DecodeError;
use crate::decode::pgoutput::{Decoder, Keepalive, Message, Tables, WalData};
use crate::vocabulary::change::{Change, Operation};
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use crate::vocabulary::offset::{self, PartitionIndex, PartitionNames, Place};
use crate::vocabulary::parcel::{Committed, Parcel, Reached, ReplicaPhase};
use crate::vocabulary::schema::Table;

/// The stream is the lane's only partition.
const WAL: PartitionIndex = PartitionIndex(0);

/// Where nothing changes, a replica learns this often, by the leader's clock, that it is still up to date.
const REMINDER_MS: i64 = 900;

/// The state of a lane that reads the leader's stream.
#[derive(Debug)]
pub(super) struct WalCore {
    names: PartitionNames,
    decoder: Decoder,
    tables: Tables,
    builder: ParcelBuilder,
    open: Option<Open>,
    /// Every commit up to here has been given out.
    position: CommitLsn,
    /// When that was last said, by the leader's clock.
    said_at_ms: i64,
    phase: ReplicaPhase,
    /// The position from which all fenced copies agree; none without such copies.
    fenced_until: Option<Lsn>,
    /// Transactions that came although they had been applied.
    repeated: u64,
}

/// The transaction that has begun and not ended.
#[derive(Debug, Clone, Copy)]
struct Open {
    xid: Xid,
    /// Whether it ended before the position from which the replica needs changes.
    is_repeated: bool,
}

impl WalCore {
    /// A core for a replica that has everything up to `position`.
    pub(super) fn new(start: LaneStart, position: Lsn, excluded: Vec<String>) -> Self {
        let names = PartitionNames::default();
        names.add(offset::wal());
        let fenced_until = start.fences.end();
        // Also when the checkpoint says otherwise: a fence that is not passed has changes left out.
        let phase = match fenced_until {
            Some(_) => ReplicaPhase::Copying,
            None => start.phase,
        };
        WalCore {
            names,
            decoder: Decoder::new(),
            tables: Tables::new(Arc::clone(&start.catalog), excluded),
            builder: ParcelBuilder::new(start.limits, start.snapshots, start.fences),
            open: None,
            position: CommitLsn(position),
            said_at_ms: 0,
            phase,
            fenced_until,
            repeated: 0,
        }
    }

    pub(super) fn names(&self) -> PartitionNames {
        self.names.clone()
    }

    /// Where the stream has to go on if it is opened anew now; none within a transaction.
    pub(super) fn resumes_at(&self) -> Option<Lsn> {
        self.open.is_none().then_some(self.position.0)
    }

    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// What keeps a copied replica from being live when nothing comes, in words.
    pub(super) fn waiting_for(&self) -> Option<String> {
        self.fenced_until
            .map(|until| format!("the copy is complete as of {until}: the stream has to come that far"))
    }

    /// Another connection goes on where this one stood: it describes its tables anew.
    pub(super) fn reconnected(&mut self) {
        self.decoder = Decoder::new();
    }

    /// Takes in a message.
    ///
    /// # Errors
    /// When it can't be understood, or the replica can't have what it says.
    pub(super) fn accept(&mut self, data: &WalData<'_>) -> Result<Option<Parcel>, LaneError> {
        self.take(data).map_err(|error| {
            let at = self.names.describe(self.place(data.start));
            LaneError::Change { at, error: Box::new(error) }
        })
    }

    fn take(&mut self, data: &WalData<'_>) -> Result<Option<Parcel>, DecodeError> {
        let message = self.decoder.decode(data.payload)?;
        let lsn = data.start;
        let change = match message {
            Message::Begin { commit_record, xid, .. } => {
                if self.open.is_some() {
                    return Err(DecodeError::OutOfOrder("a transaction begins within another one"));
                }
                // A record that begins before the end of one that was applied ends there or before.
                self.open = Some(Open { xid, is_repeated: commit_record < self.position.0 });
                return Ok(None);
            }
            Message::Commit { lsn, committed_at_ms, .. } => return self.commit(lsn, committed_at_ms),
            Message::Relation { relation, .. } => {
                self.tables.describe(&relation);
                return Ok(None);
            }
            Message::Origin { .. } | Message::Type { .. } | Message::Message { .. } => return Ok(None),
            Message::StreamStart { .. }
            | Message::StreamStop
            | Message::StreamCommit { .. }
            | Message::StreamAbort { .. } => {
                return Err(DecodeError::OutOfOrder("a transaction is streamed, which was not asked for"));
            }
            _ if self.open.is_none() => {
                return Err(DecodeError::OutOfOrder("a change belongs to no transaction"));
            }
            _ if self.open.is_some_and(|open| open.is_repeated) => return Ok(None),
            Message::Insert { relation, new, .. } => self.tables.insert(relation, new)?,
            Message::Update { relation, old, new, .. } => self.tables.update(relation, old, new)?,
            Message::Delete { relation, old, .. } => self.tables.delete(relation, old)?,
            Message::Truncate { relations, .. } => {
                let mut parcel = None;
                for relation in relations.iter() {
                    if let Some(table) = self.tables.truncate(relation)? {
                        // Never a full parcel: tables that refer to each other go together.
                        parcel = self.give(table, Operation::Truncate, lsn);
                    }
                }
                return Ok(parcel);
            }
        };
        Ok(change.and_then(|(table, operation)| self.give(table, operation, lsn)))
    }

    fn give(&mut self, table: Arc<Table>, operation: Operation, lsn: Lsn) -> Option<Parcel> {
        let change = Change { table, operation, place: self.place(lsn) };
        self.builder.change(change, self.open.map(|open| open.xid))
    }

    fn commit(&mut self, lsn: CommitLsn, committed_at_ms: i64) -> Result<Option<Parcel>, DecodeError> {
        let Some(open) = self.open.take() else {
            return Err(DecodeError::OutOfOrder("a transaction ends that has not begun"));
        };
        if open.is_repeated {
            self.repeated += 1;
            return Ok(None);
        }
        self.reach(lsn, committed_at_ms);
        let committed = Committed { xid: open.xid, lsn, committed_at_ms };
        Ok(Some(self.builder.commit(committed, self.offsets(), self.phase)))
    }

    /// Takes in a sign of life: between transactions it says how far the leader is.
    pub(super) fn keepalive(&mut self, keepalive: &Keepalive) -> Option<Parcel> {
        let is_news = keepalive.wal_end > self.position.0
            || keepalive.sent_at_ms >= self.said_at_ms.saturating_add(REMINDER_MS);
        if self.open.is_some() || !is_news || keepalive.wal_end < self.position.0 {
            return None;
        }
        let reached = Reached { lsn: CommitLsn(keepalive.wal_end), at_ms: keepalive.sent_at_ms };
        self.reach(reached.lsn, reached.at_ms);
        Some(self.builder.reach(reached, self.offsets(), self.phase))
    }

    fn reach(&mut self, lsn: CommitLsn, at_ms: i64) {
        self.position = lsn;
        self.said_at_ms = at_ms;
        if self.phase != ReplicaPhase::Live && self.fenced_until.is_none_or(|until| lsn.0 >= until) {
            tracing::info!("the copy is complete, the replica is live");
            self.phase = ReplicaPhase::Live;
            self.fenced_until = None;
        }
    }

    fn offsets(&self) -> Vec<(PartitionIndex, i64)> {
        vec![(WAL, offset::wal_offset(self.position.0))]
    }

    fn place(&self, lsn: Lsn) -> Place {
        Place { partition: WAL, offset: offset::wal_offset(lsn) }
    }
}
