//! The leader, as it was at one moment.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;

use super::progress::Extent;
use super::shape::{CopyColumn, CopyTable, Published, Shape};
use super::{LeaderSettings, SnapshotError, parse_fence};
use crate::replica::catalog::table_name;
use crate::replica::connection::{CONNECT_SECONDS, Connection, TEXT_FORM};
use crate::replica::session::Session;
use crate::source::postgres::{Lifetime, PostgresSettings, ReplicationConnection, SlotSnapshot, create_slot};
use crate::vocabulary::fence::Fence;
use crate::vocabulary::lsn::Lsn;
use crate::vocabulary::schema::TableName;

/// Beside [`TEXT_FORM`]. Rows that a policy would hide make an error.
const SETTINGS: &str = "
    SET row_security = off;
    SET statement_timeout = 0;
    SET idle_in_transaction_session_timeout = 0;
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3";

/// Both sides are asked this. A type that a server numbered itself, or a value that is the number of another catalog row
/// (`regclass`), means something else on the other one; its text form does not. An empty `int2vector` or `oidvector` is sent as what
/// its receive function refuses (PostgreSQL 15).
const COLUMNS: &str = "
    SELECT a.attname::text,
           CASE WHEN t.oid < 16384 AND t.typsend <> 0 AND t.typname !~ '^_?(reg|aclitem|int2vector|oidvector)' THEN t.oid::bigint END,
           a.attgenerated <> '', c.relkind = 'p'
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type t ON t.oid = a.atttypid
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Of a table or all partitions of one: bytes on disk with the large values, and rows as far as all of it was ever analysed.
const EXTENT: &str = "
    SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint,
           CASE WHEN bool_and(c.reltuples >= 0) THEN sum(c.reltuples)::bigint END
    FROM pg_class root
    JOIN pg_namespace n ON n.oid = root.relnamespace
    JOIN pg_class c ON c.oid = root.oid OR c.oid IN (SELECT relid FROM pg_partition_tree(root.oid))
    WHERE n.nspname = $1 AND root.relname = $2 AND c.relkind = 'r'";

/// A snapshot that other sessions can take over.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    name: String,
    fence: Fence,
    position: Option<Lsn>,
    publication: Option<String>,
}

/// A read-only transaction on the leader that sees one moment.
#[derive(Debug)]
pub struct LeaderSnapshot {
    /// Ends with this value, and with it the transaction, which keeps the leader from cleaning up.
    connection: Connection,
    fence: Fence,
    /// Every commit behind this position is in the stream, every other one in the snapshot; none where nobody said so.
    position: Option<Lsn>,
    publication: Option<String>,
}

impl LeaderSnapshot {
    /// Takes the snapshot.
    ///
    /// # Errors
    /// When the leader does not answer, or refuses.
    pub async fn open(settings: &LeaderSettings) -> Result<Self, SnapshotError> {
        let connection = connect(settings).await?;
        let failed = |source| SnapshotError::Leader { action: "take a snapshot of the leader", source };
        connection.batch_execute(BEGIN).await.map_err(failed)?;
        let position = match &settings.stream {
            Some(stream) => Some(import_snapshot(&connection, stream).await?),
            None => None,
        };
        let row = connection.query_one("SELECT pg_current_snapshot()::text", &[]).await.map_err(failed)?;
        // A statement of its own, after the one that took the snapshot: every commit that the snapshot sees was inserted
        // before this position.
        let after =
            connection.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.map_err(failed)?;
        let fence = parse_fence(row.get(0), after.get(0))?;
        Ok(LeaderSnapshot { connection, fence, position, publication: settings.publication.clone() })
    }

    /// Gives the snapshot a name by which other sessions can take it over, for as long as this one lives.
    ///
    /// # Errors
    /// When the leader does not answer.
    pub(super) async fn share(&self) -> Result<Shared, SnapshotError> {
        let named = self.connection.query_one("SELECT pg_export_snapshot()", &[]).await;
        let named = named.map_err(|source| SnapshotError::Leader { action: "share the snapshot", source })?;
        Ok(Shared {
            name: named.get(0),
            fence: self.fence.clone(),
            position: self.position,
            publication: self.publication.clone(),
        })
    }

