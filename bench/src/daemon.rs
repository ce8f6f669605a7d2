//! The replicator, as a process of its own.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use e2e::wait;
use rustix::process::{Pid, Signal, kill_process};

use crate::connect;
use crate::process;
use crate::system::{DATABASE, System, server_name};

/// Where a replicator reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// The topics with this prefix.
    Topics(&'a str),
    /// The leader's own stream, through the slot [`SLOT`].
    Leader,
}

/// The slot of a replicator that reads the leader's own stream.
pub(crate) const SLOT: &str = "bench_direct";

impl Source<'_> {
    /// Its part of the configuration.
    fn settings(self, system: &System) -> anyhow::Result<String> {
        Ok(match self {
            Self::Topics(prefix) => format!(
                "[source]\nbrokers = \"{}\"\ntopic_prefix = \"{prefix}\"\nplaceholder = \"{}\"\n",
                system.brokers(),
                connect::placeholder()?
            ),
            Self::Leader => format!(
                "[source]\nkind = \"postgres\"\nslot = \"{SLOT}\"\npublication = \"{DATABASE}\"\n\n\
                 [leader]\nurl = \"{}\"\n",
                system.replicator_url(0)?
            ),
        })
    }
}

/// A running replicator. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    url: String,
    log: std::path::PathBuf,
}

impl Daemon {
    /// Starts `program` on `source` for the first `replicas` replicas.
    pub(crate) fn start(
        system: &System,
        program: &Path,
        source: Source<'_>,
        replicas: usize,
    ) -> anyhow::Result<Self> {
        let config = system.state_file("replicator.toml");
        let mut text = format!(
            "# Written by the benchmark at each start.\n\
             {}\n\
             [http]\nbind = \"127.0.0.1:{}\"\n",
            source.settings(system)?,
            system.replicator_port
        );
        for replica in 1..=replicas {
            let (name, url) = (server_name(replica), system.replicator_url(replica)?);
            text.push_str(&format!("\n[[replicas]]\nname = \"{name}\"\nurl = \"{url}\"\n"));
        }
        fs::write(&config, text).context("write the replicator's configuration")?;
        let log = system.state_file("replicator.log");
        let output = File::create(&log).context("make the replicator's log")?;
        let child = Command::new(program)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let url = format!("http://127.0.0.1:{}", system.replicator_port);
        Ok(Self { child, url, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it says how its replicas are.
    pub(crate) fn status_url(&self) -> String {
        format!("{}/v1/replicas", self.url)
    }

    /// Where it counts what it does.
    pub(crate) fn metrics_url(&self) -> String {
        format!("{}/metrics", self.url)
    }

    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        process::cpu_seconds(self.pid())
    }

    pub(crate) fn peak_memory_mib(&self) -> anyhow::Result<f64> {
        process::peak_memory_mib(self.pid())
    }

    /// Lets the peak of its memory begin again.
    pub(crate) fn forget_peak_memory(&self) -> anyhow::Result<()> {
        process::forget_peak_memory(self.pid())
    }

    /// An error, with the end of its log, when it does not run any more.
    pub(crate) fn ensure_runs(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait().context("ask for the replicator")? {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            bail!("the replicator ended ({status}): {}", lines[lines.len().saturating_sub(10)..].join("\n"));
        }
        Ok(())
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("read the pid")?;
        kill_process(pid, Signal::TERM).context("ask the replicator to stop")?;
        wait::until("the replicator to stop", Duration::from_secs(60), async || match self.child.try_wait() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("still running".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After `stop` it has ended, and these do nothing.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
