//! What the replicator does for an operator: its admin API, asked with its own token.

use std::time::Duration;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::config::{AdminToken, Config};
use crate::model::action::Action;

/// To pause, the replicator waits for the group that it is applying; to copy, it looks at the leader.
const LIMIT: Duration = Duration::from_secs(5);

/// The replicator's admin API.
pub struct Remote {
    http: reqwest::Client,
    url: String,
    token: AdminToken,
}

/// Why the replicator did not do it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// Nothing was done: nobody was reached.
    #[error("the replicator can't be reached")]
    Unreachable,
    /// It is not known whether it was done.
    #[error("the replicator did not answer in time")]
    NoAnswer,
    /// It knows another token.
    #[error("the replicator refused the token")]
    Token,
    /// It has no replica of that name.
    #[error("the replicator knows no such replica")]
    UnknownReplica,
    /// It says why not.
    #[error("{0}")]
    Refused(String),
    /// A database that it takes can't be reached.
    #[error("a database can't be reached: {0}")]
    Database(String),
}

/// What it answers; a copy that was asked for says no more than that.
#[derive(Deserialize)]
struct Done {
    changed: Option<bool>,
}

impl Remote {
    /// The API, when its address and its token are configured.
    pub fn new(config: &Config) -> Option<Self> {
        let (url, token) = config.status.replicator().zip(config.admin.replicator_token())?;
        // Only its defaults can fail to be built, and those are plain HTTP without a proxy.
        let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().unwrap_or_default();
        Some(Self { http, url: format!("{url}/v1/replicas"), token: token.clone() })
    }

    /// Has it done; returns whether that changed anything.
    ///
    /// # Errors
    /// When the replicator was not reached, did not answer, or refused.
    pub async fn act(&self, action: Action, replica: &str, table: Option<&str>) -> Result<bool, RemoteError> {
        let url = format!("{}/{replica}/{}", self.url, action.label());
        let mut request = self.http.post(url).bearer_auth(self.token.expose());
        if let Some(table) = table {
            request = request.json(&json!({ "tables": [table] }));
        }
        let answer = request.send().await.map_err(|error| unanswered(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| unanswered(&error))?;
        if status.is_success() {
            let done: Option<Done> = serde_json::from_str(&text).ok();
            return Ok(done.and_then(|done| done.changed).unwrap_or(true));
        }
        Err(refusal(status, &text))
    }
}

fn unanswered(error: &reqwest::Error) -> RemoteError {
    tracing::debug!(error = %error, "no answer of the admin API");
    if error.is_connect() { RemoteError::Unreachable } else { RemoteError::NoAnswer }
}

fn refusal(status: StatusCode, text: &str) -> RemoteError {
    let why = text.lines().next().unwrap_or_default().to_owned();
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RemoteError::Token,
        StatusCode::NOT_FOUND => RemoteError::UnknownReplica,
        status if status.is_client_error() => RemoteError::Refused(why),
        _ => RemoteError::Database(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_understood_by_its_status() {
        let of =
            |status: u16| refusal(StatusCode::from_u16(status).unwrap(), "replica-1 has no table 'x'\nmore");
        assert_eq!([of(401), of(403)], [RemoteError::Token, RemoteError::Token]);
        assert_eq!(of(404), RemoteError::UnknownReplica);
        assert_eq!(of(422), RemoteError::Refused("replica-1 has no table 'x'".to_owned()));
        assert!(matches!(of(503), RemoteError::Database(_)));
    }
}
