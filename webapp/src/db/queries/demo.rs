//! The reads that demo runs repeat, and the writes beside them.

use tokio_postgres::Row;
use uuid::Uuid;

use crate::db::statement::{Params, Read, Write};

/// Finds the newest post, and lets the database say who it is.
pub struct WhoAnswers;

/// What a database says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Its `cluster_name`.
    pub name: String,
    /// The port it listens on; none on a Unix socket.
    pub port: Option<i32>,
    /// The newest post: a read of the application's own data, not only of a setting.
    pub newest: Option<Uuid>,
}

impl Read for WhoAnswers {
    type Output = Introduction;
    const SQL: &'static str = "
        SELECT current_setting('cluster_name') AS name, inet_server_port() AS port,
               (SELECT id FROM posts ORDER BY created_at DESC, id DESC LIMIT 1) AS newest";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<Introduction, tokio_postgres::Error> {
        // A SELECT without FROM has exactly one row.
        let row = &rows[0];
        Ok(Introduction {
            name: row.try_get("name")?,
            port: row.try_get("port")?,
            newest: row.try_get("newest")?,
        })
    }
}

/// Lets the database say who it is, and what the experiments look at: the counter that [`Count`] raises, and the sum of all
/// balances. All of it is of one snapshot.
pub struct WhatIsThere;

/// What a database says about itself and about the experiments' rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its `cluster_name`.
    pub name: String,
    /// The port it listens on; none on a Unix socket.
    pub port: Option<i32>,
    /// The counter; 0 when nobody has counted yet.
    pub counter: u64,
    /// The sum of all balances, as PostgreSQL writes it.
    pub sum: String,
}

impl Read for WhatIsThere {
    type Output = Finding;
    const SQL: &'static str = "
        SELECT current_setting('cluster_name') AS name, inet_server_port() AS port,
               coalesce((SELECT substring(note FROM '^count ([0-9]{1,18})$')::bigint FROM accounts WHERE id = 1), 0) AS counter,
               (SELECT coalesce(sum(balance), 0)::text FROM accounts) AS sum";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<Finding, tokio_postgres::Error> {
        // A SELECT without FROM has exactly one row.
        let row = &rows[0];
        Ok(Finding {
            name: row.try_get("name")?,
            port: row.try_get("port")?,
            counter: row.try_get::<_, i64>("counter")?.unsigned_abs(),
            sum: row.try_get("sum")?,
        })
    }
}

/// Raises the experiments' counter, which is the note of the first account, and returns it.
pub struct Count;

impl Write for Count {
    type Output = u64;
    const SQL: &'static str = "
        UPDATE accounts
           SET note = 'count ' || coalesce(substring(note FROM '^count ([0-9]{1,18})$')::bigint, 0) + 1
         WHERE id = 1
        RETURNING substring(note FROM '^count ([0-9]{1,18})$')::bigint";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<u64, tokio_postgres::Error> {
        // Without the account there is nothing to count: the experiment then sees no versions.
        rows.first().map_or(Ok(0), |row| Ok(row.try_get::<_, i64>(0)?.unsigned_abs()))
    }
}

/// Moves one unit from an account to another, with its record, in one transaction.
pub struct Transfer {
    /// Whose it was.
    pub from: i64,
    /// Whose it will be.
    pub to: i64,
}

impl Write for Transfer {
    type Output = ();
    const SQL: &'static str = "
        WITH recorded AS (INSERT INTO transfers (src, dst, amount) VALUES ($1, $2, 1))
        UPDATE accounts SET balance = balance + CASE id WHEN $1 THEN -1 ELSE 1 END WHERE id IN ($1, $2)";

    fn params(&self) -> Params<'_> {
        vec![&self.from, &self.to]
    }

    fn decode(&self, _: &[Row]) -> Result<(), tokio_postgres::Error> {
        Ok(())
    }
}
