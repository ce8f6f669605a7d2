//! Probes, metrics and status over HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 as long as the process serves |
//! | `/readyz` | 200 when every replica is being applied to, else 503 and a line for each that is not |
//! | `/metrics` | Prometheus text |
//! | `/v1/replicas` | every replica with state, cause, watermark and lag, and where the topics end, as JSON |
//! | `/v1/events` | what happens, as it happens ([`events`]) |
//! | POST `/v1/replicas/{name}/pause`, `…/resume` | 200 when the replica's database knows the wish; needs `http.admin_token` as bearer token |
//! | POST `/v1/replicas/{name}/rebuild` | the same; the body may name tables: `{"tables": ["schema.table"]}`, else all are copied afresh |

pub mod events;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};

use self::events::Streams;
use crate::config::Secret;
use crate::metrics;
use crate::rebuild::{self, RebuildError};
use crate::replica::control;
use crate::snapshot::{LeaderSettings, SnapshotError};
use crate::source::kafka::ends::{Ends, TopicEnd};
use crate::status::{ReplicaStatus, StatusCell, now_ms};

/// In whose name the verbs act.
const WHO: &str = "the admin API";

/// A replica as the handlers know it.
#[derive(Debug, Clone)]
pub struct Managed {
    /// What its worker says.
    pub status: StatusCell,
    /// Where it is.
    pub url: tokio_postgres::Config,
}

/// What the handlers look at.
#[derive(Clone)]
pub struct AdminState {
    /// One for each replica, in the order of the configuration.
    pub replicas: Vec<Managed>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Who listens to what happens.
    pub streams: Streams,
    /// What a request that changes something has to bring; none: there are no such requests.
    pub token: Option<Secret>,
    /// Where copies come from; none: there are no copies.
    pub leader: Option<LeaderSettings>,
    /// Where the topics end; none on a source without topics.
    pub ends: Option<Ends>,
}

impl AdminState {
    fn find(&self, name: &str) -> Option<&Managed> {
        self.replicas.iter().find(|replica| replica.status.get().name == name)
    }

    fn statuses(&self) -> Vec<ReplicaStatus> {
        self.replicas.iter().map(|replica| replica.status.get()).collect()
    }
}

/// All routes.
pub fn router(state: AdminState) -> Router {
    let verbs = Router::new()
        .route("/v1/replicas/{name}/pause", post(pause))
        .route("/v1/replicas/{name}/resume", post(resume))
        .route("/v1/replicas/{name}/rebuild", post(copy_afresh))
        .route_layer(from_fn_with_state(state.clone(), authorised));
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(render_metrics))
        .route("/v1/replicas", get(replicas))
        .route("/v1/events", get(events::stream))
        .merge(verbs)
        .with_state(state)
}

/// Lets requests through that bring the token.
async fn authorised(
    State(state): State<AdminState>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = &state.token else {
        return (StatusCode::FORBIDDEN, "http.admin_token is not set, so nothing can be changed over HTTP\n")
            .into_response();
    };
    let brought =
        headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if brought.is_some_and(|brought| is_equal(brought, token.reveal().as_bytes())) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, challenge, "the bearer token is missing or wrong\n").into_response()
}

/// Compares in a time that says nothing about where the two differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

/// The answer of a verb.
#[derive(Debug, Serialize)]
struct Done {
    replica: String,
    paused: bool,
    /// Whether that is new.
    changed: bool,
}

async fn pause(state: State<AdminState>, name: Path<String>) -> Result<Json<Done>, Response> {
    wish(&state, &name, true).await
}

async fn resume(state: State<AdminState>, name: Path<String>) -> Result<Json<Done>, Response> {
    wish(&state, &name, false).await
}

fn no_replica(name: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("there is no replica {name}\n")).into_response()
}

async fn wish(state: &AdminState, name: &str, paused: bool) -> Result<Json<Done>, Response> {
    let replica = state.find(name).ok_or_else(|| no_replica(name))?;
    let changed =
        if paused { control::pause(&replica.url, WHO).await } else { control::resume(&replica.url).await };
    match changed {
        Ok(changed) => Ok(Json(Done { replica: name.to_owned(), paused, changed })),
        Err(error) => {
            Err((StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n{}\n", error.hint())).into_response())
        }
    }
}

/// What to copy afresh; no tables: all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    tables: Vec<String>,
}

/// The answer when copies were asked for.
#[derive(Debug, Serialize)]
struct Asked {
    replica: String,
    tables: Vec<String>,
}

async fn copy_afresh(
    state: State<AdminState>,
    name: Path<String>,
    wanted: Option<Json<Wanted>>,
) -> Result<Json<Asked>, Response> {
    let replica = state.find(&name).ok_or_else(|| no_replica(&name))?;
    let Json(Wanted { tables }) = wanted.unwrap_or_default();
    let asked = rebuild::ask(state.leader.clone(), &name, &replica.url, WHO, &tables).await;
    asked.map_err(|error| (status_of(&error), format!("{error}\n")).into_response())?;
    Ok(Json(Asked { replica: name.0, tables }))
}

fn status_of(error: &RebuildError) -> StatusCode {
    match error {
        RebuildError::NoTable(..) | RebuildError::Leader(SnapshotError::NotPublished(_)) => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        RebuildError::NoLeader => StatusCode::CONFLICT,
        RebuildError::Replica(_) | RebuildError::Leader(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
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
    /// Where the topics end, as far as it is known; absent on a source without topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<Vec<TopicEnd>>,
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
    Json(Replicas {
        replicas: state.statuses().into_iter().map(with_lag).collect(),
        topics: state.ends.map(|ends| ends.list(now)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        assert!(is_equal(b"secret", b"secret"));
        for wrong in [&b"secreT"[..], b"secre", b"secrets", b""] {
            assert!(!is_equal(wrong, b"secret"), "{wrong:?}");
        }
    }
}
