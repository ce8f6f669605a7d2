//! Operating the system from here: replicas are drained and returned in this application's own router; they are paused,
//! resumed and copied afresh by the replicator. All of it is off unless `admin.token` is set.
//!
//! ```text
//! page (cookie, form token) ─┐
//! program (bearer token) ────┴▶ gate ─▶ act ─▶ this router, or the replicator's admin API
//! ```

pub mod attempts;
pub mod gate;
pub mod remote;

use std::net::IpAddr;

use axum_extra::extract::cookie::Key;

use crate::config::Config;
use crate::db::Database;
use crate::error::AppError;
use crate::model::action::Action;
use gate::Gate;
use remote::{Remote, RemoteError};

/// Who may operate, and by what.
pub struct Admin {
    gate: Option<Gate>,
    remote: Option<Remote>,
    /// Starts the replicator again, for people to copy.
    start_replicator: String,
}

/// Something that shall be done.
#[derive(Clone, Debug)]
pub struct Order {
    /// What.
    pub action: Action,
    /// To which replica.
    pub replica: String,
    /// To which of its tables (`schema.table`); none: to all. Of [`Action::Rebuild`] only.
    pub table: Option<String>,
}

impl Admin {
    /// As configured. `key` signs the application's other cookies.
    pub fn new(config: &Config, key: &Key) -> Self {
        let gate = |token: &crate::config::AdminToken| Gate::new(token.expose(), key, config.bind.port());
        Self {
            gate: config.admin.token().map(gate),
            remote: Remote::new(config),
            start_replicator: config.status.start("replicator"),
        }
    }

    /// Who may operate.
    ///
    /// # Errors
    /// 404 when nobody may.
    pub fn gate(&self) -> Result<&Gate, AppError> {
        let off =
            || AppError::NotFound("Nothing can be operated from here: admin.token is not set.".to_owned());
        self.gate.as_ref().ok_or_else(off)
    }

    /// Whether anything can be operated at all.
    pub fn is_on(&self) -> bool {
        self.gate.is_some()
    }

    /// Whether this can be done from here.
    pub fn offers(&self, action: Action) -> bool {
        self.is_on() && (!action.needs_replicator() || self.remote.is_some())
    }

    /// Does it and writes down who did; returns whether that changed anything.
    ///
    /// # Errors
    /// 404 when there is no such replica; what the replicator answers when it refuses or is away.
    pub async fn act(&self, order: &Order, database: &Database, by: IpAddr) -> Result<bool, AppError> {
        let Order { action, replica, table } = order;
        let done = match action {
            Action::Drain | Action::Return => {
                let replicas = database.replicas();
                let found = replicas.find(replica);
                found.map(|found| found.set_drained(*action == Action::Drain)).ok_or_else(|| unknown(replica))
            }
            Action::Pause | Action::Resume | Action::Rebuild => {
                self.remotely(*action, replica, table.as_deref()).await
            }
        };
        let (action, table) = (action.label(), table.as_deref().unwrap_or("all"));
        match &done {
            Ok(changed) => tracing::info!(action, replica, table, %by, changed, "an operator acted"),
            Err(error) => {
                tracing::warn!(action, replica, table, %by, error = %error, "an operator could not act");
            }
        }
        done
    }

    async fn remotely(&self, action: Action, replica: &str, table: Option<&str>) -> Result<bool, AppError> {
        let remote = self.remote.as_ref().ok_or_else(|| AppError::Operation {
            is_passing: false,
            message: format!(
                "{}: that is the replicator's to do, and admin.replicator_token is not set.",
                action.undone(replica)
            ),
        })?;
        remote.act(action, replica, table).await.map_err(|error| self.failed(error, action, replica))
    }

    fn failed(&self, error: RemoteError, action: Action, replica: &str) -> AppError {
        tracing::debug!(error = %error, "the replicator did not do it");
        let undone = action.undone(replica);
        let (is_passing, message) = match error {
            RemoteError::Unreachable => (
                true,
                format!(
                    "The replicator does not answer, so {undone}. Start it and try again: {}",
                    self.start_replicator
                ),
            ),
            RemoteError::NoAnswer => (
                true,
                format!(
                    "The replicator did not answer in time, so it is not known whether it did that. The page of {replica} shows it."
                ),
            ),
            RemoteError::Token => (
                false,
                format!(
                    "The replicator does not accept this application's token, so {undone}. admin.replicator_token here has to be http.admin_token there."
                ),
            ),
            RemoteError::UnknownReplica => {
                (false, format!("The replicator's configuration has no {replica}, so {undone}."))
            }
            RemoteError::Refused(why) => (false, format!("The replicator refused, so {undone}: {why}.")),
            // The cause may name hosts: it is in the log.
            RemoteError::Database(_) => (
                true,
                format!(
                    "The replicator can't reach {replica} or the leader, so {undone}. Try again when both answer."
                ),
            ),
        };
        AppError::Operation { is_passing, message }
    }
}

/// There is no replica of this name.
pub fn unknown(replica: &str) -> AppError {
    AppError::NotFound(format!("{replica} is not configured."))
}
