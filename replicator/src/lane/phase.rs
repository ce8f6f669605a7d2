//! When is a replica that was being copied live?
//!
//! Debezium's snapshot rows belong to no transaction and stand in their tables' topics before the streamed changes. Once
//! the first streamed transaction has ended, all of them have been written; so the replica is live when it has consumed
//! what the topics held at that moment. Until then a table may still lack rows that another one refers to.
//!
//! A fenced copy stands ahead of the stream: its replica is live when the watermark has passed the last fence, too.

use std::collections::BTreeMap;

use crate::assemble::Assembler;
use crate::decode::debezium::Transactions;
use crate::vocabulary::lsn::{CommitLsn, Lsn};
use crate::vocabulary::offset::{Offsets, PartitionIndex, PartitionNames, TopicPartition};
use crate::vocabulary::parcel::ReplicaPhase;

#[derive(Debug)]
pub(super) struct PhaseTracker {
    phase: ReplicaPhase,
    /// Where reading began, for partitions that have given nothing yet.
    started_at: Offsets,
    /// What has to be consumed first.
    ends: Option<BTreeMap<TopicPartition, i64>>,
    /// Whether all snapshot rows have been taken that stood before the ends.
    copied: bool,
    /// The watermark that all fenced copies agree from; none without such copies.
    fenced_until: Option<Lsn>,
}

impl PhaseTracker {
    pub(super) fn new(
        phase: ReplicaPhase,
        transactions: Transactions,
        started_at: Offsets,
        fenced_until: Option<Lsn>,
    ) -> Self {
        let phase = match transactions {
            // Without transactions nothing ever tells that tables agree.
            Transactions::Absent => ReplicaPhase::Degraded,
            // Also when the checkpoint says otherwise: a fence that is not passed has changes left out.
            Transactions::Required if fenced_until.is_some() => ReplicaPhase::Copying,
            Transactions::Required => phase,
        };
        PhaseTracker { phase, started_at, ends: None, copied: false, fenced_until }
    }

    pub(super) fn current(&self) -> ReplicaPhase {
        self.phase
    }

    /// A snapshot row came.
    pub(super) fn copying(&mut self) {
        if !matches!(self.phase, ReplicaPhase::Copying | ReplicaPhase::Degraded) {
            self.phase = ReplicaPhase::Copying;
            self.ends = None;
            self.copied = false;
        }
    }

    /// The ends of the partitions' logs, asked after a transaction's end was seen.
    pub(super) fn set_ends(&mut self, ends: BTreeMap<TopicPartition, i64>) {
        self.ends = Some(ends);
    }

    pub(super) fn wants_ends(&self) -> bool {
        self.ends.is_none()
    }

    /// Whether every partition has given the snapshot rows that stand before its streamed changes. Asked only where a table
    /// has several partitions.
    pub(super) fn stream_may_begin(&mut self, names: &PartitionNames, assembler: &Assembler) -> bool {
        if self.copied || matches!(self.phase, ReplicaPhase::Live | ReplicaPhase::Degraded) {
            return true;
        }
        self.copied = self.ends.is_some()
            && self.unconsumed(names, assembler).all(|(index, _, _)| assembler.is_streaming(index));
        self.copied
    }

    /// The transaction that ends at `lsn` is complete: the phase that holds with it; none when the ends have to be asked first.
    pub(super) fn at_commit(
        &mut self,
        lsn: CommitLsn,
        names: &PartitionNames,
        assembler: &Assembler,
    ) -> Option<ReplicaPhase> {
        if matches!(self.phase, ReplicaPhase::Live | ReplicaPhase::Degraded) {
            return Some(self.phase);
        }
        if self.fenced_until.is_some_and(|until| lsn.0 < until) {
            return Some(self.phase);
        }
        self.ends.as_ref()?;
        if self.unconsumed(names, assembler).next().is_none() {
            tracing::info!("the copy is complete, the replica is live");
            self.phase = ReplicaPhase::Live;
            self.ends = None;
            self.fenced_until = None;
        }
        Some(self.phase)
    }

    /// The partitions that have not been read to the ends, with their positions.
    fn unconsumed(
        &self,
        names: &PartitionNames,
        assembler: &Assembler,
    ) -> impl Iterator<Item = (PartitionIndex, TopicPartition, i64)> {
        // The transaction topic, numbered 0, is not a table's: its position is the commit itself.
        (1u32..).zip(names.all().into_iter().skip(1)).filter_map(move |(index, partition)| {
            let index = PartitionIndex(index);
            let started_at = self.started_at.get(&partition).copied().unwrap_or(0);
            let position = assembler.position(index).unwrap_or(started_at);
            let end = self.ends.as_ref()?.get(&partition).copied().unwrap_or(0);
            (position < end).then_some((index, partition, position))
        })
    }

    /// Those of them that have nothing waiting.
    pub(super) fn unreached(
        &self,
        names: &PartitionNames,
        assembler: &Assembler,
    ) -> Vec<(TopicPartition, i64)> {
        let is_idle = |index| assembler.queued(index).0 == 0;
        let idle = self.unconsumed(names, assembler).filter(|(index, _, _)| is_idle(*index));
        idle.map(|(_, partition, position)| (partition, position)).collect()
    }

    /// What keeps a copied replica from being live when nothing comes, in words.
    pub(super) fn waiting_for(&self) -> Option<String> {
        self.fenced_until
            .map(|until| format!("the copy is complete as of {until}: a commit behind that has to come"))
    }

    /// A partition holds no record before its end.
    pub(super) fn set_reached(&mut self, partition: &TopicPartition) {
        if let Some(ends) = &mut self.ends {
            ends.remove(partition);
        }
    }
}
