//! The replica's side of a fenced copy: what was asked for, and how a table's rows are replaced.

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio_postgres::CopyInSink;

use super::ReplicaError;
use super::catalog::table_name;
use super::session::Session;
use super::sql::quoted_table;
use crate::vocabulary::fence::Fence;
use crate::vocabulary::offset::{self, Offsets};
use crate::vocabulary::schema::TableName;

/// What `replicator rebuild` asked of this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyScope {
    /// Nothing.
    #[default]
    None,
    /// Copies of the tables that [`wanted`] names.
    Tables,
    /// All tables, and a new position in the stream.
    All,
}

impl CopyScope {
    /// What the contract schema's word means; there is none while nothing is asked.
    pub fn from_contract(word: Option<&str>) -> Option<Self> {
        match word {
            None => Some(CopyScope::None),
            Some("tables") => Some(CopyScope::Tables),
            Some("all") => Some(CopyScope::All),
            Some(_) => None,
        }
    }
}

/// Asks for a copy of these tables in the name of `by`; of the whole replica when there are none. Whoever applies obeys.
///
/// # Errors
/// When the replica does not answer, or has an older contract schema.
pub async fn ask(session: &Session, by: &str, tables: &[TableName]) -> Result<(), ReplicaError> {
    let (schemas, names) = columns(tables);
    session
        .client()
        .execute("SELECT replicator.ask_rebuild($1, $2, $3)", &[&by, &schemas, &names])
        .await
        .map_err(|source| ReplicaError::Postgres { action: "ask for a copy", source })?;
    Ok(())
}

/// What is asked of the replica now.
///
/// # Errors
/// When the replica does not answer, or has an older contract schema.
pub async fn asked(session: &Session) -> Result<CopyScope, ReplicaError> {
    let row = session
        .client()
        .query_opt("SELECT detail ->> 'scope' FROM replicator.control WHERE kind = 'rebuild'", &[])
        .await
        .map_err(|source| ReplicaError::Postgres { action: "read what is to be copied", source })?;
    CopyScope::from_contract(row.as_ref().map(|row| row.get(0)))
        .ok_or_else(|| ReplicaError::Contract("control".to_owned()))
}

/// The tables that have yet to be copied, in the order of their names.
///
/// # Errors
/// When the replica does not answer.
pub async fn wanted(session: &Session) -> Result<Vec<TableName>, ReplicaError> {
    let rows = session
        .client()
        .query("SELECT table_schema, table_name FROM replicator.rebuild ORDER BY 1, 2", &[])
        .await
        .map_err(|source| ReplicaError::Postgres { action: "read what is to be copied", source })?;
    Ok(rows.iter().map(table_name).collect())
}

/// The tables of which a snapshot or a copy has been made, and which are still there.
///
/// # Errors
/// When the replica does not answer.
pub async fn fed(session: &Session) -> Result<Vec<TableName>, ReplicaError> {
    let rows = session
        .client()
        .query(
            "SELECT table_schema, table_name FROM replicator.table_state AS s
             WHERE EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                           WHERE n.nspname = s.table_schema AND c.relname = s.table_name)
             ORDER BY 1, 2",
            &[],
        )
        .await
        .map_err(|source| ReplicaError::Postgres { action: "read what was copied", source })?;
    Ok(rows.iter().map(table_name).collect())
}

/// Takes back what was asked. False when nothing was.
///
/// # Errors
/// When the replica does not answer; SQLSTATE RP006 when the copy of the whole replica has begun, since the replica is of no
/// use without the rest of it.
pub async fn cancel(session: &Session) -> Result<bool, ReplicaError> {
    let row = session
        .client()
        .query_one("SELECT replicator.cancel_rebuild()", &[])
        .await
        .map_err(|source| ReplicaError::Postgres { action: "take a wish back", source })?;
    Ok(row.get(0))
}

/// Begins the copy of the whole replica. `offsets` were taken before the snapshot of `fence`.
///
/// # Errors
/// When another daemon has taken over (SQLSTATE RP001), or the replica does not answer.
pub async fn begin(
    session: &Session,
    epoch: i64,
    fence: &Fence,
    offsets: &Offsets,
    tables: &[TableName],
) -> Result<(), ReplicaError> {
    let (schemas, names) = columns(tables);
    let (snapshot, lsn) = (fence.snapshot.to_string(), fence.lsn.to_string());
    session
        .client()
        .execute(
            "SELECT replicator.begin_rebuild($1, $2, $3::text::pg_lsn, $4::text::jsonb, $5, $6)",
            &[&epoch, &snapshot, &lsn, &offset::to_json(offsets), &schemas, &names],
        )
        .await
        .map_err(|source| ReplicaError::Postgres { action: "begin the copy", source })?;
    Ok(())
}

