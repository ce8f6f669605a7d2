//! What only the leader is asked. It touches no table.

use tokio_postgres::Row;

use crate::db::statement::{Params, Read};

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
