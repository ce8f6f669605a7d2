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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::pgoutput::model::{Model, Value, relation};
    use crate::lane::LaneLimits;
    use crate::vocabulary::fence::{Fence, Fences};
    use crate::vocabulary::parcel::ParcelEnd;
    use crate::vocabulary::schema::{Catalog, Column, TableName};

    const POSTS: u32 = 7;

    fn core(phase: ReplicaPhase, fences: Fences) -> WalCore {
        let posts = Table::new(TableName::new("public", "posts"), vec![Column::text("id")], vec![0]);
        let start = LaneStart {
            catalog: Arc::new(Catalog::new([posts])),
            watermark: CommitLsn(Lsn(100)),
            leader: None,
            phase,
            offsets: [(offset::wal(), 100)].into(),
            snapshots: [].into(),
            fences,
            repeats: vec![],
            limits: LaneLimits {
                queue_records: 1,
                queue_bytes: 1,
                parcel_changes: 2,
                parcel_bytes: usize::MAX,
                channel_bytes: 1,
            },
        };
        let mut core = WalCore::new(start, Lsn(100), vec![]);
        let relation = relation(POSTS, "posts", &[(true, "id")]);
        assert!(feed(&mut core, 100, &relation).is_none());
        core
    }

    fn feed(core: &mut WalCore, lsn: u64, model: &Model) -> Option<Parcel> {
        let payload = model.encode(None);
        core.accept(&WalData { start: Lsn(lsn), end: Lsn(lsn), sent_at_ms: 0, payload: &payload }).unwrap()
    }

    fn insert(id: &str) -> Model {
        Model::Insert(POSTS, vec![Value::Text(id.as_bytes().to_vec())])
    }

    /// A transaction of so many rows, whose commit record begins at `at` and ends 8 behind it; what comes out of it, in words.
    fn transaction(core: &mut WalCore, xid: u32, at: u64, rows: usize) -> Vec<String> {
        let mut out = vec![feed(core, at, &Model::Begin(at, 5, xid))];
        out.extend((0..rows).map(|n| feed(core, at - 50 + n as u64, &insert(&n.to_string()))));
        out.push(feed(core, at, &Model::Commit(at, at + 8, 5)));
        out.into_iter().flatten().map(words).collect()
    }

    fn words(parcel: Parcel) -> String {
        let rows = parcel.changes.len();
        match parcel.end {
            ParcelEnd::Open => format!("{rows} open"),
            ParcelEnd::Discard => "discard".to_owned(),
            ParcelEnd::Commit(point) => {
                let lsn = point.watermark().map_or(0, |lsn| lsn.0.0);
                assert_eq!(point.offsets, [(WAL, offset::wal_offset(Lsn(lsn)))], "where it goes on");
                let xid = point.transaction.map_or(0, |transaction| transaction.xid.0);
                format!("{rows} of {xid} to {lsn} {}", point.state.as_str())
            }
        }
    }

    fn keepalive(core: &mut WalCore, lsn: u64, at_ms: i64) -> Option<String> {
        let keepalive = Keepalive { wal_end: Lsn(lsn), sent_at_ms: at_ms, reply_requested: false };
        core.keepalive(&keepalive).map(words)
    }

    #[test]
    fn a_transaction_goes_out_whole_or_in_parts_and_moves_the_watermark_to_its_end() {
        let mut core = core(ReplicaPhase::Live, Fences::default());
        assert_eq!(transaction(&mut core, 5, 200, 1), ["1 of 5 to 208 live"]);
        assert_eq!(transaction(&mut core, 6, 300, 5), ["2 open", "2 open", "1 of 6 to 308 live"]);
        assert_eq!(core.resumes_at(), Some(Lsn(308)));
        assert!(feed(&mut core, 400, &Model::Begin(400, 5, 7)).is_none());
        assert_eq!(core.resumes_at(), None, "not within a transaction");
    }

    #[test]
    fn what_the_replica_has_already_is_dropped() {
        let mut core = core(ReplicaPhase::Live, Fences::default());
        assert_eq!(transaction(&mut core, 4, 92, 3), [] as [String; 0]);
        assert_eq!(core.repeated(), 1);
        assert_eq!(
            transaction(&mut core, 5, 100, 1),
            ["1 of 5 to 108 live"],
            "it begins where the last one ended"
        );
    }

    #[test]
    fn a_sign_of_life_moves_the_watermark_between_transactions_only() {
        let mut core = core(ReplicaPhase::Live, Fences::default());
        assert_eq!(keepalive(&mut core, 150, 1000).unwrap(), "0 of 0 to 150 live");
        assert_eq!(keepalive(&mut core, 150, 1001), None, "nothing new");
        assert_eq!(
            keepalive(&mut core, 150, 2000).unwrap(),
            "0 of 0 to 150 live",
            "still up to date, a second later"
        );
        assert_eq!(keepalive(&mut core, 140, 4000), None, "never back");
        assert!(feed(&mut core, 200, &Model::Begin(200, 5, 7)).is_none());
        assert_eq!(keepalive(&mut core, 300, 5000), None, "the open transaction ends before that");
    }

    #[test]
    fn a_copy_is_live_when_the_stream_has_passed_it_and_its_own_transactions_are_left_out() {
        let fence = Fence { snapshot: "5:8:6".parse().unwrap(), lsn: Lsn(250) };
        let fences =
            Fences { tables: [(TableName::new("public", "posts"), fence)].into(), ..Fences::default() };
        let mut core = core(ReplicaPhase::Copying, fences);
        assert_eq!(transaction(&mut core, 7, 200, 1), ["0 of 7 to 208 copying"], "the copy has it");
        assert_eq!(transaction(&mut core, 6, 220, 1), ["1 of 6 to 228 copying"], "it was running then");
        assert!(core.waiting_for().is_some());
        assert_eq!(keepalive(&mut core, 260, 9000).unwrap(), "0 of 0 to 260 live");
        assert_eq!(transaction(&mut core, 9, 300, 1), ["1 of 9 to 308 live"]);
    }

    #[test]
    fn messages_out_of_order_end_the_lane_with_the_place() {
        let mut core = core(ReplicaPhase::Live, Fences::default());
        let payload = insert("1").encode(None);
        let data = WalData { start: Lsn(0x1_0000_0010), end: Lsn(0), sent_at_ms: 0, payload: &payload };
        let error = core.accept(&data).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the leader's WAL at 1/10: the leader's stream: a change belongs to no transaction"
        );
        assert!(!error.is_outage() && error.hint().contains("pooler"));
    }
}
