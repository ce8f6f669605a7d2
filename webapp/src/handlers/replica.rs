//! One replica: how far behind it was in the last hour, what it applied, what it refused. And what all of them refused.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use crate::db::queries::detail::{Counters, Quarantined, RowCounts};
use crate::error::AppError;
use crate::extract::{PathText, QueryFields};
use crate::handlers::admin;
use crate::handlers::status::Row;
use crate::model::changes::stages::{Spread, Stages};
use crate::model::status::detail::{Compared, Refused, TableCounters, compare};
use crate::model::status::{Check, Point, Sample, WorkerFacts, line, words};
use crate::page::{Chrome, filters, page};
use crate::state::AppState;
use crate::visit::Visit;

/// The chart's size in its own units.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 110.0;

#[derive(Template)]
#[template(path = "status/replica.html")]
struct ReplicaPage {
    chrome: Chrome,
    name: String,
    minutes: usize,
    live: String,
    flash: Option<String>,
    operate: String,
    counters: Result<Vec<TableCounters>, &'static str>,
    compared: Option<Result<Vec<Compared>, String>>,
    refused: Result<Vec<Refused>, &'static str>,
}

/// The part of the page that changes.
#[derive(Template)]
#[template(path = "status/_replica.html")]
struct Live {
    row: Row,
    worker: Option<WorkerFacts>,
    checks: Vec<Check>,
    chart: Chart,
    stages: Option<Stages>,
    /// Whether there is a replicator to tell of transactions.
    is_told: bool,
    /// Whether changes come by a broker.
    has_broker: bool,
}

/// One stage of a replica's delay, in words.
struct Stage {
    name: &'static str,
    meaning: String,
    spread: Option<Spread>,
}

impl Live {
    /// What follows what, with the meaning that it has on this source.
    fn stages_of(&self, stages: &Stages) -> [Stage; 3] {
        let name = &self.row.0.name;
        let (sent, carry) = if self.has_broker {
            ("until Debezium had given it to the broker", "Broker")
        } else {
            ("until the leader's walsender had sent it", "Way")
        };
        let stage = |name, meaning: String, spread| Stage { name, meaning, spread };
        [
            stage("Capture", format!("from the leader's commit {sent}"), stages.capture),
            stage(carry, "from then until the replicator had read all of it".to_owned(), stages.carry),
            stage("Apply", format!("from then until {name} showed it"), stages.apply),
        ]
    }

    /// "12 ms": time stamps have milliseconds, so what is less is not known to be nothing.
    fn milliseconds(ms: &i64) -> String {
        if *ms == 0 { "under 1 ms".to_owned() } else { format!("{ms} ms") }
    }

    /// Where each stage's part of the bar begins and how wide it is, in percent.
    fn bar(stages: &Stages) -> Option<[(f64, f64); 3]> {
        let [capture, carry, apply] = stages.shares()?;
        Some([(0.0, capture), (capture, carry), (capture + carry, apply)])
    }
}

/// How far behind the replica was, as a line.
struct Chart {
    path: String,
    /// The top of the picture, in words.
    top: String,
    /// Where the line of what is promised is; none when it is above the picture.
    slo: Option<f64>,
    slo_words: String,
    /// What the picture says, in words.
    summary: String,
}

impl Chart {
    fn of(points: &[Point], slo: Duration) -> Self {
        let seconds: Vec<Option<f64>> =
            points.iter().map(|point| point.lag.map(|lag| lag.as_secs_f64())).collect();
        let known = || seconds.iter().flatten().copied();
        let peak = known().fold(0.0, f64::max);
        // At least a second: less is the rhythm of the looks themselves.
        let top = line::round_up(peak.max(1.0));
        let slo_at = HEIGHT * (1.0 - slo.as_secs_f64() / top);
        let summary = if known().next().is_none() {
            "Nothing is known yet.".to_owned()
        } else if peak == 0.0 {
            "It was never behind.".to_owned()
        } else {
            let gaps = seconds.iter().filter(|lag| lag.is_none()).count();
            let gaps = if gaps == 0 { String::new() } else { " Gaps: it did not answer.".to_owned() };
            format!("It was at most {} behind.{gaps}", words::span(Duration::from_secs_f64(peak)))
        };
        Self {
            path: line::path(&line::thin_out(&seconds, 360), WIDTH, HEIGHT, top),
            top: words::span(Duration::from_secs_f64(top)),
            slo: (slo_at > 0.0).then_some(slo_at),
            slo_words: words::span(slo),
            summary,
        }
    }
}

impl ReplicaPage {
    fn equal(compared: &[Compared]) -> bool {
        compared.iter().all(Compared::agrees)
    }

    fn number(count: &Option<i64>) -> String {
        count.map_or_else(|| "—".to_owned(), |count| count.to_string())
    }
}