/// Whether a table is partitioned, and whether it may be truncated by itself and takes frozen rows.
const ABOUT: &str = "
    SELECT c.relkind = 'p',
           c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_constraint f
                                           WHERE f.contype = 'f' AND f.confrelid = c.oid AND f.conrelid <> c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2";

/// One table whose rows are being replaced, within one transaction: readers see the old rows until all new ones are there.
pub struct Replacement<'a> {
    session: &'a Session,
    epoch: i64,
    table: &'a TableName,
    sink: std::pin::Pin<Box<CopyInSink<Bytes>>>,
}

impl std::fmt::Debug for Replacement<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replacement").field("table", self.table).finish_non_exhaustive()
    }
}

impl<'a> Replacement<'a> {
    /// Begins: the old rows go, `copy_in` takes the new ones, with or without an option in its last brackets.
    ///
    /// The old rows are deleted and not truncated. TRUNCATE empties the table for readers with an older snapshot, too, and
    /// locks all of them out until the copy is done; a new table put in the old one's place would lose the views, grants,
    /// indexes and foreign keys that the replica's owner has made. Only a replica that has never been live (`is_new`) has
    /// no readers to spare: there a table that is empty, and that no other one refers to, is truncated, so that its new rows
    /// need neither a WAL of their own (with `wal_level = minimal`) nor to be written once more to be frozen.
    ///
    /// # Errors
    /// When the replica refuses, or does not answer.
    pub async fn begin(
        session: &'a Session,
        epoch: i64,
        table: &'a TableName,
        is_new: bool,
        copy_in: impl Fn(&str) -> String,
    ) -> Result<Self, ReplicaError> {
        let failed = |source| ReplicaError::Postgres { action: "empty a table", source };
        let client = session.client();
        let quoted = quoted_table(table);
        client.batch_execute("BEGIN").await.map_err(failed)?;
        let about = client.query_one(ABOUT, &[&table.schema, &table.name]).await.map_err(failed)?;
        let (is_partitioned, is_alone): (bool, bool) = (about.get(0), about.get(1));
        // The children of a table that is no partitioned one are tables of their own.
        let only = if is_partitioned { "" } else { "ONLY " };
        let truncates = is_new && is_alone && {
            let is_empty = format!("SELECT NOT EXISTS (SELECT FROM {only}{quoted})");
            client.query_one(&is_empty, &[]).await.map_err(failed)?.get(0)
        };
        let verb = if truncates { "TRUNCATE" } else { "DELETE FROM" };
        client.batch_execute(&format!("{verb} {only}{quoted}")).await.map_err(failed)?;
        let copy_in = copy_in(if truncates { ", FREEZE" } else { "" });
        let sink = client.copy_in(&copy_in).await.map_err(failed)?;
        Ok(Replacement { session, epoch, table, sink: Box::pin(sink) })
    }

    /// Sends a piece of the new rows. Waits while the replica is slower.
    ///
    /// # Errors
    /// When the replica refuses what came before, or does not answer.
    pub async fn send(&mut self, rows: Bytes) -> Result<(), ReplicaError> {
        self.sink
            .send(rows)
            .await
            .map_err(|source| ReplicaError::Postgres { action: "copy into a table", source })
    }

    /// Makes the new rows visible, with their fence. Returns how many there are.
    ///
    /// # Errors
    /// When the replica refuses them, or another daemon has taken over (SQLSTATE RP001).
    pub async fn commit(mut self, fence: &Fence) -> Result<u64, ReplicaError> {
        let failed = |source| ReplicaError::Postgres { action: "copy into a table", source };
        let rows = self.sink.as_mut().finish().await.map_err(failed)?;
        let client = self.session.client();
        let count = i64::try_from(rows).unwrap_or(i64::MAX);
        let (snapshot, lsn) = (fence.snapshot.to_string(), fence.lsn.to_string());
        client
            .execute(
                "SELECT replicator.copied($1, $2, $3, $4, $5::text::pg_lsn, $6)",
                &[&self.epoch, &self.table.schema, &self.table.name, &snapshot, &lsn, &count],
            )
            .await
            .map_err(failed)?;
        client.batch_execute("COMMIT").await.map_err(failed)?;
        Ok(rows)
    }
}

/// Names as two parameters.
fn columns(tables: &[TableName]) -> (Vec<&str>, Vec<&str>) {
    tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip()
}
