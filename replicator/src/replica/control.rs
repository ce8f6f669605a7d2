//! What people want of a replica. The wish stands in the replica itself, so any daemon obeys it, also one that starts later.

use super::ReplicaError;
use super::session::Session;

/// What can be wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing is applied until the wish is withdrawn.
    Pause,
    /// The owner copies the replica afresh, and withdraws the wish when it has begun.
    Rebuild,
}

impl Wish {
    /// The word in the contract schema.
    pub fn as_str(self) -> &'static str {
        match self {
            Wish::Pause => "pause",
            Wish::Rebuild => "rebuild",
        }
    }
}

/// Makes the replica stand still, in the name of `by`. When this returns, nothing more becomes visible in it until
/// [`resume`]. False when it was paused already.
///
/// # Errors
/// When the replica can't be reached, or has an older contract.
pub async fn pause(url: &tokio_postgres::Config, by: &str) -> Result<bool, ReplicaError> {
    request(&Session::connect(url).await?, Wish::Pause, by, "{}").await
}

/// Ends [`pause`]. False when the replica was not paused.
///
/// # Errors
/// As [`pause`].
pub async fn resume(url: &tokio_postgres::Config) -> Result<bool, ReplicaError> {
    withdraw(&Session::connect(url).await?, Wish::Pause).await
}

/// Makes a wish in the name of `by`, with what its kind needs to know as JSON. When this returns, nothing that stands against
/// it is committed any more. False when the wish had been made already; it stays as it was.
///
/// # Errors
/// When the replica can't be reached, or has an older contract.
pub async fn request(session: &Session, wish: Wish, by: &str, detail: &str) -> Result<bool, ReplicaError> {
    let sql = "SELECT replicator.request($1, $2, $3::text::jsonb)";
    let row = session.client().query_one(sql, &[&wish.as_str(), &by, &detail]).await.map_err(failed)?;
    Ok(row.get(0))
}

/// Takes a wish back. False when there was none.
///
/// # Errors
/// As [`request`].
pub async fn withdraw(session: &Session, wish: Wish) -> Result<bool, ReplicaError> {
    let sql = "SELECT replicator.withdraw($1)";
    Ok(session.client().query_one(sql, &[&wish.as_str()]).await.map_err(failed)?.get(0))
}

/// The detail with which a wish was made; none when nobody made it.
///
/// # Errors
/// As [`request`].
pub async fn detail(session: &Session, wish: Wish) -> Result<Option<String>, ReplicaError> {
    let sql = "SELECT detail::text FROM replicator.control WHERE kind = $1";
    Ok(session.client().query_opt(sql, &[&wish.as_str()]).await.map_err(failed)?.map(|row| row.get(0)))
}

fn failed(source: tokio_postgres::Error) -> ReplicaError {
    ReplicaError::Postgres { action: "tell the replica", source }
}
