//! Observers that run beside a load: one reads snapshots and looks for half transactions, one samples the lag.
//!
//! Both reconnect when their replica goes away, because faults are part of the loads they watch.

mod lag;
mod marks;
mod snapshots;

use std::future::Future;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::postgres;
pub use lag::{Lag, lag};
pub use marks::{Marks, mark};
pub use snapshots::{Invariants, Progress, Reader, Snapshots, snapshots};

/// Time between two attempts to reach a server that is down.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(50);

/// A background observer; [`Observer::finish`] stops it and returns what it saw. Dropping it stops it, too.
#[derive(Debug)]
pub struct Observer<T> {
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<T>>,
}

impl<T: Send + 'static> Observer<T> {
    pub(crate) fn start<F>(observe: impl FnOnce(watch::Receiver<bool>) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(observe(stopped)) }
    }

    /// Stops the observer and returns its report.
    pub async fn finish(mut self) -> anyhow::Result<T> {
        self.stop.send_replace(true);
        (&mut self.task).await.context("join the observer")?
    }

    /// Whether it has ended by itself, which it does with an error only.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl<T> Drop for Observer<T> {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// The present connection, or a new one, or `None` after a short wait when the server can't be reached.
async fn reach<'a>(
    url: &str,
    connection: &'a mut Option<Client>,
    reconnects: &mut u64,
) -> Option<&'a Client> {
    if connection.is_none() {
        match postgres::connect(url).await {
            Ok(client) => *connection = Some(client),
            Err(_) => {
                *reconnects += 1;
                sleep(RECONNECT_INTERVAL).await;
            }
        }
    }
    connection.as_ref()
}
