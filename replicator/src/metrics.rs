//! Prometheus metrics. Names and labels are a contract with dashboards; see the README's table.

use std::time::Duration;

use metrics::{Counter, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::replica::Disposition;
use crate::replica::apply::Applied;
use crate::status::{ReplicaStatus, WorkerState, now_ms};

/// Installs the recorder. Called once by the process; the handle renders the text format.
///
/// # Errors
/// When a recorder is installed already.
pub fn install() -> Result<PrometheusHandle, metrics_exporter_prometheus::BuildError> {
    let handle = PrometheusBuilder::new().install_recorder()?;
    describe_counter!("replicator_transactions_applied_total", "Source transactions committed to a replica");
    describe_counter!("replicator_changes_applied_total", "Changes committed to a replica, before folding");
    describe_counter!("replicator_groups_applied_total", "Target transactions committed to a replica");
    describe_counter!(
        "replicator_groups_in_source_order_total",
        "Target transactions that did not go through folded as a whole"
    );
    describe_counter!(
        "replicator_missing_rows_total",
        "Updates that found no row, which was then inserted whole"
    );
    describe_counter!(
        "replicator_failures_total",
        "Failures that made a replica's worker start again, by what follows from them"
    );
    describe_counter!(
        "replicator_detached_total",
        "How often a replica was slower than those it shared a lane with, and went on by itself"
    );
    describe_counter!(
        "replicator_streamed_transactions_total",
        "Source transactions committed to a replica that were applied while they ran on the leader"
    );
    describe_counter!(
        "replicator_unstreamed_total",
        "How often a transaction could not be applied while it ran, and the replica went on without that"
    );
    describe_gauge!("replicator_replica_state", "1 for the state that the replica's worker is in, else 0");
    describe_gauge!("replicator_replication_lag_seconds", "Age of the newest transaction that a replica has");
    describe_gauge!(
        "replicator_last_applied_timestamp_seconds",
        "When a replica's last transaction became visible, since 1970"
    );
    describe_counter!("replicator_quarantined_total", "Changes that went to a replica's quarantine");
    describe_gauge!("replicator_quarantined_changes", "Changes that a replica's quarantine holds");
    describe_gauge!(
        "replicator_diverged_tables",
        "Tables of a replica that differ from the leader's because of its quarantine"
    );
    describe_gauge!("replicator_build_info", "1, with the version as a label");
    gauge!("replicator_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

/// Drops what the recorder no longer needs, every few seconds, as its documentation asks.
pub async fn upkeep(handle: PrometheusHandle) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        handle.run_upkeep();
    }
}

/// One replica's counters.
#[derive(Debug)]
pub(crate) struct ReplicaMetrics {
    name: String,
    transactions: Counter,
    changes: Counter,
    groups: Counter,
    in_source_order: Counter,
    missing_rows: Counter,
    detached: Counter,
    streamed: Counter,
    unstreamed: Counter,
    quarantined: Counter,
    fetched_rows: Counter,
}

impl ReplicaMetrics {
    pub(crate) fn new(name: &str) -> Self {
        let of = |metric: &'static str| counter!(metric, "replica" => name.to_owned());
        ReplicaMetrics {
            name: name.to_owned(),
            transactions: of("replicator_transactions_applied_total"),
            changes: of("replicator_changes_applied_total"),
            groups: of("replicator_groups_applied_total"),
            in_source_order: of("replicator_groups_in_source_order_total"),
            missing_rows: of("replicator_missing_rows_total"),
            detached: of("replicator_detached_total"),
            streamed: of("replicator_streamed_transactions_total"),
            unstreamed: of("replicator_unstreamed_total"),
            quarantined: of("replicator_quarantined_total"),
            fetched_rows: of("replicator_fetched_rows_total"),
        }
    }

    pub(crate) fn applied(&self, applied: &Applied) {
        self.transactions.increment(applied.transactions);
        self.changes.increment(applied.changes);
        self.groups.increment(1);
        self.in_source_order.increment(u64::from(applied.in_source_order));
        self.missing_rows.increment(applied.inserted_for_missing);
        self.quarantined.increment(applied.quarantined);
        self.fetched_rows.increment(applied.fetched_for_missing);
    }

    pub(crate) fn detached(&self) {
        self.detached.increment(1);
    }

    pub(crate) fn streamed(&self) {
        self.streamed.increment(1);
    }

    pub(crate) fn unstreamed(&self) {
        self.unstreamed.increment(1);
    }

    pub(crate) fn failed(&self, disposition: Disposition) {
        let class = match disposition {
            Disposition::Retry => "outage",
            Disposition::Yield => "ownership",
            Disposition::Pause => "pause",
            Disposition::Data => "data",
            Disposition::Schema => "schema",
            Disposition::Halt => "other",
        };
        counter!("replicator_failures_total", "replica" => self.name.clone(), "class" => class).increment(1);
    }
}

/// Sets the gauges that follow from the status; called when somebody looks.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 stay below 2^53 for 285 000 years, and counts, too"
)]
pub fn observe(statuses: &[ReplicaStatus]) {
    for status in statuses {
        for state in WorkerState::ALL {
            let value = if state == status.state { 1.0 } else { 0.0 };
            gauge!("replicator_replica_state", "replica" => status.name.clone(), "state" => state.as_str())
                .set(value);
        }
        let lag = status.lag_ms(now_ms()).map_or(f64::NAN, |ms| ms as f64 / 1000.0);
        gauge!("replicator_replication_lag_seconds", "replica" => status.name.clone()).set(lag);
        gauge!("replicator_quarantined_changes", "replica" => status.name.clone())
            .set(status.quarantined as f64);
        gauge!("replicator_diverged_tables", "replica" => status.name.clone())
            .set(status.diverged.len() as f64);
        if let Some(applied) = status.applied_at_ms {
            gauge!("replicator_last_applied_timestamp_seconds", "replica" => status.name.clone())
                .set(applied as f64 / 1000.0);
        }
    }
}
