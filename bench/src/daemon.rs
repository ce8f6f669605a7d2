//! The replicator, as a process of its own.

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::connect;
use crate::process;
use crate::program::Program;
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
    program: Program,
    url: String,
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
        let program = Program::start(program, &config, system.state_file("replicator.log"))?;
        let url = format!("http://127.0.0.1:{}", system.replicator_port);
        Ok(Self { program, url })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Where it answers over HTTP.
    pub(crate) fn url(&self) -> &str {
        &self.url
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
        self.program.ensure_runs()
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.program.stop().await
    }
}
