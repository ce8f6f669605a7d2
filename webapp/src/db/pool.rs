//! Connection pools with a limit on every wait.

use std::future::Future;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod, Runtime};
use tokio_postgres::NoTls;

use super::error::DbError;
use crate::config::{ConnectionUrl, Timeouts};

/// Whether a pool's sessions may write. The database enforces it, so that a statement sent to the wrong pool fails in
/// the database and not in review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `default_transaction_read_only=on`.
    ReadOnly,
    /// Reads and writes.
    ReadWrite,
}

/// A connection URL that can't be understood. The URL holds a password, so it is not repeated here.
#[derive(Debug, thiserror::Error)]
#[error("the connection URL of {database} is not valid: {cause}")]
pub struct BadUrl {
    /// Whose URL.
    pub database: String,
    /// What is wrong with it.
    pub cause: String,
}

/// What a connection is for: its URL, and the limits that the server itself enforces on it.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// For error messages.
    pub database: &'a str,
    /// Where, and as whom.
    pub url: &'a ConnectionUrl,
    /// What its sessions may do.
    pub access: Access,
    /// The longest a statement may run: the server ends it when we no longer wait for it.
    pub statement_timeout: Duration,
    /// The longest it may take to connect.
    pub connect_timeout: Duration,
}

impl Target<'_> {
    /// The connection's settings. They travel in the startup message, so they cost no round trip and no session can be
    /// without them.
    ///
    /// # Errors
    /// When the URL can't be understood.
    pub fn settings(&self) -> Result<tokio_postgres::Config, BadUrl> {
        let bad = |cause| BadUrl { database: self.database.to_owned(), cause };
        let mut settings: tokio_postgres::Config =
            self.url.expose().parse().map_err(|error| bad(super::error::reason(&error)))?;
        if settings.get_hosts().is_empty() {
            return Err(bad("it names no host".to_owned()));
        }
        // Statements are constants, prepared once for each connection, and parameters are values and limits, never what decides
        // which index is right. Left alone, PostgreSQL plans a list anew each time: knowing the limit makes it look cheaper, by more
        // than planning costs, although the plan is the same. Options of the URL come behind, so that they can say otherwise.
        let mut options = String::from("-c plan_cache_mode=force_generic_plan ");
        options.extend(settings.get_options().map(|given| format!("{given} ")));
        options.push_str(&format!("-c statement_timeout={}", self.statement_timeout.as_millis()));
        if self.access == Access::ReadOnly {
            options.push_str(" -c default_transaction_read_only=on");
        }
        settings.options(options).application_name("webapp").connect_timeout(self.connect_timeout);
        Ok(settings)
    }

    /// A pool of at most `size` connections, made when they are needed.
    ///
    /// # Errors
    /// When the URL can't be understood.
    pub fn pool(&self, size: usize) -> Result<Pool, BadUrl> {
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        Pool::builder(Manager::from_config(self.settings()?, NoTls, manager))
            .max_size(size)
            // As few sessions as will do: each has caches of its own, which the processor's hold better when there are few.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(self.connect_timeout))
            .create_timeout(Some(self.connect_timeout))
            .build()
            .map_err(|error| BadUrl { database: self.database.to_owned(), cause: error.to_string() })
    }
}

/// The limits of `timeouts` for one kind of access.
pub fn limits(timeouts: &Timeouts, access: Access) -> (Duration, Duration) {
    let statement = match access {
        Access::ReadOnly => timeouts.read_ms,
        Access::ReadWrite => timeouts.write_ms,
    };
    (Duration::from_millis(statement), Duration::from_millis(timeouts.connect_ms))
}

/// What came of an exchange that was given `limit`.
///
/// # Errors
/// When the exchange failed, or the time was up.
pub fn judge<T>(
    outcome: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    limit: Duration,
) -> Result<T, DbError> {
    outcome.map_or_else(|_| Err(DbError::TooSlow(limit)), |answer| answer.map_err(DbError::from))
}

/// Judges what came of an exchange, as [`judge`] does. A connection that is late or broken is closed: what it was
/// asked may still be running, and its answer must not meet the next caller.
///
/// # Errors
/// When the exchange failed, or the time was up.
pub fn settle<T>(
    connection: Object,
    outcome: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    limit: Duration,
) -> Result<T, DbError> {
    let result = judge(outcome, limit);
    if matches!(&result, Err(error) if error.spoils_connection()) {
        drop(Object::take(connection));
    }
    result
}

/// Runs both, the first one's message first on the wire, and waits for both answers: one round trip. Their order makes
/// the second statement's snapshot at least as new as the first one's.
pub async fn pipelined<A, B, E>(
    first: impl Future<Output = Result<A, E>>,
    second: impl Future<Output = Result<B, E>>,
) -> Result<(A, B), E> {
    // `try_join` polls in the order of its arguments, and tokio_postgres queues a message at the first poll.
    futures_util::future::try_join(first, second).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str, access: Access) -> Result<tokio_postgres::Config, BadUrl> {
        let timeout = Duration::from_millis(1000);
        let url = ConnectionUrl::from(url.to_owned());
        let target = Target {
            database: "replica-1",
            url: &url,
            access,
            statement_timeout: timeout,
            connect_timeout: timeout,
        };
        target.settings()
    }

    #[test]
    fn read_only_sessions_are_so_from_the_first_message() {
        let of = |access| settings("postgres://a:b@localhost/app", access).unwrap();
        assert!(of(Access::ReadOnly).get_options().unwrap().contains("default_transaction_read_only=on"));
        assert!(!of(Access::ReadWrite).get_options().unwrap().contains("read_only"));
        assert!(of(Access::ReadWrite).get_options().unwrap().contains("statement_timeout=1000"));
    }

    #[test]
    fn plans_are_kept_unless_the_url_says_otherwise() {
        let settings =
            settings("postgres://a:b@localhost/app?options=-c%20plan_cache_mode%3Dauto", Access::ReadOnly);
        let options = settings.unwrap().get_options().unwrap().to_owned();
        let (ours, given) = (options.find("=force_generic_plan"), options.find("=auto"));
        assert!(ours.is_some() && ours < given, "the last one counts: {options}");
    }

    #[test]
    fn a_bad_url_is_named_without_its_password() {
        for url in ["postgres://u:s3cret@host:port/app", "nonsense s3cret", "postgres:///app"] {
            let error = settings(url, Access::ReadOnly).unwrap_err().to_string();
            assert!(error.contains("replica-1") && !error.contains("s3cret"), "{error}");
        }
    }
}
