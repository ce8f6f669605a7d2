//! When is a replica that was being copied live?
//!
//! Debezium's snapshot rows belong to no transaction and stand in their tables' topics before the streamed changes. Once
//! the first streamed transaction has ended, all of them have been written; so the replica is live when it has consumed
//! what the topics held at that moment. Until then a table may still lack rows that another one refers to.

use std::collections::BTreeMap;

use crate::assemble::Assembler;
use crate::vocabulary::offset::{Offsets, PartitionIndex, PartitionNames, TopicPartition};
use crate::vocabulary::parcel::ReplicaPhase;

#[derive(Debug)]
pub(super) struct PhaseTracker {
    phase: ReplicaPhase,
    /// Where reading began, for partitions that have given nothing yet.
    started_at: Offsets,
    /// What has to be consumed first.
    ends: Option<BTreeMap<TopicPartition, i64>>,
}

impl PhaseTracker {
    pub(super) fn new(phase: ReplicaPhase, started_at: Offsets) -> Self {
        PhaseTracker { phase, started_at, ends: None }
    }

    pub(super) fn current(&self) -> ReplicaPhase {
        self.phase
    }

    /// A snapshot row came.
    pub(super) fn copying(&mut self) {
        if self.phase != ReplicaPhase::Copying {
            self.phase = ReplicaPhase::Copying;
            self.ends = None;
        }
    }

    /// The ends of the partitions' logs, asked after a transaction's end was seen.
    pub(super) fn set_ends(&mut self, ends: BTreeMap<TopicPartition, i64>) {
        self.ends = Some(ends);
    }

    /// A transaction is complete: the phase that holds with it; none when the ends have to be asked first.
    pub(super) fn at_commit(
        &mut self,
        names: &PartitionNames,
        assembler: &Assembler,
    ) -> Option<ReplicaPhase> {
        if self.phase == ReplicaPhase::Live {
            return Some(self.phase);
        }
        let ends = self.ends.as_ref()?;
        // The transaction topic, numbered 0, is not a table's: its position is the commit itself.
        let consumed = (1u32..).zip(names.all().iter().skip(1)).all(|(index, partition)| {
            let started_at = self.started_at.get(partition).copied().unwrap_or(0);
            let position = assembler.position(PartitionIndex(index)).unwrap_or(started_at);
            position >= ends.get(partition).copied().unwrap_or(0)
        });
        if consumed {
            tracing::info!("the copy is complete, the replica is live");
            self.phase = ReplicaPhase::Live;
            self.ends = None;
        }
        Some(self.phase)
    }
}
