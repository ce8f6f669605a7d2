//! What is looked at by other means than SQL: the replicator and Kafka Connect over HTTP, the broker by its port.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::config::StatusConfig;
use crate::model::status::facts::{ConnectorFacts, ReplicatorFacts};

/// Who has not answered by then does not answer: the sample goes out without it.
const LIMIT: Duration = Duration::from_secs(1);

/// Asks what is configured; what is not gives `None`.
pub(super) struct Outside {
    http: reqwest::Client,
    replicator: Option<String>,
    connector: Option<String>,
    broker: Option<String>,
}

#[derive(Deserialize)]
struct Connector {
    connector: State,
    #[serde(default)]
    tasks: Vec<State>,
}

#[derive(Deserialize)]
struct State {
    state: String,
    trace: Option<String>,
}

impl Outside {
    pub(super) fn new(settings: &StatusConfig) -> Self {
        // Only its defaults can fail to be built, and those are plain HTTP without a proxy.
        let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().unwrap_or_default();
        Self {
            http,
            replicator: settings.replicator().map(|url| format!("{url}/v1/replicas")),
            connector: settings.connector_address().map(|address| format!("{address}/status")),
            broker: settings.broker().map(str::to_owned),
        }
    }

    /// What the replicator says of its replicas and topics.
    pub(super) async fn replicator(&self) -> Option<Result<ReplicatorFacts, String>> {
        Some(self.get(self.replicator.as_ref()?).await)
    }

    /// What Kafka Connect says of the connector.
    pub(super) async fn connector(&self) -> Option<Result<ConnectorFacts, String>> {
        let answer: Result<Connector, String> = self.get(self.connector.as_ref()?).await;
        let first_line = |task: State| {
            let line = task.trace.and_then(|trace| trace.lines().next().map(str::to_owned));
            (task.state, line)
        };
        Some(answer.map(|answer| ConnectorFacts {
            state: answer.connector.state,
            tasks: answer.tasks.into_iter().map(first_line).collect(),
        }))
    }

    /// Whether the broker takes connections.
    pub(super) async fn broker(&self) -> Option<Result<(), String>> {
        let address = self.broker.as_ref()?;
        Some(match tokio::time::timeout(LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err("It takes no connections.".to_owned()),
            Err(_) => Err("It did not take a connection within 1 s.".to_owned()),
        })
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, String> {
        let answer = async { self.http.get(url).send().await?.error_for_status()?.json().await };
        answer.await.map_err(|error: reqwest::Error| {
            tracing::debug!(url, error = %error, "no answer");
            match error.status() {
                Some(status) => format!("It answered {}.", status.as_u16()),
                None if error.is_timeout() => "It did not answer within 1 s.".to_owned(),
                None if error.is_connect() => "Nothing listens there.".to_owned(),
                None => "Its answer can't be understood.".to_owned(),
            }
        })
    }
}
