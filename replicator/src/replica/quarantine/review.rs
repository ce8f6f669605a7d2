//! What people do with the quarantine: look, try again, let go.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use serde::Serialize;

use super::document;
use crate::replica::apply::Applier;
use crate::replica::catalog::table_name;
use crate::replica::checkpoint::CheckpointWriter;
use crate::replica::session::Session;
use crate::replica::{ReplicaError, catalog};
use crate::vocabulary::change::{Change, Operation};
use crate::vocabulary::offset::{PartitionNames, Place, TopicPartition};
use crate::vocabulary::row::Key;
use crate::vocabulary::schema::{Catalog, Table, TableName};

/// A change that is kept, as the replica stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number, in the order in which changes came.
    pub id: i64,
    /// When it came, in milliseconds since 1970, by the replica's clock.
    pub quarantined_at_ms: i64,
    /// The record's topic.
    pub topic: String,
    /// The record's partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// The leader's transaction.
    pub xid: Option<i64>,
    /// Its commit LSN.
    pub commit_lsn: Option<String>,
    /// The table's schema.
    pub table_schema: String,
    /// The table's name.
    pub table_name: String,
    /// What the change does.
    pub operation: String,
    /// The key by which its row is found, as a JSON object.
    pub key: Option<String>,
    /// All old values of a row without a key, as a JSON object.
    pub before: Option<String>,
    /// The new values, as a JSON object.
    pub after: Option<String>,
    /// Of PostgreSQL's error.
    pub sqlstate: Option<String>,
    /// Why it is kept.
    pub message: String,
    /// The constraint that refused it.
    pub constraint_name: Option<String>,
    /// How often it was tried again in vain.
    pub retries: i32,
}

impl Entry {
    pub(super) fn table(&self) -> TableName {
        TableName::new(&self.table_schema, &self.table_name)
    }

    pub(super) fn operation(&self, table: &Table) -> Result<Operation, String> {
        document::to_operation(table, &self.operation, self.documents())
    }

    /// The keys of its rows: later changes of these have to wait, even while the entry does not fit its table.
    pub(super) fn keys(&self, table: &Table) -> Vec<Key> {
        document::keys(table, &self.operation, self.documents())
    }

    fn documents(&self) -> [Option<&str>; 3] {
        [self.key.as_deref(), self.before.as_deref(), self.after.as_deref()]
    }
}

/// What became of an attempt to apply kept changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Retried {
    /// Ids that are applied now, and gone from the quarantine.
    pub applied: Vec<i64>,
    /// Ids that stay, each with the reason.
    pub failed: Vec<(i64, String)>,
}

/// All open entries in the order in which they came.
///
/// # Errors
/// When the replica can't be asked, or has an older contract.
pub async fn list(session: &Session) -> Result<Vec<Entry>, ReplicaError> {
    let mut entries = Vec::new();
    each(session, |entry| entries.push(entry)).await?;
    Ok(entries)
}

/// Shows all open entries one by one: together, their rows may be large.
///
/// # Errors
/// As [`list`].
pub(super) async fn each(session: &Session, mut show: impl FnMut(Entry)) -> Result<(), ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "read the quarantine", source };
    let rows = session
        .client()
        .query_raw::<_, &str, _>(
            "SELECT id, (extract(epoch FROM quarantined_at) * 1000)::bigint, topic, partition, \"offset\", xid,
                    commit_lsn::text, table_schema, table_name, operation, key::text, before::text, after::text,
                    sqlstate, message, constraint_name, retries
             FROM replicator.quarantine WHERE resolution IS NULL ORDER BY id",
            [],
        )
        .await
        .map_err(failed)?;
    let mut rows = std::pin::pin!(rows);
    let entry = |row: &tokio_postgres::Row| Entry {
        id: row.get(0),
        quarantined_at_ms: row.get(1),
        topic: row.get(2),
        partition: row.get(3),
        offset: row.get(4),
        xid: row.get(5),
        commit_lsn: row.get(6),
        table_schema: row.get(7),
        table_name: row.get(8),
        operation: row.get(9),
        key: row.get(10),
        before: row.get(11),
        after: row.get(12),
        sqlstate: row.get(13),
        message: row.get(14),
        constraint_name: row.get(15),
        retries: row.get(16),
    };
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        show(entry(&row));
    }
    Ok(())
}

/// The tables of which changes were let go and not made up for since.
pub(super) async fn skipped_tables(session: &Session) -> Result<HashSet<TableName>, ReplicaError> {
    let rows = session
        .client()
        .query("SELECT table_schema, table_name FROM replicator.diverged WHERE skipped > 0", &[])
        .await
        .map_err(|source| ReplicaError::Postgres { action: "read the quarantine", source })?;
    Ok(rows.iter().map(table_name).collect())
}

