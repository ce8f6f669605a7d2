//! What went wrong at a replica, and what follows from it.

use tokio_postgres::error::SqlState;

use super::session::SET_UP;
use crate::vocabulary::offset::Place;
use crate::vocabulary::schema::TableName;

/// A failure while talking to a replica.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The server, or the way to it.
    #[error("{action}: {}", describe(.source))]
    Postgres {
        /// What was being done.
        action: &'static str,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// One change can't be applied.
    #[error("{operation} on {table}: {}", describe(.source))]
    Change {
        /// The record it came from.
        place: Place,
        /// What the change does.
        operation: &'static str,
        /// The table, as `schema.table`.
        table: String,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A change is about a row that the replica doesn't have, and does not carry the whole row.
    #[error("{operation} on {table} found no row with {key}, and the event does not carry the whole row")]
    MissingRow {
        /// The record it came from.
        place: Place,
        /// What the change does.
        operation: &'static str,
        /// The table, as `schema.table`.
        table: String,
        /// The key's columns; never their values, which don't belong in logs.
        key: String,
    },
    /// Another daemon applies to this replica.
    #[error("another replicator owns this replica: {owner}")]
    Owned {
        /// Who, as it wrote itself into the checkpoint.
        owner: String,
    },
    /// The lease could not be renewed in time, so another daemon may have taken over.
    #[error("the lease was not renewed within {seconds} s: {last_failure}")]
    LeaseLost {
        /// How long a lease lasts.
        seconds: u64,
        /// Why the last renewal failed.
        last_failure: String,
    },
    /// One more change would have to be kept than the policy allows.
    #[error("the quarantine holds {limit} changes already; the next: {message}")]
    QuarantineFull {
        /// `failure.quarantine_limit`.
        limit: usize,
        /// The record that does not fit in any more.
        place: Place,
        /// Why it would have to be kept.
        message: String,
    },
    /// The leader, which was to be asked for its schema or for a row.
    #[error("the leader can't be asked: {0}")]
    Leader(String),
    /// The leader's schema was changed in a way that the operator has to follow.
    #[error("{what}")]
    Schema {
        /// What differs.
        what: String,
        /// The SQL that ends it, for the replica.
        sql: Vec<String>,
    },
    /// Events name a table that neither side has.
    #[error("{0} exists neither on the replica nor, any more, on the leader")]
    TableGone(TableName),
    /// The contract schema holds something that this version doesn't understand.
    #[error("the checkpoint is unreadable: {0}")]
    Contract(String),
    /// The plan asks for something impossible: a mistake of this program.
    #[error("the plan is wrong: {0}")]
    Plan(&'static str),
    /// The session does not answer within its time.
    #[error("{action}: no answer within {seconds} s")]
    TimedOut {
        /// What was being done.
        action: &'static str,
        /// How long was waited.
        seconds: u64,
    },
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Connection, disk, locks: it passes, or somebody is already mending it. Try again for ever.
    Retry,
    /// Another daemon has taken over: step back and wait for the replica to be free.
    Yield,
    /// Somebody wants the replica to stand still: wait until that is taken back.
    Pause,
    /// A value or a constraint: one change can't be applied as things are. The failure policy says what happens to it.
    Data,
    /// A table, column or grant that is not as the changes need it. This replica stops until it is mended; others go on.
    Schema,
    /// Anything else, and everything unknown: this replica stops, since trying again and again would hide it.
    Halt,
}

impl Disposition {
    /// Whether the replica stops until somebody mends something. For data only where the policy does not keep it.
    pub fn halts(self) -> bool {
        matches!(self, Disposition::Data | Disposition::Schema | Disposition::Halt)
    }
}

impl ReplicaError {
    /// The one place where it is decided what a failure means.
    pub fn disposition(&self) -> Disposition {
        match self {
            ReplicaError::Postgres { source, .. } | ReplicaError::Change { source, .. } => {
                disposition_of(source)
            }
            ReplicaError::TimedOut { .. } | ReplicaError::LeaseLost { .. } | ReplicaError::Leader(_) => {
                Disposition::Retry
            }
            ReplicaError::Owned { .. } => Disposition::Yield,
            ReplicaError::MissingRow { .. } => Disposition::Data,
            ReplicaError::Schema { .. } | ReplicaError::TableGone(_) => Disposition::Schema,
            ReplicaError::QuarantineFull { .. } | ReplicaError::Contract(_) | ReplicaError::Plan(_) => {
                Disposition::Halt
            }
        }
    }

    /// Whether folding changes together may have caused it, so that applying one by one may succeed.
    pub fn may_be_due_to_folding(&self) -> bool {
        self.disposition() == Disposition::Data
    }

    /// Whether another transaction was in the way, for longer than locks are waited for or for good.
    pub fn is_of_lock(&self) -> bool {
        let code = self.of_database().and_then(|error| error.code());
        code.is_some_and(|code| {
            *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_DEADLOCK_DETECTED
        })
    }

    /// The record that the failure is about.
    pub fn place(&self) -> Option<Place> {
        match self {
            ReplicaError::Change { place, .. }
            | ReplicaError::MissingRow { place, .. }
            | ReplicaError::QuarantineFull { place, .. } => Some(*place),
            _ => None,
        }
    }

    /// What the driver said, where it was the driver.
    pub(super) fn of_database(&self) -> Option<&tokio_postgres::Error> {
        match self {
            ReplicaError::Postgres { source, .. } | ReplicaError::Change { source, .. } => Some(source),
            _ => None,
        }
    }

    /// What ends the state that this error causes.
    pub fn hint(&self) -> String {
        match self {
            ReplicaError::Postgres { action: SET_UP, source }
                if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) =>
            {
                "Its triggers and foreign keys have to stay silent. Run on the replica as a superuser, for the role of its url: \
                 GRANT SET ON PARAMETER session_replication_role TO …;"
                    .to_owned()
            }
            ReplicaError::Postgres { source, .. } | ReplicaError::Change { source, .. } => {
                let hint = source.as_db_error().and_then(|e| e.hint());
                hint.map_or_else(|| default_hint(source.code()).to_owned(), str::to_owned)
            }
            ReplicaError::Owned { .. } => {
                "Nothing to do: this daemon stands by and takes over when the other one stops.".to_owned()
            }
            ReplicaError::MissingRow { .. } => {
                "The replica has lost rows: something else wrote to it, or it was not filled by a snapshot. With leader.url set, rows \
                 are fetched from the leader; else copy the replica afresh."
                    .to_owned()
            }
            ReplicaError::QuarantineFull { .. } => {
                "See what they have in common: `replicator quarantine list`. Mend it and `replicator quarantine retry`, or \
                 raise failure.quarantine_limit."
                    .to_owned()
            }
            ReplicaError::Leader(_) => {
                "Start the leader, or correct leader.url: its schema or a row of it is needed to go on.".to_owned()
            }
            ReplicaError::Schema { sql, .. } if sql.is_empty() => {
                "Make the replica's table as it is on the leader, or copy the replica afresh.".to_owned()
            }
            ReplicaError::Schema { sql, .. } => format!("Run on the replica: {}", sql.join("; ")),
            ReplicaError::TableGone(table) => {
                format!("Leave it out: source.exclude_tables = [\"{table}\"], or make it as it was.")
            }
            ReplicaError::Contract(_) => "Run postgres/init.sh replica against it.".to_owned(),
            ReplicaError::LeaseLost { .. } => {
                "The replica hangs, refuses a second connection, or this process was paused. It is tried again.".to_owned()
            }
            ReplicaError::Plan(_) => "Report it, with the log's lines before this one.".to_owned(),
            ReplicaError::TimedOut { .. } => "The replica hangs or its host is gone.".to_owned(),
        }
    }
}

/// What a driver's error means, whichever server it came from.
pub(crate) fn disposition_of(error: &tokio_postgres::Error) -> Disposition {
    match error.code() {
        Some(code) => disposition(code),
        None if is_of_connection(error) => Disposition::Retry,
        // The driver could not send it: it can't the next time either.
        None => Disposition::Halt,
    }
}

/// PostgreSQL's message with its SQLSTATE and detail; what the driver prints is only "db error".
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        return text;
    };
    // Never the detail line: it quotes values of the row.
    let message = match db.code().code() {
        // `invalid input syntax for type uuid: "…"`, `value "…" is out of range`: what follows is the value.
        code if code.starts_with("22") => {
            db.message().split([':', '"']).next().unwrap_or_default().trim_end()
        }
        _ => db.message(),
    };
    let mut text = format!("{message} (SQLSTATE {}", db.code().code());
    if let Some(constraint) = db.constraint() {
        text.push_str(", constraint ");
        text.push_str(constraint);
    }
    text.push(')');
    text
}

