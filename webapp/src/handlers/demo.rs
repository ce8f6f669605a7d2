//! The demo: many reads, and which replica answered each.

mod export;
mod stream;
mod waffle;

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;
use uuid::Uuid;

pub use export::run_json;
pub use stream::events;

use crate::db::route::strategy::Strategy;
use crate::demo::{Ending, Progress, Run};
use crate::error::AppError;
use crate::extract::{FormFields, Here, PathText, QueryFields};
use crate::middleware::wants_json;
use crate::model::demo::away::Drain;
use crate::model::demo::plan::{Experiment, MAX_IN_FLIGHT, MAX_READS, Plan};
use crate::model::demo::{Share, Summary, words};
use crate::model::input::FieldError;
use crate::page::{Chrome, ago, filters, page};
use crate::state::AppState;
use crate::visit::Visit;
use waffle::{Waffle, glyph};

/// The longest that the page of a run waits for its end, for readers without JavaScript.
const PATIENCE: Duration = Duration::from_secs(10);

/// The form that starts a run.
struct Form {
    plan: Plan,
    replicas: Vec<String>,
}

impl Form {
    fn strategies() -> [(Strategy, &'static str); 5] {
        Strategy::ALL.map(|strategy| (strategy, strategy_words(strategy)))
    }

    fn slower(&self) -> &str {
        self.plan.slower.as_ref().map_or("", |(name, _)| name)
    }

    fn drain(&self) -> &str {
        self.plan.drain.as_ref().map_or(Drain::NONE, |drain| &drain.replica)
    }

    fn drain_after(&self) -> usize {
        self.plan.drain.as_ref().map_or(Drain::middle_half(self.plan.reads).0, |drain| drain.after)
    }

    fn drain_back(&self) -> usize {
        self.plan
            .drain
            .as_ref()
            .map_or(Drain::middle_half(self.plan.reads).1, |drain| drain.back.unwrap_or(0))
    }

    fn slower_ms(&self) -> u128 {
        self.plan.slower.as_ref().map_or(20, |(_, by)| by.as_millis())
    }
}

fn strategy_words(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::RoundRobin => "Round-robin",
        Strategy::Random => "Random",
        Strategy::LeastInFlight => "Least in flight",
        Strategy::PowerOfTwo => "Power of two",
        Strategy::Sticky => "Sticky",
    }
}

#[derive(Template)]
#[template(path = "demo/show.html")]
struct DemoPage {
    chrome: Chrome,
    form: Form,
    recent: Vec<Arc<Run>>,
    stop_command: String,
    start_command: String,
    in_rotation: usize,
}

#[derive(Template)]
#[template(path = "demo/run.html")]
struct RunPage {
    chrome: Chrome,
    form: Form,
    others: Vec<Arc<Run>>,
    here: Here,
    result: Outcome,
}

/// One run as the pages show it.
struct Outcome {
    run: Arc<Run>,
    progress: Progress,
    summary: Summary,
    waffle: Waffle,
    verdict: String,
}

impl Outcome {
    fn of(run: &Arc<Run>) -> Self {
        Self {
            progress: run.progress(),
            summary: run.summary(),
            waffle: Waffle::of(run),
            verdict: run.verdict(),
            run: Arc::clone(run),
        }
    }

    fn experiment(&self) -> Experiment {
        self.run.plan.experiment
    }

    fn is_complete(&self) -> bool {
        self.progress.ending == Some(Ending::Complete)
    }

    fn is_over(&self) -> bool {
        self.progress.ending.is_some()
    }

    fn name(&self, share: &Share) -> &str {
        &self.run.names[share.server]
    }

    fn glyph(&self, share: &Share) -> String {
        glyph(share.server, self.run.names.len())
    }

    /// Servers with a row: all replicas, and the leader when it answered.
    fn rows(&self) -> Vec<&Share> {
        let leader = self.run.names.len().saturating_sub(1);
        self.summary.shares.iter().filter(|share| share.server != leader || share.count > 0).collect()
    }

    /// Where chance leads to, as a part of the bar: from, width in percent. Only where chance is what decides.
    fn band(&self) -> Option<(f64, f64)> {
        let random = self.run.plan.strategy == Strategy::Random;
        let (from, to) = self.summary.band().filter(|_| random && self.waffle.total > 0)?;
        #[expect(clippy::cast_precision_loss, reason = "there are at most 10 000 reads")]
        let percent = |reads: f64| 100.0 * reads / self.waffle.total as f64;
        Some((percent(from), percent(to - from)))
    }

    fn lag(share: &Share) -> String {
        share.lag.map_or_else(|| "unknown".to_owned(), ago)
    }

    fn per_second(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "there are at most 10 000 reads")]
        let answered = (self.waffle.total - self.summary.errors) as f64;
        format!("{:.0}", answered / self.progress.elapsed.as_secs_f64().max(1e-6))
    }
}

