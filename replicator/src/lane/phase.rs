//! When is a replica that was being copied live?
//!
//! Debezium's snapshot rows belong to no transaction and stand in their tables' topics before the streamed changes. Once
//! the first streamed transaction has ended, all of them have been written; so the replica is live when it has consumed
//! what the topics held at that moment. Until then a table may still lack rows that another one refers to.

use std::collections::BTreeMap;

use super::LaneError;
use crate::assemble::Assembler;
use crate::source::kafka::KafkaSource;
use crate::vocabulary::offset::{Offsets, PartitionIndex, PartitionNames, TopicPartition};
use crate::vocabulary::parcel::ReplicaPhase;

#[derive(Debug)]
pub(super) struct PhaseTracker {
    phase: ReplicaPhase,
    /// Where reading began, for partitions that have given nothing yet.
    started_at: Offsets,
    /// What has to be consumed first; known from the first commit on.
    target: Option<BTreeMap<TopicPartition, i64>>,
}

impl PhaseTracker {
    pub(super) fn new(phase: ReplicaPhase, started_at: Offsets) -> Self {
        PhaseTracker { phase, started_at, target: None }
    }

    pub(super) fn current(&self) -> ReplicaPhase {
        self.phase
    }

    /// A snapshot row came.
    pub(super) fn copying(&mut self) {
        if self.phase != ReplicaPhase::Copying {
            self.phase = ReplicaPhase::Copying;
            self.target = None;
        }
    }

    /// A transaction is complete.
    pub(super) async fn at_commit(
        &mut self,
        source: &KafkaSource,
        names: &PartitionNames,
        assembler: &Assembler,
    ) -> Result<ReplicaPhase, LaneError> {
        if self.phase == ReplicaPhase::Live {
            return Ok(self.phase);
        }
        let partitions = names.all();
        if self.target.is_none() {
            let bounds = source.bounds(partitions.clone()).await?;
            self.target = Some(bounds.into_iter().map(|(partition, (_, high))| (partition, high)).collect());
        }
        // The transaction topic, numbered 0, is not a table's: its position is the commit itself.
        let consumed = (1u32..).zip(&partitions[1..]).all(|(index, partition)| {
            let started_at = self.started_at.get(partition).copied().unwrap_or(0);
            let position = assembler.position(PartitionIndex(index)).unwrap_or(started_at);
            let target = self.target.as_ref().and_then(|t| t.get(partition)).copied().unwrap_or(0);
            position >= target
        });
        if consumed {
            tracing::info!("the copy is complete, the replica is live");
            self.phase = ReplicaPhase::Live;
            self.target = None;
        }
        Ok(self.phase)
    }
}
