//! The demo: many reads, and which replica answered each.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Redirect, Response};
use futures_util::Stream;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::demo::{DEFAULT_READS, Ending, MAX_READS, Progress, Run};
use crate::error::AppError;
use crate::extract::{FormFields, PathText};
use crate::handlers::live::OpenStream;
use crate::middleware::wants_json;
use crate::model::demo::{Quantiles, Sample, ServerIndex, Summary};
use crate::model::input::FieldError;
use crate::page::{Chrome, ago, filters, page};
use crate::state::AppState;
use crate::visit::Visit;

/// The longest that the page of a run waits for its end, for readers without JavaScript.
const PATIENCE: Duration = Duration::from_secs(10);

/// Cells in a row of the waffle: 1000 reads make 25 rows.
const COLUMNS: usize = 40;
/// The side of a cell in the waffle's own units.
const CELL: usize = 10;

#[derive(Template)]
#[template(path = "demo/show.html")]
struct DemoPage {
    chrome: Chrome,
    reads: usize,
    max_reads: usize,
    names: Vec<String>,
    recent: Vec<Arc<Run>>,
}

#[derive(Template)]
#[template(path = "demo/run.html")]
struct RunPage {
    chrome: Chrome,
    run: Arc<Run>,
    reads: usize,
    max_reads: usize,
    progress: Progress,
    summary: Summary,
    samples: Vec<Sample>,
    verdict: String,
    names: Vec<String>,
}

impl RunPage {
    fn new(visit: &Visit, run: Arc<Run>) -> Self {
        let (progress, summary) = (run.progress(), run.summary());
        Self {
            chrome: Chrome::new("demo", visit),
            reads: run.reads,
            max_reads: MAX_READS,
            verdict: summary.verdict(&run.names, progress.elapsed),
            samples: run.samples_from(0),
            names: run.names.clone(),
            progress,
            summary,
            run,
        }
    }

    fn rows(&self) -> usize {
        self.samples.len().div_ceil(COLUMNS).max(1)
    }

    fn x(index: &usize) -> usize {
        index % COLUMNS * CELL
    }

    fn y(index: &usize) -> usize {
        index / COLUMNS * CELL
    }

    /// What hovering over a cell says.
    fn title(&self, index: &usize, sample: &Sample) -> String {
        let who = self.server_of(sample);
        let millis = sample.duration.as_secs_f64() * 1000.0;
        let retried = if sample.retried { ", after another one failed" } else { "" };
        format!("#{} {who} {millis:.2} ms{retried}", index + 1)
    }

    /// The first reads of the sequence in words, for those who can't see the waffle.
    fn first_answers(&self) -> String {
        let names =
            self.samples.iter().take(9).map(|s| s.server.map_or("nobody", |server| &self.names[server]));
        names.collect::<Vec<_>>().join(", ")
    }

    fn server_of(&self, sample: &Sample) -> &str {
        sample.server.map_or("no answer", |server| self.names[server].as_str())
    }

    fn glyph(&self, sample: &Sample) -> String {
        sample.server.map_or_else(|| "none".to_owned(), |server| glyph(server, self.names.len()))
    }

    fn glyph_of(&self, server: &ServerIndex) -> String {
        glyph(*server, self.names.len())
    }

    fn lag(lag: &Option<Duration>) -> String {
        lag.map_or_else(|| "unknown".to_owned(), ago)
    }

    fn per_second(&self) -> String {
        let answered = self.samples.iter().filter(|s| s.server.is_some()).count();
        format!(
            "{:.0}",
            f64::from(u32::try_from(answered).unwrap_or(u32::MAX)) / self.progress.elapsed.as_secs_f64()
        )
    }

    fn is_complete(&self) -> bool {
        self.progress.ending == Some(Ending::Complete)
    }
}

/// The mark of a server: colours and shapes repeat after four replicas, the leader has its own.
fn glyph(server: ServerIndex, servers: usize) -> String {
    if server + 1 == servers { "leader".to_owned() } else { (server % 4).to_string() }
}

/// `GET /Home/Demo` and `GET /demo`
pub async fn show(State(state): State<AppState>, visit: Visit) -> Response {
    let names = state.database().replicas().iter().map(|replica| replica.name().to_owned()).collect();
    let recent = state.runs().all();
    let chrome = Chrome::new("demo", &visit);
    page(StatusCode::OK, &DemoPage { chrome, reads: DEFAULT_READS, max_reads: MAX_READS, names, recent })
}

/// How many reads a run shall have.
///
/// # Errors
/// When the text is not a number from 1 to [`MAX_READS`].
pub fn reads_of(text: Option<&str>) -> Result<usize, FieldError> {
    match text.map_or(Ok(DEFAULT_READS), str::parse) {
        Ok(reads @ 1..=MAX_READS) => Ok(reads),
        _ => Err(FieldError::new("reads", format!("The number of reads is from 1 to {MAX_READS}."))),
    }
}

