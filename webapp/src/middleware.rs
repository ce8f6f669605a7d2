//! What happens to every request around its handler.

use std::time::Instant;

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate, SizeAbove};

use crate::error::Problem;
use crate::page::error_page;
use crate::state::AppState;
use crate::telemetry::RequestMeters;
use crate::visit::Visit;

/// Nothing but our own style, script, images and addresses; no inline code; no framing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Below this a compressed answer saves no packet; above it a page shrinks to a quarter.
const WORTH_IT: u64 = 1024;

/// Sends what is worth it compressed, to those who understand it, and says so in `Vary`. Streams of events stay as they
/// are, or each event would wait for the next.
///
/// The length of a compressed page tells something of a secret that stands beside what somebody else has chosen (BREACH).
/// The one secret in our pages is the token of an operator's forms, and it is under a new mask each time
/// ([`crate::admin::gate::Pass::form_token`]); what else identifies a caller is in cookies, which are not compressed.
pub fn compression() -> CompressionLayer<impl Predicate> {
    let worth_it = DefaultPredicate::new().and(SizeAbove::new(WORTH_IT));
    // Pages are made anew each time, so the time to compress counts as much as the size.
    CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest).compress_when(worth_it)
}

/// Does for every request what has to be done around its handler: gives it its [`Visit`], gives an error its body, sets the
/// headers that every answer has, and measures. One layer for all of it, because each one costs a request a box and a copy
/// of every layer within it.
pub async fn around(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let labels = Labels::of(&request);
    let path = request.uri().path();
    let is_api = path.starts_with("/api/");
    let for_programs = is_api
        || std::path::Path::new(path).extension().is_some_and(|e| e == "json")
        || wants_json(request.headers());
    let mut response = match Visit::begin(state.clone(), &request) {
        Ok(visit) => {
            request.extensions_mut().insert(visit.clone());
            let mut response = next.run(request).await;
            visit.finish(response.headers_mut());
            with_problem(response, Some(&visit), for_programs)
        }
        Err(error) => with_problem(error.into_response(), None, for_programs),
    };
    set_headers(response.headers_mut(), is_api);
    labels.record(state.request_meters(), started, response.status());
    response
}

/// Those that make a browser careful; and answers of the API are about now, and of one caller: nobody may keep them.
fn set_headers(headers: &mut HeaderMap, is_api: bool) {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_api {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// What a request is measured by: its route, never its address, whose ids would make a time series each.
struct Labels {
    method: &'static str,
    route: Option<MatchedPath>,
}

impl Labels {
    fn of(request: &Request) -> Self {
        let method = match *request.method() {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            // A method that somebody made up must not become a time series.
            _ => "other",
        };
        Self { method, route: request.extensions().get::<MatchedPath>().cloned() }
    }

    fn record(&self, meters: &RequestMeters, started: Instant, status: StatusCode) {
        let route = self.route.as_ref().map_or("none", MatchedPath::as_str);
        meters.of(self.method, route, status).record(started.elapsed().as_secs_f64());
    }
}

/// Gives an error its body: JSON for programs, a page for people.
fn with_problem(response: Response, visit: Option<&Visit>, for_programs: bool) -> Response {
    let Some(problem) = response.extensions().get::<Problem>().cloned() else { return response };
    let rendered = if for_programs { problem_json(&problem) } else { error_page(problem, visit) };
    // What the visit has to say (who answered, cookies) is in the headers already and stays.
    let (mut parts, _) = response.into_parts();
    let (rendered, body) = rendered.into_parts();
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    parts.headers.extend(rendered.headers);
    Response::from_parts(parts, body)
}

/// Whether the client asks for JSON by name.
pub fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get(axum::http::header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"))
}

fn problem_json(problem: &Problem) -> Response {
    let mut error = json!({ "code": problem.code, "message": problem.message });
    if let Some(field) = problem.field {
        error["field"] = field.into();
    }
    let mut response = (problem.status, Json(json!({ "error": error }))).into_response();
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(RETRY_AFTER, u16::from(seconds).into());
    }
    if problem.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
