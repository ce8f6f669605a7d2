//! The progress of a run, as it happens.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use serde_json::json;

use super::export::millis;
use super::find;
use super::waffle::glyph;
use crate::demo::Run;
use crate::error::AppError;
use crate::extract::PathText;
use crate::handlers::live::OpenStream;
use crate::model::demo::Sample;
use crate::state::AppState;

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
        // A mark with `!` is one in which the experiment found what it looks for.
        let cell = |sample: &Sample| {
            let mark = sample.server.map_or_else(|| "none".to_owned(), |index| glyph(index, servers));
            if sample.odd.is_some() { format!("{mark}!") } else { mark }
        };
        let cells: Vec<String> = samples.iter().map(cell).collect();
        let data = json!({
            "done": follower.seen,
            "total": follower.run.plan.reads,
            "elapsed_ms": millis(progress.elapsed),
            "odd": samples.iter().filter(|sample| sample.odd.is_some()).count(),
            "cells": cells,
        });
        let name = if follower.over { "done" } else { "progress" };
        let event = Event::default().event(name).id(follower.seen.to_string()).data(data.to_string());
        Some((Ok(event), (follower, changes)))
    })
}
