//! One server process over one data directory.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use tokio_postgres::NoTls;

use super::{Kind, Role, process};
use crate::process::{children, signal};
use crate::wait;

/// How long a start or an orderly stop may take; on a busy machine a start has been seen to need seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long quitting may take before the server is killed.
const QUIT_WITHIN: Duration = Duration::from_secs(5);

/// Overrides for tests, over the repository's configuration: many small servers, none of which must survive the
/// machine. A crash of the server process alone loses nothing without fsync, so the crash tests stay true.
const TEST_SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "32MB"),
    ("max_wal_size", "256MB"),
    ("autovacuum_max_workers", "1"),
];

/// A running (or stopped) server. Dropping it ends the process at once, paused or not.
#[derive(Debug)]
pub(super) struct Server {
    folder: PathBuf,
    name: String,
    port: u16,
    settings: Vec<(String, String)>,
    child: Option<Child>,
}

impl Server {
    /// Starts a server on `folder/data` at a free port and waits until it answers.
    pub(super) async fn launch(folder: &Path, name: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut server = Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            port: free_port()?,
            settings,
            child: None,
        };
        server.start().await?;
        Ok(server)
    }

    /// The port, which stays the same over restarts.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The URL of `database` for `role`.
    pub(super) fn url(&self, role: Role, database: &str) -> String {
        format!("postgres://{}:{}@127.0.0.1:{}/{database}", role.name(), role.password(), self.port)
    }

    /// Starts the process and waits until it accepts connections.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "the server {} runs already", self.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .context("open the server's log")?;
        let mut command = process::command(process::binaries()?.join("postgres"))?;
        command.arg("-D").arg(self.folder.join("data")).stdout(log.try_clone()?).stderr(log);
        let mut set = |key: &str, value: &str| {
            command.arg("-c").arg(format!("{key}={value}"));
        };
        for (key, value) in TEST_SETTINGS {
            set(key, value);
        }
        for (key, value) in &self.settings {
            set(key, value);
        }
        set("cluster_name", &self.name);
        set("port", &self.port.to_string());
        set("unix_socket_directories", &self.folder.display().to_string());
        self.child = Some(command.spawn().context("start postgres")?);
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let url = self.url(Role::Superuser, "postgres");
        let name = self.name.clone();
        let what = format!("the server {name} to answer");
        let ended = wait::until(&what, PATIENCE, async || {
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
            {
                return Ok(Some(status));
            }
            tokio_postgres::connect(&url, NoTls).await.map(|_| None).map_err(|error| error.to_string())
        })
        .await
        .with_context(|| self.log_tail())?;
        if let Some(status) = ended {
            self.child = None;
            bail!("the server {name} ended at its start ({status}): {}", self.log_tail());
        }
        Ok(())
    }

    /// Runs the repository's `postgres/init.sh` on the database `app`.
    pub(super) fn initialise(&self, side: &str) -> anyhow::Result<()> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut script = Command::new(crate::repository().join("postgres/init.sh"));
        script
            .arg(side)
            .env("PATH", format!("{}:{path}", process::binaries()?.display()))
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", Role::Superuser.name())
            .env("PGPASSWORD", Role::Superuser.password())
            .env("PGDATABASE", super::DATABASE);
        for role in [Role::AppWriter, Role::AppReader, Role::Debezium, Role::Replicator] {
            script.env(format!("{}_PASSWORD", role.name().to_uppercase()), role.password());
        }
        process::run(&mut script)?;
        Ok(())
    }

    /// An orderly stop: sessions are ended, everything is written.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        signal(child.id(), Signal::INT)?;
        let stopped =
            wait::until(&format!("the server {} to stop", self.name), PATIENCE, async || {
                match child.try_wait() {
                    Ok(Some(status)) => Ok(status),
                    Ok(None) => Err("still running".to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await;
        if stopped.is_err() {
            self.child = Some(child);
        }
        let status = stopped?;
        ensure!(status.success(), "the server {} stopped with {status}: {}", self.name, self.log_tail());
        Ok(())
    }

    /// SIGKILL for the server and all its backends, as when the machine's memory runs out. Paused processes die too.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // Stopped first, so that it neither starts a backend meanwhile nor reacts to the death of one.
        signal(child.id(), Signal::STOP)?;
        let backends = children(child.id());
        for pid in &backends {
            signal(*pid, Signal::KILL)?;
        }
        child.kill().context("kill the server")?;
        child.wait().context("wait for the killed server")?;
        wait_until_gone(&backends)
    }

    /// SIGQUIT: an end at once that writes nothing, and gives back the System V segment by which a server recognises another one on
    /// its data. A machine has 4096 of them, and of servers that are killed they stay for ever.
    fn quit(&mut self) -> anyhow::Result<()> {
        if self.child.is_none() {
            return Ok(());
        }
        self.resume()?;
        signal(self.pid()?, Signal::QUIT)?;
        let end = Instant::now() + QUIT_WITHIN;
        while let Some(child) = &mut self.child {
            if child.try_wait().context("wait for the server to quit")?.is_some() {
                self.child = None;
            } else {
                ensure!(Instant::now() < end, "the server {} does not quit", self.name);
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    /// SIGSTOP for the server and all its backends: connections stay open and nothing answers.
    pub(super) fn pause(&self) -> anyhow::Result<()> {
        let pid = self.pid()?;
        signal(pid, Signal::STOP)?;
        children(pid).into_iter().try_for_each(|pid| signal(pid, Signal::STOP))
    }

    /// Lets a paused server go on.
    pub(super) fn resume(&self) -> anyhow::Result<()> {
        let pid = self.pid()?;
        children(pid).into_iter().try_for_each(|pid| signal(pid, Signal::CONT))?;
        signal(pid, Signal::CONT)
    }

    fn pid(&self) -> anyhow::Result<u32> {
        self.child.as_ref().map(Child::id).with_context(|| format!("the server {} does not run", self.name))
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// The last lines of the server's log.
    pub(super) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that ends, well or by panic, has no more use for the data.
        if self.quit().is_err() {
            self.kill().ok();
        }
    }
}

/// Orphaned backends are reaped by init; only then are their sockets and shared memory free for a restart.
fn wait_until_gone(pids: &[u32]) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while let Some(pid) = pids.iter().find(|pid| is_running(**pid)) {
        ensure!(Instant::now() < end, "process {pid} survives SIGKILL");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// A zombie holds nothing any more: in a container without an init process nobody may ever reap it.
fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z')))
}

/// A port that nothing listens on, below the range from which outgoing connections take theirs: such a connection
/// could otherwise sit on the port while its server is restarted.
fn free_port() -> anyhow::Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or_default();
    for _ in 0..COUNT {
        // Processes start at different places, so that they rarely ask for the same port at once.
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_mul(37).wrapping_add(step) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} on")
}

/// Puts the repository's configuration for `kind` into the data directory, where the server's account can read it.
pub(super) fn write_settings(data: &Path, kind: Kind) -> anyhow::Result<()> {
    let text = match kind.side() {
        Some(side) => {
            let file = crate::repository().join("postgres").join(side).join("postgresql.conf");
            fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?
        }
        // Enough for a plain server to be a source as well.
        None => "wal_level = logical\ntimezone = 'UTC'\n".to_owned(),
    };
    fs::write(data.join("postgresql.conf"), text).context("write postgresql.conf")
}

/// Copies a prepared data directory.
pub(super) fn copy_data(template: &Path, folder: &Path) -> anyhow::Result<()> {
    // Where the file system can share blocks, the copy costs nothing.
    let mut copy = process::command("cp")?;
    copy.args(["--archive", "--reflink=auto"]).arg(template).arg(folder.join("data")).stderr(Stdio::piped());
    process::run(&mut copy).map(drop)
}
