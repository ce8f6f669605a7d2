//! The web application, as a process of its own on the measured databases.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use e2e::wait;

use super::http::Connection;
use crate::process;
use crate::program::Program;
use crate::system::{REPLICAS, System, place, server_name};

/// How long it may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Its program, and whose names it uses; `scripts/bench.sh` sets the environment.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// The web application's program.
    #[arg(long, env = "BENCH_WEBAPP")]
    webapp: PathBuf,
    #[arg(long, env = "BENCH_WEBAPP_PORT", hide = true)]
    webapp_port: u16,
    #[arg(long, env = "APP_WRITER_PASSWORD", hide = true, hide_env_values = true)]
    app_writer_password: String,
    #[arg(long, env = "APP_READER_PASSWORD", hide = true, hide_env_values = true)]
    app_reader_password: String,
}

/// A running web application. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Web {
    program: Program,
    port: u16,
}

impl Web {
    /// Starts it with the product's settings and waits until it answers reads.
    pub(crate) async fn start(
        system: &System,
        settings: &Settings,
        replicator_url: &str,
    ) -> anyhow::Result<Self> {
        let port = settings.webapp_port;
        let config = system.state_file("webapp.toml");
        fs::write(&config, configuration(system, settings, replicator_url)?)
            .context("write the web application's configuration")?;
        let mut program = Program::start(&settings.webapp, &config, system.state_file("webapp.log"))?;
        wait::until("the web application to answer", PATIENCE, async || {
            program.ensure_runs().map_err(|error| format!("{error:#}"))?;
            let ready = async { Connection::open(port).await?.get("/readyz").await.map(drop) };
            ready.await.map_err(|error| format!("{error:#}"))
        })
        .await?;
        Ok(Self { program, port })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        process::cpu_seconds(self.program.pid())
    }

    /// What it holds now, and the most that it held, in MiB.
    pub(crate) fn memory_mib(&self) -> anyhow::Result<(f64, f64)> {
        let pid = self.program.pid();
        Ok((process::resident_memory_mib(pid)?, process::peak_memory_mib(pid)?))
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.program.stop().await
    }
}

/// As `scripts/start-system.sh` writes it.
fn configuration(system: &System, settings: &Settings, replicator_url: &str) -> anyhow::Result<String> {
    let url = |user: &str, password: &str, replica| {
        let (server, database) = place(replica);
        let port = system.postgres_port(server)?;
        anyhow::Ok(format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}"))
    };
    let mut text = format!(
        "# Written by the benchmark at each start.\n\
         bind = \"127.0.0.1:{}\"\n\n\
         [leader]\nurl = \"{}\"\n\n\
         [status]\nreplicator_url = \"{replicator_url}\"\n",
        settings.webapp_port,
        url("app_writer", &settings.app_writer_password, 0)?
    );
    for replica in 1..=REPLICAS {
        let (name, url) = (server_name(replica), url("app_reader", &settings.app_reader_password, replica)?);
        text.push_str(&format!("\n[[replicas]]\nname = \"{name}\"\nurl = \"{url}\"\n"));
    }
    Ok(text)
}
