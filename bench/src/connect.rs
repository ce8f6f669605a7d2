//! Kafka Connect's REST interface: the source connector that fills topics, and the sink that is measured.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use e2e::wait;
use serde_json::Value;

use crate::system::System;

const PATIENCE: Duration = Duration::from_secs(60);

/// A connector's configuration.
pub(crate) type Settings = BTreeMap<String, String>;

/// The product's own source connector, as `debezium/register-postgres.json` has it.
pub(crate) fn source_settings() -> anyhow::Result<Settings> {
    let file = e2e::repository().join("debezium/register-postgres.json");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let registration: Value = serde_json::from_str(&text).context("read the connector's registration")?;
    serde_json::from_value(registration["config"].clone()).context("read the connector's settings")
}

/// What that connector sends in place of a large value that has not changed.
pub(crate) fn placeholder() -> anyhow::Result<String> {
    source_settings()?.remove("unavailable.value.placeholder").context("find the connector's placeholder")
}

/// Creates a connector and waits until it and its task run.
pub(crate) async fn create(system: &System, name: &str, settings: &Settings) -> anyhow::Result<()> {
    put(system, name, settings).await?;
    wait::until(&format!("connector {name} to run"), PATIENCE, async || match state(system, name).await {
        Ok(State::Running) => Ok(Ok(())),
        Ok(State::Failed(trace)) => Ok(Err(trace)),
        Ok(State::Starting) => Err("starting".to_owned()),
        Err(error) => Err(format!("{error:#}")),
    })
    .await?
    .map_err(|trace| anyhow::anyhow!("connector {name} failed: {trace}"))
}

/// Creates a connector without waiting for it.
pub(crate) async fn put(system: &System, name: &str, settings: &Settings) -> anyhow::Result<()> {
    let url = system.connect_url(&format!("/connectors/{name}/config"));
    let response = reqwest::Client::new().put(url).json(settings).send().await.context("ask Connect")?;
    let status = response.status();
    ensure!(status.is_success(), "Connect refused {name}: {status} {}", response.text().await?);
    Ok(())
}

/// Deletes a connector; its task has ended when this returns, as far as Connect says so.
pub(crate) async fn delete(system: &System, name: &str) -> anyhow::Result<()> {
    let url = system.connect_url(&format!("/connectors/{name}"));
    let response = reqwest::Client::new().delete(url).send().await.context("ask Connect")?;
    let status = response.status();
    ensure!(status.is_success() || status.as_u16() == 404, "Connect did not delete {name}: {status}");
    Ok(())
}

/// What can be asked of a connector that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Ends its tasks; it keeps its offsets.
    Stop,
    Resume,
}

/// Tells a connector to do something, without waiting for it.
pub(crate) async fn tell(system: &System, name: &str, verb: Verb) -> anyhow::Result<()> {
    let verb = match verb {
        Verb::Stop => "stop",
        Verb::Resume => "resume",
    };
    let url = system.connect_url(&format!("/connectors/{name}/{verb}"));
    let response = reqwest::Client::new().put(url).send().await.context("ask Connect")?;
    let status = response.status();
    ensure!(status.is_success(), "Connect did not {verb} {name}: {status} {}", response.text().await?);
    Ok(())
}

/// Deletes every connector: an interrupted run leaves some behind, which would go on for ever.
pub(crate) async fn delete_all(system: &System) -> anyhow::Result<()> {
    let names: Vec<String> =
        serde_json::from_value(get(system, "/connectors").await?).context("read the names of connectors")?;
    for name in names {
        delete(system, &name).await?;
    }
    Ok(())
}

/// An error when a connector or its task has failed.
pub(crate) async fn ensure_not_failed(system: &System, name: &str) -> anyhow::Result<()> {
    if let State::Failed(trace) = state(system, name).await? {
        bail!("connector {name} failed: {trace}");
    }
    Ok(())
}

enum State {
    Starting,
    Running,
    Failed(String),
}

/// What the worker answers at a path.
pub(crate) async fn get(system: &System, path: &str) -> anyhow::Result<Value> {
    let text = reqwest::get(system.connect_url(path)).await.context("ask Connect")?.text().await?;
    serde_json::from_str(&text).context("read Connect's answer")
}

async fn state(system: &System, name: &str) -> anyhow::Result<State> {
    let status = get(system, &format!("/connectors/{name}/status")).await?;
    let tasks = status["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut all = tasks.iter().chain(std::iter::once(&status["connector"]));
    if let Some(failed) = all.clone().find(|part| part["state"] == "FAILED") {
        return Ok(State::Failed(failed["trace"].as_str().unwrap_or("no trace").to_owned()));
    }
    let runs = !tasks.is_empty() && all.all(|part| part["state"] == "RUNNING");
    Ok(if runs { State::Running } else { State::Starting })
}
