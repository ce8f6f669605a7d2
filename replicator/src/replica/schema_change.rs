//! Follows the leader's additive DDL, which no stream carries: it shows in events whose fields are not the replica's
//! columns, or whose table the replica lacks. What only adds is done here as on the leader; anything else is told with
//! the SQL to run.
//!
//! Everything before such an event has been applied when its turn comes, so the replica's rows are the leader's rows of
//! the moment at which the leader's table was altered: `ALTER TABLE` waits for everyone who writes to it.

mod ddl;
pub mod diff;

use std::sync::Arc;

use tokio_postgres::Client;

use self::diff::{Mismatch, Own, Refusal, Remedy};
use super::catalog::table_name;
use super::definition::{self, TableDefinition, TypeDefinition, TypeKind};
use super::leader::LeaderSession;
use super::session::Session;
use super::{ReplicaError, catalog};
use crate::decode::debezium::DecodeError;
use crate::replica::sql::quoted_table;
use crate::vocabulary::schema::{Filler, TableName};

/// What the stream met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// An event of a table that the replica lacks.
    UnknownTable(TableName),
    /// An event whose fields are not the columns of the replica's table.
    Shape {
        /// The table.
        table: TableName,
        /// Fields that the replica's table lacks.
        unknown: Vec<String>,
        /// Columns that the event lacks.
        missing: Vec<String>,
    },
    /// A value or a row that the replica refuses, of a table named as `schema.table`: perhaps a label of an enumeration is
    /// new, or a partition, or a column's type was changed.
    Refused(Arc<str>),
}

impl Cause {
    /// What a record that can't be decoded says of the leader's schema.
    pub fn of_record(error: &DecodeError) -> Option<Self> {
        match error {
            DecodeError::UnknownTable(table) => Some(Cause::UnknownTable(table.clone())),
            DecodeError::Shape { table, unknown, missing } => Some(Cause::Shape {
                table: table.clone(),
                unknown: unknown.clone(),
                missing: missing.clone(),
            }),
            DecodeError::Value { table, .. }
            | DecodeError::IncompleteKey { table, .. }
            | DecodeError::NoOldRow(table) => Some(Cause::Refused(table.to_string().into())),
            _ => None,
        }
    }

    /// What a change that a replica refuses may say: values of another type or out of range, new labels, and rows without a
    /// partition, which PostgreSQL calls a violated check.
    pub fn of_replica(error: &ReplicaError) -> Option<Self> {
        let ReplicaError::Change { table, source, .. } = error else { return None };
        let code = source.code()?.code();
        let is_of_schema = code.starts_with("22") || code.starts_with("42") || code == "23514";
        is_of_schema.then(|| Cause::Refused(table.as_str().into()))
    }
}

/// What was done, and what is known now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Followed {
    /// The statements that were run on the replica.
    pub statements: Vec<String>,
    /// Columns that events may lack: table, column, and what stands in for it.
    pub fillers: Vec<(TableName, String, Filler)>,
}

/// Makes the replica fit for what the stream met, as its owner of `epoch`. With `additive` false nothing is run. Doing it
/// again is harmless: the definitions are compared afresh, and what is run is committed as one.
///
/// # Errors
/// [`ReplicaError::Schema`] when it takes the operator; also when either server can't be asked.
pub async fn follow(
    replica: &Session,
    epoch: i64,
    leader: &LeaderSession,
    additive: bool,
    cause: &Cause,
) -> Result<Followed, ReplicaError> {
    let client = replica.client();
    let (statements, fillers) = match cause {
        Cause::UnknownTable(name) => (new_table(client, leader.client(), name).await?, vec![]),
        Cause::Shape { table, unknown, missing } => {
            let mismatch = Mismatch { unknown, missing };
            let remedy = other_shape(client, leader.client(), table, mismatch).await?;
            remedy.notes.iter().for_each(|note| tracing::warn!("{note}"));
            let fillers = remedy.fillers.into_iter().map(|(column, filler)| (table.clone(), column, filler));
            (remedy.statements, fillers.collect())
        }
        Cause::Refused(table) => (refused(client, leader.client(), table).await?, vec![]),
    };
    if !statements.is_empty() {
        if !additive {
            let what = "the leader's schema was changed, and schema.additive is off".to_owned();
            return Err(ReplicaError::Schema { what, sql: statements });
        }
        // A new label can't be used before its transaction has ended.
        let (labels, rest): (Vec<_>, Vec<_>) = statements.iter().partition(|s| ddl::is_label(s));
        for statements in [labels, rest].iter().filter(|statements| !statements.is_empty()) {
            run(client, epoch, statements).await?;
        }
    }
    Ok(Followed { statements, fillers })
}