/// Tries to apply kept changes, in the order in which they came, as one transaction; none in `ids` means all. What goes
/// through leaves the quarantine, the rest stays with its newest reason. A change is not tried while an earlier one of the
/// same row stays. A daemon that applies at the same time starts again from what this leaves.
///
/// # Errors
/// When the replica fails; then nothing has changed.
pub async fn retry(session: Session, ids: &[i64]) -> Result<Retried, ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "try the quarantine again", source };
    let catalog = catalog::load(session.client()).await?;
    let writer = CheckpointWriter::prepare(&session, 0).await?;
    session.client().batch_execute("BEGIN; SELECT replicator.fence()").await.map_err(failed)?;
    let entries = list(&session).await?;
    let names = PartitionNames::default();
    let mut retried = Retried::default();
    let mut waiting: Vec<_> = entries.iter().map(|entry| Waiting::of(entry, &catalog, &names)).collect();
    let mut applier = Applier::new(session, writer, names.clone());
    // A constraint between rows may need another order than that of the rows' first changes: as long as one goes through,
    // the others get another chance.
    loop {
        let before = retried.applied.len();
        let refused = pass(&mut applier, &mut waiting, ids, &mut retried.applied).await?;
        if retried.applied.len() == before || waiting.is_empty() {
            retried.failed.extend(refused);
            break;
        }
    }
    retried.failed.retain(|(id, _)| ids.is_empty() || ids.contains(id));
    let client = applier.session().client();
    let delete = "DELETE FROM replicator.quarantine WHERE id = ANY ($1)";
    client.execute(delete, &[&retried.applied]).await.map_err(failed)?;
    for (id, reason) in &retried.failed {
        let note = "UPDATE replicator.quarantine
                    SET retries = retries + 1, retried_at = clock_timestamp(), message = $2 WHERE id = $1";
        client.execute(note, &[id, reason]).await.map_err(failed)?;
    }
    client.batch_execute("COMMIT").await.map_err(failed)?;
    Ok(retried)
}

/// A kept change that is to be tried.
struct Waiting {
    id: i64,
    /// Of its rows.
    keys: Vec<(TableName, Key)>,
    /// Or why there is none any more.
    change: Result<Change, String>,
}

impl Waiting {
    fn of(entry: &Entry, catalog: &Catalog, names: &PartitionNames) -> Self {
        let name = entry.table();
        let table = catalog.table(&name.schema, &name.name);
        let keys = table.map(|table| entry.keys(table)).unwrap_or_default();
        Waiting {
            id: entry.id,
            keys: keys.into_iter().map(|key| (name.clone(), key)).collect(),
            change: to_change(entry, table, names),
        }
    }
}

/// One attempt at everything that waits. What is applied moves to `applied`; what was refused is returned with the reason.
async fn pass(
    applier: &mut Applier,
    waiting: &mut Vec<Waiting>,
    ids: &[i64],
    applied: &mut Vec<i64>,
) -> Result<Vec<(i64, String)>, ReplicaError> {
    let mut refused = Vec::new();
    // Rows of which a change stays: what follows it has to stay as well.
    let mut blocked: HashSet<(TableName, Key)> = HashSet::new();
    for one in std::mem::take(waiting) {
        let reason = if one.keys.iter().any(|key| blocked.contains(key)) {
            Some("an earlier change of the same row is in the quarantine".to_owned())
        } else if !ids.is_empty() && !ids.contains(&one.id) {
            Some("not asked for".to_owned())
        } else {
            match &one.change {
                Ok(change) => applier.run_alone(change).await?.err().map(|error| error.to_string()),
                Err(reason) => Some(reason.clone()),
            }
        };
        match reason {
            None => applied.push(one.id),
            Some(reason) => {
                blocked.extend(one.keys.iter().cloned());
                refused.push((one.id, reason));
                waiting.push(one);
            }
        }
    }
    Ok(refused)
}

/// Lets kept changes go: they are not applied, `by` is remembered, and their tables stay diverged until they are repaired.
/// Returns the ids that were open.
///
/// # Errors
/// When the replica fails; then nothing has changed.
pub async fn skip(session: &Session, ids: &[i64], by: &str) -> Result<Vec<i64>, ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "skip in the quarantine", source };
    let client = session.client();
    client.batch_execute("BEGIN; SELECT replicator.fence()").await.map_err(failed)?;
    let rows = client
        .query(
            "UPDATE replicator.quarantine
             SET resolution = 'skipped', resolved_at = clock_timestamp(), resolved_by = $2
             WHERE id = ANY ($1) AND resolution IS NULL RETURNING id",
            &[&ids, &by],
        )
        .await
        .map_err(failed)?;
    client.batch_execute("COMMIT").await.map_err(failed)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn to_change(entry: &Entry, table: Option<&Arc<Table>>, names: &PartitionNames) -> Result<Change, String> {
    let table = table.ok_or_else(|| format!("table {} is not there any more", entry.table()))?;
    let operation = entry.operation(table)?;
    let record = TopicPartition { topic: entry.topic.as_str().into(), partition: entry.partition };
    let place = Place { partition: names.add(record), offset: entry.offset };
    Ok(Change { table: Arc::clone(table), operation, place })
}
