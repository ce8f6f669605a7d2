//! What happens to every request around its handler.

use std::time::Instant;

use axum::Json;
use axum::extract::{MatchedPath, Request};
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

/// Sets the headers that make a browser careful.
pub async fn security_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Answers of the API are about now, and of one caller: nobody may keep them.
pub async fn no_store(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Measures each request by its route, never by its address: ids would make a time series each.
pub async fn measure(request: Request, next: Next) -> Response {
    // A method that somebody made up must not become a time series.
    let known =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE].contains(request.method());
    let method = if known { request.method().to_string() } else { "other".to_owned() };
    let path = request.extensions().get::<MatchedPath>();
    let route = path.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let started = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!("http_server_request_duration_seconds", "method" => method, "route" => route, "status" => status)
        .record(started.elapsed().as_secs_f64());
    response
}

/// Gives an error its body: JSON for programs, a page for people.
pub async fn render_problems(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let for_programs = path.starts_with("/api/")
        || std::path::Path::new(path).extension().is_some_and(|e| e == "json")
        || wants_json(request.headers());
    let response = next.run(request).await;
    let Some(problem) = response.extensions().get::<Problem>().cloned() else { return response };
    let visit = response.extensions().get::<Visit>().cloned();
    let rendered = if for_programs { problem_json(&problem) } else { error_page(problem, visit.as_ref()) };
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
