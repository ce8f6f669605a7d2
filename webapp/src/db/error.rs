//! What can go wrong with a database, as the rest of the application needs to tell it apart.

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

use super::route::FallbackReason;

/// Why a database gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It can't be reached, or is starting or stopping. Trying again later helps.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// It gave no answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TooSlow(std::time::Duration),
    /// The server ended the statement because it ran for too long. That says something of the statement, not of the server.
    #[error("the statement ran for too long")]
    Overrun,
    /// All connections of the pool are busy. The server itself may be well.
    #[error("no free connection")]
    Busy,
    /// No replica could answer, for this reason, and the leader could not either.
    #[error("{}, and the leader: {cause}", reason.sentence())]
    NoReplica {
        /// Why no replica could.
        reason: FallbackReason,
        /// What became of asking the leader.
        cause: Box<DbError>,
    },
    /// A constraint refused the change; its name says which rule.
    #[error("constraint {0} refused the change")]
    Constraint(String),
    /// The statement failed for a reason that trying again does not change.
    #[error("statement failed")]
    Statement(#[source] tokio_postgres::Error),
}

impl DbError {
    /// Whether the database itself is in doubt, not only this statement. One slow statement is no such doubt, or a hard
    /// question that is tried on each replica in turn would take them all out; a frozen server is the monitor's to find.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// Whether asking again later may help, whatever was asked.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TooSlow(_) | Self::Overrun | Self::Busy => true,
            Self::NoReplica { cause, .. } => cause.is_outage(),
            Self::Constraint(_) | Self::Statement(_) => false,
        }
    }

    /// The same error of the leader, when it was asked because no replica could answer.
    pub(super) fn without_replica(self, reason: FallbackReason) -> Self {
        if self.is_outage() { Self::NoReplica { reason, cause: Box::new(self) } } else { self }
    }

    /// Whether the connection it was asked on must not be used again: broken, or still busy with the late answer.
    pub fn spoils_connection(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TooSlow(_))
    }

    /// In words for anybody; the cause, which may name hosts and settings, is only logged.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "can't be reached",
            Self::TooSlow(_) | Self::Overrun => "does not answer in time",
            Self::Busy => "has no free connection",
            Self::NoReplica { cause, .. } => cause.words(),
            Self::Constraint(_) | Self::Statement(_) => "does not answer as expected",
        }
    }

    /// As a metric's label: why a replica leaves the rotation.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "connect",
            Self::TooSlow(_) | Self::Overrun => "timeout",
            Self::NoReplica { cause, .. } => cause.label(),
            Self::Busy | Self::Constraint(_) | Self::Statement(_) => "statement",
        }
    }
}

impl From<tokio_postgres::Error> for DbError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(refusal) = error.as_db_error() else {
            // Without an answer from the server: the connection broke, or the value could not be encoded or decoded.
            // The latter is a fault of ours and must not put a healthy replica out of rotation.
            use std::error::Error as _;
            let broken = error.is_closed()
                || error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
            return if broken { Self::Unreachable(reason(&error)) } else { Self::Statement(error) };
        };
        if let (true, Some(name)) = (refusal.code().code().starts_with("23"), refusal.constraint()) {
            return Self::Constraint(name.to_owned());
        }
        if *refusal.code() == SqlState::QUERY_CANCELED {
            return Self::Overrun;
        }
        if is_environment(refusal.code()) {
            return Self::Unreachable(refusal.message().to_owned());
        }
        Self::Statement(error)
    }
}

impl From<PoolError> for DbError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(TimeoutType::Wait) => Self::Busy,
            // Whatever keeps a connection from being made, wrong passwords included, keeps the server from answering.
            PoolError::Backend(error) => Self::Unreachable(reason(&error)),
            other => Self::Unreachable(other.to_string()),
        }
    }
}

/// The innermost cause: "Connection refused" says more than "error connecting to server".
pub fn reason(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn is_environment(state: &SqlState) -> bool {
    // 08 connection, 53 resources, 57 operator intervention (shutdown), 58 system error;
    // 25006: the leader is read-only, as after a failover.
    matches!(state.code().get(..2), Some("08" | "53" | "57" | "58"))
        || *state == SqlState::READ_ONLY_SQL_TRANSACTION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_statement_does_not_put_the_server_in_doubt() {
        let slow = DbError::TooSlow(std::time::Duration::from_secs(1));
        assert!(!DbError::Overrun.is_unreachable() && !slow.is_unreachable());
        assert!(slow.spoils_connection() && !DbError::Overrun.spoils_connection());
        assert!(DbError::Unreachable(String::new()).is_unreachable());
    }

    #[test]
    fn server_states_that_pass_are_told_from_faults_that_stay() {
        for state in ["57P01", "57P03", "53300", "08006", "58030", "25006"] {
            assert!(is_environment(&SqlState::from_code(state)), "{state}");
        }
        for state in ["42P01", "22P02", "42501", "23505"] {
            assert!(!is_environment(&SqlState::from_code(state)), "{state}");
        }
    }
}
