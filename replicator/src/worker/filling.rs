//! Before anything is applied: what the replica has to get from the leader first.

use super::WorkerError;
use crate::lane::LaneError;
use crate::replica::checkpoint::Checkpoint;
use crate::replica::copy::CopyScope;
use crate::replica::lease::Lease;
use crate::snapshot::{self, LeaderSettings, SnapshotError, SnapshotMode, Target};
use crate::source::SourceSettings;
use crate::source::kafka::{KafkaSettings, KafkaSource};
use crate::source::postgres::ensure_source;
use crate::status::{StatusCell, WorkerState};
use crate::vocabulary::offset::Offsets;

/// What copies from the leader need.
#[derive(Debug, Clone)]
pub struct CopySettings {
    /// Where the first rows of a replica come from.
    pub mode: SnapshotMode,
    /// The leader; none: nothing can be copied.
    pub leader: Option<LeaderSettings>,
    /// Where a replica goes on that was copied as a whole: at the topics' ends, or at the leader's position.
    pub source: SourceSettings,
}

impl CopySettings {
    /// What has to be copied before anything is applied.
    pub(super) fn scope(&self, checkpoint: &Checkpoint) -> CopyScope {
        snapshot::scope_of(checkpoint, self.mode)
    }
}

/// Fulfils what was asked of the replica. Returns the checkpoint from which it goes on, which is the same when nothing was.
pub(super) async fn fill(
    settings: &CopySettings,
    scope: CopyScope,
    target: Target<'_>,
    lease: &mut Lease,
    checkpoint: Checkpoint,
    status: &StatusCell,
) -> Result<Checkpoint, WorkerError> {
    if scope == CopyScope::None {
        return Ok(checkpoint);
    }
    if settings.source.is_without_transactions() {
        return Err(SnapshotError::WithoutTransactions.into());
    }
    let leader = settings.leader.as_ref().ok_or(SnapshotError::NoLeader)?;
    status.enter(WorkerState::Copying, None);
    let report = |progress: &snapshot::CopyProgress| status.copying(Some(progress.clone()));
    let filled = tokio::select! {
        filled = snapshot::fill(target, leader, scope, async || prepare(&settings.source).await, report) => filled,
        lost = lease.lost() => Err(lost.into()),
    };
    status.copying(None);
    filled
}

/// Makes sure that whatever the copy will not hold is kept by the source, and tells from where on topics hold it.
async fn prepare(source: &SourceSettings) -> Result<Offsets, WorkerError> {
    match source {
        SourceSettings::Debezium { kafka, .. } => Ok(ends(kafka).await?),
        SourceSettings::Postgres(postgres) => {
            ensure_source(postgres).await.map_err(LaneError::from)?;
            Ok(Offsets::new())
        }
    }
}

/// The offsets after the last record of every partition.
async fn ends(kafka: &KafkaSettings) -> Result<Offsets, LaneError> {
    let source = KafkaSource::new(kafka.clone(), "replicator.ends", 1)?;
    let partitions = source.discover().await?;
    let bounds = source.bounds(partitions).await?;
    // librdkafka joins its threads, which may be within a system call.
    drop(tokio::task::spawn_blocking(move || drop(source)));
    Ok(bounds.into_iter().map(|(partition, (_, end))| (partition, end)).collect())
}
