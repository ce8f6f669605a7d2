//! Logs and metrics.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{OnceLock, PoisonError, RwLock};

use axum::http::StatusCode;
use metrics::Histogram;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, LogConfig, LogFormat};

/// Starts logging to standard error; standard output is for data.
///
/// # Errors
/// When the level can't be understood.
pub fn start_logging(config: &LogConfig) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(&config.level)
        .map_err(|error| ConfigError::one(format!("log.level: {:?} is no level: {error}", config.level)))?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Auto if !terminal => lines.json().flatten_event(true).init(),
        LogFormat::Text | LogFormat::Auto => lines.with_ansi(terminal).init(),
    }
    Ok(())
}

/// The metrics of this process. The recorder is the process's own, so the first call makes it and later ones share it.
///
/// # Panics
/// When another recorder was installed before: there is only one in this program.
pub fn metrics() -> PrometheusHandle {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    METRICS.get_or_init(install_metrics).clone()
}

/// The histograms of requests, by method, route and status. Looked up in the recorder once, where that costs a request more
/// than to be measured: its labels would be copied and compared each time.
#[derive(Default)]
pub(crate) struct RequestMeters(RwLock<HashMap<String, ByOutcome>>);

type ByOutcome = HashMap<(&'static str, StatusCode), Histogram>;

impl RequestMeters {
    pub(crate) fn of(&self, method: &'static str, route: &str, status: StatusCode) -> Histogram {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(route).and_then(|outcomes| outcomes.get(&(method, status))) {
            return known.clone();
        }
        drop(known);
        let meter = metrics::histogram!("http_server_request_duration_seconds", "method" => method, "route" => route.to_owned(), "status" => status.as_str().to_owned());
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(route.to_owned()).or_default().insert((method, status), meter.clone());
        meter
    }
}

fn install_metrics() -> PrometheusHandle {
    // From a read on the same machine to a time-out.
    const SECONDS: [f64; 14] =
        [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(|error| error.to_string())
        .and_then(|builder| builder.install_recorder().map_err(|error| error.to_string()))
        .expect("the buckets are not empty and this is the only recorder");
    describe();
    metrics::gauge!("web_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    handle
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_histogram!(
        "http_server_request_duration_seconds",
        "Time to answer a request, by route and status."
    );
    describe_counter!("web_reads_total", "Reads of replicas, by replica and outcome: ok, retried, error.");
    describe_histogram!(
        "web_read_duration_seconds",
        "Time of a read, waiting included, by the replica that answered."
    );
    describe_gauge!("web_replica_in_rotation", "1 when the replica takes part in answering reads.");
    describe_counter!("web_replica_ejections_total", "How often a replica left the rotation.");
    describe_counter!("web_leader_fallback_reads_total", "Reads that the leader answered, by reason.");
    describe_histogram!(
        "web_ryw_wait_seconds",
        "How long reads waited for a replica to have the caller's own write."
    );
    describe_counter!(
        "web_reads_met_by_xid_total",
        "Reads whose replica was known to have the caller's write by its transaction id only."
    );
    describe_counter!("web_void_tokens_total", "Tokens of no history that the leader has had.");
    describe_gauge!("web_sse_clients", "Open streams of events, by what they are of: live pages, demo runs.");
    describe_gauge!("web_build_info", "The running version.");
}