/// Whether the connection failed, rather than what was to be sent through it.
fn is_of_connection(error: &tokio_postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<std::io::Error>() {
            return true;
        }
        source = cause.source();
    }
    // While connecting, the driver also reports an answer that it does not expect, or none in time.
    error.is_closed()
        || error.to_string().starts_with("error connecting")
        || error.to_string().contains("timeout")
}

/// By SQLSTATE (PostgreSQL documentation, appendix A). What is not listed halts: trying something unknown again and
/// again would hide it, and keeping a change aside for it would make a fault of ours look like one of the data.
fn disposition(code: &SqlState) -> Disposition {
    let code = code.code();
    match code {
        // replicator.advance() and renew(): another epoch owns the replica.
        "RP001" => Disposition::Yield,
        // advance() and acquire(): paused.
        "RP004" => Disposition::Pause,
        // advance(): a rebuild is asked for, which the next attempt begins; lock_not_available; the database is not there yet.
        "RP005" | "55P03" | "3D000" => Disposition::Retry,
        // A value that an index of this replica can't hold: "index row size … exceeds btree maximum"; expect(): other rows
        // than the statement names; a trigger of the replica's has changed a row that the same statement is to change.
        "54000" | "RP010" | "27000" => Disposition::Data,
        _ => match &code[..2] {
            // connection, authorisation, transaction rollback (serialization, deadlock), resources, operator, system
            "08" | "28" | "40" | "53" | "57" | "58" => Disposition::Retry,
            // cardinality, values and encodings, constraints, check option of a view
            "21" | "22" | "23" | "44" => Disposition::Data,
            // undefined or different objects, privileges
            "42" | "3F" => Disposition::Schema,
            _ => Disposition::Halt,
        },
    }
}

