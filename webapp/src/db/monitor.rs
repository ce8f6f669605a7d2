//! One task per replica that looks at it from time to time: it brings a replica back that had left the rotation (the
//! half-open probe), takes one out that fails while nobody reads, and keeps the watermarks fresh.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, Statement};
use tokio_util::sync::CancellationToken;

use super::error::DbError;
use super::pool::{Access, Target, limits};
use super::progress::{PROGRESS_SQL, Progress};
use super::replica::Replica;
use super::set::Signals;
use crate::config::Config;

/// How often monitors look, and how long they wait.
#[derive(Clone, Copy)]
struct Pace {
    probe: Duration,
    awaited: Duration,
    timeout: Duration,
    connect_timeout: Duration,
}

impl Pace {
    fn of(config: &Config) -> Self {
        let (_, connect_timeout) = limits(&config.timeouts, Access::ReadOnly);
        Self {
            probe: Duration::from_millis(config.health.probe_ms),
            awaited: Duration::from_millis(config.health.awaited_probe_ms),
            timeout: Duration::from_millis(config.health.timeout_ms),
            connect_timeout,
        }
    }
}

/// Starts a monitor for each of these and returns when each has looked once; they end when `shutdown` is cancelled, or when
/// their replica is removed.
pub(super) async fn start(
    replicas: Vec<Arc<Replica>>,
    signals: &Arc<Signals>,
    config: &Config,
    shutdown: &CancellationToken,
) {
    let pace = Pace::of(config);
    let first_looks = replicas.into_iter().map(|replica| {
        let (looked, first_look) = tokio::sync::oneshot::channel::<()>();
        let (signals, shutdown) = (Arc::clone(signals), shutdown.clone());
        tokio::spawn(async move {
            let mut monitor = Monitor { replica: &replica, pace, session: None };
            monitor.look().await;
            drop(looked);
            monitor.run(&signals, &shutdown).await;
        });
        first_look
    });
    // Each ends when its sender is dropped, after the first look.
    futures_util::future::join_all(first_looks.collect::<Vec<_>>()).await;
}

struct Monitor<'a> {
    replica: &'a Replica,
    pace: Pace,
    /// Its own connection: a pool that is used up must not look like a replica that is down.
    session: Option<Session>,
}

struct Session {
    client: Client,
    progress: Statement,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Monitor<'_> {
    async fn run(&mut self, signals: &Signals, shutdown: &CancellationToken) {
        loop {
            // A replica that is down is not asked more often because somebody waits; nor one whose watermarks are pushed.
            let may_hurry = self.session.is_some() && !self.replica.is_heard();
            let pause = if may_hurry && signals.is_awaited() { self.pace.awaited } else { self.pace.probe };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.replica.removed().cancelled() => return,
                () = signals.awaited(), if may_hurry => {}
                () = tokio::time::sleep(pause) => {}
            }
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let seen = tokio::time::timeout(self.pace.timeout, self.progress()).await;
        match seen.unwrap_or_else(|_| Err(DbError::TooSlow(self.pace.timeout))) {
            Ok(progress) => self.replica.reached(progress),
            Err(error) => {
                self.session = None;
                self.replica.eject(&error);
            }
        }
    }

    async fn progress(&mut self) -> Result<Progress, DbError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.connect().await?,
        };
        let row = session.client.query_one(&session.progress, &[]).await?;
        self.session = Some(session);
        Ok(Progress::from_row(&row)?)
    }

    async fn connect(&self) -> Result<Session, DbError> {
        let target = Target {
            database: self.replica.name(),
            url: self.replica.url(),
            access: Access::ReadOnly,
            statement_timeout: self.pace.timeout,
            connect_timeout: self.pace.connect_timeout,
        };
        let settings = target.settings().map_err(|error| DbError::Unreachable(error.to_string()))?;
        let (client, connection) = settings
            .connect(NoTls)
            .await
            .map_err(|error| DbError::Unreachable(super::error::reason(&error)))?;
        // The connection's end shows in the next look, as an error of the client.
        let driver = tokio::spawn(async move { drop(connection.await) });
        let progress = client.prepare(PROGRESS_SQL).await;
        match progress {
            Ok(progress) => Ok(Session { client, progress, driver }),
            Err(error) => {
                driver.abort();
                Err(error.into())
            }
        }
    }
}
