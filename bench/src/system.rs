//! The running servers: where they are, which processes they are, and how a replica is made empty.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use clap::Args;
use e2e::postgres;
use tokio_postgres::Client;

use crate::process;

/// The database that is measured, beside the demo's own on the same servers.
pub(crate) const DATABASE: &str = "bench";

/// Replica servers, and the replicas of most runs: one in each.
pub(crate) const REPLICAS: usize = 3;

/// Where the servers are. `scripts/bench.sh` starts them and sets the environment.
#[derive(Debug, Clone, Args)]
pub(crate) struct System {
    /// The folder of the servers' data, logs and pids.
    #[arg(long, env = "BENCH_STATE", hide = true)]
    state: PathBuf,
    /// The folder for reports.
    #[arg(long, env = "BENCH_REPORTS", hide = true)]
    pub(crate) reports: PathBuf,
    /// Where psql is.
    #[arg(long, env = "BENCH_POSTGRES_BIN", hide = true)]
    postgres_bin: PathBuf,
    /// Ports of the leader and the replicas, in this order.
    #[arg(long, env = "BENCH_POSTGRES_PORTS", value_delimiter = ',', hide = true)]
    postgres_ports: Vec<u16>,
    /// What was added to every port.
    #[arg(long, env = "BENCH_PORT_OFFSET", hide = true)]
    port_offset: u16,
    #[arg(long, env = "BENCH_BROKER_PORT", hide = true)]
    broker_port: u16,
    #[arg(long, env = "BENCH_CONNECT_PORT", hide = true)]
    connect_port: u16,
    #[arg(long, env = "BENCH_REPLICATOR_PORT", hide = true)]
    pub(crate) replicator_port: u16,
    /// What was typed, for the report.
    #[arg(long, env = "BENCH_COMMAND", default_value = "bench", hide = true)]
    pub(crate) command: String,
    #[arg(long, env = "POSTGRES_PASSWORD", hide = true, hide_env_values = true)]
    postgres_password: String,
    #[arg(long, env = "REPLICATOR_PASSWORD", hide = true, hide_env_values = true)]
    pub(crate) replicator_password: String,
}

/// The leader for 0, then the replicas by number: a server's name, and, as long as there is one replica in each, a replica's.
pub(crate) fn server_name(server: usize) -> String {
    if server == 0 { "leader".to_owned() } else { format!("replica-{server}") }
}

/// Where the measured database of the leader (0) or of a replica (its number) is: its server's number, and its name there.
///
/// Replicas beyond the servers' number share servers, each with a database of its own.
pub(crate) fn place(replica: usize) -> (usize, String) {
    match replica.checked_sub(1) {
        None => (0, DATABASE.to_owned()),
        Some(index) if index < REPLICAS => (replica, DATABASE.to_owned()),
        Some(index) => (index % REPLICAS + 1, format!("{DATABASE}_{}", index / REPLICAS + 1)),
    }
}

