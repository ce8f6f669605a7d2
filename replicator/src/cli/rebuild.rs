//! `replicator rebuild`: asks for copies, and waits for them when told to.

use std::time::Duration;

use crate::config::{Config, ReplicaConfig};
use crate::rebuild::{self, RebuildError};
use crate::replica::session::Session;
use crate::replica::{ReplicaError, copy, progress};
use crate::snapshot::CopyProgress;

/// How often a wish is looked at while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looks between two lines about how far the copy is.
const LOOKS_PER_REPORT: u32 = 4;

/// Why nothing was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum WishError {
    #[error("there is no replica '{0}' in the configuration; there are {1}")]
    NoReplica(String, String),
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error(transparent)]
    Replica(#[from] ReplicaError),
}

/// Asks for copies of `tables`, of the whole replica when there are none. Returns what was asked, for people.
pub(super) async fn ask(config: &Config, replica: &str, tables: &[String]) -> Result<String, WishError> {
    let url = find(config, replica)?.url.config();
    rebuild::ask(config.leader(), replica, url, &super::wishes::who(), tables).await?;
    let what = if tables.is_empty() { "all tables".to_owned() } else { tables.join(", ") };
    Ok(format!("{replica}: asked for a copy of {what}; `replicator status` shows how far it is\n"))
}

/// Takes back what was asked. Returns what became of it, for people.
pub(super) async fn cancel(config: &Config, replica: &str) -> Result<String, WishError> {
    let session = Session::connect(find(config, replica)?.url.config()).await?;
    Ok(if copy::cancel(&session).await? {
        format!("{replica}: nothing is copied any more\n")
    } else {
        format!("{replica}: no copy was asked for\n")
    })
}

fn find<'a>(config: &'a Config, replica: &str) -> Result<&'a ReplicaConfig, WishError> {
    let names = || config.replicas.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = config.replicas.iter().find(|r| r.name == replica);
    found.ok_or_else(|| WishError::NoReplica(replica.to_owned(), names()))
}

/// Waits until the wish is fulfilled and the replica is live again. An outage on the way is waited for, too.
pub(super) async fn wait(config: &Config, replica: &str) -> String {
    let Some(found) = config.replicas.iter().find(|r| r.name == replica) else { return String::new() };
    let mut looks = 0_u32;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        looks += 1;
        if looks.is_multiple_of(LOOKS_PER_REPORT)
            && let Some(progress) = super::status::copy_progress(config, replica).await
        {
            report(replica, &progress);
        }
        match is_done(found.url.config()).await {
            Ok(true) => return format!("{replica}: copied and live\n"),
            Ok(false) => {}
            Err(error) => tracing::debug!(error = %error, "the replica can't be asked now"),
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "for whoever waits at the terminal; standard output is where data goes"
)]
fn report(replica: &str, progress: &CopyProgress) {
    eprintln!("{replica}: {progress}");
}

async fn is_done(url: &tokio_postgres::Config) -> Result<bool, ReplicaError> {
    let session = Session::connect(url).await?;
    let scope = copy::asked(&session).await?;
    Ok(scope == copy::CopyScope::None && progress::read(url).await?.phase == "live")
}
