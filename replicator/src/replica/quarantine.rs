//! The quarantine: changes that a replica could not take, kept in its own database with all that applying them later needs.
//!
//! Whoever is in the quarantine stays in order: once a change of a row is there, every later change of that row follows it,
//! so that trying again applies them as the leader made them and never lays an old value over a new one. Rows without a key
//! need no such rule: their changes find one row with exactly the old values, or none and then they are kept, too.

mod document;
pub mod review;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;

use super::session::Session;
use super::{ReplicaError, form};
use crate::vocabulary::change::{Change, Operation};
use crate::vocabulary::offset::PartitionNames;
use crate::vocabulary::parcel::Committed;
use crate::vocabulary::row::Key;
use crate::vocabulary::schema::{Catalog, Table, TableName};

/// What is done about a change that a replica's data or constraints refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataPolicy {
    /// The replica stops until it is mended.
    #[default]
    Halt,
    /// The change is kept in the quarantine, its table counts as diverged, and the replica goes on.
    Quarantine,
}

/// What follows from failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailurePolicy {
    /// For data that a replica refuses.
    pub data: DataPolicy,
    /// Changes in the quarantine above which a replica halts all the same: then it is not about single rows any more.
    pub quarantine_limit: usize,
}

impl Default for FailurePolicy {
    fn default() -> Self {
        FailurePolicy { data: DataPolicy::Halt, quarantine_limit: 10_000 }
    }
}

/// Why a change is kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Why<'a> {
    /// The replica refused it.
    Refused(&'a ReplicaError),
    /// An earlier change of the same row is kept.
    Follows,
}

/// What one replica's quarantine holds, as far as applying has to know it.
#[derive(Debug, Default)]
pub struct Quarantine {
    policy: FailurePolicy,
    catalog: Arc<Catalog>,
    /// Tables with changes that wait, and the keys of these changes' rows, in each form that they have.
    tables: HashMap<TableName, HashSet<Key>>,
    /// Tables of which somebody let changes go.
    skipped: HashSet<TableName>,
    changes: usize,
}

impl Quarantine {
    /// Reads which rows have changes in the quarantine.
    ///
    /// # Errors
    /// When the replica can't be asked, or its contract is older than this program.
    pub async fn load(
        session: &Session,
        catalog: &Arc<Catalog>,
        policy: FailurePolicy,
    ) -> Result<Self, ReplicaError> {
        let mut quarantine = Quarantine { policy, catalog: Arc::clone(catalog), ..Quarantine::default() };
        quarantine.reload(session).await?;
        Ok(quarantine)
    }

    /// Reads again what the database holds, after a rollback.
    ///
    /// # Errors
    /// As [`Quarantine::load`].
    pub(super) async fn reload(&mut self, session: &Session) -> Result<(), ReplicaError> {
        self.tables.clear();
        self.skipped = review::skipped_tables(session).await?;
        self.changes = 0;
        let Quarantine { catalog, tables, changes, .. } = self;
        review::each(session, |entry| {
            *changes += 1;
            let keys = tables.entry(entry.table()).or_default();
            // Of a table that is gone or has another key no change can come that belongs to the entry.
            if let Some(table) = catalog.table(&entry.table_schema, &entry.table_name) {
                keys.extend(entry.keys(table));
            }
        })
        .await?;
        // Kept as text, they may be met in binary.
        for (name, keys) in tables {
            let Some(table) = catalog.table(&name.schema, &name.name) else { continue };
            let as_text: Vec<Key> = keys.iter().cloned().collect();
            keys.extend(form::keys_in_binary(session.client(), table, &as_text).await?);
        }
        Ok(())
    }

    /// The tables that differ from the leader's because of it, in the order of their names. Those with skipped changes count.
    pub fn diverged(&self) -> impl Iterator<Item = &TableName> {
        self.tables.keys().chain(&self.skipped).collect::<BTreeSet<_>>().into_iter()
    }

    /// How many changes it holds.
    pub fn len(&self) -> usize {
        self.changes
    }

