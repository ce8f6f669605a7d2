//! What only the leader is asked. Constant work: neither touches a table.

use tokio_postgres::Row;
use tokio_postgres::types::PgLsn;

use crate::db::statement::{Params, Read};
use crate::model::lsn::Lsn;

/// Where the leader's log ends. No true token is ahead of it.
pub struct LeaderPosition;

impl Read for LeaderPosition {
    type Output = Lsn;
    const SQL: &'static str = "SELECT pg_current_wal_insert_lsn()";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<Lsn, tokio_postgres::Error> {
        // A SELECT without FROM has exactly one row.
        Ok(Lsn(rows[0].try_get::<_, PgLsn>(0)?.into()))
    }
}

/// Whether the server that should be the leader is a standby, and so takes no writes.
pub struct IsInRecovery;

impl Read for IsInRecovery {
    type Output = bool;
    const SQL: &'static str = "SELECT pg_is_in_recovery()";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<bool, tokio_postgres::Error> {
        rows[0].try_get(0)
    }
}
