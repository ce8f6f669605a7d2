//! A real PostgreSQL server for a test.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use e2e::postgres::{Cluster, Role};
//!
//! let replica = Cluster::replica("replica-1").await?;
//! let reader = replica.connect(Role::AppReader).await?;
//! let row = reader.query_one("SELECT replica FROM replicator.progress", &[]).await?;
//! assert_eq!(row.get::<_, &str>(0), "replica-1");
//! # Ok(())
//! # }
//! ```
//!
//! The server programs come from `PG_BIN`, or from the newest version that Debian's packages installed. As root, the
//! servers run as the user `postgres`. Dropping a [`Cluster`] ends its server and removes its files, also when the test
//! panics.

mod process;
mod server;
mod template;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::{Client, NoTls};

use server::Server;

/// The database of every cluster.
const DATABASE: &str = "app";

/// What a cluster is prepared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The demo's leader: `postgres/init.sh leader` has run.
    Leader,
    /// One of the demo's replicas: `postgres/init.sh replica` has run.
    Replica,
    /// An empty database `app` and the superuser only; `wal_level` is `logical`.
    Plain,
}

impl Kind {
    fn name(self) -> &'static str {
        self.side().unwrap_or("plain")
    }

    /// The folder under `postgres/`, if it has one.
    fn side(self) -> Option<&'static str> {
        match self {
            Self::Leader => Some("leader"),
            Self::Replica => Some("replica"),
            Self::Plain => None,
        }
    }
}

/// A login of the demo's databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `postgres`, on every cluster. On a replica its sessions start read-only, as everyone's.
    Superuser,
    /// The web application's writes; leader only.
    AppWriter,
    /// The web application's reads; replicas only.
    AppReader,
    /// Debezium; leader only.
    Debezium,
    /// The replicator; leader (reading) and replicas (writing).
    Replicator,
}

impl Role {
    /// The name that the role logs in with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Superuser => "postgres",
            Self::AppWriter => "app_writer",
            Self::AppReader => "app_reader",
            Self::Debezium => "debezium",
            Self::Replicator => "replicator",
        }
    }

    /// Its password in test clusters.
    pub fn password(self) -> &'static str {
        match self {
            Self::Superuser => "postgres-test",
            Self::AppWriter => "writer-test",
            Self::AppReader => "reader-test",
            Self::Debezium => "debezium-test",
            Self::Replicator => "replicator-test",
        }
    }
}

/// A PostgreSQL server with its own data directory and port.
#[derive(Debug)]
pub struct Cluster {
    // Before the folder: the server must be gone when its files are removed.
    server: Server,
    _folder: TempDir,
}

impl Cluster {
    /// A leader of the demo, with its seed rows.
    pub async fn leader() -> anyhow::Result<Self> {
        Self::with_settings(Kind::Leader, "leader", &[]).await
    }

    /// A replica of the demo, empty, that names itself `name`.
    pub async fn replica(name: &str) -> anyhow::Result<Self> {
        Self::with_settings(Kind::Replica, name, &[]).await
    }

    /// A server with an empty database `app`.
    pub async fn plain(name: &str) -> anyhow::Result<Self> {
        Self::with_settings(Kind::Plain, name, &[]).await
    }

    /// A cluster with PostgreSQL settings of its own on top, as (name, value).
    pub async fn with_settings(kind: Kind, name: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let template = template::of(kind).await?;
        let folder = tempfile::Builder::new().prefix("e2e-postgres-").tempdir().context("make a folder")?;
        process::give(folder.path())?;
        server::copy_data(&template, folder.path())?;
        let server = Server::launch(folder.path(), name, settings).await?;
        Ok(Self { server, _folder: folder })
    }

    /// The port on 127.0.0.1; the same after [`Cluster::stop`] and [`Cluster::start`].
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The URL of the database `app` for `role`.
    pub fn url(&self, role: Role) -> String {
        self.server.url(role, DATABASE)
    }

    /// The same URL through another port, usually that of a [`crate::proxy::ChaosProxy`].
    pub fn url_through(&self, role: Role, port: u16) -> String {
        format!("postgres://{}:{}@127.0.0.1:{port}/{DATABASE}", role.name(), role.password())
    }

    /// Connects to the database `app`. The connection lives as long as the client.
    pub async fn connect(&self, role: Role) -> anyhow::Result<Client> {
        connect(&self.url(role)).await
    }

    /// Connects as the superuser, who may write: sessions of a replica begin read-only.
    pub async fn superuser(&self) -> anyhow::Result<Client> {
        let client = self.connect(Role::Superuser).await?;
        client.batch_execute("SET default_transaction_read_only = off").await?;
        Ok(client)
    }

    /// Stops the server in order; sessions are ended.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.server.stop().await
    }

    /// Starts a stopped or killed server again and waits until it answers.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.server.start().await
    }

    /// Ends the server and its backends by SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill()
    }

    /// Freezes the server and its backends by SIGSTOP: connections stay open and nothing answers.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.server.pause()
    }

    /// Lets a paused server go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.server.resume()
    }

    /// The last lines of the server's log, for a failure message.
    pub fn log_tail(&self) -> String {
        self.server.log_tail()
    }
}

/// The path of a program that comes with the server, such as pgbench.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = process::binaries()?.join(name);
    ensure!(path.exists(), "{} does not exist", path.display());
    Ok(path)
}

/// Whether this error of a session is its end: a server that goes away says so before the connection is closed.
pub fn has_ended(client: &Client, error: &tokio_postgres::Error) -> bool {
    let severity = error.as_db_error().and_then(DbError::parsed_severity);
    client.is_closed() || matches!(severity, Some(Severity::Fatal | Severity::Panic))
}

/// Connects to `url`. The connection lives as long as the client; how it ends shows in the client's errors.
pub async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("connect to PostgreSQL")?;
    tokio::spawn(async move { connection.await.ok() });
    Ok(client)
}