impl System {
    pub(crate) fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.broker_port)
    }

    pub(crate) fn connect_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.connect_port)
    }

    /// A file of the servers' folder, which lives as long as their data.
    pub(crate) fn state_file(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    pub(crate) fn postgres_port(&self, server: usize) -> anyhow::Result<u16> {
        let port = self.postgres_ports.get(server);
        port.copied().with_context(|| format!("find the port of {}", server_name(server)))
    }

    /// The URL of the leader's or a replica's measured database for the role that applies.
    pub(crate) fn replicator_url(&self, replica: usize) -> anyhow::Result<String> {
        let (server, database) = place(replica);
        let port = self.postgres_port(server)?;
        Ok(format!("postgres://replicator:{}@127.0.0.1:{port}/{database}", self.replicator_password))
    }

    /// Connects to the leader's (0) or a replica's measured database as the superuser.
    pub(crate) async fn connect_replica(&self, replica: usize) -> anyhow::Result<Client> {
        let (server, database) = place(replica);
        self.connect(server, &database).await
    }

    /// Connects as the superuser.
    pub(crate) async fn connect(&self, server: usize, database: &str) -> anyhow::Result<Client> {
        let port = self.postgres_port(server)?;
        let url = format!("postgres://postgres:{}@127.0.0.1:{port}/{database}", self.postgres_password);
        let client =
            postgres::connect(&url).await.with_context(|| format!("connect to {}", server_name(server)))?;
        // A replica's sessions start read-only.
        client.batch_execute("SET default_transaction_read_only = off").await?;
        Ok(client)
    }

    /// Connects to look again and again whether a row is there.
    ///
    /// What is not committed yet must not make a look slower, or looking takes from the measured what it needs: with the plan that
    /// PostgreSQL chose for a table that was empty then, 200 looks per second took a quarter of a core at each replica, in a
    /// transaction of 500 000 rows.
    pub(crate) async fn connect_to_look(&self, server: usize, database: &str) -> anyhow::Result<Client> {
        let client = self.connect(server, database).await?;
        client.batch_execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan").await?;
        Ok(client)
    }

    /// The same to a replica, by its number.
    pub(crate) async fn connect_replica_to_look(&self, replica: usize) -> anyhow::Result<Client> {
        let (server, database) = place(replica);
        self.connect_to_look(server, &database).await
    }

    /// What PostgreSQL's own programs need to reach the leader's (0) or a replica's measured database as the superuser.
    pub(crate) fn client_program(&self, name: &str, replica: usize) -> anyhow::Result<Command> {
        let (server, database) = place(replica);
        let mut command = Command::new(self.postgres_bin.join(name));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.postgres_port(server)?.to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", &self.postgres_password)
            .env("PGDATABASE", database);
        Ok(command)
    }

    /// The process id of a service that the scripts have started.
    pub(crate) fn pid(&self, service: &str) -> anyhow::Result<u32> {
        let file = self.state.join("pids").join(format!("{service}.pid"));
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        text.trim().parse().with_context(|| format!("read the pid of {service}"))
    }

    /// Starts, stops, pauses or resumes a service, and returns when it has: `verb` is one of `scripts/service.sh`.
    pub(crate) async fn service(&self, verb: &str, service: &str) -> anyhow::Result<()> {
        let mut script = Command::new(e2e::repository().join("scripts/bench.sh"));
        script.args(["--port-offset", &self.port_offset.to_string(), "service", verb, service]);
        process::output(script).await.with_context(|| format!("{verb} {service}"))?;
        Ok(())
    }

    /// CPU seconds used by these services so far.
    pub(crate) fn cpu(&self, services: &[String]) -> anyhow::Result<BTreeMap<String, f64>> {
        services.iter().map(|name| Ok((name.clone(), process::cpu_seconds(self.pid(name)?)?))).collect()
    }

    /// Makes the measured database of the leader (0) or of a replica anew: the product's own `postgres/init.sh`, then the
    /// measured table, empty.
    pub(crate) async fn reset(&self, replica: usize) -> anyhow::Result<()> {
        let (server, database) = place(replica);
        let admin = self.connect(server, "postgres").await?;
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await?;
        admin.batch_execute(&format!("CREATE DATABASE {database}")).await?;
        let (side, grants) = match server {
            0 => ("leader", include_str!("../sql/leader.sql")),
            _ => ("replica", include_str!("../sql/replica.sql")),
        };
        self.initialise(server, &database, side).await?;
        let client = self.connect(server, &database).await?;
        client.batch_execute(include_str!("../sql/table.sql")).await.context("make the measured table")?;
        client.batch_execute(grants).await.context("grant what the roles need")?;
        // What the last run has written is on the disk before the next one is measured.
        admin.batch_execute("CHECKPOINT").await?;
        Ok(())
    }

    /// The passwords of the other roles are in the environment, for the script.
    async fn initialise(&self, server: usize, database: &str, side: &str) -> anyhow::Result<()> {
        let mut script = Command::new(e2e::repository().join("postgres/init.sh"));
        let path = std::env::var("PATH").unwrap_or_default();
        script
            .arg(side)
            .env("PATH", format!("{}:{path}", self.postgres_bin.display()))
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.postgres_port(server)?.to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", &self.postgres_password)
            .env("PGDATABASE", database);
        process::output(script).await.with_context(|| format!("initialise {}", server_name(server)))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_beyond_the_servers_share_them() {
        let places = [0, 1, 3, 4, 6, 7].map(place);
        let wanted =
            [(0, "bench"), (1, "bench"), (3, "bench"), (1, "bench_2"), (3, "bench_2"), (1, "bench_3")];
        assert_eq!(places, wanted.map(|(server, database)| (server, database.to_owned())));
    }
}
