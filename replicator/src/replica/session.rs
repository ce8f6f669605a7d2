//! One connection to a replica, with the settings that applying needs and the statements that it has prepared.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, Statement};

use super::ReplicaError;
use super::sql::Shape;
use crate::plan::Step;

/// Settings of every session that applies.
///
/// - `session_replication_role`: triggers and foreign keys stay silent, as in native logical replication.
/// - `search_path`, `DateStyle`, `IntervalStyle`, `TimeZone`, `extra_float_digits`: a text value means the same here as
///   where it was printed.
/// - `synchronous_commit`: safe, since the checkpoint commits with the rows; a crash loses both and they come again.
/// - the planner: updates join a few rows of parameters with a big table, for which only the index is right. Without
///   this, a stale estimate makes it hash the table.
/// - `tcp_*`: when this host vanishes, the server ends the session in half a minute, and with it the advisory lock. The
///   kernel's default is two hours.
/// - `lock_timeout`: a reader that blocks a truncate makes an error that is shown and retried, not a silent wait.
const SETTINGS: &str = "
    SET session_replication_role = replica;
    SET default_transaction_read_only = off;
    SET search_path = pg_catalog;
    SET DateStyle = 'ISO, YMD';
    SET IntervalStyle = postgres;
    SET TimeZone = 'UTC';
    SET extra_float_digits = 1;
    SET synchronous_commit = off;
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET jit = off;
    SET statement_timeout = 0;
    SET idle_in_transaction_session_timeout = 0;
    SET lock_timeout = '10s';
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = '30s'";

/// How long connecting and its first answers may take.
const CONNECT_SECONDS: u64 = 10;

/// A connection that applies.
#[derive(Debug)]
pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
    statements: HashMap<(Arc<str>, Shape), Statement>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Without this the driver's task would hold the socket, and with it the advisory lock, until the server notices.
        self.connection.abort();
    }
}

impl Session {
    /// Connects and applies the settings.
    ///
    /// # Errors
    /// When the replica does not answer in time, or refuses.
    pub async fn connect(url: &tokio_postgres::Config) -> Result<Self, ReplicaError> {
        let limit = Duration::from_secs(CONNECT_SECONDS);
        tokio::time::timeout(limit, Self::open(url)).await.unwrap_or(Err(ReplicaError::TimedOut {
            action: "connect to the replica",
            seconds: CONNECT_SECONDS,
        }))
    }

    async fn open(url: &tokio_postgres::Config) -> Result<Self, ReplicaError> {
        let failed = |source| ReplicaError::Postgres { action: "connect to the replica", source };
        let mut url = url.clone();
        url.application_name("replicator")
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(30));
        let (client, connection) = url.connect(NoTls).await.map_err(failed)?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Whoever uses the client gets the error too, and reports it with what was being done.
                tracing::debug!(error = %error, "connection to a replica ended");
            }
        });
        let session = Session { client, connection, statements: HashMap::new() };
        session
            .client
            .batch_execute(SETTINGS)
            .await
            .map_err(|source| ReplicaError::Postgres { action: "set up the session", source })?;
        Ok(session)
    }

    /// The driver's client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Prepares what a step needs, once per table and shape.
    ///
    /// # Errors
    /// When the replica refuses the statement: its table differs from what the catalog said.
    pub(super) async fn prepare(&mut self, step: &Step<'_>) -> Result<(), ReplicaError> {
        let Some(shape) = Shape::of(&step.kind) else { return Ok(()) };
        let key = (Arc::clone(&step.table.full_name), shape);
        if self.statements.contains_key(&key) {
            return Ok(());
        }
        let (sql, parameters) = key.1.sql(&step.table);
        let parameter = if key.1.takes_arrays() { Type::TEXT_ARRAY } else { Type::TEXT };
        let statement = self
            .client
            .prepare_typed(&sql, &vec![parameter; parameters])
            .await
            .map_err(|source| ReplicaError::Postgres { action: "prepare a statement", source })?;
        self.statements.insert(key, statement);
        Ok(())
    }

    /// The statement that [`Session::prepare`] made for this step; none for a truncate.
    pub(super) fn statement(&self, step: &Step<'_>) -> Option<&Statement> {
        let shape = Shape::of(&step.kind)?;
        self.statements.get(&(Arc::clone(&step.table.full_name), shape))
    }
}
