//! What a lane does with the leader's stream, without the connection: messages in, parcels out.
//!
//! Pure, so that a recorded stream can be replayed through it.

use std::sync::Arc;

use super::super::builder::ParcelBuilder;
use super::super::{LaneError, LaneStart};
use super::streams::{Ended, Refusal, Streams, discard};
use crate::decode::DecodeError;
use crate::decode::pgoutput::{Decoder, Keepalive, Message, Tables, Values, WalData};
use crate::vocabulary::change::{Change, Operation};
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use crate::vocabulary::offset::{self, PartitionIndex, PartitionNames, Place};
use crate::vocabulary::parcel::{Committed, Parcel, Reached, ReplicaPhase};
use crate::vocabulary::schema::Table;

/// The stream is the lane's only partition.
const WAL: PartitionIndex = PartitionIndex(0);

/// Where nothing changes, a replica learns this often, by the leader's clock, that it is still up to date.
const REMINDER_MS: i64 = 900;

/// After so many commits in a row the leader's being done with them is worth telling: replicas that wait for more of a backlog need
/// not. Of commits that come one by one the leader says so behind each.
const MANY: u32 = 8;

/// The state of a lane that reads the leader's stream.
#[derive(Debug)]
pub(super) struct WalCore {
    names: PartitionNames,
    decoder: Decoder,
    tables: Tables,
    builder: ParcelBuilder,
    open: Option<Open>,
    streams: Streams,
    /// Every commit up to here has been given out.
    position: CommitLsn,
    /// When that was last said, by the leader's clock.
    said_at_ms: i64,
    /// Commits since the leader said last that it had no more.
    commits: u32,
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
    /// A core for a replica that has everything up to `position`, of a stream whose values come as `values` says.
    pub(super) fn new(start: LaneStart, position: Lsn, excluded: Vec<String>, values: Values) -> Self {
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
            tables: Tables::new(Arc::clone(&start.catalog), excluded, values),
            streams: Streams::new(start.limits),
            builder: ParcelBuilder::new(start.limits, start.snapshots, start.fences),
            open: None,
            position: CommitLsn(position),
            said_at_ms: 0,
            commits: 0,
            phase,
            fenced_until,
            repeated: 0,
        }
    }

    pub(super) fn names(&self) -> PartitionNames {
        self.names.clone()
    }

    /// Where the stream has to go on if it is opened anew now; none within a transaction, or while one is streamed: it would
    /// come again from its beginning.
    pub(super) fn resumes_at(&self) -> Option<Lsn> {
        (self.open.is_none() && self.streams.is_empty()).then_some(self.position.0)
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
    pub(super) fn reconnected(&mut self, values: Values) {
        self.decoder = Decoder::new();
        self.tables.reconnected(values);
    }

    /// Takes in a message.
    ///
    /// # Errors
    /// When it can't be understood, or the replica can't have what it says; [`LaneError::Unstreamable`] when the replica may have
    /// it once the transaction has ended, [`LaneError::NotPortable`] when it may have it as text.
    pub(super) fn accept(&mut self, data: &WalData<'_>) -> Result<Option<Parcel>, LaneError> {
        self.take(data).map_err(|refusal| match refusal {
            Refusal::Unstreamable(xid, why) => LaneError::Unstreamable { xid, why },
            Refusal::Message(DecodeError::NotPortable { table, column }) => {
                LaneError::NotPortable { table, column }
            }
            Refusal::Message(error) => {
                LaneError::Change { at: self.names.describe(self.place(data.start)), error: Box::new(error) }
            }
        })
    }

    fn take(&mut self, data: &WalData<'_>) -> Result<Option<Parcel>, Refusal> {
        let message = self.decoder.decode(data.payload)?;
        match message {
            Message::Begin { commit_record, xid, .. } => {
                if self.open.is_some() {
                    return Err(DecodeError::OutOfOrder("a transaction begins within another one").into());
                }
                // A record that begins before the end of one that was applied ends there or before.
                self.open = Some(Open { xid, is_repeated: commit_record < self.position.0 });
                Ok(None)
            }
            Message::Commit { lsn, committed_at_ms, .. } => Ok(self.commit(lsn, committed_at_ms)?),
            Message::Relation { relation, .. } => {
                self.streams.tables().unwrap_or(&mut self.tables).describe(&relation);
                Ok(None)
            }
            Message::Origin { .. } | Message::Type { .. } | Message::Message { .. } => Ok(None),
            Message::StreamStart { .. } | Message::StreamCommit { .. } | Message::StreamAbort { .. }
                if self.open.is_some() =>
            {
                Err(DecodeError::OutOfOrder("a streamed transaction stands within another one").into())
            }
            Message::StreamStart { xid, first } => {
                self.streams.start(xid, first, &self.tables)?;
                Ok(None)
            }
            Message::StreamStop => Ok(self.streams.stop()),
            Message::StreamCommit { xid, lsn, committed_at_ms, .. } => {
                self.commit_streamed(Committed { xid, lsn, committed_at_ms })
            }
            Message::StreamAbort { xid, subxid } => Ok(self.streams.abort(xid, subxid)),
            Message::Insert { xid: by, .. }
            | Message::Update { xid: by, .. }
            | Message::Delete { xid: by, .. }
            | Message::Truncate { xid: by, .. } => match (self.streams.block(), by) {
                (Some(xid), Some(by)) => self.streamed_change(&message, xid, by, data.start),
                _ => Ok(self.change(&message, data.start)?),
            },
        }
    }

    /// A change of the transaction that has begun.
    fn change(&mut self, message: &Message<'_>, lsn: Lsn) -> Result<Option<Parcel>, DecodeError> {
        let Some(open) = self.open else {
            return Err(DecodeError::OutOfOrder("a change belongs to no transaction"));
        };
        if open.is_repeated {
            return Ok(None);
        }
        let mut parcel = None;
        if let Message::Truncate { relations, .. } = message {
            for relation in relations.iter() {
                if let Some(table) = self.tables.truncate(relation)? {
                    let change = Change { table, operation: Operation::Truncate, place: self.place(lsn) };
                    // Never a full parcel: tables that refer to each other go together.
                    parcel = self.builder.change(change, Some(open.xid));
                }
            }
        } else if let Some((table, operation)) = row_change(&self.tables, message)? {
            let change = Change { table, operation, place: self.place(lsn) };
            parcel = self.builder.change(change, Some(open.xid));
        }
        Ok(parcel)
    }

    /// A change that `by` has made, the streamed transaction `xid` or a subtransaction of it.
    fn streamed_change(
        &mut self,
        message: &Message<'_>,
        xid: Xid,
        by: Xid,
        lsn: Lsn,
    ) -> Result<Option<Parcel>, Refusal> {
        if let Message::Truncate { .. } = message {
            // On the replica it would lock readers out until the leader's transaction ends, however long that takes.
            return Err(Refusal::Unstreamable(xid, "it empties a table".to_owned()));
        }
        let place = self.place(lsn);
        let Some(tables) = self.streams.tables() else { return Ok(None) };
        // Its table may be one that the transaction itself has made or altered, which the replica gets after the commit.
        let change = row_change(tables, message)
            .map_err(|error| match error {
                DecodeError::NotPortable { .. } => Refusal::Message(error),
                _ => Refusal::Unstreamable(xid, error.to_string()),
            })?
            .map(|(table, operation)| Change { table, operation, place })
            .filter(|change| !self.builder.is_in_copy(change, Some(xid)));
        change.map_or(Ok(None), |change| self.streams.push(by, change))
    }

    fn commit(&mut self, lsn: CommitLsn, committed_at_ms: i64) -> Result<Option<Parcel>, DecodeError> {
        let Some(open) = self.open.take() else {
            return Err(DecodeError::OutOfOrder("a transaction ends that has not begun"));
        };
        if open.is_repeated {
            self.repeated += 1;
            return Ok(None);
        }
        self.commits = self.commits.saturating_add(1);
        self.reach(lsn, committed_at_ms);
        let committed = Committed { xid: open.xid, lsn, committed_at_ms };
        Ok(Some(self.builder.commit(committed, self.offsets(), self.phase)))
    }

    fn commit_streamed(&mut self, committed: Committed) -> Result<Option<Parcel>, Refusal> {
        let Ended { tables, streamed } = self.streams.commit(committed.xid)?;
        self.tables.learn(tables);
        if committed.lsn <= self.position {
            self.repeated += 1;
            return Ok(streamed.map(discard));
        }
        self.reach(committed.lsn, committed.committed_at_ms);
        let parcel = self.builder.commit(committed, self.offsets(), self.phase);
        Ok(Some(Parcel { streamed, ..parcel }))
    }

    /// Takes in a sign of life: outside of transactions that come whole and of blocks it says how far the leader is. What is
    /// streamed and has not ended does not count: its commit will lie behind that.
    pub(super) fn keepalive(&mut self, keepalive: &Keepalive) -> Option<Parcel> {
        let is_news = keepalive.wal_end > self.position.0
            || self.commits >= MANY
            || keepalive.sent_at_ms >= self.said_at_ms.saturating_add(REMINDER_MS);
        if self.open.is_some() || self.streams.block().is_some() || keepalive.wal_end < self.position.0 {
            return None;
        }
        self.commits = 0;
        if !is_news {
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

/// What a message does to one row; none when the replica does not get the table.
fn row_change(
    tables: &Tables,
    message: &Message<'_>,
) -> Result<Option<(Arc<Table>, Operation)>, DecodeError> {
    match *message {
        Message::Insert { relation, new, .. } => tables.insert(relation, new),
        Message::Update { relation, old, new, .. } => tables.update(relation, old, new),
        Message::Delete { relation, old, .. } => tables.delete(relation, old),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