    /// The same snapshot through another session.
    ///
    /// # Errors
    /// When the leader does not answer, or the session that shared it has ended.
    pub(super) async fn open_shared(
        settings: &LeaderSettings,
        shared: &Shared,
    ) -> Result<Self, SnapshotError> {
        let connection = connect(settings).await?;
        let failed = |source| SnapshotError::Leader { action: "take over the snapshot", source };
        connection.batch_execute(BEGIN).await.map_err(failed)?;
        set_snapshot(&connection, &shared.name).await?;
        let Shared { fence, position, publication, .. } = shared.clone();
        Ok(LeaderSnapshot { connection, fence, position, publication })
    }

    /// How large these tables are.
    ///
    /// # Errors
    /// When the leader does not answer.
    pub(super) async fn extents(
        &self,
        tables: Vec<TableName>,
    ) -> Result<Vec<(TableName, Extent)>, SnapshotError> {
        let failed =
            |source| SnapshotError::Leader { action: "read the sizes of the leader's tables", source };
        let extent = self.connection.prepare(EXTENT).await.map_err(failed)?;
        let mut extents = Vec::with_capacity(tables.len());
        for table in tables {
            let row =
                self.connection.query_one(&extent, &[&table.schema, &table.name]).await.map_err(failed)?;
            let rows = row.get::<_, Option<i64>>(1).and_then(|rows| u64::try_from(rows).ok());
            let bytes = u64::try_from(row.get::<_, i64>(0)).unwrap_or_default();
            extents.push((table, Extent { bytes, rows }));
        }
        Ok(extents)
    }

    /// Checks that somebody keeps the changes from now on: a copy is complete only together with its stream.
    ///
    /// # Errors
    /// [`SnapshotError::NoSlot`] when nobody does.
    pub(super) async fn check_slot(settings: &LeaderSettings) -> Result<(), SnapshotError> {
        let connection = connect(settings).await?;
        let failed = |source| SnapshotError::Leader { action: "look for the connector's slot", source };
        let found = connection
            .query_one(
                "SELECT EXISTS (SELECT FROM pg_replication_slots
                                WHERE slot_type = 'logical' AND database = current_database()
                                  AND confirmed_flush_lsn IS NOT NULL AND wal_status IS DISTINCT FROM 'lost')",
                &[],
            )
            .await
            .map_err(failed)?;
        if found.get(0) { Ok(()) } else { Err(SnapshotError::NoSlot) }
    }

    /// Where the leader's own stream goes on behind the snapshot.
    pub(super) fn position(&self) -> Option<Lsn> {
        self.position
    }

    /// What the snapshot sees.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// The tables that the leader publishes and the replicas get. Of a partitioned table that is published as a whole, its
    /// partitions are left out.
    ///
    /// # Errors
    /// When the leader does not answer, or there are none.
    pub async fn tables(&self, settings: &LeaderSettings) -> Result<Vec<TableName>, SnapshotError> {
        let rows = self
            .connection
            .query(
                "WITH published AS (
                     SELECT DISTINCT p.schemaname, p.tablename, c.oid
                     FROM pg_publication_tables p
                     JOIN pg_namespace n ON n.nspname = p.schemaname
                     JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
                     WHERE $1::text IS NULL OR p.pubname = $1)
                 SELECT schemaname::text, tablename::text FROM published p
                 WHERE NOT EXISTS (SELECT FROM pg_partition_ancestors(p.oid) a
                                   WHERE a.relid <> p.oid AND a.relid IN (SELECT oid FROM published))
                 ORDER BY 1, 2",
                &[&self.publication],
            )
            .await
            .map_err(|source| SnapshotError::Leader { action: "read the leader's publications", source })?;
        let names = rows.iter().map(table_name);
        let names: Vec<_> = names.filter(|name| !settings.excludes(name)).collect();
        // The stream would go on from here with nothing copied.
        if names.is_empty() {
            return Err(SnapshotError::NothingPublished(self.publication.clone()));
        }
        Ok(names)
    }

    /// How a table travels to this replica.
    ///
    /// # Errors
    /// When one side has no such table, or the replica's can't take the leader's rows.
    pub(crate) async fn shape(&self, replica: &Session, table: &TableName) -> Result<Shape, SnapshotError> {
        let failed = |source| SnapshotError::Leader { action: "read the leader's catalog", source };
        let published = self.published(table).await?;
        let there = self.connection.query(COLUMNS, &[&table.schema, &table.name]).await.map_err(failed)?;
        let here = replica.client().query(COLUMNS, &[&table.schema, &table.name]).await;
        let here = here.map_err(|source| crate::replica::ReplicaError::Postgres {
            action: "read the replica's catalog",
            source,
        })?;
        let there = table_of(&there).ok_or_else(|| SnapshotError::NotPublished(table.to_string()))?;
        let here = table_of(&here).ok_or_else(|| SnapshotError::NoTable(table.to_string()))?;
        Shape::new(table, &there, &here, published)
    }

    /// Since PostgreSQL 15 a publication may carry some columns or rows only.
    async fn published(&self, table: &TableName) -> Result<Published, SnapshotError> {
        let rows = self
            .connection
            .query(
                "SELECT DISTINCT ARRAY(SELECT jsonb_array_elements_text(to_jsonb(p) -> 'attnames')),
                        to_jsonb(p) ->> 'rowfilter', to_jsonb(p) ? 'attnames'
                 FROM pg_publication_tables p
                 WHERE ($1::text IS NULL OR p.pubname = $1) AND p.schemaname = $2 AND p.tablename = $3",
                &[&self.publication, &table.schema, &table.name],
            )
            .await
            .map_err(|source| SnapshotError::Leader { action: "read the leader's publications", source })?;
        let row = match rows.as_slice() {
            [] => return Err(SnapshotError::NotPublished(table.to_string())),
            [row] => row,
            _ => return Err(SnapshotError::Ambiguous(table.to_string())),
        };
        let columns = row.get::<_, bool>(2).then(|| row.get(0));
        Ok(Published { columns, row_filter: row.get(1) })
    }

    /// The rows that a statement gives, one message each.
    pub(super) async fn copy_out(
        &self,
        statement: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, tokio_postgres::Error>> + use<>, SnapshotError> {
        self.connection.copy_out(statement).await.map_err(Self::interrupted)
    }

    /// The error of a copy that broke off.
    pub(super) fn interrupted(source: tokio_postgres::Error) -> SnapshotError {
        SnapshotError::Leader { action: "copy a table from the leader", source }
    }
}

