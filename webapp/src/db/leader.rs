//! The leader: all writes, and the reads that no replica may answer.

use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio_postgres::Row;
use tokio_postgres::types::PgLsn;

use super::error::DbError;
use super::pool::{Access, BadUrl, Target, limits, pipelined, settle};
use super::statement::{Read, Write};
use super::token::{History, Token};
use crate::config::{LeaderConfig, Timeouts};

/// Asked right behind a write, on the same connection, when its COMMIT has happened: every replica whose watermark has
/// reached the answer shows the write. Asked before the COMMIT it would be unsound, for another commit may pass it. Asked
/// behind a read it is, for the same reason, at or beyond everything that the read has shown.
///
/// The history is the system's identifier and the timeline, which the first eight digits of a WAL file's name are. A standby
/// has replayed up to its position, and its timeline is not told that way.
const POSITION_SQL: &str = "
    SELECT position, in_recovery, system_identifier,
           CASE WHEN NOT in_recovery THEN left(pg_walfile_name(position), 8) END AS timeline
    FROM (SELECT pg_is_in_recovery()) AS r (in_recovery),
         LATERAL (SELECT CASE WHEN in_recovery THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END) AS p (position),
         pg_control_system() AS c";

/// Asked within the transaction of a write, in 32 bits as the log and the replicas have it; nothing if nothing was written.
const XID_SQL: &str = "SELECT pg_current_xact_id_if_assigned()::text::bigint & 4294967295 AS xid";

/// What a write returns. There is no way to write without getting the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed<T> {
    /// What the statement returned.
    pub value: T,
    /// Who meets it has the write.
    pub token: Token,
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
        Ok(self.read_with_position(read).await?.0)
    }

    /// Answers a read, and says what a later answer must hold in order not to be older.
    ///
    /// # Errors
    /// As for [`Leader::read`].
    pub async fn read_with_position<R: Read>(&self, read: &R) -> Result<(R::Output, Token), DbError> {
        let connection = self.readers.get().await?;
        let outcome = tokio::time::timeout(self.read_limit, ask(&connection, read)).await;
        settle(connection, outcome, self.read_limit)
    }

    /// Where its log ends, and of which history it is.
    ///
    /// # Errors
    /// As for [`Leader::read`].
    pub async fn position(&self) -> Result<Token, DbError> {
        let connection = self.readers.get().await?;
        let position = async {
            let position = connection.prepare_cached(POSITION_SQL).await?;
            token(&connection.query_one(&position, &[]).await?)
        };
        let outcome = tokio::time::timeout(self.read_limit, position).await;
        settle(connection, outcome, self.read_limit)
    }
}

async fn ask<R: Read>(connection: &Object, read: &R) -> Result<(R::Output, Token), tokio_postgres::Error> {
    let (statement, position) =
        pipelined(connection.prepare_cached(R::SQL), connection.prepare_cached(POSITION_SQL)).await?;
    let params = read.params();
    let (rows, position) =
        pipelined(connection.query(&statement, &params), connection.query_one(&position, &[])).await?;
    Ok((read.decode(&rows)?, token(&position)?))
}

/// From the row of [`POSITION_SQL`].
fn token(row: &Row) -> Result<Token, tokio_postgres::Error> {
    let lsn = super::position(row.try_get::<_, PgLsn>("position")?);
    let timeline = row.try_get::<_, Option<&str>>("timeline")?;
    let timeline = timeline.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let system = u64::try_from(row.try_get::<_, i64>("system_identifier")?).ok();
    let history = system.zip(timeline).map(|(system, timeline)| History { system, timeline });
    Ok(Token::of_read(lsn, history))
}

async fn commit<W: Write>(
    connection: &Object,
    write: &W,
) -> Result<Committed<W::Output>, tokio_postgres::Error> {
    let (statement, xid, position) = futures_util::future::try_join3(
        connection.prepare_cached(W::SQL),
        connection.prepare_cached(XID_SQL),
        connection.prepare_cached(POSITION_SQL),
    )
    .await?;
    let params = write.params();
    // All of it is queued at once, in this order, and the server takes it in order: the transaction has committed when the
    // last statement looks, and whatever becomes of this future, no transaction stays open. When the write is refused,
    // COMMIT rolls back, and the refusal is the error that comes back, since it comes first.
    let (_, rows, xid, _, position) = futures_util::future::try_join5(
        connection.batch_execute("BEGIN"),
        connection.query(&statement, &params),
        connection.query_one(&xid, &[]),
        connection.batch_execute("COMMIT"),
        connection.query_one(&position, &[]),
    )
    .await?;
    let Token { lsn, history, .. } = token(&position)?;
    let xid = xid.try_get::<_, Option<i64>>("xid")?.and_then(|xid| u32::try_from(xid).ok());
    Ok(Committed { value: write.decode(&rows)?, token: Token::of_write(lsn, xid, history) })
}
