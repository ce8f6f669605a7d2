//! The first page: what this is, and how the replicas are.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;

use crate::db::replica::{Health, Replica};
use crate::page::{Chrome, ago, page};
use crate::state::AppState;
use crate::visit::Visit;

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    chrome: Chrome,
    replicas: Vec<ReplicaLine>,
}

/// One replica in words.
pub struct ReplicaLine {
    /// Its name.
    pub name: String,
    /// Whether it answers reads now.
    pub serves: bool,
    /// What it is doing: a word or two.
    pub state: &'static str,
    /// More about that.
    pub detail: String,
}

impl ReplicaLine {
    /// What is known about `replica`; nothing is asked.
    pub fn of(replica: &Replica) -> Self {
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

/// `GET /`
pub async fn show(State(state): State<AppState>, visit: Visit) -> Response {
    let replicas = state.database().replicas().iter().map(ReplicaLine::of).collect();
    page(StatusCode::OK, &HomePage { chrome: Chrome::new("home", &visit), replicas })
}
