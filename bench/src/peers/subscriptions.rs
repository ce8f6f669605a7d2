//! PostgreSQL's own logical replication: a subscription on each replica.

use std::time::Duration;

use anyhow::Context;
use e2e::wait;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::stage::Stage;
use crate::system::{DATABASE, place, server_name};

/// How long the copy of the first rows may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the replicas have when a system starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// As much as the leader.
    Equal,
    /// Nothing: the leader's rows are copied.
    Copy,
}

/// One subscription per replica.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    clients: Vec<Client>,
}

impl Subscriptions {
    /// Creates all of them at the same time. `options` are added to those that they have anyway.
    pub(crate) async fn create(stage: &Stage<'_>, start: Start, options: &str) -> anyhow::Result<Self> {
        let mut created = JoinSet::new();
        for replica in 1..=stage.replicas {
            let client = stage.system.connect_replica(replica).await?;
            let (_, database) = place(replica);
            // It runs as who creates it; there, as for whoever applies, the database is read-only by default.
            client
                .batch_execute(&format!(
                    "ALTER ROLE postgres IN DATABASE {database} SET default_transaction_read_only = off"
                ))
                .await?;
            let create = format!(
                "CREATE SUBSCRIPTION {name} CONNECTION 'host=127.0.0.1 port={port} dbname={DATABASE} user=replicator \
                 password={password}' PUBLICATION {DATABASE} WITH (slot_name = {name}, copy_data = {copy}{options})",
                name = name(replica),
                port = stage.system.postgres_port(0)?,
                password = stage.system.replicator_password,
                copy = start == Start::Copy,
            );
            created.spawn(async move {
                let done = client.batch_execute(&create).await;
                done.with_context(|| format!("subscribe {}", server_name(replica)))?;
                anyhow::Ok((replica, client))
            });
        }
        let mut clients = Vec::new();
        while let Some(one) = created.join_next().await {
            clients.push(one??);
        }
        clients.sort_by_key(|(replica, _)| *replica);
        Ok(Self { clients: clients.into_iter().map(|(_, client)| client).collect() })
    }

    /// Waits until each has its rows and a worker that applies.
    pub(crate) async fn await_ready(&self) -> anyhow::Result<()> {
        for client in &self.clients {
            wait::until("a subscription to be ready", PATIENCE, async || {
                let row = client.query_one(include_str!("../../sql/subscribed.sql"), &[]).await;
                match row.map_err(|error| error.to_string())?.get(0) {
                    true => Ok(()),
                    false => Err("it is not".to_owned()),
                }
            })
            .await?;
        }
        Ok(())
    }

    pub(crate) async fn disable(&self) -> anyhow::Result<()> {
        self.alter("DISABLE").await
    }

    pub(crate) async fn enable(&self) -> anyhow::Result<()> {
        self.alter("ENABLE").await
    }

    async fn alter(&self, what: &str) -> anyhow::Result<()> {
        for (index, client) in self.clients.iter().enumerate() {
            let alter = format!("ALTER SUBSCRIPTION {} {what}", name(index + 1));
            client.batch_execute(&alter).await.context("alter a subscription")?;
        }
        Ok(())
    }
}

/// The subscription's, and its slot's on the leader.
fn name(replica: usize) -> String {
    format!("bench_native_{replica}")
}
