//! Publications: what of the leader the stream carries.

use super::ReplicationConnection;
use super::error::{PostgresSourceError, unreadable};
use super::slot::{identifier, literal};
use crate::vocabulary::schema::TableName;

/// A row of `pg_publication`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the columns of the catalog")]
pub struct Publication {
    /// Whether it has all tables, later ones too.
    pub all_tables: bool,
    /// Whether changes of partitions come as changes of the partitioned table.
    pub via_root: bool,
    /// Whether inserts are published.
    pub inserts: bool,
    /// Whether updates are.
    pub updates: bool,
    /// Whether deletes are.
    pub deletes: bool,
    /// Whether truncates are.
    pub truncates: bool,
}

/// What a new publication has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishedTables<'a> {
    /// All tables, later ones too; only a superuser can make it.
    All,
    /// These.
    Only(&'a [TableName]),
}

/// The publication of this name, if there is one.
///
/// # Errors
/// When the leader does not answer.
pub async fn find_publication(
    connection: &mut ReplicationConnection,
    name: &str,
) -> Result<Option<Publication>, PostgresSourceError> {
    let sql = format!(
        "SELECT puballtables, pubviaroot, pubinsert, pubupdate, pubdelete, pubtruncate FROM pg_publication WHERE pubname = {}",
        literal(name)
    );
    let rows = connection.simple_query("look for the publication", &sql).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let flags: Vec<_> = row.iter().map(|flag| flag.as_deref() == Some("t")).collect();
    let [all_tables, via_root, inserts, updates, deletes, truncates] = flags[..] else {
        return Err(unreadable("pg_publication"));
    };
    Ok(Some(Publication { all_tables, via_root, inserts, updates, deletes, truncates }))
}

/// The tables that a publication carries, by name: partitioned ones or their partitions, as
/// `publish_via_partition_root` says.
///
/// # Errors
/// When the leader does not answer.
pub async fn published_tables(
    connection: &mut ReplicationConnection,
    name: &str,
) -> Result<Vec<TableName>, PostgresSourceError> {
    let sql = format!(
        "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = {} ORDER BY 1, 2",
        literal(name)
    );
    let rows = connection.simple_query("list the published tables", &sql).await?;
    let table = |row: super::TextRow| match <[Option<String>; 2]>::try_from(row) {
        Ok([Some(schema), Some(name)]) => Ok(TableName { schema, name }),
        _ => Err(unreadable("pg_publication_tables")),
    };
    rows.into_iter().map(table).collect()
}

/// Makes a publication of inserts, updates, deletes and truncates; changes of partitions come as those of the partitioned
/// table, or a replica would need the leader's partitions.
///
/// # Errors
/// When the name is taken, a table is missing, or the leader's user may not: it needs CREATE on the database and to own the
/// tables.
pub async fn create_publication(
    connection: &mut ReplicationConnection,
    name: &str,
    tables: PublishedTables<'_>,
) -> Result<(), PostgresSourceError> {
    let tables = match tables {
        PublishedTables::All => " FOR ALL TABLES".to_owned(),
        PublishedTables::Only([]) => String::new(),
        PublishedTables::Only(tables) => {
            let names = tables.iter().map(|t| format!("{}.{}", identifier(&t.schema), identifier(&t.name)));
            format!(" FOR TABLE {}", names.collect::<Vec<_>>().join(", "))
        }
    };
    let sql =
        format!("CREATE PUBLICATION {}{tables} WITH (publish_via_partition_root = true)", identifier(name));
    connection.simple_query("make the publication", &sql).await.map(drop)
}