fn default_hint(code: Option<&SqlState>) -> &'static str {
    let Some(code) = code.map(SqlState::code) else {
        return "Start the replica, or correct its address; the replicator keeps trying.";
    };
    match &code[..2] {
        "28" => "Correct the user or password in the replica's url.",
        "42" => {
            "Compare the replica's tables and grants with the leader's: `replicator check` prints the SQL."
        }
        "21" | "22" | "23" | "44" | "54" => {
            "The replica's data or constraints differ from the leader's. Mend the row or the constraint; or set \
             failure.data = \"quarantine\" to keep such changes aside and go on."
        }
        "53" => "Free disk space, memory or connections on the replica's host.",
        _ => "See the replica's server log.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_disposition_and_everything_unknown_halts() {
        let expected = [
            (
                Disposition::Retry,
                &[
                    "08006", "57P01", "57P03", "53100", "53300", "40001", "40P01", "55P03", "58030", "28P01",
                    "3D000", "RP005",
                ][..],
            ),
            (Disposition::Yield, &["RP001"]),
            (Disposition::Pause, &["RP004"]),
            (
                Disposition::Data,
                &["21000", "22P02", "22003", "22021", "23502", "23505", "23514", "54000", "RP010"],
            ),
            (Disposition::Schema, &["42P01", "42703", "42501", "42804", "3F000"]),
            (Disposition::Halt, &["25006", "0A000", "54001", "P0001", "XX000", "RP002", "RP003", "ZZ999"]),
        ];
        for (disposition, codes) in expected {
            for code in codes {
                assert_eq!(super::disposition(&SqlState::from_code(code)), disposition, "{code}");
            }
        }
    }

    #[test]
    fn only_what_somebody_has_to_mend_halts() {
        for halts in [Disposition::Data, Disposition::Schema, Disposition::Halt] {
            assert!(halts.halts(), "{halts:?}");
        }
        for passes in [Disposition::Retry, Disposition::Yield, Disposition::Pause] {
            assert!(!passes.halts(), "{passes:?}");
        }
    }
}
