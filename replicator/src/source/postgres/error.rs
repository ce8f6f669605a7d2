//! What can go wrong between this program and the leader's stream, and the way out.

use std::fmt;

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::ErrorFields;

use super::wire::garbled;
use crate::decode::pgoutput::PgOutputError;
use crate::vocabulary::lsn::Lsn;

/// What the leader says when it refuses something, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerError {
    /// The SQLSTATE.
    pub code: String,
    /// What happened, in the leader's language.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What PostgreSQL suggests.
    pub hint: Option<String>,
    /// What it was doing.
    pub context: Option<String>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)?;
        for more in [&self.detail, &self.hint].into_iter().flatten() {
            write!(f, " {more}")?;
        }
        Ok(())
    }
}

impl ServerError {
    /// From the fields of an ErrorResponse or NoticeResponse.
    pub(super) fn parse(mut fields: ErrorFields<'_>) -> Result<Box<Self>, PostgresSourceError> {
        let mut error = Box::new(ServerError::default());
        while let Some(field) = fields.next().map_err(|e| garbled(&e))? {
            let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                b'W' => error.context = Some(text),
                _ => {}
            }
        }
        Ok(error)
    }
}

/// What the source can't go on from, or not now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostgresSourceError {
    /// No way to the leader.
    #[error("the leader at {address} can't be reached: {reason}")]
    Unreachable {
        /// Host and port, or the socket's path.
        address: String,
        /// Why.
        reason: String,
    },
    /// User, password, database or privilege.
    #[error("the leader refuses the login: {0}")]
    LoginRefused(Box<ServerError>),
    /// The url asks for something that can't be had.
    #[error("the leader can't be used: {0}")]
    Unusable(String),
    /// The url asks for TLS, and it can't be had or the leader's certificate is not trusted.
    #[error("no TLS to the leader: {0}")]
    Tls(String),
    /// The leader's WAL doesn't hold what decoding needs.
    #[error("the leader's wal_level is not logical, so no change can be decoded: {0}")]
    WalLevel(Box<ServerError>),
    /// There is no such slot.
    #[error("the leader has no slot \"{slot}\": {error}")]
    SlotMissing {
        /// Its name.
        slot: String,
        /// The leader's words.
        error: Box<ServerError>,
    },
    /// Another session streams the slot.
    #[error("slot \"{slot}\" is in use: {error}")]
    SlotInUse {
        /// Its name.
        slot: String,
        /// The leader's words: they have the other session's pid.
        error: Box<ServerError>,
    },
    /// The leader no longer has what the slot stood for.
    #[error("slot \"{slot}\" is invalidated, the changes that it held are lost: {error}")]
    SlotLost {
        /// Its name.
        slot: String,
        /// The leader's words.
        error: Box<ServerError>,
    },
    /// The slot is being made.
    #[error("slot \"{0}\" is being made, which waits for the transactions that are open on the leader")]
    SlotUnfinished(String),
    /// The slot has forgotten changes that a replica still needs.
    #[error(
        "slot \"{slot}\" has forgotten everything before {confirmed}, and the replica needs it from {needed} on"
    )]
    PositionLost {
        /// Its name.
        slot: String,
        /// From where on the replica needs changes.
        needed: Lsn,
        /// From where on the slot has them.
        confirmed: Lsn,
    },
    /// The leader has written less than the replica has applied.
    #[error("the leader's WAL ends at {wal_position}, and the replica has applied it up to {needed}")]
    WentBack {
        /// Where the replica stands.
        needed: Lsn,
        /// Where the leader's WAL ends.
        wal_position: Lsn,
    },
    /// The leader's log is not the one that the replica has followed. In words: how that shows.
    #[error("the leader's log does not go on from where the replica stands: {0}")]
    OtherHistory(String),
    /// The leader's server was started anew since it was recognised.
    #[error("the leader was started anew just now")]
    StartedAnew,
    /// A publication did not exist when a change that is to be decoded was made.
    #[error("a publication is missing on the leader: {0}")]
    PublicationMissing(Box<ServerError>),
    /// Any other refusal.
    #[error("{action}: {error}")]
    Refused {
        /// What was being done.
        action: &'static str,
        /// The leader's words.
        error: Box<ServerError>,
    },
    /// The leader ended the session, or never let it begin: it stops, starts, or somebody ended it.
    #[error("the leader ended the connection: {0}")]
    Ended(Box<ServerError>),
    /// The connection is gone.
    #[error("the connection to the leader is lost: {0}")]
    Lost(String),
    /// Bytes that PostgreSQL would not send, or an answer to nothing that was asked.
    #[error("the leader's answer can't be understood: {0}")]
    Protocol(String),
    /// Bytes in the stream that PostgreSQL would not send.
    #[error("the leader's stream can't be understood: {0}")]
    Stream(#[from] PgOutputError),
}

