//! Connections of the sampler's own, one per database: a pool that is used up must not look like a database that is down,
//! and what the sampler asks must not count as somebody's read.

use std::time::Duration;

use deadpool_postgres::Pool;
use jiff::Timestamp;

use super::error::DbError;
use super::leader::Leader;
use super::pool::{Access, BadUrl, Target, limits, settle};
use super::queries::status::{LeaderState, ReplicaState, Slots};
use super::replica::Health;
use super::set::ReplicaSet;
use super::statement::Read;
use crate::config::{Config, ConnectionUrl, Timeouts};
use crate::model::status::facts::{LeaderFacts, ReplicaFacts};

/// Looks at the databases.
pub struct Observers {
    leader: Observer,
    replicas: Vec<Observer>,
}

impl Observers {
    /// Makes the pools, without connecting.
    ///
    /// # Errors
    /// When a connection URL can't be understood.
    pub fn new(config: &Config) -> Result<Self, BadUrl> {
        let limit = Duration::from_millis(config.health.timeout_ms);
        let replica = |replica: &crate::config::ReplicaConfig| {
            Observer::new(&replica.name, &replica.url, &config.timeouts, limit)
        };
        Ok(Self {
            leader: Observer::new(Leader::NAME, &config.leader.url, &config.timeouts, limit)?,
            replicas: config.replicas.iter().map(replica).collect::<Result<_, _>>()?,
        })
    }

    /// How the leader is now.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub async fn leader(&self) -> Result<LeaderFacts, DbError> {
        let facts = self.leader.ask(&LeaderState).await?;
        Ok(LeaderFacts { slots: self.leader.ask(&Slots).await?, ..facts })
    }

    /// How each replica of `set` is now, in the order of the configuration. They are asked at the same time. One that is out
    /// is its monitor's to reach: a second caller at the door of a server that can't cope makes nothing better.
    pub async fn replicas(&self, set: &ReplicaSet) -> Vec<Result<ReplicaFacts, String>> {
        let asked = self.replicas.iter().zip(set.iter()).map(async |(observer, replica)| {
            if let Health::Down { reason, .. } = replica.status().health {
                return Err(reason.to_owned());
            }
            let asked_at = Timestamp::now();
            observer.ask(&ReplicaState { asked_at }).await.map_err(|error| error.words().to_owned())
        });
        futures_util::future::join_all(asked).await
    }

    /// Asks one replica something, by its place in the configuration; for what a page shows on request.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub async fn ask_replica<R: Read>(&self, index: usize, read: &R) -> Result<R::Output, DbError> {
        self.replicas[index].ask(read).await
    }

    /// Asks the leader something; for what a page shows on request.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub async fn ask_leader<R: Read>(&self, read: &R) -> Result<R::Output, DbError> {
        self.leader.ask(read).await
    }
}

struct Observer {
    pool: Pool,
    limit: Duration,
}

impl Observer {
    /// Two connections: a page that asks for more does not hold the sampler up.
    const CONNECTIONS: usize = 2;

    fn new(name: &str, url: &ConnectionUrl, timeouts: &Timeouts, limit: Duration) -> Result<Self, BadUrl> {
        let (_, connect_timeout) = limits(timeouts, Access::ReadOnly);
        let access = Access::ReadOnly;
        let target = Target { database: name, url, access, statement_timeout: limit, connect_timeout };
        Ok(Self { pool: target.pool(Self::CONNECTIONS)?, limit })
    }

    async fn ask<R: Read>(&self, read: &R) -> Result<R::Output, DbError> {
        let connection = self.pool.get().await?;
        let answer = async {
            let statement = connection.prepare_cached(R::SQL).await?;
            read.decode(&connection.query(&statement, &read.params()).await?)
        };
        let outcome = tokio::time::timeout(self.limit, answer).await;
        settle(connection, outcome, self.limit)
    }
}
