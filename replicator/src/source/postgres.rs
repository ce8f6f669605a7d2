//! The leader's own replication stream, without a broker.
//!
//! A [`ReplicationConnection`] is a session of the leader that understands replication commands and simple queries.
//! [`ReplicationConnection::start`] turns it into a [`ReplicationStream`], which gives out frames until it is stopped:
//!
//! ```text
//! connect ──▶ slots, publications, a copied slot ──▶ start ──▶ next / try_next / send_status ──▶ stop ──▶ connection
//! ```
//!
//! The slot is the durable log. It forgets what [`ReplicationStream::send_status`] calls flushed, and nothing else; so what
//! is confirmed there has to be stored everywhere first. Frames lie in one buffer that is read in large pieces, and are lent
//! from it: what a caller does not copy is not copied.
//!
//! The driver used elsewhere has no replication mode; this stands on the crate of its messages and logins.

mod continuity;
mod error;
mod login;
mod publication;
mod settings;
mod slot;
mod socket;
mod stream;
mod tls;
mod types;
mod wire;

use std::path::Path;
use std::time::Duration;

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;

pub use continuity::{Followed, Recognised, recognise};
pub use error::{PostgresSourceError, ServerError};
pub use publication::{Publication, PublishedTables, create_publication, find_publication, published_tables};
pub use settings::{PostgresSettings, SLOT_NAME_MAX, ensure_source};
pub use slot::{
    CreatedSlot, Lifetime, Slot, SlotSnapshot, copy_slot, create_slot, drop_lost_slot, drop_slot, find_slot,
};
pub use stream::{ReplicationStream, StreamOptions};
pub use types::wire_types;

use self::error::{Phase, classify};
use self::wire::{Answer, Transport, Wire};
use crate::vocabulary::leader::History;
use crate::vocabulary::lsn::Lsn;

/// How long reaching one host and logging in may take, unless the url has a `connect_timeout`.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long taking leave may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// One row of an answer: each column's text, none for NULL.
pub type TextRow = Vec<Option<String>>;

/// What the leader says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Which history of WAL positions its own belong to.
    pub history: History,
    /// How far the WAL is written.
    pub wal_position: Lsn,
    /// The session's database.
    pub database: String,
}

/// A session on the leader that understands replication commands.
#[derive(Debug)]
pub struct ReplicationConnection {
    wire: Wire,
    /// A query was sent and its answer not read to the end: what comes next belongs to that one.
    busy: bool,
    /// A stream has ended here. A walsender remembers that for the rest of its life, and would end the next one at once.
    has_streamed: bool,
}

impl ReplicationConnection {
    /// Logs in to the first of the url's hosts that accepts, with `replication=database`. Values are printed as in the other
    /// sessions of this program; `settings` are PostgreSQL settings on top, as (name, value), such as
    /// `logical_decoding_work_mem`.
    ///
    /// With `sslmode=require` in the url the session is encrypted, and the leader has to show a certificate for the url's host
    /// that the platform's certificates vouch for (`SSL_CERT_FILE` names others): what `verify-full` means elsewhere. With any
    /// other mode, or through a Unix socket, it is not encrypted, as this program's other sessions.
    ///
    /// # Errors
    /// Those of the last host, when none accepts in time.
    pub async fn connect(config: &Config, settings: &[(&str, &str)]) -> Result<Self, PostgresSourceError> {
        Self::connect_by(config, settings, None).await
    }

    /// As [`connect`](Self::connect), where the certificates in this PEM file vouch for the leader instead of the platform's.
    ///
    /// # Errors
    /// Those of the last host, when none accepts in time.
    pub async fn connect_trusting(
        config: &Config,
        settings: &[(&str, &str)],
        certificates: &Path,
    ) -> Result<Self, PostgresSourceError> {
        Self::connect_by(config, settings, Some(certificates)).await
    }

