//! Events into parcels of bounded size.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{LaneError, LaneLimits};
use crate::assemble::Assembler;
use crate::decode::debezium::CopiedRow;
use crate::vocabulary::change::{Change, Operation};
use crate::vocabulary::fence::{Fence, Fences};
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use crate::vocabulary::offset::PartitionIndex;
use crate::vocabulary::parcel::{
    CommitPoint, Committed, Parcel, ParcelEnd, Reached, ReplicaPhase, TableCopy,
};
use crate::vocabulary::schema::TableName;

/// Collects changes until a commit, or until a parcel is full.
#[derive(Debug)]
pub(super) struct ParcelBuilder {
    limits: LaneLimits,
    changes: Vec<Change>,
    bytes: usize,
    /// Whether changes of a transaction are among what was collected or sent since the last commit point.
    in_transaction: bool,
    /// Whether part of the transaction has been sent.
    sent_open: bool,
    /// Whether snapshot rows were sent with that part.
    sent_copies: bool,
    copies: BTreeMap<TableName, TableCopy>,
    snapshots: HashMap<TableName, Snapshot>,
    newest_snapshot: Lsn,
    /// Tables copied with a fence that the watermark has not passed: what their copies hold is left out.
    fences: HashMap<TableName, Fence>,
    /// Tables whose newest copy was a fenced one, with its position: rows that were read before it must not replace its own.
    replaced: HashMap<TableName, Lsn>,
    /// Whether rows of one table may come through several partitions.
    split: bool,
}

/// What is known of a table's newest snapshot.
#[derive(Debug)]
struct Snapshot {
    /// At which position it was taken: another position is another snapshot.
    lsn: Lsn,
    /// Through which partitions its rows have come in this run.
    partitions: Vec<PartitionIndex>,
    /// Whether it began before this run.
    is_old: bool,
}

/// What a snapshot row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belongs {
    /// The first one of a new copy to arrive.
    New,
    /// One more of the copy that is being made.
    Current,
    /// A leftover of an older copy, in a partition that is read later than others.
    Older,
}

impl ParcelBuilder {
    pub(super) fn new(limits: LaneLimits, snapshots: HashMap<TableName, Lsn>, fences: Fences) -> Self {
        ParcelBuilder {
            limits,
            changes: Vec::new(),
            bytes: 0,
            in_transaction: false,
            sent_open: false,
            sent_copies: false,
            copies: BTreeMap::new(),
            newest_snapshot: snapshots.values().copied().max().unwrap_or_default(),
            snapshots: snapshots
                .into_iter()
                .map(|(table, lsn)| (table, Snapshot { lsn, partitions: Vec::new(), is_old: true }))
                .collect(),
            fences: fences.tables,
            replaced: fences.replaced,
            split: false,
        }
    }

    /// Rows of one table may come through several partitions.
    pub(super) fn split(&mut self) {
        self.split = true;
    }

    /// A change of the open transaction, whose id is `xid`.
    pub(super) fn change(&mut self, change: Change, xid: Option<Xid>) -> Option<Parcel> {
        self.in_transaction = true;
        if self.is_in_copy(&change, xid) {
            return None;
        }
        self.push(change);
        self.is_full().then(|| self.part())
    }

    /// A row of a snapshot, and what else is to become of it. Outside transactions a full parcel of them is a commit point of its
    /// own.
    pub(super) fn copy(
        &mut self,
        row: CopiedRow,
        rest: Option<Change>,
        assembler: &mut Assembler,
        phase: ReplicaPhase,
    ) -> Option<Parcel> {
        let CopiedRow { change, snapshot_lsn, first_of_table, last_of_table, .. } = row;
        if let Some(snapshot_lsn) = snapshot_lsn {
            let name = change.table.name.clone();
            let belongs = self.judge(&name, snapshot_lsn, first_of_table, change.place.partition);
            if belongs == Belongs::Older {
                return None;
            }
            if belongs == Belongs::New {
                tracing::info!(table = %name, snapshot_lsn = %snapshot_lsn, "copying a table from the connector's snapshot");
                let clear = Change {
                    table: Arc::clone(&change.table),
                    operation: Operation::Clear,
                    place: change.place,
                };
                self.push(clear);
                // What was counted belongs to a copy that never ended.
                self.copies.remove(&name);
            }
            let copy = self.copies.entry(name.clone()).or_insert_with(|| TableCopy {
                table: name,
                snapshot_lsn,
                rows: 0,
                done: false,
            });
            copy.rows += 1;
            copy.done |= last_of_table;
        }
        self.push(change);
        rest.into_iter().for_each(|rest| self.push(rest));
        if !self.is_full() {
            return None;
        }
        if self.in_transaction || assembler.is_within_transaction() {
            return Some(self.part());
        }
        self.flush(assembler, phase)
    }

