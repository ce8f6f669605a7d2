//! Runs for programs.

use std::fmt::Write as _;
use std::time::Duration;

use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::demo::{Ending, Run};
use crate::model::demo::Quantiles;

/// A run for programs.
pub fn run_json(run: &Run) -> Value {
    let (progress, summary) = (run.progress(), run.summary());
    let servers = summary.shares.iter().map(|share| {
        json!({
            "name": run.names[share.server],
            "count": share.count,
            "percent": share.percent,
            "milliseconds": quantiles_json(&share.quantiles),
            "lag_ms": share.lag.map(millis),
            "port": share.port,
            "odd": share.odd,
        })
    });
    let samples = run.samples_from(0);
    let sequence = samples.iter().map(|sample| sample.server.map(|server| run.names[server].as_str()));
    json!({
        "id": run.id,
        "started_at": run.started_at,
        "state": progress.ending.map_or("running", Ending::label),
        "plan": {
            "experiment": run.plan.experiment.as_str(),
            "strategy": run.plan.strategy.as_str(),
            "guarded": run.plan.guarded,
            "in_flight": run.plan.in_flight,
            "drain": run.plan.drain.as_ref().map(|drain| {
                json!({ "replica": drain.replica, "after": drain.after, "back": drain.back })
            }),
            "slower": run.plan.slower.as_ref().map(|(name, by)| json!({ "replica": name, "milliseconds": millis(*by) })),
        },
        "reads": run.plan.reads,
        "done": samples.len(),
        "elapsed_ms": millis(progress.elapsed),
        "servers": servers.collect::<Vec<_>>(),
        "milliseconds": quantiles_json(&summary.quantiles),
        "errors": summary.errors,
        "retried": summary.retried,
        "mismatches": summary.mismatches,
        "spread": summary.spread(),
        "odd": summary.odd,
        "oddest": summary.oddest,
        "verdict": run.verdict(),
        "sequence": sequence.collect::<Vec<_>>(),
    })
}

fn quantiles_json(quantiles: &Quantiles) -> Value {
    let Quantiles { p50, p95, p99, max } = *quantiles;
    json!({ "p50": millis(p50), "p95": millis(p95), "p99": millis(p99), "max": millis(max) })
}

/// Milliseconds with three digits.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A run as a table: a line per read. No field needs quotes: the names have neither commas nor quotes.
pub(super) fn run_csv(run: &Run) -> Response {
    let mut text = "read,server,milliseconds,retried,lag_ms,odd\n".to_owned();
    for (index, sample) in run.samples_from(0).iter().enumerate() {
        let server = sample.server.map_or("", |server| &run.names[server]);
        let lag = sample.lag.map_or_else(String::new, |lag| millis(lag).to_string());
        let odd = sample.odd.map_or_else(String::new, |odd| odd.to_string());
        let (took, retried) = (millis(sample.duration), sample.retried);
        // Writing into a string can't fail.
        writeln!(text, "{},{server},{took},{retried},{lag},{odd}", index + 1).ok();
    }
    let file = format!("attachment; filename=\"run-{}.csv\"", run.id);
    ([(CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (CONTENT_DISPOSITION, file)], text)
        .into_response()
}
