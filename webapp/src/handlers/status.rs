//! How everything is, for people and for programs. It is all from the sampler's present sample: no database is asked.

use std::sync::Arc;

use askama::Template;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::handlers::admin;
use crate::model::status::facts::{ReplicaFacts, SlotFacts};
use crate::model::status::topics::TopicLine;
use crate::model::status::{Check, Level, ReplicaSample, Sample, line, words};
use crate::page::{Chrome, filters, page};
use crate::state::AppState;
use crate::visit::Visit;

/// What stands where nothing is known.
const UNKNOWN: &str = "—";

/// Values in a line of the table; those of before the start are unknown.
const SPARK: usize = crate::sampler::SHOWN;

#[derive(Template)]
#[template(path = "status/show.html")]
struct StatusPage {
    chrome: Chrome,
    live: String,
    operate: String,
}

/// The part of the page that changes.
#[derive(Template)]
#[template(path = "status/_live.html")]
struct Live {
    sample: Arc<Sample>,
    replicas: Vec<Row>,
    any_old: bool,
    rate_words: String,
    slots: Vec<SlotLine>,
    topics: Option<Vec<TopicLine>>,
}

impl Live {
    fn is_any_end_unknown(topics: &[TopicLine]) -> bool {
        topics.iter().any(|line| line.end().is_none())
    }
}

/// One replica in words.
pub struct Row(pub ReplicaSample);

struct SlotLine {
    name: String,
    kept: String,
    used_percent: Option<i64>,
    words: String,
}

impl SlotLine {
    fn of(slot: &SlotFacts, keep_bytes: Option<i64>) -> Self {
        let size = |bytes: i64| words::bytes(bytes.max(0).unsigned_abs());
        let limit = keep_bytes.zip(slot.safe);
        let reader = if slot.active { "read now" } else { "no reader" };
        let limit_words =
            limit.map_or_else(|| "no limit".to_owned(), |(keep, _)| format!("of {} that may be", size(keep)));
        Self {
            name: slot.name.clone(),
            kept: slot.retained.map_or_else(|| UNKNOWN.to_owned(), size),
            used_percent: limit
                .map(|(keep, safe)| 100 - (100 * safe.clamp(0, keep)).checked_div(keep).unwrap_or(0)),
            words: format!("{limit_words}, {reader}"),
        }
    }
}

impl Row {
    fn name(&self) -> &str {
        &self.0.name
    }

    /// The values are of before: the replica does not answer now.
    pub fn is_old(&self) -> bool {
        self.0.facts.failure.is_some()
    }

    /// How good its state is.
    pub fn level(&self) -> Level {
        self.0.state().0
    }

    /// Its state in a word or two.
    pub fn state(&self) -> &'static str {
        self.0.state().1
    }

    /// How far it is behind, in time.
    pub fn behind(&self) -> String {
        match &self.0.behind {
            Some(behind) if behind.is_caught_up() => "Caught up".to_owned(),
            Some(behind) => words::span(behind.time),
            None => UNKNOWN.to_owned(),
        }
    }

    /// How far it is behind, in row changes of the leader.
    pub fn changes_behind(&self) -> String {
        match self.0.behind.filter(|behind| !behind.is_caught_up()) {
            None if self.0.behind.is_some() => "none".to_owned(),
            None => UNKNOWN.to_owned(),
            Some(behind) => behind.changes.map_or_else(
                || "many".to_owned(),
                |changes| format!("~{}", words::count(changes.max(0).unsigned_abs())),
            ),
        }
    }

    /// How far it is behind, in bytes of the leader's log.
    pub fn bytes_behind(&self) -> String {
        self.0.behind.map_or_else(|| UNKNOWN.to_owned(), |behind| words::bytes(behind.bytes))
    }

    /// How long the newest transaction took on its way.
    pub fn delay(&self) -> String {
        let delay = self.0.facts.last().and_then(ReplicaFacts::delay);
        delay.map_or_else(|| UNKNOWN.to_owned(), words::span)
    }

    /// The watermark.
    pub fn watermark(&self) -> String {
        self.0.facts.last().map_or_else(|| UNKNOWN.to_owned(), |facts| facts.watermark.to_string())
    }

    fn applied(&self) -> String {
        let at = self.0.facts.last().and_then(|facts| facts.applied_at);
        at.map_or_else(String::new, |at| at.strftime("%H:%M:%S").to_string())
    }

    /// Changes per second.
    pub fn rate(&self) -> String {
        self.0.rate.map_or_else(|| UNKNOWN.to_owned(), words::rate)
    }

    /// Why reads do not go there; empty when they do.
    pub fn rotation(&self) -> &str {
        self.0.rotation.as_ref().err().map_or("", String::as_str)
    }

    fn peak(&self) -> f64 {
        self.0.rates.iter().flatten().copied().fold(0.0, f64::max)
    }

    /// The rate of the last minute as a line.
    fn spark(&self) -> String {
        // Below one change per second is the heartbeat, and no mountain.
        let known = &self.0.rates;
        let unknown = vec![None; SPARK.saturating_sub(known.len())];
        line::path(&[unknown, known.clone()].concat(), 118.0, 20.0, self.peak().max(5.0))
    }

    fn spark_words(&self) -> String {
        if self.0.rates.iter().flatten().next().is_none() {
            return "The rate of the last minute is not known".to_owned();
        }
        format!("At most {} changes per second in the last minute", words::rate(self.peak()))
    }
}