impl From<Refusal> for ReplicaError {
    fn from(refusal: Refusal) -> Self {
        ReplicaError::Schema { what: refusal.reason, sql: refusal.sql }
    }
}

/// Runs the statements as one transaction, if the replica still belongs to this owner.
async fn run(replica: &Client, epoch: i64, statements: &[&String]) -> Result<(), ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "follow the leader's schema", source };
    // Behind a long reader the statement would wait, and every new reader behind it.
    replica.batch_execute("BEGIN; SET LOCAL lock_timeout = '500ms'").await.map_err(failed)?;
    let ran = async {
        let row = replica
            .query_one("SELECT epoch, coalesce(owner, 'unknown') FROM replicator.checkpoint FOR UPDATE", &[])
            .await
            .map_err(failed)?;
        if row.get::<_, i64>(0) != epoch {
            return Err(ReplicaError::Owned { owner: row.get(1) });
        }
        for statement in statements {
            if let Err(source) = replica.batch_execute(statement).await {
                let is_ours = ReplicaError::Postgres { action: "follow the leader's schema", source };
                if !is_ours.disposition().halts() {
                    return Err(is_ours);
                }
                let sql = statements.iter().map(|s| (*s).clone()).collect();
                return Err(ReplicaError::Schema { what: is_ours.to_string(), sql });
            }
        }
        replica.batch_execute("COMMIT").await.map_err(failed)
    }
    .await;
    if ran.is_err() {
        // The session is given up with the attempt; this only lets the locks go sooner.
        replica.batch_execute("ROLLBACK").await.ok();
    }
    ran
}

/// The statements that make a table that only the leader has.
async fn new_table(replica: &Client, leader: &Client, name: &TableName) -> Result<Vec<String>, ReplicaError> {
    if definition::load(replica, name).await?.is_some() {
        return Ok(vec![]);
    }
    let Some(wanted) = definition::load(leader, name).await? else {
        return Err(ReplicaError::TableGone(name.clone()));
    };
    create(replica, &wanted).await
}

/// The statements that make a table like this one, with what it needs.
///
/// # Errors
/// When it needs what only the operator can make, or the replica can't be asked.
pub async fn create(replica: &Client, wanted: &TableDefinition) -> Result<Vec<String>, ReplicaError> {
    let mut schemas: Vec<&str> = wanted.types.iter().map(|t| t.name.schema.as_str()).collect();
    schemas.push(&wanted.name.schema);
    schemas.sort_unstable();
    schemas.dedup();
    let mut statements = Vec::new();
    for schema in schemas {
        let known = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
        let failed = |source| ReplicaError::Postgres { action: "look for a schema", source };
        if !replica.query_one(known, &[&schema]).await.map_err(failed)?.get::<_, bool>(0) {
            statements.push(ddl::create_schema(schema));
        }
    }
    statements.extend(diff::types(&wanted.types, &own_types(replica, &wanted.types).await?)?);
    statements.extend(ddl::create_table(wanted));
    Ok(statements)
}

