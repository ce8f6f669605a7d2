//! The leader: all writes, and the reads that no replica may answer.

use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio_postgres::types::PgLsn;

use super::error::DbError;
use super::pool::{Access, BadUrl, Target, limits, pipelined, settle};
use super::statement::{Read, Write};
use crate::config::{LeaderConfig, Timeouts};
use crate::model::lsn::Lsn;

/// Asked right behind a write, on the same connection, when its COMMIT has happened: every replica whose watermark has
/// reached the answer shows the write. Asked before the COMMIT it would be unsound, for another commit may pass it.
const TOKEN_SQL: &str = "SELECT pg_current_wal_insert_lsn()";

/// What a write returns. There is no way to write without getting the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed<T> {
    /// What the statement returned.
    pub value: T,
    /// A replica that is complete up to here has the write.
    pub token: Lsn,
}

/// The leader's pools. Reads have their own: when all replicas are out, the readers may fill it, and the writers still
/// get through. Its size is the budget of reads that the leader takes over.
pub struct Leader {
    writers: Pool,
    readers: Pool,
    write_limit: Duration,
    read_limit: Duration,
}

impl Leader {
    /// How the leader is called; its `cluster_name` is the same.
    pub const NAME: &'static str = "leader";

    /// Makes the pools, without connecting.
    ///
    /// # Errors
    /// When the connection URL can't be understood.
    pub fn new(config: &LeaderConfig, timeouts: &Timeouts) -> Result<Self, BadUrl> {
        let pool = |access, size| {
            let (statement_timeout, connect_timeout) = limits(timeouts, access);
            Target { database: Self::NAME, url: &config.url, access, statement_timeout, connect_timeout }
                .pool(size)
        };
        Ok(Self {
            writers: pool(Access::ReadWrite, config.write_pool)?,
            readers: pool(Access::ReadOnly, config.read_pool)?,
            write_limit: limits(timeouts, Access::ReadWrite).0,
            read_limit: limits(timeouts, Access::ReadOnly).0,
        })
    }

    /// Makes a change, and takes the token behind it, in one round trip.
    ///
    /// # Errors
    /// When the leader can't be reached or refuses the change. After a time-out the change may still have happened.
    pub async fn write<W: Write>(&self, write: &W) -> Result<Committed<W::Output>, DbError> {
        let connection = self.writers.get().await?;
        let outcome = tokio::time::timeout(self.write_limit, commit(&connection, write)).await;
        settle(connection, outcome, self.write_limit)
    }

    /// Answers a read.
    ///
    /// # Errors
    /// When the leader can't be reached, or its budget of reads is used up.
    pub async fn read<R: Read>(&self, read: &R) -> Result<R::Output, DbError> {
        let connection = self.readers.get().await?;
        let outcome = tokio::time::timeout(self.read_limit, ask(&connection, read)).await;
        settle(connection, outcome, self.read_limit)
    }
}

async fn ask<R: Read>(connection: &Object, read: &R) -> Result<R::Output, tokio_postgres::Error> {
    let statement = connection.prepare_cached(R::SQL).await?;
    read.decode(&connection.query(&statement, &read.params()).await?)
}

async fn commit<W: Write>(
    connection: &Object,
    write: &W,
) -> Result<Committed<W::Output>, tokio_postgres::Error> {
    let (statement, token) =
        pipelined(connection.prepare_cached(W::SQL), connection.prepare_cached(TOKEN_SQL)).await?;
    let params = write.params();
    // Each statement is a transaction of its own, and the server takes them in order: the first one has committed when
    // the second one looks.
    let (rows, token) =
        pipelined(connection.query(&statement, &params), connection.query_one(&token, &[])).await?;
    let token = super::lsn(token.try_get::<_, PgLsn>(0)?);
    Ok(Committed { value: write.decode(&rows)?, token })
}
