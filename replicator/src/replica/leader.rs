//! A session on the leader that only reads: definitions of tables, and single rows that a replica lacks.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use super::ReplicaError;
use super::error::describe;

/// As the sessions of the replicas print and read values, and never anything but reading. A row that a policy hides makes an
/// error: it must not be taken for deleted.
const SETTINGS: &str = "
    SET default_transaction_read_only = on;
    SET search_path = pg_catalog;
    SET DateStyle = 'ISO, YMD';
    SET IntervalStyle = postgres;
    SET TimeZone = 'UTC';
    SET extra_float_digits = 1;
    SET bytea_output = hex;
    SET row_security = off;
    SET statement_timeout = '30s'";

/// How long connecting may take.
const CONNECT_SECONDS: u64 = 10;

/// A connection that reads from the leader. It ends with this value.
#[derive(Debug)]
pub struct LeaderSession {
    client: Client,
    connection: JoinHandle<()>,
}

impl Drop for LeaderSession {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

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
        let mut url = url.clone();
        url.application_name("replicator").tcp_user_timeout(Duration::from_secs(30));
        let (client, connection) = url.connect(NoTls).await.map_err(failed)?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "connection to the leader ended");
            }
        });
        let session = LeaderSession { client, connection };
        session.client.batch_execute(SETTINGS).await.map_err(failed)?;
        Ok(session)
    }

    /// The driver's client.
    pub fn client(&self) -> &Client {
        &self.client
    }
}