/// `POST /demo/runs`: starts a run. A browser is sent to its page, a program gets its addresses.
///
/// # Errors
/// 422 when the number of reads can't be, 429 while another run goes on.
pub async fn start(
    State(state): State<AppState>,
    headers: HeaderMap,
    form: FormFields,
) -> Result<Response, AppError> {
    let reads = form.text("reads");
    let reads = reads_of(Some(reads.trim()).filter(|text| !text.is_empty()))?;
    let run = state.runs().start(&state, reads).map_err(|_| AppError::RunGoingOn)?;
    let address = format!("/demo/runs/{}", run.id);
    if wants_json(&headers) {
        let addresses = json!({
            "id": run.id,
            "page": address,
            "events": format!("{address}/events"),
            "stop": format!("{address}/stop"),
        });
        return Ok((StatusCode::CREATED, Json(addresses)).into_response());
    }
    Ok(Redirect::to(&address).into_response())
}

fn find(state: &AppState, id: &str) -> Result<Arc<Run>, AppError> {
    let found = Uuid::parse_str(id).ok().and_then(|id| state.runs().find(id));
    found.ok_or_else(|| {
        AppError::NotFound("There is no such run. The last twenty are kept, until a restart.".to_owned())
    })
}

/// `GET /demo/runs/{id}`, and `{id}.json` for programs. Waits for the end of a run, but not for ever.
///
/// # Errors
/// 404 when the run is not kept.
pub async fn show_run(
    State(state): State<AppState>,
    PathText(id): PathText,
    visit: Visit,
) -> Result<Response, AppError> {
    let (id, json) = id.strip_suffix(".json").map_or((id.as_str(), false), |id| (id, true));
    let run = find(&state, id)?;
    run.finished(PATIENCE).await;
    if json {
        return Ok(Json(run_json(&run)).into_response());
    }
    Ok(page(StatusCode::OK, &RunPage::new(&visit, run)))
}

/// `POST /demo/runs/{id}/stop`
///
/// # Errors
/// 404 when the run is not kept.
pub async fn stop(State(state): State<AppState>, PathText(id): PathText) -> Result<Response, AppError> {
    let run = find(&state, &id)?;
    run.stop();
    Ok(Redirect::to(&format!("/demo/runs/{}", run.id)).into_response())
}

/// `GET /demo/runs/{id}/events`: the progress of a run as it happens. It only looks: opening it again starts nothing,
/// and goes on after the last event that the browser saw.
///
/// # Errors
/// 404 when the run is not kept.
pub async fn events(
    State(state): State<AppState>,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<Response, AppError> {
    let run = find(&state, &id)?;
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(0);
    let stream = Sse::new(progress_events(state, run, seen)).keep_alive(KeepAlive::default());
    // A proxy that collects the stream would defeat it.
    Ok(([("x-accel-buffering", "no"), ("cache-control", "no-store")], stream).into_response())
}

struct Follower {
    state: AppState,
    run: Arc<Run>,
    seen: usize,
    over: bool,
    _open: OpenStream,
}

fn progress_events(
    state: AppState,
    run: Arc<Run>,
    seen: usize,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let changes = run.subscribe();
    let follower = Follower { state, run, seen, over: false, _open: OpenStream::new("demo") };
    futures_util::stream::unfold((follower, changes), |(mut follower, mut changes)| async move {
        if follower.over {
            return None;
        }
        let seen = follower.seen;
        let news = changes.wait_for(|progress| progress.done > seen || progress.ending.is_some());
        let progress = tokio::select! {
            // An open stream must not hold up the application's end.
            () = follower.state.shutdown().cancelled() => return None,
            progress = news => *progress.ok()?,
        };
        let samples = follower.run.samples_from(seen);
        follower.seen = seen + samples.len();
        follower.over = progress.ending.is_some();
        let servers = follower.run.names.len();
        let cells: Vec<String> = samples
            .iter()
            .map(|s| s.server.map_or_else(|| "none".to_owned(), |i| glyph(i, servers)))
            .collect();
        let data = json!({
            "done": follower.seen,
            "total": follower.run.reads,
            "elapsed_ms": millis(progress.elapsed),
            "cells": cells,
        });
        let name = if follower.over { "done" } else { "progress" };
        let event = Event::default().event(name).id(follower.seen.to_string()).data(data.to_string());
        Some((Ok(event), (follower, changes)))
    })
}

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
        })
    });
    let samples = run.samples_from(0);
    let sequence = samples.iter().map(|sample| sample.server.map(|server| run.names[server].as_str()));
    json!({
        "id": run.id,
        "started_at": run.started_at,
        "state": progress.ending.map_or("running", Ending::label),
        "reads": run.reads,
        "done": samples.len(),
        "elapsed_ms": millis(progress.elapsed),
        "servers": servers.collect::<Vec<_>>(),
        "milliseconds": quantiles_json(&summary.quantiles),
        "errors": summary.errors,
        "retried": summary.retried,
        "mismatches": summary.mismatches,
        "spread": summary.spread(),
        "verdict": summary.verdict(&run.names, progress.elapsed),
        "sequence": sequence.collect::<Vec<_>>(),
    })
}

fn quantiles_json(quantiles: &Quantiles) -> Value {
    let Quantiles { p50, p95, p99, max } = *quantiles;
    json!({ "p50": millis(p50), "p95": millis(p95), "p99": millis(p99), "max": millis(max) })
}

/// Milliseconds with three digits.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
