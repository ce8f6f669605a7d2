//! Slots: the leader's durable memory of what has not been confirmed.
//!
//! All of it works on the session that streams later, before it starts: a temporary slot lives and dies with its session.

use super::error::{PostgresSourceError, unreadable};
use super::{ReplicationConnection, TextRow};
use crate::vocabulary::lsn::Lsn;

/// A row of `pg_replication_slots`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// The output plugin; none for a physical slot.
    pub plugin: Option<String>,
    /// The database whose changes it holds; none for a physical slot.
    pub database: Option<String>,
    /// Whether it ends with the session that made it.
    pub temporary: bool,
    /// The walsender that streams it now.
    pub active_pid: Option<i32>,
    /// From where on the leader keeps WAL for it; none when it keeps nothing any more.
    pub restart_lsn: Option<Lsn>,
    /// Commits that end at or below this are not sent again.
    pub confirmed_flush: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` (about to be lost) or `lost`.
    pub wal_status: Option<String>,
    /// Bytes of WAL that may be written before it is in danger of being lost; none without `max_slot_wal_keep_size`.
    pub safe_wal_bytes: Option<i64>,
    /// Why it was invalidated; leaders before PostgreSQL 17 don't say.
    pub invalidation_reason: Option<String>,
}

impl Slot {
    /// Whether nothing can be streamed from it any more.
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation_reason.is_some()
    }
}

/// How long a slot lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is dropped. The leader keeps WAL for it, whether anybody reads it or not.
    Permanent,
    /// As long as the session that makes it.
    Session,
}

/// What a new slot's session does with the snapshot that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotSnapshot {
    /// Other sessions can take it over by `SET TRANSACTION SNAPSHOT`, until this one gets its next command.
    Export,
    /// Nothing.
    Discard,
}

/// A slot that was made just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedSlot {
    /// The slot has all transactions whose commit ends behind this position. The snapshot has all others.
    pub consistent_point: Lsn,
    /// The snapshot's name, when it was exported.
    pub snapshot: Option<String>,
}

/// The slot of this name, if there is one.
///
/// # Errors
/// When the leader does not answer.
pub async fn find_slot(
    connection: &mut ReplicationConnection,
    name: &str,
) -> Result<Option<Slot>, PostgresSourceError> {
    // The column invalidation_reason is not there before PostgreSQL 17: through JSON it is then NULL and no error.
    let sql = format!(
        "SELECT slot_name, plugin, database, temporary, active_pid, restart_lsn, confirmed_flush_lsn, wal_status,
                safe_wal_size, to_jsonb(s) ->> 'invalidation_reason'
           FROM pg_replication_slots s WHERE slot_name = {}",
        literal(name)
    );
    let rows = connection.simple_query("look for the slot", &sql).await?;
    rows.first().map(|row| slot(row).ok_or_else(|| unreadable("pg_replication_slots"))).transpose()
}

fn slot(row: &TextRow) -> Option<Slot> {
    let [name, plugin, database, temporary, pid, restart, confirmed, status, safe, reason] = row.as_slice()
    else {
        return None;
    };
    Some(Slot {
        name: name.clone()?,
        plugin: plugin.clone(),
        database: database.clone(),
        temporary: temporary.as_deref() == Some("t"),
        active_pid: parsed(pid.as_ref())?,
        restart_lsn: parsed(restart.as_ref())?,
        confirmed_flush: parsed(confirmed.as_ref())?,
        wal_status: status.clone(),
        safe_wal_bytes: parsed(safe.as_ref())?,
        invalidation_reason: reason.clone(),
    })
}

/// `Some(None)` for NULL, `None` for what can't be read.
fn parsed<T: std::str::FromStr>(text: Option<&String>) -> Option<Option<T>> {
    text.map(|text| text.parse().ok()).map_or(Some(None), |value| value.map(Some))
}

/// Makes a slot of `pgoutput`. Waits until every transaction that is open on the leader has ended.
///
/// # Errors
/// When the leader's `wal_level` is not logical, the name is taken, or there are too many slots.
pub async fn create_slot(
    connection: &mut ReplicationConnection,
    name: &str,
    lifetime: Lifetime,
    snapshot: SlotSnapshot,
) -> Result<CreatedSlot, PostgresSourceError> {
    let temporary = if lifetime == Lifetime::Session { " TEMPORARY" } else { "" };
    let export = if snapshot == SlotSnapshot::Export { "EXPORT_SNAPSHOT" } else { "NOEXPORT_SNAPSHOT" };
    // The older form of the options: PostgreSQL 14 knows no other, and 18 still knows it.
    let command =
        format!("CREATE_REPLICATION_SLOT {}{temporary} LOGICAL pgoutput {export}", identifier(name));
    let rows = connection.simple_query("make the slot", &command).await?;
    let created = || {
        let [_, consistent_point, snapshot, _] = rows.first()?.as_slice() else { return None };
        Some(CreatedSlot {
            consistent_point: consistent_point.as_ref()?.parse().ok()?,
            snapshot: snapshot.clone(),
        })
    };
    created().ok_or_else(|| unreadable("CREATE_REPLICATION_SLOT"))
}

/// Makes a temporary slot of this session that begins where another one stands, whether that one is in use or not: a second
/// reader goes its own pace and the first loses nothing. Returns what the copy has confirmed.
///
/// # Errors
/// When the slot to copy is missing or lost, the name is taken, or there are too many slots.
pub async fn copy_slot(
    connection: &mut ReplicationConnection,
    from: &str,
    to: &str,
) -> Result<Lsn, PostgresSourceError> {
    let sql =
        format!("SELECT lsn FROM pg_copy_logical_replication_slot({}, {}, true)", literal(from), literal(to));
    let rows = connection.simple_query("copy the slot", &sql).await?;
    let lsn = rows.first().and_then(|row| row.first()?.as_ref()?.parse().ok());
    lsn.ok_or_else(|| unreadable("pg_copy_logical_replication_slot"))
}

/// Drops a slot, and with it the leader's memory of what was not confirmed.
///
/// # Errors
/// When there is none, or it is in use.
pub async fn drop_slot(
    connection: &mut ReplicationConnection,
    name: &str,
) -> Result<(), PostgresSourceError> {
    let command = format!("DROP_REPLICATION_SLOT {}", identifier(name));
    connection.simple_query("drop the slot", &command).await.map(drop)
}

/// Drops a slot if it is lost: nothing can be streamed from it, and its name is needed for the next one.
///
/// # Errors
/// When the leader does not answer, or its user may not.
pub async fn drop_lost_slot(
    connection: &mut ReplicationConnection,
    name: &str,
) -> Result<(), PostgresSourceError> {
    // In one statement with the look: meanwhile another replica's worker may have made it anew.
    let sql = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {} AND wal_status = 'lost'",
        literal(name)
    );
    connection.simple_query("drop the lost slot", &sql).await.map(drop)
}

/// A name in double quotes. SQL, replication commands and lists of publications read it alike.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text in single quotes, for SQL under `standard_conforming_strings` and for replication commands, which know no escapes.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
