//! A session on the leader that only reads: definitions of tables, and single rows that a replica lacks.

use std::time::Duration;

use tokio_postgres::Client;

use super::ReplicaError;
use super::connection::{CONNECT_SECONDS, Connection, TEXT_FORM};
use super::error::describe;

/// Beside [`TEXT_FORM`]: never anything but reading. A row that a policy hides makes an error: it must not be taken for deleted.
const SETTINGS: &str = "
    SET default_transaction_read_only = on;
    SET row_security = off;
    SET statement_timeout = '30s'";

/// A connection that reads from the leader. It ends with this value.
#[derive(Debug)]
pub struct LeaderSession(Connection);

impl LeaderSession {
    /// Connects.
    ///
    /// # Errors
    /// When the leader does not answer in time, or refuses.
    pub async fn connect(url: &tokio_postgres::Config) -> Result<Self, ReplicaError> {
        let limit = Duration::from_secs(CONNECT_SECONDS);
        tokio::time::timeout(limit, Self::open(url))
            .await
            .unwrap_or_else(|_| Err(ReplicaError::Leader(format!("no answer within {CONNECT_SECONDS} s"))))
    }

    async fn open(url: &tokio_postgres::Config) -> Result<Self, ReplicaError> {
        let failed = |error: tokio_postgres::Error| ReplicaError::Leader(describe(&error));
        let connection = Connection::open(url, "replicator").await.map_err(failed)?;
        connection.batch_execute(&format!("{TEXT_FORM}{SETTINGS}")).await.map_err(failed)?;
        Ok(LeaderSession(connection))
    }

    /// The driver's client.
    pub fn client(&self) -> &Client {
        &self.0
    }
}