impl PostgresSourceError {
    /// What ends the state that this error causes.
    pub fn hint(&self) -> String {
        match self {
            PostgresSourceError::Unreachable { .. } | PostgresSourceError::Lost(_) => {
                "Start the leader, or correct leader.url; the replicator keeps trying."
            }
            PostgresSourceError::LoginRefused(_) => {
                "Correct user, password and database in leader.url. The user needs LOGIN and REPLICATION, and pg_hba.conf has to \
                 admit it to the database itself (not to \"replication\")."
            }
            PostgresSourceError::Unusable(_) => "Correct leader.url.",
            PostgresSourceError::Tls(_) => {
                "Switch ssl on at the leader, with a certificate for the host in leader.url; SSL_CERT_FILE names the certificates \
                 that vouch for it. Or take sslmode=require out of the url."
            }
            PostgresSourceError::WalLevel(_) => {
                "On the leader: ALTER SYSTEM SET wal_level = logical;  -- then restart it"
            }
            PostgresSourceError::SlotMissing { slot, .. } => {
                return format!(
                    "Nothing holds the changes since \"{slot}\" was dropped. Copy the replicas afresh: `replicator rebuild REPLICA`."
                );
            }
            PostgresSourceError::SlotInUse { slot, .. } => {
                return format!(
                    "Another replicator streams it, or the leader has not yet noticed that this one's last connection ended; the \
                     replicator keeps trying. SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}';"
                );
            }
            PostgresSourceError::SlotLost { .. } => {
                "Copy the replicas afresh, which makes the slot anew: `replicator rebuild REPLICA`. A larger \
                 max_slot_wal_keep_size holds out longer."
            }
            PostgresSourceError::SlotUnfinished(_) => {
                "The replicator keeps trying. SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start;"
            }
            PostgresSourceError::PositionLost { .. } => {
                "The slot was made anew, or moved on without this replica. Copy it afresh: `replicator rebuild REPLICA`."
            }
            PostgresSourceError::Ended(_) | PostgresSourceError::StartedAnew => {
                "The replicator connects again and goes on where it was."
            }
            PostgresSourceError::WentBack { .. } | PostgresSourceError::OtherHistory(_) => {
                "The leader was restored to an older state, or leader.url names another one. Correct it, or copy the replica \
                 afresh: `replicator rebuild REPLICA`."
            }
            PostgresSourceError::PublicationMissing(_) => {
                "Create the publication. Changes from before it can't be decoded with it, so the replicas have to be copied afresh \
                 then: `replicator rebuild REPLICA`."
            }
            PostgresSourceError::Refused { error, .. } => match error.code.as_str() {
                "53300" | "53400" => {
                    "Raise max_connections, max_wal_senders or max_replication_slots on the leader, or end what uses them."
                }
                "42501" => "Grant the leader's user what it lacks: REPLICATION for slots, ownership for publications.",
                _ => "See the leader's server log.",
            },
            PostgresSourceError::Protocol(_) | PostgresSourceError::Stream(_) => {
                "The leader has to be PostgreSQL 14 or newer, reached directly and not through a pooler."
            }
        }
        .to_owned()
    }

    /// Whether the same may succeed later without anybody changing data or settings.
    pub fn is_outage(&self) -> bool {
        match self {
            PostgresSourceError::Unreachable { .. }
            | PostgresSourceError::Lost(_)
            | PostgresSourceError::Ended(_)
            | PostgresSourceError::StartedAnew
            | PostgresSourceError::SlotInUse { .. }
            | PostgresSourceError::SlotUnfinished(_) => true,
            // Too many connections, walsenders or slots: others of this program may be about to end theirs. A name that is taken
            // was taken a moment ago, by another replica's worker.
            PostgresSourceError::Refused { error, .. } => {
                error.code.starts_with("53") || error.code == "42710"
            }
            _ => false,
        }
    }

    /// The leader's words, where it said any.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            PostgresSourceError::LoginRefused(error)
            | PostgresSourceError::WalLevel(error)
            | PostgresSourceError::SlotMissing { error, .. }
            | PostgresSourceError::SlotInUse { error, .. }
            | PostgresSourceError::SlotLost { error, .. }
            | PostgresSourceError::PublicationMissing(error)
            | PostgresSourceError::Refused { error, .. }
            | PostgresSourceError::Ended(error) => Some(error),
            _ => None,
        }
    }
}

