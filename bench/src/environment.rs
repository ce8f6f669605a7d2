//! On what something was measured: without it, figures say little.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use crate::connect;
use crate::process;
use crate::system::System;

/// The machine, the programs, and how busy the machine was before.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Environment {
    cpu: String,
    cores: usize,
    memory_gib: f64,
    /// Of the last minute before the scenario began. On an idle machine it is that of starting the servers.
    load_average: String,
    postgres: String,
    /// `None` where no broker takes part.
    kafka: Option<String>,
    /// Class name and version of Debezium's connectors, where they take part.
    debezium: Vec<String>,
    replicator: String,
    /// Of the repository, with `-dirty` when it has uncommitted changes.
    commit: String,
    /// What was typed to make the report.
    command: String,
}

impl Environment {
    /// Asks the machine, the servers, Connect, and the replicator's program.
    pub(crate) async fn of(system: &System, replicator: &Path) -> anyhow::Result<Self> {
        let worker = connect::get(system, "/").await?;
        Ok(Self {
            kafka: Some(worker["version"].as_str().unwrap_or("unknown").to_owned()),
            debezium: debezium(&connect::get(system, "/connector-plugins").await?),
            ..Self::without_broker(system, replicator).await?
        })
    }

    /// The same where neither a broker nor Connect runs.
    pub(crate) async fn without_broker(system: &System, replicator: &Path) -> anyhow::Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("read the CPU's name")?;
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let meminfo = fs::read_to_string("/proc/meminfo").context("read the memory's size")?;
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib: f64 = total
            .unwrap_or_default()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .context("read the memory's size")?;
        let load = fs::read_to_string("/proc/loadavg").context("read the load average")?;
        let mut version = Command::new(replicator);
        version.arg("--version");
        let leader = system.connect(0, "postgres").await?;
        Ok(Self {
            cpu: model.map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':'])).to_owned(),
            cores: std::thread::available_parallelism().context("count the cores")?.get(),
            memory_gib: kib / 1024.0 / 1024.0,
            load_average: load.split(' ').next().unwrap_or_default().to_owned(),
            postgres: leader.query_one("SHOW server_version", &[]).await?.get(0),
            kafka: None,
            debezium: Vec::new(),
            replicator: process::output(version).await?,
            commit: commit().await,
            command: system.command.clone(),
        })
    }

    /// Two sentences and the command.
    pub(crate) fn text(&self) -> String {
        let kafka = self.kafka.as_ref().map(|version| format!(", Kafka {version}")).unwrap_or_default();
        let debezium: String = self.debezium.iter().map(|connector| format!(", {connector}")).collect();
        format!(
            "{} cores ({}), {:.0} GiB; PostgreSQL {}{kafka}{debezium}; {}, commit {}. Load average before: {}.\n\n\
             `{}`",
            self.cores,
            self.cpu,
            self.memory_gib,
            self.postgres,
            self.replicator,
            self.commit,
            self.load_average,
            self.command
        )
    }
}

fn debezium(plugins: &Value) -> Vec<String> {
    let plugins = plugins.as_array().map(Vec::as_slice).unwrap_or_default();
    let named = plugins.iter().filter_map(|plugin| {
        let class = plugin["class"].as_str()?;
        let name = class.rsplit('.').next()?;
        class
            .starts_with("io.debezium.")
            .then(|| format!("{name} {}", plugin["version"].as_str().unwrap_or("?")))
    });
    named.collect()
}

/// A copy without history can be measured too.
async fn commit() -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(e2e::repository()).args(["describe", "--always", "--dirty", "--exclude=*"]);
    process::output(git).await.unwrap_or_else(|_| "unknown".to_owned())
}