/// The part of a replica's page that changes, as HTML; nothing when there is no such replica.
///
/// # Errors
/// When the template can't be rendered: a fault of ours.
pub fn live(
    state: &AppState,
    sample: &Arc<Sample>,
    name: &str,
    minutes: usize,
) -> askama::Result<Option<String>> {
    let Some(index) = sample.replicas.iter().position(|replica| replica.name == name) else {
        return Ok(None);
    };
    let sampler = state.sampler();
    let (settings, points) = (sampler.settings(), sampler.points(index));
    let wanted = minutes * 60_000 / usize::try_from(settings.interval_ms.max(1)).unwrap_or(1000);
    let points = &points[points.len().saturating_sub(wanted)..];
    let prefix = format!("{name}-");
    let live = Live {
        row: Row(sample.replicas[index].clone()),
        worker: sample.worker(name).cloned(),
        checks: sample.complaints().into_iter().filter(|c| c.slug.starts_with(&prefix)).cloned().collect(),
        chart: Chart::of(points, Duration::from_millis(settings.lag_slo_ms)),
        stages: state.changes().stages(name),
        is_told: settings.replicator().is_some(),
        has_broker: sample.topics().is_some(),
    };
    live.render().map(Some)
}

/// `GET /status/replicas/{name}?minutes=&compare=`
///
/// # Errors
/// 404 when there is no such replica.
pub async fn show(
    State(state): State<AppState>,
    PathText(name): PathText,
    query: QueryFields,
    headers: HeaderMap,
    visit: Visit,
) -> Result<Response, AppError> {
    let sample = state.sampler().latest();
    let minutes = if query.get("minutes") == Some("60") { 60 } else { 5 };
    let index = sample.replicas.iter().position(|replica| replica.name == name);
    let (Some(index), Some(live)) = (index, live(&state, &sample, &name, minutes)?) else {
        let known: Vec<&str> = sample.replicas.iter().map(|replica| replica.name.as_str()).collect();
        let message = format!("{name} is not configured. There are {}.", known.join(", "));
        return Err(AppError::NotFound(message));
    };
    let sampler = state.sampler();
    let observers = sampler.observers();
    let words = |error: crate::db::error::DbError| error.words();
    let (counters, refused) =
        tokio::join!(observers.ask_replica(index, &Counters), observers.ask_replica(index, &Quarantined));
    let compared = if query.get("compare").is_some() {
        let (leader, replica) =
            tokio::join!(observers.ask_leader(&RowCounts), observers.ask_replica(index, &RowCounts));
        Some(match (leader, replica) {
            (Ok(leader), Ok(replica)) => Ok(compare(&leader, &replica)),
            (Err(error), _) => Err(format!("The leader {}.", error.words())),
            (_, Err(error)) => Err(format!("{name} {}.", error.words())),
        })
    } else {
        None
    };
    let tables = counters.iter().flatten().map(|table| table.table.clone()).collect();
    let template = ReplicaPage {
        chrome: Chrome::new("status", &visit),
        flash: admin::flash(&name, &query),
        operate: admin::operate(&state, &headers, &visit, Some(&name), tables)?,
        name,
        minutes,
        live,
        counters: counters.map_err(words),
        compared,
        refused: refused.map_err(words),
    };
    Ok(page(StatusCode::OK, &template))
}

#[derive(Template)]
#[template(path = "status/errors.html")]
struct ErrorsPage {
    chrome: Chrome,
    replicas: Vec<(String, Result<Vec<Refused>, &'static str>)>,
}

impl ErrorsPage {
    fn nothing(&self) -> bool {
        self.replicas.iter().all(|(_, refused)| matches!(refused, Ok(refused) if refused.is_empty()))
    }
}

/// `GET /errors`: what the replicas refused.
pub async fn errors(State(state): State<AppState>, visit: Visit) -> Response {
    let set = state.database().replicas();
    let names = set.iter().map(|replica| replica.name().to_owned());
    let sampler = state.sampler();
    let observers = sampler.observers();
    let asked = names.enumerate().map(async |(index, name)| {
        let refused = observers.ask_replica(index, &Quarantined).await;
        (name, refused.map_err(|error| error.words()))
    });
    let replicas = futures_util::future::join_all(asked).await;
    page(StatusCode::OK, &ErrorsPage { chrome: Chrome::new("status", &visit), replicas })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(lags: &[Option<u64>]) -> Vec<Point> {
        let point = |(n, lag): (usize, &Option<u64>)| Point {
            at: jiff::Timestamp::from_second(i64::try_from(n).unwrap()).unwrap(),
            lag: lag.map(Duration::from_secs),
            rate: None,
        };
        lags.iter().enumerate().map(point).collect()
    }

    #[test]
    fn the_chart_says_in_words_what_it_shows() {
        let of = |lags: &[Option<u64>]| Chart::of(&points(lags), Duration::from_secs(5));
        let healthy = of(&[Some(0), Some(0)]);
        assert_eq!((healthy.summary.as_str(), healthy.slo), ("It was never behind.", None));
        let behind = of(&[Some(0), Some(7), None]);
        assert_eq!(behind.summary, "It was at most 7.0 s behind. Gaps: it did not answer.");
        assert_eq!((behind.top.as_str(), behind.slo), ("10.0 s", Some(55.0)));
        assert_eq!(of(&[None]).summary, "Nothing is known yet.");
    }
}
