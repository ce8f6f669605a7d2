//! Equality of two databases, table by table.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, ensure};
use tokio_postgres::Client;

/// The demo's tables. Not `cdc.heartbeat`, which the connector changes every second: no two looks at it agree.
pub const TABLES: &[&str] = &["accounts", "comments", "likes", "posts", "transfers"];

/// Row count and checksum of each table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents(BTreeMap<String, Table>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    rows: i64,
    checksum: String,
}

/// Reads `client`'s [`TABLES`] in one snapshot. Each row counts by its text, as P3 promises it: `row::text`.
pub async fn contents(client: &Client) -> anyhow::Result<Contents> {
    let tables: Vec<String> = TABLES.iter().map(|&name| name.to_owned()).collect();
    contents_of(client, &tables).await
}

/// The tables that the leader publishes for the replicas, as SQL names, but for the heartbeat's.
pub async fn published(leader: &Client) -> anyhow::Result<Vec<String>> {
    const QUERY: &str = "
        SELECT format('%I.%I', schemaname, tablename) FROM pg_publication_tables
        WHERE pubname = 'cdc' AND schemaname <> 'cdc' ORDER BY 1";
    let rows = leader.query(QUERY, &[]).await.context("read the publication")?;
    ensure!(!rows.is_empty(), "the leader publishes nothing");
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Reads these tables, given as SQL names, in one snapshot. A row that is there twice counts twice.
pub async fn contents_of(client: &Client, tables: &[String]) -> anyhow::Result<Contents> {
    let queries = tables.iter().map(|table| {
        let literal = table.replace('\'', "''");
        // Hash per row first: the rows' texts together may not fit into one string.
        format!(
            "SELECT '{literal}', count(*), coalesce(md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))), '') FROM {table} AS t"
        )
    });
    let query = queries.collect::<Vec<_>>().join(" UNION ALL ");
    // The text of a value depends on these, and must not depend on the server's defaults.
    client
        .batch_execute("SET timezone = 'UTC'; SET datestyle = 'ISO'; SET extra_float_digits = 1")
        .await
        .context("fix the output format")?;
    let rows = client.query(&query, &[]).await.context("read the checksums")?;
    ensure!(rows.len() == tables.len(), "read {} of {} tables", rows.len(), tables.len());
    let found = rows.iter().map(|row| (row.get(0), Table { rows: row.get(1), checksum: row.get(2) }));
    Ok(Contents(found.collect()))
}

impl Contents {
    /// What differs from `other`, in words; empty when nothing does.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let differences = self.0.iter().filter_map(|(name, mine)| match other.0.get(name) {
            Some(theirs) if mine == theirs => None,
            Some(theirs) if mine.rows == theirs.rows => {
                Some(format!("{name}: {} rows on both, but they differ", mine.rows))
            }
            Some(theirs) => Some(format!("{name}: {} rows against {}", mine.rows, theirs.rows)),
            None => Some(format!("{name}: not read on the other side")),
        });
        differences.collect()
    }

    /// How many tables and rows these are.
    pub fn size(&self) -> (usize, i64) {
        (self.0.len(), self.0.values().map(|table| table.rows).sum())
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.0.iter().map(|(name, table)| format!("{name} {}", table.rows));
        write!(f, "{}", tables.collect::<Vec<_>>().join(", "))
    }
}
