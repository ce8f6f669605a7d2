//! `replicator pause` and `replicator resume`.

use crate::config::ReplicaConfig;
use crate::replica::{ReplicaError, control};
use crate::supervisor::host_name;

/// Makes a replica stand still, and says so.
///
/// # Errors
/// When the replica can't be told.
pub(super) async fn pause(replica: &ReplicaConfig) -> Result<String, ReplicaError> {
    let name = &replica.name;
    Ok(if control::pause(replica.url.config(), &who()).await? {
        format!("{name} stands still until `replicator resume {name}`\n")
    } else {
        format!("{name} was paused already; `replicator status` says by whom\n")
    })
}

/// Lets a replica go on, and says so.
///
/// # Errors
/// When the replica can't be told.
pub(super) async fn resume(replica: &ReplicaConfig) -> Result<String, ReplicaError> {
    let name = &replica.name;
    Ok(if control::resume(replica.url.config()).await? {
        format!("{name} goes on\n")
    } else {
        format!("{name} was not paused\n")
    })
}

/// In whose name: the user and the host of this command.
pub(super) fn who() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), host_name())
}
