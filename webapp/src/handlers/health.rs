//! Probes and metrics, for machines.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::db::queries::leader::IsInRecovery;
use crate::handlers::home::ReplicaLine;
use crate::state::AppState;
use crate::telemetry;

/// `GET /livez`: the process answers. It says nothing of the databases: restarting this process would not mend them.
pub async fn live() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: 200 when pages can be read, from a replica or from the leader; the lines say how everything is.
pub async fn ready(State(state): State<AppState>) -> Response {
    let leader = state.database().leader().read(&IsInRecovery).await;
    let lines: Vec<ReplicaLine> = state.database().replicas().iter().map(ReplicaLine::of).collect();
    let readable = leader.is_ok() || lines.iter().any(|line| line.serves);
    let status = if readable { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut text = match leader {
        Ok(false) => "ok   leader: answers, not in recovery\n".to_owned(),
        Ok(true) => "fail leader: in recovery, so it takes no writes\n".to_owned(),
        Err(error) => {
            tracing::debug!(error = %error, "the leader does not answer");
            format!("fail leader: {}\n", error.words())
        }
    };
    for line in lines {
        let mark = if line.serves { "ok  " } else { "fail" };
        text.push_str(&format!("{mark} {}: {} ({})\n", line.name, line.state, line.detail));
    }
    (status, text).into_response()
}

/// `GET /metrics`, in the text format of Prometheus.
pub async fn metrics() -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], telemetry::metrics().render()).into_response()
}
