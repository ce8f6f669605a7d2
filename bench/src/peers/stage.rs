//! Where a system is measured: the servers, how many replicas they hold, and the replicator's program.

use std::path::Path;

use tokio_postgres::Client;

use crate::system::{REPLICAS, System};

/// Servers that are ready for a system. The leader's measured database is 0, the replicas' follow by number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) system: &'a System,
    pub(crate) program: &'a Path,
    pub(crate) replicas: usize,
}

impl<'a> Stage<'a> {
    /// With one replica in each server.
    pub(crate) fn new(system: &'a System, program: &'a Path) -> Self {
        Self { system, program, replicas: REPLICAS }
    }

    /// The replica servers that take part.
    pub(crate) fn servers(&self) -> usize {
        self.replicas.min(REPLICAS)
    }

    /// Connects to the leader's measured database as the superuser.
    pub(crate) async fn leader(&self) -> anyhow::Result<Client> {
        self.system.connect_replica(0).await
    }

    /// The same for every replica, in the order of their numbers.
    pub(crate) async fn replicas(&self) -> anyhow::Result<Vec<Client>> {
        let mut clients = Vec::new();
        for replica in 1..=self.replicas {
            clients.push(self.system.connect_replica(replica).await?);
        }
        Ok(clients)
    }
}
