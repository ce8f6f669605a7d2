//! One connection of the driver, and what makes text mean the same on each.

use std::ops::Deref;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

/// How long connecting and the first answers may take.
pub(crate) const CONNECT_SECONDS: u64 = 10;

/// What a value's text form depends on: a session that prints values and one that reads them have these in common.
pub(crate) const TEXT_FORM: &str = "
    SET search_path = pg_catalog;
    SET DateStyle = 'ISO, YMD';
    SET IntervalStyle = postgres;
    SET TimeZone = 'UTC';
    SET extra_float_digits = 1;
    SET bytea_output = hex;";

/// The driver's client, whose connection ends with this value.
#[derive(Debug)]
pub(crate) struct Connection {
    client: Client,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects under this name, which the server shows in `pg_stat_activity`. A server that vanishes is noticed in half a
    /// minute.
    ///
    /// # Errors
    /// When the server refuses, or can't be reached. How long that takes is the caller's to limit.
    pub(crate) async fn open(
        url: &tokio_postgres::Config,
        application_name: &str,
    ) -> Result<Self, tokio_postgres::Error> {
        let mut url = url.clone();
        url.application_name(application_name)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(30));
        let (client, connection) = url.connect(NoTls).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Whoever uses the client gets the error too, and reports it with what was being done.
                tracing::debug!(error = %error, "a connection ended");
            }
        });
        Ok(Connection { client, driver })
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Without this the driver's task would hold the socket, and with it locks and the open transaction, until the server
        // notices.
        self.driver.abort();
    }
}
