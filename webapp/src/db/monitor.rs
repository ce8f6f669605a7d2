//! One task per replica that looks at it from time to time: it brings a replica back that had left the rotation (the
//! half-open probe), takes one out that fails while nobody reads, and keeps the watermarks fresh.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, Statement};
use tokio_util::sync::CancellationToken;

use super::error::DbError;
use super::pool::{Access, Target, limits};
use super::replica::{PROGRESS_SQL, Progress, Replica, ReplicaSet};
use crate::config::{HealthConfig, Timeouts};

/// How often monitors look, and how long they wait.
#[derive(Clone, Copy)]
struct Pace {
    probe: Duration,
    awaited: Duration,
    timeout: Duration,
    connect_timeout: Duration,
}

/// Starts the monitors and returns when each has looked once; they end when `shutdown` is cancelled.
pub async fn start(
    replicas: &Arc<ReplicaSet>,
    health: &HealthConfig,
    timeouts: &Timeouts,
    shutdown: &CancellationToken,
) {
    let (_, connect_timeout) = limits(timeouts, Access::ReadOnly);
    let pace = Pace {
        probe: Duration::from_millis(health.probe_ms),
        awaited: Duration::from_millis(health.awaited_probe_ms),
        timeout: Duration::from_millis(health.timeout_ms),
        connect_timeout,
    };
    let first_looks = (0..replicas.len()).map(|index| {
        let (looked, first_look) = tokio::sync::oneshot::channel::<()>();
        let (replicas, shutdown) = (Arc::clone(replicas), shutdown.clone());
        tokio::spawn(async move {
            let mut monitor = Monitor { replica: replicas.get(index), pace, session: None };
            monitor.look().await;
            drop(looked);
            monitor.run(&replicas, &shutdown).await;
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
    async fn run(&mut self, replicas: &ReplicaSet, shutdown: &CancellationToken) {
        loop {
            let up = self.session.is_some();
            let pause = if up && replicas.is_awaited() { self.pace.awaited } else { self.pace.probe };
            tokio::select! {
                () = shutdown.cancelled() => return,
                // A replica that is down is not asked more often because somebody waits.
                () = replicas.awaited(), if up => {}
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
