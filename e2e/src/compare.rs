//! Equality of two databases, table by table.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, ensure};
use tokio_postgres::Client;

/// The demo's tables. Not `cdc.heartbeat`, which the connector changes every second: no two looks at it agree.
pub const TABLES: &[&str] = &["accounts", "comments", "likes", "posts", "transfers"];

/// Row count and checksum of each table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents(BTreeMap<&'static str, Table>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    rows: i64,
    checksum: String,
}

/// Reads `client`'s [`TABLES`] in one snapshot. Each row counts by its text, as P3 promises it: `row::text`.
pub async fn contents(client: &Client) -> anyhow::Result<Contents> {
    let tables = TABLES.iter().map(|table| {
        // Hash per row first: the rows' texts together may not fit into one string.
        format!(
            "SELECT '{table}', count(*), coalesce(md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))), '') FROM {table} AS t"
        )
    });
    let query = tables.collect::<Vec<_>>().join(" UNION ALL ");
    // The text of a value depends on these, and must not depend on the server's defaults.
    client
        .batch_execute("SET timezone = 'UTC'; SET datestyle = 'ISO'; SET extra_float_digits = 1")
        .await
        .context("fix the output format")?;
    let rows = client.query(&query, &[]).await.context("read the checksums")?;
    ensure!(rows.len() == TABLES.len(), "read {} of {} tables", rows.len(), TABLES.len());
    let found = TABLES.iter().map(|name| {
        let row = rows.iter().find(|row| row.get::<_, &str>(0) == *name).context("find the table")?;
        Ok((*name, Table { rows: row.get(1), checksum: row.get(2) }))
    });
    Ok(Contents(found.collect::<anyhow::Result<_>>()?))
}

impl Contents {
    /// What differs from `other`, in words; empty when nothing does.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let pairs = self.0.iter().zip(other.0.values()).filter(|((_, mine), theirs)| mine != theirs);
        pairs
            .map(|((name, mine), theirs)| {
                if mine.rows == theirs.rows {
                    format!("{name}: {} rows on both, but they differ", mine.rows)
                } else {
                    format!("{name}: {} rows against {}", mine.rows, theirs.rows)
                }
            })
            .collect()
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.0.iter().map(|(name, table)| format!("{name} {}", table.rows));
        write!(f, "{}", tables.collect::<Vec<_>>().join(", "))
    }
}