/// An answer without the columns that it should have.
pub(super) fn unreadable(what: &str) -> PostgresSourceError {
    PostgresSourceError::Protocol(format!("{what} gave other columns than documented"))
}

/// When the leader refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase<'a> {
    /// While logging in.
    Login,
    /// In answer to a command.
    Command(&'static str),
    /// When this slot was to be streamed.
    Start {
        /// The slot.
        slot: &'a str,
    },
    /// While this slot was streamed.
    Stream {
        /// The slot.
        slot: &'a str,
    },
}

/// What a refusal means. Messages are in the leader's language, so SQLSTATE and phase decide where they can; words only where
/// PostgreSQL gives several causes one SQLSTATE, and then by names that are not translated.
pub(super) fn classify(phase: Phase<'_>, error: Box<ServerError>) -> PostgresSourceError {
    let says = |word: &str| error.message.contains(word) || error.detail.iter().any(|d| d.contains(word));
    let slot = |slot: &str| slot.to_owned();
    match (error.code.as_str(), phase) {
        // Crashes and shutdowns; starting and recovering; a backend ended by an administrator.
        (code, _) if code.starts_with("57P") => PostgresSourceError::Ended(error),
        (code, Phase::Login) if code.starts_with("28") || matches!(code, "3D000" | "42501") => {
            PostgresSourceError::LoginRefused(error)
        }
        ("55000", _) if says("wal_level") => PostgresSourceError::WalLevel(error),
        ("42704", Phase::Start { slot: name }) => {
            PostgresSourceError::SlotMissing { slot: slot(name), error }
        }
        ("42704", Phase::Stream { .. }) => PostgresSourceError::PublicationMissing(error),
        ("55006", Phase::Start { slot: name } | Phase::Stream { slot: name }) => {
            PostgresSourceError::SlotInUse { slot: slot(name), error }
        }
        ("55000", Phase::Start { slot: name } | Phase::Stream { slot: name })
            if says("no longer") || says("invalidated") =>
        {
            PostgresSourceError::SlotLost { slot: slot(name), error }
        }
        (_, phase) => {
            let action = match phase {
                Phase::Login => "log in to the leader",
                Phase::Command(action) => action,
                Phase::Start { .. } => "start to stream the slot",
                Phase::Stream { .. } => "stream the slot",
            };
            PostgresSourceError::Refused { action, error }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_meaning_and_a_way_out() {
        let (start, stream) = (Phase::Start { slot: "s" }, Phase::Stream { slot: "s" });
        let command = Phase::Command("make a slot");
        // Message texts of PostgreSQL 15 to 18.
        let cases = [
            (Phase::Login, "28P01", "password authentication failed", "refuses the login"),
            (Phase::Login, "3D000", "database \"x\" does not exist", "refuses the login"),
            (Phase::Login, "42501", "permission denied to start WAL sender", "refuses the login"),
            (Phase::Login, "57P03", "the database system is starting up", "ended the connection"),
            (Phase::Login, "53300", "sorry, too many clients already", "log in to the leader: sorry"),
            (
                command,
                "55000",
                "logical decoding requires \"wal_level\" >= \"logical\"",
                "wal_level is not logical",
            ),
            (start, "55000", "logical decoding requires wal_level >= logical", "wal_level is not logical"),
            (start, "42704", "Replikationsslot »s« existiert nicht", "has no slot \"s\""),
            (start, "55006", "replication slot \"s\" is active for PID 7", "\"s\" is in use"),
            (start, "55000", "can no longer get changes from replication slot \"s\"", "\"s\" is invalidated"),
            (start, "55000", "can no longer access replication slot \"s\"", "\"s\" is invalidated"),
            (
                start,
                "0A000",
                "replication slot \"s\" was not created in this database",
                "start to stream the slot: ",
            ),
            (stream, "42704", "publication \"p\" does not exist", "publication is missing"),
            (stream, "57P01", "terminating connection due to administrator command", "ended the connection"),
            (stream, "58P01", "requested WAL segment has already been removed", "stream the slot: requested"),
        ];
        for (phase, code, message, expected) in cases {
            let error =
                ServerError { code: code.to_owned(), message: message.to_owned(), ..ServerError::default() };
            let classified = classify(phase, Box::new(error.clone()));
            assert!(classified.to_string().contains(expected), "{classified}");
            assert!(classified.to_string().contains(message), "{classified}");
            assert!(!classified.hint().is_empty());
            assert_eq!(classified.server_error(), Some(&error));
        }
    }
}
