//! What a page shows of one replica on request. Not constant work: the row counts read every table, within the
//! statement's time limit.

use tokio_postgres::Row;

use crate::db::statement::{Params, Read};
use crate::model::status::detail::{Refused, RowCount, TableCounters};

/// The counters of the application's tables, from the server's statistics.
pub struct Counters;

impl Read for Counters {
    type Output = Vec<TableCounters>;
    const SQL: &'static str = "
        SELECT schemaname || '.' || relname AS name, n_tup_ins, n_tup_upd, n_tup_del, n_live_tup
        FROM pg_stat_user_tables WHERE schemaname <> 'replicator' ORDER BY 1";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<Vec<TableCounters>, tokio_postgres::Error> {
        let counters = |row: &Row| {
            Ok(TableCounters {
                table: row.try_get("name")?,
                inserted: row.try_get("n_tup_ins")?,
                updated: row.try_get("n_tup_upd")?,
                deleted: row.try_get("n_tup_del")?,
                rows_about: row.try_get("n_live_tup")?,
            })
        };
        rows.iter().map(counters).collect()
    }
}

/// How many rows each table has that the caller may read, counted in one snapshot. A statement can't name tables that it
/// finds out about itself; `query_to_xml` can.
pub struct RowCounts;

impl Read for RowCounts {
    type Output = Vec<RowCount>;
    const SQL: &'static str = "
        SELECT schemaname || '.' || tablename AS name,
               ((xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %I.%I', schemaname, tablename),
                                                     false, true, '')))[1]::text)::bigint AS rows
        FROM pg_tables
        WHERE schemaname NOT LIKE 'pg\\_%' AND schemaname NOT IN ('information_schema', 'replicator')
          AND has_schema_privilege(schemaname, 'USAGE')
          AND has_table_privilege(format('%I.%I', schemaname, tablename), 'SELECT')
        ORDER BY 1";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<Vec<RowCount>, tokio_postgres::Error> {
        rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("rows")?))).collect()
    }
}

/// The oldest changes in the quarantine that nobody has decided about.
pub struct Quarantined;

impl Quarantined {
    /// The most that are shown; the command line shows all.
    pub const SHOWN: usize = 50;
}

impl Read for Quarantined {
    type Output = Vec<Refused>;
    const SQL: &'static str = "
        SELECT id, quarantined_at, table_schema || '.' || table_name AS name, operation, key::text AS key, sqlstate, message,
               topic || '/' || partition || ' at ' || \"offset\" AS place, xid, retries
        FROM replicator.quarantine WHERE resolution IS NULL ORDER BY id LIMIT 50";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<Vec<Refused>, tokio_postgres::Error> {
        let refused = |row: &Row| {
            Ok(Refused {
                id: row.try_get("id")?,
                at: row.try_get("quarantined_at")?,
                table: row.try_get("name")?,
                operation: row.try_get("operation")?,
                key: row.try_get("key")?,
                sqlstate: row.try_get("sqlstate")?,
                message: row.try_get("message")?,
                place: row.try_get("place")?,
                xid: row.try_get("xid")?,
                retries: row.try_get("retries")?,
            })
        };
        rows.iter().map(refused).collect()
    }
}
