//! Settings of the status page.

use serde::Deserialize;

/// What the status page looks at beside the databases. All addresses are optional: what is not named, or
/// named by an empty text (compose can't leave a variable out), is not shown.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatusConfig {
    /// The pause between two samples, in milliseconds. One sample serves all who watch.
    pub interval_ms: u64,
    /// How far behind a replica may be and still be called on time; late is more than twice of it.
    pub lag_slo_ms: u64,
    /// The replicator's HTTP address, as `http://127.0.0.1:8090`.
    pub replicator_url: Option<String>,
    /// Kafka Connect's REST address, as `http://127.0.0.1:8083`.
    pub connect_url: Option<String>,
    /// The name of the connector there.
    pub connector: String,
    /// A broker, as `127.0.0.1:19092`. It is only connected to: nothing is asked.
    pub broker: Option<String>,
    /// What starts a service again, for people to copy; `{service}` stands for its name.
    pub start_command: String,
}

impl Default for StatusConfig {
    fn default() -> Self {
        Self {
            interval_ms: 1000,
            // A person notices a few seconds; a healthy replica is behind by milliseconds.
            lag_slo_ms: 5000,
            replicator_url: None,
            connect_url: None,
            connector: "postgres-connector".to_owned(),
            broker: None,
            start_command: "scripts/service.sh start {service}".to_owned(),
        }
    }
}

impl StatusConfig {
    /// The replicator's address, when there is one.
    pub fn replicator(&self) -> Option<&str> {
        named(self.replicator_url.as_deref())
    }

    /// Kafka Connect's address, when there is one.
    pub fn connect(&self) -> Option<&str> {
        named(self.connect_url.as_deref())
    }

    /// The connector's address there.
    pub fn connector_address(&self) -> Option<String> {
        self.connect().map(|url| format!("{url}/connectors/{}", self.connector))
    }

    /// The broker's address, when there is one.
    pub fn broker(&self) -> Option<&str> {
        named(self.broker.as_deref())
    }

    /// The command that starts `service` again.
    pub fn start(&self, service: &str) -> String {
        self.start_command.replace("{service}", service)
    }
}

fn named(address: Option<&str>) -> Option<&str> {
    address.map(|address| address.trim_end_matches('/')).filter(|address| !address.is_empty())
}
