//! Equality of two databases, table by table.

use std::collections::{BTreeMap, HashMap};
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

/// What a table has on one side only, for a failed comparison: the first rows of each side, cut off where they are long.
///
/// Reads the whole table, both times.
pub async fn unequal_rows(mine: &Client, theirs: &Client, table: &str) -> anyhow::Result<String> {
    const SHOWN: usize = 3;
    let query = format!("SELECT t::text FROM {table} AS t ORDER BY 1");
    let mut here = Vec::new();
    let mut there: HashMap<String, usize> = HashMap::new();
    for row in theirs.query(&query, &[]).await.context("read the rows of the other side")? {
        *there.entry(row.get(0)).or_default() += 1;
    }
    for row in mine.query(&query, &[]).await.context("read the rows")? {
        let text: String = row.get(0);
        match there.get_mut(&text) {
            Some(count) if *count > 0 => *count -= 1,
            _ => here.push(text),
        }
    }
    let mut there: Vec<_> = there.into_iter().filter(|(_, count)| *count > 0).map(|(text, _)| text).collect();
    there.sort_unstable();
    let shown = |rows: &[String]| {
        let cut = rows.iter().take(SHOWN).map(|row| row.chars().take(120).collect::<String>());
        format!("{} rows: {}", rows.len(), cut.collect::<Vec<_>>().join(", "))
    };
    Ok(format!("on one side {}; on the other {}", shown(&here), shown(&there)))
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
    /// The tables that differ from `other`'s, and how, in words; empty when none does.
    pub fn differences(&self, other: &Self) -> Vec<(String, String)> {
        let differences = self.0.iter().filter_map(|(name, mine)| {
            let how = match other.0.get(name) {
                Some(theirs) if mine == theirs => return None,
                Some(theirs) if mine.rows == theirs.rows => {
                    format!("{} rows on both, but they differ", mine.rows)
                }
                Some(theirs) => format!("{} rows against {}", mine.rows, theirs.rows),
                None => "not read on the other side".to_owned(),
            };
            Some((name.clone(), how))
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