    /// Whether there is nothing about any table, as it should be.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.skipped.is_empty()
    }

    /// Whether an earlier change of the same row is kept, so that this one has to follow it.
    pub(super) fn holds(&self, change: &Change) -> bool {
        let Some(held) = self.tables.get(&change.table.name).filter(|held| !held.is_empty()) else {
            return false;
        };
        keys_of(&change.table, &change.operation).into_iter().flatten().any(|key| held.contains(&key))
    }

    /// Whether the change makes everything that is kept for its table pointless: the rows go.
    pub(super) fn is_settled_by(&self, change: &Change) -> bool {
        matches!(change.operation, Operation::Truncate | Operation::Clear)
            && self.concerns(&change.table.name)
    }

    /// Whether anything is kept for the table.
    pub(super) fn concerns(&self, table: &TableName) -> bool {
        self.tables.contains_key(table) || self.skipped.contains(table)
    }

    /// Whether changes that the replica refuses are kept, rather than stop it.
    pub(super) fn keeps_data(&self) -> bool {
        self.policy.data == DataPolicy::Quarantine
    }

    /// Keeps a change within the open transaction, and returns under which id.
    ///
    /// # Errors
    /// When the quarantine is full, or the replica fails.
    pub(super) async fn keep(
        &mut self,
        session: &Session,
        change: &Change,
        names: &PartitionNames,
        why: Why<'_>,
    ) -> Result<i64, ReplicaError> {
        let (message, source) = match why {
            Why::Refused(error) => (error.to_string(), error.of_database()),
            Why::Follows => ("an earlier change of the same row is in the quarantine".to_owned(), None),
        };
        if self.changes >= self.policy.quarantine_limit {
            return Err(ReplicaError::QuarantineFull {
                limit: self.policy.quarantine_limit,
                place: change.place,
                message,
            });
        }
        let record = names.get(change.place.partition);
        let table = &change.table;
        let client = session.client();
        let as_text = form::in_text(client, table, &change.operation).await?;
        let [key, before, after] = document::of_operation(table, &as_text)?;
        let row = client
            .query_one(
                "INSERT INTO replicator.quarantine
                     (topic, partition, \"offset\", table_schema, table_name, operation, key, before, after,
                      sqlstate, message, constraint_name)
                 VALUES ($1, $2, $3, $4, $5, $6, $7::text::json, $8::text::json, $9::text::json, $10, $11, $12)
                 RETURNING id",
                &[
                    &&*record.topic,
                    &record.partition,
                    &change.place.offset,
                    &table.name.schema,
                    &table.name.name,
                    &change.operation.name(),
                    &key,
                    &before,
                    &after,
                    &source.and_then(|e| e.code()).map(SqlState::code),
                    &message,
                    &source.and_then(|e| e.as_db_error()).and_then(|e| e.constraint()),
                ],
            )
            .await
            .map_err(|source| ReplicaError::Postgres { action: "keep a change in the quarantine", source })?;
        let keys = self.tables.entry(table.name.clone()).or_default();
        // In the form in which the lane's next changes are.
        keys.extend(keys_of(table, &change.operation).into_iter().flatten());
        self.changes += 1;
        tracing::warn!(
            at = %names.describe(change.place),
            table = %table.name,
            operation = change.operation.name(),
            cause = %message,
            "kept in the quarantine"
        );
        Ok(row.get(0))
    }

    /// The table was emptied: nothing that is kept for it matters any more. Returns how many changes that concerns.
    ///
    /// # Errors
    /// When the replica fails.
    pub(super) async fn settle(&mut self, session: &Session, table: &TableName) -> Result<i64, ReplicaError> {
        let row = session
            .client()
            .query_one(
                "SELECT count(*) FILTER (WHERE resolution IS NULL),
                        replicator.settle($1, $2, 'superseded', 'the leader emptied the table')
                 FROM replicator.quarantine WHERE table_schema = $1 AND table_name = $2",
                &[&table.schema, &table.name],
            )
            .await
            .map_err(|source| ReplicaError::Postgres { action: "settle the quarantine", source })?;
        let open: i64 = row.get(0);
        self.changes = self.changes.saturating_sub(usize::try_from(open).unwrap_or(usize::MAX));
        self.tables.remove(table);
        self.skipped.remove(table);
        Ok(row.get(1))
    }
}

/// Writes to which of the leader's transactions kept changes belong, once that is known.
pub(super) async fn assign(
    session: &Session,
    ids: &[i64],
    transaction: Option<Committed>,
) -> Result<(), ReplicaError> {
    let (Some(committed), false) = (transaction, ids.is_empty()) else { return Ok(()) };
    session
        .client()
        .execute(
            "UPDATE replicator.quarantine SET xid = $1, commit_lsn = $2::text::pg_lsn WHERE id = ANY ($3)",
            &[&i64::from(committed.xid.0), &committed.lsn.to_string(), &ids],
        )
        .await
        .map(|_| ())
        .map_err(|source| ReplicaError::Postgres { action: "complete the quarantine", source })
}

/// The keys of the rows that an operation touches; none for rows without a key.
fn keys_of(table: &Table, operation: &Operation) -> [Option<Key>; 2] {
    if !table.has_key() {
        return [None, None];
    }
    match operation {
        Operation::Insert(row) | Operation::Copy(row) | Operation::Fill(row) | Operation::Update(row) => {
            [Some(row.project(&table.key)), None]
        }
        Operation::Rekey { old, row } => [Some(old.clone()), Some(row.project(&table.key))],
        Operation::Delete(key) => [Some(key.clone()), None],
        Operation::UpdateKeyless { .. }
        | Operation::DeleteKeyless(_)
        | Operation::Truncate
        | Operation::Clear => [None, None],
    }
}