fn replicas(state: &AppState) -> Vec<String> {
    state.database().replicas().iter().map(|replica| replica.name().to_owned()).collect()
}

/// What a run shall do, from the fields of a form or an address.
///
/// # Errors
/// For the first field that can't be.
pub fn plan_of(state: &AppState, field: impl Fn(&str) -> Option<String>) -> Result<Plan, FieldError> {
    Plan::parse(field, &replicas(state))
}

/// `GET /Home/Demo` and `GET /demo`, with `?experiment=` and all other fields of the form, to be linked.
///
/// # Errors
/// 400 when a field can't be.
pub async fn show(
    State(state): State<AppState>,
    query: QueryFields,
    visit: Visit,
) -> Result<Response, AppError> {
    let plan = plan_of(&state, |name| query.get(name).map(str::to_owned)).map_err(AppError::BadRequest)?;
    let start = state.sampler().settings().start("replica-2");
    let template = DemoPage {
        chrome: Chrome::new("demo", &visit),
        form: Form { plan, replicas: replicas(&state) },
        recent: state.runs().all(),
        stop_command: start.replacen("start", "stop", 1),
        start_command: start,
        in_rotation: visit.sample().in_rotation(),
    };
    Ok(page(StatusCode::OK, &template))
}

/// `POST /demo/runs`: starts a run. A browser is sent to its page, a program gets its addresses.
///
/// # Errors
/// 422 when a field can't be, 429 while another run goes on.
pub async fn start(
    State(state): State<AppState>,
    headers: HeaderMap,
    form: FormFields,
) -> Result<Response, AppError> {
    let plan = plan_of(&state, |name| Some(form.text(name)))?;
    let run = state.runs().start(&state, plan).map_err(|_| AppError::RunGoingOn)?;
    let address = format!("/demo/runs/{}", run.id);
    if wants_json(&headers) {
        let addresses = json!({
            "id": run.id,
            "page": address,
            "events": format!("{address}/events"),
            "stop": format!("{address}/stop"),
            "away": format!("{address}/away"),
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

/// `GET /demo/runs/{id}`, and `{id}.json` and `{id}.csv` for programs. Waits for the end of a run, but not for ever.
///
/// # Errors
/// 404 when the run is not kept.
pub async fn show_run(
    State(state): State<AppState>,
    PathText(id): PathText,
    here: Here,
    visit: Visit,
) -> Result<Response, AppError> {
    let (id, kind) = id.split_once('.').map_or((id.as_str(), ""), |(id, kind)| (id, kind));
    let run = find(&state, id)?;
    run.finished(PATIENCE).await;
    match kind {
        "json" => return Ok(Json(run_json(&run)).into_response()),
        "csv" => return Ok(export::run_csv(&run)),
        "" => {}
        _ => return Err(AppError::NotFound("A run can be had as a page, as .json and as .csv.".to_owned())),
    }
    let others = state.runs().all().into_iter().filter(|other| other.id != run.id).collect();
    let template = RunPage {
        chrome: Chrome::new("demo", &visit),
        form: Form { plan: run.plan.clone(), replicas: replicas(&state) },
        others,
        here,
        result: Outcome::of(&run),
    };
    Ok(page(StatusCode::OK, &template))
}

#[derive(Template)]
#[template(path = "demo/compare.html")]
struct ComparePage {
    chrome: Chrome,
    results: [Outcome; 2],
}

/// `GET /demo/compare?a=&b=`: two runs beside each other.
///
/// # Errors
/// 404 when one of them is not kept.
pub async fn compare(
    State(state): State<AppState>,
    query: QueryFields,
    visit: Visit,
) -> Result<Response, AppError> {
    let [a, b] = ["a", "b"].map(|name| find(&state, query.get(name).unwrap_or_default()));
    let results = [Outcome::of(&a?), Outcome::of(&b?)];
    Ok(page(StatusCode::OK, &ComparePage { chrome: Chrome::new("demo", &visit), results }))
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

/// `POST /demo/runs/{id}/away`, with the `replica` that the run does without from now on; empty: with all of them again.
/// Only this run's reads notice.
///
/// # Errors
/// 404 when the run is not kept, 422 when there is no such replica.
pub async fn away(
    State(state): State<AppState>,
    PathText(id): PathText,
    form: FormFields,
) -> Result<Response, AppError> {
    let run = find(&state, &id)?;
    let replica = form.text("replica");
    if !run.do_without(Some(replica.as_str()).filter(|name| !name.is_empty())) {
        return Err(FieldError::new("replica", "There is no such replica.").into());
    }
    Ok(Redirect::to(&format!("/demo/runs/{}", run.id)).into_response())
}
