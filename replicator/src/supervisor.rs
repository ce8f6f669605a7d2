//! The daemon: a worker for each replica, the HTTP server, and stopping in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::events::Streams;
use crate::admin::{self, AdminState, Managed};
use crate::config::{Config, ReplicaConfig};
use crate::events::Feed;
use crate::lane::hub::{Hub, HubSettings};
use crate::metrics;
use crate::status::StatusCell;
use crate::worker::{self, WorkerSettings};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every worker finished what it had open.
    Drained,
    /// The grace period or a second signal cut it short. Nothing is lost; the next start takes a little longer.
    Cut,
}

/// Replicates until SIGTERM or SIGINT.
///
/// # Errors
/// When the HTTP address can't be bound. Outages of brokers and replicas are not errors here.
pub async fn run(config: &Config) -> anyhow::Result<Ended> {
    let handle = metrics::install().context("install the metrics recorder")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let listener = TcpListener::bind(config.http.bind)
        .await
        .with_context(|| format!("listen on {}", config.http.bind))?;

    let stop = CancellationToken::new();
    let statuses: Vec<_> = config.replicas.iter().map(|r| StatusCell::new(&r.name)).collect();
    let mut workers = JoinSet::new();
    let source = config.source();
    let ends = source.ends();
    let hub = HubSettings {
        source,
        replicas: config.replicas.iter().map(|replica| replica.name.clone()).collect(),
        detach_after: Duration::from_millis(config.apply.detach_after_ms),
    };
    let hub = Hub::new(hub, stop.clone());
    let feed = Feed::default();
    for (settings, status) in worker_settings(config, &feed).into_iter().zip(&statuses) {
        workers.spawn(worker::run(settings, Arc::clone(&hub), status.clone(), stop.clone()));
    }
    let managed = |(status, replica): (StatusCell, &ReplicaConfig)| Managed {
        status,
        url: replica.url.config().clone(),
    };
    let router = admin::router(AdminState {
        replicas: statuses.into_iter().zip(&config.replicas).map(managed).collect(),
        metrics: handle.clone(),
        streams: Streams::new(feed),
        token: config.http.token().cloned(),
        leader: config.leader(),
        ends,
    });
    // Metrics and probes own nothing that must be unwound: they end with the process.
    let _upkeep = tokio::spawn(metrics::upkeep(handle));
    let _server = tokio::spawn(async move { axum::serve(listener, router).await });
    let names: Vec<_> = config.replicas.iter().map(|r| r.name.as_str()).collect();
    tracing::info!(
        reads = %config.reads(),
        writes = %names.join(", "),
        http = %config.http.bind,
        "ready"
    );

    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: committing what has come, then stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: committing what has come, then stopping"),
        // Workers end when they are told to. Whatever else ended one, its replica would stand still unnoticed.
        ended = workers.join_next() => anyhow::bail!("a replica's worker ended by itself: {ended:?}"),
    }
    stop.cancel();
    let drained = async { while workers.join_next().await.is_some() {} };
    tokio::select! {
        () = drained => {
            tracing::info!("stopped");
            Ok(Ended::Drained)
        }
        _ = terminate.recv() => Ok(Ended::Cut),
        _ = interrupt.recv() => Ok(Ended::Cut),
        () = tokio::time::sleep(config.shutdown_grace()) => {
            tracing::warn!("the grace period is over; what is open will be applied again at the next start");
            Ok(Ended::Cut)
        }
    }
}

fn worker_settings(config: &Config, feed: &Feed) -> Vec<WorkerSettings> {
    let owner = format!("{}:{}", host_name(), std::process::id());
    let settings = |replica: &ReplicaConfig| WorkerSettings {
        name: replica.name.clone(),
        url: replica.url.config().clone(),
        source_id: config.source_id(),
        owner: owner.clone(),
        lease: config.lease(),
        failure: config.failure,
        leader: config.leader.as_ref().map(|leader| leader.url.config().clone()),
        additive: config.schema.additive,
        lane: config.lane_limits(),
        copy: config.copy(),
        group_changes: config.apply.group_changes,
        halt_pause: Duration::from_secs(config.apply.halt_pause_seconds),
        feed: feed.clone(),
    };
    config.replicas.iter().map(settings).collect()
}

/// This host's name, as people know it.
pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