/// The part of the status page that changes, as HTML.
///
/// # Errors
/// When the template can't be rendered: a fault of ours.
pub fn live(sample: Arc<Sample>) -> askama::Result<String> {
    let replicas: Vec<Row> = sample.replicas.iter().cloned().map(Row).collect();
    let leader = sample.leader.last();
    let slots =
        leader.map(|facts| facts.slots.iter().map(|slot| SlotLine::of(slot, facts.keep_bytes)).collect());
    Live {
        any_old: replicas.iter().any(Row::is_old),
        rate_words: sample.leader_rate.map_or_else(|| UNKNOWN.to_owned(), words::rate),
        slots: slots.unwrap_or_default(),
        topics: sample.topics(),
        replicas,
        sample,
    }
    .render()
}

/// `GET /status`
///
/// # Errors
/// When the template can't be rendered: a fault of ours.
pub async fn show(
    State(state): State<AppState>,
    headers: HeaderMap,
    visit: Visit,
) -> Result<Response, crate::error::AppError> {
    let live = live(state.sampler().latest())?;
    let operate = admin::operate(&state, &headers, &visit, None, vec![])?;
    Ok(page(StatusCode::OK, &StatusPage { chrome: Chrome::new("status", &visit), live, operate }))
}

/// `GET /api/status`: the same for programs. Always 200: it is the answer that says how things are.
pub async fn json(State(state): State<AppState>) -> Response {
    let sample = state.sampler().latest();
    Json(sample_json(&sample)).into_response()
}

fn sample_json(sample: &Sample) -> Value {
    json!({
        "at": sample.at,
        "level": sample.level().label(),
        "verdict": sample.verdict(),
        "leader": sample.leader.now().map(|facts| json!({
            "position": facts.position.to_string(),
            "row_changes_per_second": sample.leader_rate,
        })),
        "replicas": sample.replicas.iter().map(replica_json).collect::<Vec<_>>(),
        "topics": sample.topics().map(|lines| lines.iter().map(topic_json).collect::<Vec<_>>()),
        "checks": sample.checks.iter().map(check_json).collect::<Vec<_>>(),
    })
}

fn replica_json(replica: &ReplicaSample) -> Value {
    let facts = replica.facts.last();
    json!({
        "name": replica.name,
        "state": replica.state().1,
        "level": replica.state().0.label(),
        "in_rotation": replica.rotation.is_ok(),
        "behind_ms": replica.behind.map(|behind| u64::try_from(behind.time.as_millis()).unwrap_or(u64::MAX)),
        "behind_changes": replica.behind.and_then(|behind| behind.changes),
        "behind_bytes": replica.behind.map(|behind| behind.bytes),
        "watermark": facts.map(|facts| facts.watermark.to_string()),
        "applied_at": facts.and_then(|facts| facts.applied_at),
        "changes_per_second": replica.rate,
        "quarantined": facts.map(|facts| facts.quarantined),
    })
}

fn topic_json(line: &TopicLine) -> Value {
    let replicas = line.needed.iter().map(|(name, offset)| json!({ "name": name, "needed_from": offset }));
    json!({
        "topic": line.partition.topic,
        "partition": line.partition.number,
        "needed_from": line.needed_from(),
        // Null while the replicator does not tell; then the others are what is known at least.
        "end": line.end(),
        "end_at_least": line.end().unwrap_or(line.reached()),
        "waiting_at_least": line.waits(),
        "replicas": replicas.collect::<Vec<_>>(),
    })
}

fn check_json(check: &Check) -> Value {
    json!({
        "slug": check.slug,
        "level": check.level.label(),
        "title": check.title,
        "cause": check.cause,
        "fix": check.fix,
        "since": check.since,
        "last_ok": check.last_ok,
    })
}
