//! Probes and metrics, for machines.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use crate::db::queries::leader::IsInRecovery;
use crate::db::replica::{Health, Replica};
use crate::page::ago;
use crate::state::AppState;
use crate::telemetry;

/// One replica in words.
struct ReplicaLine {
    name: String,
    serves: bool,
    state: &'static str,
    detail: String,
}

impl ReplicaLine {
    /// What is known about `replica`; nothing is asked.
    fn of(replica: &Replica) -> Self {
        let status = replica.status();
        let (serves, state, detail) = match (status.health, status.progress) {
            (Health::Down { since, reason }, _) => {
                (false, "Out of rotation", format!("{reason}; since {}", ago(since.elapsed())))
            }
            (Health::Up, _) if replica.is_drained() => {
                (false, "Drained", "taken out of rotation until somebody returns it".to_owned())
            }
            (Health::Up, Some(progress)) if progress.live => {
                let lag = progress.lag(Timestamp::now());
                let detail = lag
                    .map_or_else(|| "age unknown".to_owned(), |lag| format!("complete up to {}", ago(lag)));
                (true, "Answers reads", detail)
            }
            (Health::Up, _) => (false, "Being copied", "joins when all of its tables are here".to_owned()),
        };
        Self { name: replica.name().to_owned(), serves, state, detail }
    }
}

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