    /// Whether a snapshot row is older than the fenced copy of its table, which is complete without it. When the rows of an
    /// incremental snapshot were read is not known: as long as the replica is not live, they may be older.
    pub(super) fn is_superseded(&self, row: &CopiedRow, phase: ReplicaPhase) -> bool {
        match (self.replaced.get(&row.change.table.name), row.snapshot_lsn) {
            (None, _) => false,
            (Some(copied_at), Some(snapshot_lsn)) => snapshot_lsn < *copied_at,
            (Some(_), None) => phase != ReplicaPhase::Live,
        }
    }

    /// To which copy of its table a snapshot row belongs. All rows of one snapshot have the same position, and an idle leader
    /// gives two snapshots the same: then the mark on a snapshot's first row tells, where other rows of that position came
    /// before it through its partition. Through other partitions they may come earlier.
    fn judge(&mut self, table: &TableName, lsn: Lsn, first: bool, partition: PartitionIndex) -> Belongs {
        self.newest_snapshot = self.newest_snapshot.max(lsn);
        if let Some(known) = self.snapshots.get_mut(table) {
            // Of a copy that began before this run, only a single partition is known to have given rows.
            let came_through = known.partitions.contains(&partition) || (known.is_old && !self.split);
            if lsn == known.lsn && !(first && came_through) {
                if !known.partitions.contains(&partition) {
                    known.partitions.push(partition);
                }
                return Belongs::Current;
            }
            if lsn < known.lsn && !known.partitions.is_empty() && !came_through {
                return Belongs::Older;
            }
        }
        self.replaced.remove(table);
        self.snapshots.insert(table.clone(), Snapshot { lsn, partitions: vec![partition], is_old: false });
        Belongs::New
    }

    /// A change of no known transaction: with a full parcel of them the replica may commit.
    pub(super) fn loose(
        &mut self,
        change: Change,
        assembler: &mut Assembler,
        phase: ReplicaPhase,
    ) -> Option<Parcel> {
        self.push(idempotent(change));
        if self.is_full() { self.flush(assembler, phase) } else { None }
    }

    /// The end of the open transaction.
    pub(super) fn commit(
        &mut self,
        committed: Committed,
        offsets: Vec<(PartitionIndex, i64)>,
        phase: ReplicaPhase,
    ) -> Parcel {
        self.in_transaction = false;
        self.sent_open = false;
        self.sent_copies = false;
        self.drop_copied(committed);
        self.forget_passed(committed.lsn);
        let copies = std::mem::take(&mut self.copies).into_values().collect();
        let point = CommitPoint {
            transaction: Some(committed),
            offsets,
            copies,
            state: phase,
            ..CommitPoint::default()
        };
        self.parcel(ParcelEnd::Commit(Box::new(point)))
    }

    /// Nothing more comes up to this position, and no transaction ends there.
    pub(super) fn reach(
        &mut self,
        reached: Reached,
        offsets: Vec<(PartitionIndex, i64)>,
        phase: ReplicaPhase,
    ) -> Parcel {
        self.forget_passed(reached.lsn);
        let copies = std::mem::take(&mut self.copies).into_values().collect();
        let point =
            CommitPoint { reached: Some(reached), offsets, copies, state: phase, ..CommitPoint::default() };
        self.parcel(ParcelEnd::Commit(Box::new(point)))
    }

    /// A table copied at a later position than this commit has its changes already; again they would travel back in time.
    fn drop_copied(&mut self, committed: Committed) {
        if committed.lsn.0 > self.newest_snapshot {
            return;
        }
        let (snapshots, fences) = (&self.snapshots, &self.fences);
        self.changes.retain(|change| {
            let table = &change.table.name;
            is_of_copy(change)
                // A fence has decided already, more exactly than the position can.
                || fences.contains_key(table)
                || snapshots.get(table).is_none_or(|s| committed.lsn.0 > s.lsn)
        });
    }

    /// Whether the fenced copy of its table holds this change already; again it would travel back in time.
    pub(super) fn is_in_copy(&self, change: &Change, xid: Option<Xid>) -> bool {
        // Nearly always there are no fences, and each change would pay for asking.
        !self.fences.is_empty()
            && self.fences.get(&change.table.name).zip(xid).is_some_and(|(fence, xid)| fence.covers(xid))
    }

    /// The copies that a commit here stands behind are ordinary tables from now on.
    fn forget_passed(&mut self, watermark: CommitLsn) {
        for (table, fence) in self.fences.extract_if(|_, fence| fence.is_passed_by(watermark)) {
            let copy = TableCopy { table: table.clone(), snapshot_lsn: fence.lsn, rows: 0, done: true };
            self.copies.insert(table, copy);
        }
    }

    /// What belongs to no transaction and waits for more while there is none: a commit point of its own.
    pub(super) fn flush(&mut self, assembler: &mut Assembler, phase: ReplicaPhase) -> Option<Parcel> {
        if self.in_transaction || assembler.is_within_transaction() || self.changes.is_empty() {
            return None;
        }
        let copies = std::mem::take(&mut self.copies).into_values().collect();
        let offsets = assembler.take_moved();
        let point = CommitPoint { offsets, copies, state: phase, ..CommitPoint::default() };
        Some(self.parcel(ParcelEnd::Commit(Box::new(point))))
    }

