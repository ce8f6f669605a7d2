//! Before anything is read: whether the leader is still the one that the replica has followed.

use super::{CopySettings, WorkerError};
use crate::lane::LaneError;
use crate::replica::checkpoint::{self, Checkpoint};
use crate::replica::session::Session;
use crate::source::SourceSettings;
use crate::source::postgres::{self, Followed};
use crate::vocabulary::leader::LeaderRun;

/// The run of the leader's server from which the replica goes on; none with topics, which don't tell.
pub(super) async fn recognise(
    settings: &CopySettings,
    session: &Session,
    checkpoint: &Checkpoint,
) -> Result<Option<LeaderRun>, WorkerError> {
    let SourceSettings::Postgres(source) = &settings.source else { return Ok(None) };
    let followed = Followed {
        leader: checkpoint.leader.clone(),
        last: checkpoint.last_commit,
        watermark: checkpoint.position().0,
    };
    let recognised = postgres::recognise(source, &followed).await.map_err(LaneError::from)?;
    if recognised.is_certain && checkpoint.leader.as_ref() != Some(&recognised.leader) {
        checkpoint::recognise(session, checkpoint.epoch, &recognised.leader).await?;
    }
    Ok(Some(recognised.leader))
}