async fn other_shape(
    replica: &Client,
    leader: &Client,
    name: &TableName,
    mismatch: Mismatch<'_>,
) -> Result<Remedy, ReplicaError> {
    let (wanted, own) = (definition::load(leader, name).await?, definition::load(replica, name).await?);
    let tables = catalog::load(replica).await?;
    let (Some(wanted), Some(own), Some(table)) = (wanted, own, tables.table(&name.schema, &name.name)) else {
        let what = format!(
            "the leader has dropped {name} since the event was written, so its columns are not known"
        );
        return Err(ReplicaError::Schema { what, sql: vec![] });
    };
    // Meanwhile somebody may have mended a part.
    let unknown: Vec<String> = mismatch.unknown.iter().filter(|u| own.column(u).is_none()).cloned().collect();
    let missing: Vec<String> = mismatch.missing.iter().filter(|m| own.column(m).is_some()).cloned().collect();
    let empty = format!("SELECT NOT EXISTS (SELECT FROM {})", quoted_table(name));
    let failed = |source| ReplicaError::Postgres { action: "look whether a table is empty", source };
    let is_empty = replica.query_one(&empty, &[]).await.map_err(failed)?.get(0);
    let own = Own { definition: &own, table, is_empty };
    let mismatch = Mismatch { unknown: &unknown, missing: &missing };
    let mut remedy = diff::remedy(&wanted, own, mismatch)?;
    if !remedy.statements.is_empty() {
        let mut first = diff::types(&wanted.types, &own_types(replica, &wanted.types).await?)?;
        first.append(&mut remedy.statements);
        remedy.statements = first;
    }
    Ok(remedy)
}

/// What may have made the replica refuse a value or a row.
async fn refused(replica: &Client, leader: &Client, full_name: &str) -> Result<Vec<String>, ReplicaError> {
    let Some(name) = named(replica, full_name).await? else { return Ok(vec![]) };
    let (wanted, own) = (definition::load(leader, &name).await?, definition::load(replica, &name).await?);
    let (Some(wanted), Some(own)) = (wanted, own) else { return Ok(vec![]) };
    let differences = diff::compare(&wanted, &own);
    if !differences.is_empty() {
        let what = differences.iter().map(|d| d.what.as_str()).collect::<Vec<_>>().join("; ");
        return Err(ReplicaError::Schema {
            what,
            sql: differences.into_iter().flat_map(|d| d.sql).collect(),
        });
    }
    let mut statements = diff::types(&wanted.types, &own_types(replica, &wanted.types).await?)?;
    for partition in partitions(leader, &name).await? {
        if definition::load(replica, &partition).await?.is_none()
            && let Some(wanted) = definition::load(leader, &partition).await?
        {
            statements.extend(ddl::create_table(&wanted));
        }
    }
    Ok(statements)
}

/// The table that is written `schema.table`.
async fn named(client: &Client, full_name: &str) -> Result<Option<TableName>, ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "look for a table", source };
    let row = client
        .query_opt(
            "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE concat(n.nspname, '.', c.relname) = $1 AND c.relkind IN ('r', 'p')",
            &[&full_name],
        )
        .await
        .map_err(failed)?;
    Ok(row.as_ref().map(table_name))
}

/// All partitions below a table, those first that others are divided from.
async fn partitions(client: &Client, name: &TableName) -> Result<Vec<TableName>, ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "look for partitions", source };
    let rows = client
        .query(
            "SELECT n.nspname::text, c.relname::text
             FROM pg_class root JOIN pg_namespace r ON r.oid = root.relnamespace
             CROSS JOIN LATERAL pg_partition_tree(root.oid) p
             JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE r.nspname = $1 AND root.relname = $2 AND p.level > 0
             ORDER BY p.level, 1, 2",
            &[&name.schema, &name.name],
        )
        .await
        .map_err(failed)?;
    Ok(rows.iter().map(table_name).collect())
}

/// The replica's types of the same names.
async fn own_types(replica: &Client, wanted: &[TypeDefinition]) -> Result<Vec<TypeDefinition>, ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "look for types", source };
    let mut found = Vec::new();
    for definition in wanted {
        let row = replica
            .query_opt(
                "SELECT ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder),
                        t.typtype = 'e'
                 FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
                 WHERE n.nspname = $1 AND t.typname = $2",
                &[&definition.name.schema, &definition.name.name],
            )
            .await
            .map_err(failed)?;
        if let Some(row) = row {
            let kind = if row.get(1) { TypeKind::Enum(row.get(0)) } else { TypeKind::Other };
            found.push(TypeDefinition { name: definition.name.clone(), kind });
        }
    }
    Ok(found)
}