    /// The open transaction repeats an applied one: what was collected goes, what was sent must be rolled back.
    ///
    /// # Errors
    /// When snapshot rows would be rolled back with it: they have to be read again, this time knowing the repetition.
    pub(super) fn discard(&mut self, xid: Xid) -> Result<Option<Parcel>, LaneError> {
        if self.sent_copies {
            return Err(LaneError::ReadAgain { repeated: xid });
        }
        self.in_transaction = false;
        let mut filled = None;
        self.changes.retain(|change| {
            filled = if matches!(change.operation, Operation::Fill(_)) { Some(change.place) } else { filled };
            // What else is to become of a copied row has its place.
            is_of_copy(change) || filled == Some(change.place)
        });
        self.bytes = self.changes.iter().map(Change::size_bytes).sum();
        let sent = std::mem::take(&mut self.sent_open);
        Ok(sent.then(|| Parcel::new(Vec::new(), 0, ParcelEnd::Discard)))
    }

    fn part(&mut self) -> Parcel {
        self.sent_open = true;
        self.sent_copies |= self.changes.iter().any(is_of_copy);
        self.parcel(ParcelEnd::Open)
    }

    fn push(&mut self, change: Change) {
        self.bytes += change.size_bytes();
        self.changes.push(change);
    }

    fn is_full(&self) -> bool {
        // Tables that refer to each other can only be truncated together.
        if self.changes.last().is_some_and(|c| c.operation == Operation::Truncate) {
            return false;
        }
        self.changes.len() >= self.limits.parcel_changes || self.bytes >= self.limits.parcel_bytes
    }

    fn parcel(&mut self, end: ParcelEnd) -> Parcel {
        let size_bytes = std::mem::take(&mut self.bytes);
        Parcel::new(std::mem::take(&mut self.changes), size_bytes, end)
    }
}

/// Where transactions are absent, a repetition can't always be told from a new row: a row with a key is put, not added.
fn idempotent(mut change: Change) -> Change {
    if change.table.has_key()
        && let Operation::Insert(row) = change.operation
    {
        change.operation = Operation::Copy(row);
    }
    change
}

fn is_of_copy(change: &Change) -> bool {
    matches!(change.operation, Operation::Copy(_) | Operation::Fill(_) | Operation::Clear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::offset::Place;
    use crate::vocabulary::row::RowBuilder;
    use crate::vocabulary::schema::Table;

    fn insert(table: &str) -> Change {
        let table = Table::new(TableName::new("public", table), vec![], vec![]);
        let place = Place { partition: PartitionIndex(1), offset: 0 };
        Change { table: Arc::new(table), operation: Operation::Insert(RowBuilder::new(0).finish()), place }
    }

    fn builder() -> ParcelBuilder {
        let limits = LaneLimits {
            queue_records: 1,
            queue_bytes: 1,
            parcel_changes: 2,
            parcel_bytes: usize::MAX,
            channel_bytes: 1,
        };
        let copied = TableName::new("public", "copied");
        let fence = Fence { snapshot: "5:8:6".parse().unwrap(), lsn: Lsn(100) };
        ParcelBuilder::new(
            limits,
            HashMap::from([(copied.clone(), Lsn(100))]),
            Fences { tables: HashMap::from([(copied, fence)]), ..Fences::default() },
        )
    }

    /// The tables whose changes a transaction keeps, and the copies that end with it.
    fn kept(builder: &mut ParcelBuilder, xid: u32, lsn: u64) -> (Vec<String>, Vec<TableCopy>) {
        for table in ["copied", "other"] {
            assert!(builder.change(insert(table), Some(Xid(xid))).is_none_or(|p| p.changes.len() == 2));
        }
        let committed = Committed { xid: Xid(xid), lsn: CommitLsn(Lsn(lsn)), committed_at_ms: 0 };
        let parcel = builder.commit(committed, vec![], ReplicaPhase::Copying);
        let ParcelEnd::Commit(point) = parcel.end else { panic!("it commits") };
        (parcel.changes.iter().map(|c| c.table.name.name.clone()).collect(), point.copies)
    }

    #[test]
    fn a_fence_leaves_out_what_its_copy_holds_and_nothing_else_until_it_is_passed() {
        let mut builder = builder();
        assert_eq!(kept(&mut builder, 7, 80), (vec!["other".to_owned()], vec![]), "7 is in the copy");
        // 6 was running for the snapshot, although its commit lies before the copy's position. Both changes made a full
        // parcel, which went before.
        assert_eq!(kept(&mut builder, 6, 90), (vec![], vec![]));
        let (_, ended) = kept(&mut builder, 9, 101);
        let [copy] = ended.as_slice() else { panic!("one copy ends: {ended:?}") };
        assert!(copy.done && copy.snapshot_lsn == Lsn(100) && copy.rows == 0);
        assert!(builder.fences.is_empty());
    }
}
