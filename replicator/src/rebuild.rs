//! Asking for copies of a replica's tables, for the command line and the admin API alike.
//!
//! The wish lives in the replica, so it reaches whichever daemon owns it, also one that starts later.

use crate::replica::session::Session;
use crate::replica::{ReplicaError, catalog, copy};
use crate::snapshot::{LeaderSettings, LeaderSnapshot, SnapshotError};
use crate::vocabulary::schema::TableName;

/// Why nothing was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The replica has no table of this name.
    #[error("{0} has no table '{1}'; name it as schema.table")]
    NoTable(String, String),
    /// The configuration names no leader to copy from.
    #[error("a copy needs the leader: set leader.url")]
    NoLeader,
    /// The replica does not answer, or refuses.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The leader does not answer, or does not publish a table.
    #[error(transparent)]
    Leader(#[from] SnapshotError),
}

/// Asks, in the name of `by`, for copies of `tables` (`schema.table`), of the whole replica when there are none.
///
/// # Errors
/// When the replica or the leader can't be asked, or lacks one of the tables; then nothing is copied.
pub async fn ask(
    leader: Option<LeaderSettings>,
    replica: &str,
    url: &tokio_postgres::Config,
    by: &str,
    tables: &[String],
) -> Result<(), RebuildError> {
    let leader = leader.ok_or(RebuildError::NoLeader)?;
    let session = Session::connect(url).await?;
    // Only to look: with the stream a slot would be made, which waits for the transactions that are open on the leader.
    let leader = LeaderSettings { stream: None, ..leader };
    let published = LeaderSnapshot::open(&leader).await?.tables(&leader).await?;
    let known = catalog::load(session.client()).await?;
    let find = |wanted: &String| -> Result<TableName, RebuildError> {
        let table = known.tables().find(|table| *table.full_name == **wanted);
        let table = table.ok_or_else(|| RebuildError::NoTable(replica.to_owned(), wanted.clone()))?;
        // Asked for all the same, it would halt the replica.
        if !published.contains(&table.name) {
            return Err(SnapshotError::NotPublished(wanted.clone()).into());
        }
        Ok(table.name.clone())
    };
    let wanted = tables.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    Ok(copy::ask(&session, by, &wanted).await?)
}