/// Connects, with the settings that a value's text depends on.
async fn connect(settings: &LeaderSettings) -> Result<Connection, SnapshotError> {
    let failed = |source| SnapshotError::Leader { action: "connect to the leader", source };
    let connecting = async {
        let connection = Connection::open(&settings.url, "replicator copy").await.map_err(failed)?;
        connection.batch_execute(&format!("{TEXT_FORM}{SETTINGS}")).await.map_err(failed)?;
        Ok(connection)
    };
    let limit = Duration::from_secs(CONNECT_SECONDS);
    tokio::time::timeout(limit, connecting).await.unwrap_or(Err(SnapshotError::TimedOut(CONNECT_SECONDS)))
}

/// Takes over the snapshot of a new slot, and returns the position that goes with it. Only a slot's snapshot has an exact one:
/// a commit may stand in the WAL for a while before others see it.
async fn import_snapshot(connection: &Connection, stream: &PostgresSettings) -> Result<Lsn, SnapshotError> {
    let mut slots = ReplicationConnection::connect(&stream.url, &[]).await?;
    let name = stream.temporary_slot();
    let created = create_slot(&mut slots, &name, Lifetime::Session, SlotSnapshot::Export).await?;
    set_snapshot(connection, &created.snapshot.unwrap_or_default()).await?;
    slots.close().await;
    Ok(created.consistent_point)
}

/// Makes the snapshot of this name that of the transaction, which has done nothing yet.
async fn set_snapshot(connection: &Connection, name: &str) -> Result<(), SnapshotError> {
    let set = format!("SET TRANSACTION SNAPSHOT '{}'", name.replace('\'', "''"));
    let set = connection.batch_execute(&set).await;
    set.map_err(|source| SnapshotError::Leader { action: "take over a snapshot", source })
}

fn table_of(rows: &[tokio_postgres::Row]) -> Option<CopyTable> {
    let is_partitioned = rows.first()?.get(3);
    let columns = rows.iter().map(|row| CopyColumn {
        name: row.get(0),
        portable_type: row.get::<_, Option<i64>>(1).and_then(|oid| u32::try_from(oid).ok()),
        is_generated: row.get(2),
    });
    Some(CopyTable { columns: columns.collect(), is_partitioned })
}
