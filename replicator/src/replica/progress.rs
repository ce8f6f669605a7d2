//! What a replica says of itself to anybody who asks.

use serde::Serialize;

use super::ReplicaError;
use super::session::Session;

/// A replica's view `replicator.progress`.
#[derive(Debug, Clone, Serialize)]
pub struct Progress {
    /// `empty`, `copying` or `live`.
    pub phase: String,
    /// Complete up to this commit LSN.
    pub watermark: String,
    /// Age of the newest transaction in milliseconds, by the replica's clock.
    pub lag_ms: Option<i64>,
    /// Source transactions applied since the replica was made.
    pub transactions: i64,
    /// Changes applied since the replica was made.
    pub changes: i64,
    /// The daemon that owns it, or did last.
    pub owner: Option<String>,
    /// Since when it is paused, and by whom.
    pub paused: Option<String>,
    /// Changes that its quarantine holds.
    pub quarantined: i64,
    /// Tables, as `schema.table`, that differ from the leader's because of that.
    pub diverged: Vec<String>,
}

/// Asks a replica how far it is.
///
/// # Errors
/// When it does not answer, or has no contract schema.
pub async fn read(url: &tokio_postgres::Config) -> Result<Progress, ReplicaError> {
    of(&Session::connect(url).await?).await
}

/// The same, within a session.
pub(crate) async fn of(session: &Session) -> Result<Progress, ReplicaError> {
    let row = session
        .client()
        .query_one(
            "SELECT state, watermark::text,
                    greatest(0, extract(epoch FROM clock_timestamp() - committed_at) * 1000)::bigint,
                    transactions, changes, owner,
                    'paused by ' || paused_by || ' since ' || date_trunc('second', paused_since),
                    quarantined, diverged
             FROM replicator.progress",
            &[],
        )
        .await
        .map_err(|source| ReplicaError::Postgres { action: "read the progress", source })?;
    Ok(Progress {
        phase: row.get(0),
        watermark: row.get(1),
        lag_ms: row.get(2),
        transactions: row.get(3),
        changes: row.get(4),
        owner: row.get(5),
        paused: row.get(6),
        quarantined: row.get(7),
        diverged: row.get(8),
    })
}
