//! What people want of a replica. The wish stands in the replica itself, so any daemon obeys it, also one that starts later.

use super::ReplicaError;
use super::session::Session;

/// Makes the replica stand still, in the name of `by`. When this returns, nothing more becomes visible in it until
/// [`resume`]. False when it was paused already.
///
/// # Errors
/// When the replica can't be reached, or has an older contract.
pub async fn pause(url: &tokio_postgres::Config, by: &str) -> Result<bool, ReplicaError> {
    let session = Session::connect(url).await?;
    let row = session.client().query_one("SELECT replicator.request('pause', $1)", &[&by]).await;
    Ok(row.map_err(failed)?.get(0))
}

/// Ends [`pause`]. False when the replica was not paused.
///
/// # Errors
/// As [`pause`].
pub async fn resume(url: &tokio_postgres::Config) -> Result<bool, ReplicaError> {
    let session = Session::connect(url).await?;
    let row = session.client().query_one("SELECT replicator.withdraw('pause')", &[]).await;
    Ok(row.map_err(failed)?.get(0))
}

fn failed(source: tokio_postgres::Error) -> ReplicaError {
    ReplicaError::Postgres { action: "tell the replica", source }
}
