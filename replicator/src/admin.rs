//! Probes, metrics and status over HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 as long as the process serves |
//! | `/readyz` | 200 when every replica is being applied to, else 503 and a line for each that is not |
//! | `/metrics` | Prometheus text |
//! | `/v1/replicas` | every replica with state, cause, watermark and lag, as JSON |

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

use crate::metrics;
use crate::status::{ReplicaStatus, StatusCell, now_ms};

/// What the handlers look at.
#[derive(Clone)]
pub struct AdminState {
    /// One for each replica, in the order of the configuration.
    pub replicas: Vec<StatusCell>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
}

impl AdminState {
    fn statuses(&self) -> Vec<ReplicaStatus> {
        self.replicas.iter().map(StatusCell::get).collect()
    }
}

/// All routes.
pub fn router(state: AdminState) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(render_metrics))
        .route("/v1/replicas", get(replicas))
        .with_state(state)
}

async fn ready(State(state): State<AdminState>) -> impl IntoResponse {
    let statuses = state.statuses();
    let waiting: Vec<_> = statuses.iter().filter(|s| !s.state.is_applying()).collect();
    if waiting.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let lines: String = waiting
        .iter()
        .map(|s| {
            format!("{} {}: {}\n", s.name, s.state.as_str(), s.cause.as_deref().unwrap_or("not yet started"))
        })
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}

async fn render_metrics(State(state): State<AdminState>) -> impl IntoResponse {
    metrics::observe(&state.statuses());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render())
}

/// The answer of `/v1/replicas`.
#[derive(Debug, Serialize)]
struct Replicas {
    replicas: Vec<Replica>,
}

#[derive(Debug, Serialize)]
struct Replica {
    #[serde(flatten)]
    status: ReplicaStatus,
    lag_ms: Option<i64>,
}

async fn replicas(State(state): State<AdminState>) -> Json<Replicas> {
    let now = now_ms();
    let with_lag = |status: ReplicaStatus| Replica { lag_ms: status.lag_ms(now), status };
    Json(Replicas { replicas: state.statuses().into_iter().map(with_lag).collect() })
}