    async fn connect_by(
        config: &Config,
        settings: &[(&str, &str)],
        certificates: Option<&Path>,
    ) -> Result<Self, PostgresSourceError> {
        let limit = config.get_connect_timeout().copied().unwrap_or(CONNECT_WITHIN);
        let mut failure = PostgresSourceError::Unusable("its url names no host".to_owned());
        for (index, host) in config.get_hosts().iter().enumerate() {
            let port = socket::port(config, index);
            let socket = socket::connect(config, index, host, port, certificates);
            let attempt =
                async { Self::log_in(socket.await?, config, settings, socket::address(host, port)).await };
            failure = match tokio::time::timeout(limit, attempt).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                Err(_) => PostgresSourceError::Unreachable {
                    address: socket::address(host, port),
                    reason: format!("no answer within {} s", limit.as_secs()),
                },
            };
        }
        Err(failure)
    }

    async fn log_in(
        socket: Box<dyn Transport>,
        config: &Config,
        settings: &[(&str, &str)],
        address: String,
    ) -> Result<Self, PostgresSourceError> {
        let mut wire = Wire::new(socket);
        login::log_in(&mut wire, config, settings).await?;
        let mut connection = ReplicationConnection { wire, busy: false, has_streamed: false };
        let wanted = match config.get_target_session_attrs() {
            TargetSessionAttrs::ReadWrite => "off",
            TargetSessionAttrs::ReadOnly => "on",
            _ => return Ok(connection),
        };
        let rows = connection.simple_query("ask for the server's role", "SHOW transaction_read_only").await?;
        if rows.first().and_then(|row| row.first()?.as_deref()) == Some(wanted) {
            return Ok(connection);
        }
        let reason = format!("its sessions are not as target_session_attrs asks (read only: {wanted})");
        Err(PostgresSourceError::Unreachable { address, reason })
    }

    /// Runs SQL or one replication command, and gives all rows of its answer. `action` says in errors what was being done.
    ///
    /// When the future is dropped before it is done, the connection is of no more use, and says so.
    ///
    /// # Errors
    /// When the leader refuses, or the connection ends.
    pub async fn simple_query(
        &mut self,
        action: &'static str,
        sql: &str,
    ) -> Result<Vec<TextRow>, PostgresSourceError> {
        self.ask(sql).await?;
        let (mut rows, mut refusal) = (Vec::new(), None);
        loop {
            match self.wire.answer().await? {
                Answer::Message(Message::DataRow(body)) => {
                    let text = |range: Option<std::ops::Range<usize>>| {
                        let bytes = range.and_then(|range| body.buffer().get(range));
                        Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
                    };
                    rows.push(body.ranges().map(text).collect().map_err(|e| wire::garbled(&e))?);
                }
                // The first is the cause of those that follow.
                Answer::Refusal(error) => {
                    refusal.get_or_insert(error);
                }
                Answer::Message(Message::ReadyForQuery(_)) => break,
                Answer::Message(
                    Message::RowDescription(_) | Message::CommandComplete(_) | Message::EmptyQueryResponse,
                ) => {}
                Answer::Message(_) | Answer::CopyBoth => {
                    return Err(PostgresSourceError::Protocol(format!(
                        "the answer to \"{action}\" is none to a query"
                    )));
                }
            }
        }
        self.busy = false;
        refusal.map_or(Ok(rows), |error| Err(classify(Phase::Command(action), error)))
    }

    async fn ask(&mut self, sql: &str) -> Result<(), PostgresSourceError> {
        if self.busy {
            return Err(PostgresSourceError::Protocol(
                "the answer to an earlier query was not read".to_owned(),
            ));
        }
        frontend::query(sql, self.wire.output()).map_err(|e| wire::garbled(&e))?;
        self.busy = true;
        self.wire.flush().await
    }

    /// Who the leader is: `IDENTIFY_SYSTEM`.
    ///
    /// # Errors
    /// When the leader does not answer, or not as documented.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, PostgresSourceError> {
        let rows = self.simple_query("identify the leader", "IDENTIFY_SYSTEM").await?;
        let identity = || {
            let [system_id, timeline, position, database] = rows.first()?.as_slice() else { return None };
            let history = History {
                system_id: system_id.as_ref()?.parse().ok()?,
                timeline: timeline.as_ref()?.parse().ok()?,
            };
            Some(SystemIdentity {
                history,
                wal_position: position.as_ref()?.parse().ok()?,
                database: database.clone()?,
            })
        };
        identity().ok_or_else(|| error::unreadable("IDENTIFY_SYSTEM"))
    }

    /// Streams a slot from `from` on. The leader begins with the first transaction whose commit ends behind it, and never
    /// before what was last confirmed: 0 means that position.
    ///
    /// # Errors
    /// When the slot can't be streamed: it is missing, in use, lost, or the leader's settings don't allow it. A publication
    /// that is missing shows with the first change only, on PostgreSQL 18 never: ask [`find_publication`] first. A session
    /// streams once: after [`ReplicationStream::stop`] another one has to be connected.
    pub async fn start(
        mut self,
        slot: &str,
        from: Lsn,
        options: &StreamOptions,
    ) -> Result<ReplicationStream, PostgresSourceError> {
        if self.has_streamed {
            return Err(PostgresSourceError::Protocol("this session has streamed before".to_owned()));
        }
        self.ask(&options.command(slot, from)).await?;
        match self.wire.answer().await? {
            Answer::CopyBoth => Ok(ReplicationStream::new(self, slot)),
            Answer::Refusal(error) => Err(classify(Phase::Start { slot }, error)),
            Answer::Message(_) => {
                Err(PostgresSourceError::Protocol("the answer to START_REPLICATION is none".to_owned()))
            }
        }
    }

    /// Ends the session in order. Dropping the connection ends it too, but the leader notices later.
    pub async fn close(mut self) {
        frontend::terminate(self.wire.output());
        // The session ends either way; there is nobody left to tell of a failure.
        tokio::time::timeout(CLOSE_WITHIN, self.wire.shut_down()).await.ok();
    }
}
