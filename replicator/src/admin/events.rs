//! `GET /v1/events`: a stream (`text/event-stream`) of what happens, for caches, routers and pages.
//!
//! | event | data | when |
//! |---|---|---|
//! | `watermark` | replica, state, watermark, xid, `applied_at_ms`, `lag_ms` | at once, and when one has moved: at most every 5 ms for each replica |
//! | `transaction` | xid, lsn, `committed_at_ms`, `sent_at_ms`, tables, complete, `left_out` | a first replica shows it; at most 50 a second |
//! | `applied` | lsn, replica, `read_at_ms`, `applied_at_ms` | a replica shows a transaction that was told of |
//! | `missed` | events | the listener was too slow for so many events |
//!
//! It is a hint: what a replica's checkpoint says is what counts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, BoxStream, SelectAll, StreamExt as _};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::Instant;

use super::AdminState;
use crate::events::{self, Feed};
use crate::status::{ReplicaStatus, StatusCell, now_ms};

/// The pause between two events about the watermark of one replica. A group of transactions takes about as long.
const PACE: Duration = Duration::from_millis(5);

/// A sign of life on a quiet stream: who hears nothing for three times as long may take the daemon for gone.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Streams at a time. Each costs work with every group.
const LISTENERS: usize = 64;

/// Who listens, and where events come from.
#[derive(Clone)]
pub struct Streams {
    feed: Feed,
    room: Arc<Semaphore>,
}

impl Streams {
    /// Streams of this feed.
    pub fn new(feed: Feed) -> Self {
        Streams { feed, room: Arc::new(Semaphore::new(LISTENERS)) }
    }
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Watermark {
    replica: String,
    state: &'static str,
    watermark: Option<String>,
    xid: Option<u32>,
    applied_at_ms: Option<i64>,
    lag_ms: Option<i64>,
}

impl Watermark {
    fn of(status: ReplicaStatus) -> Self {
        Watermark {
            state: status.state.as_str(),
            xid: status.xid,
            applied_at_ms: status.applied_at_ms,
            lag_ms: status.lag_ms(now_ms()),
            watermark: status.watermark,
            replica: status.name,
        }
    }

    /// Whether there is anything new to tell.
    fn differs(&self, told: &Self) -> bool {
        (self.state, &self.watermark, self.xid) != (told.state, &told.watermark, told.xid)
    }
}

pub(super) async fn stream(State(state): State<AdminState>) -> Response {
    let Ok(seat) = Arc::clone(&state.streams.room).try_acquire_owned() else {
        let full = format!("{LISTENERS} clients listen already\n");
        return (StatusCode::SERVICE_UNAVAILABLE, full).into_response();
    };
    let mut all: SelectAll<BoxStream<'static, Event>> = SelectAll::new();
    for replica in &state.replicas {
        all.push(watermarks(replica.status.clone()));
    }
    all.push(transactions(state.streams.feed.subscribe()));
    let events = stream::unfold((all, seat), async |(mut all, seat): (_, OwnedSemaphorePermit)| {
        let event = all.next().await?;
        Some((Ok::<_, Infallible>(event), (all, seat)))
    });
    let sign_of_life = KeepAlive::new().interval(SIGN_OF_LIFE);
    ([("x-accel-buffering", "no")], Sse::new(events).keep_alive(sign_of_life)).into_response()
}

/// What the stream of one replica's watermarks stands on.
struct Watcher {
    cell: StatusCell,
    changes: watch::Receiver<()>,
    told: Option<Watermark>,
    not_before: Instant,
}

/// The watermark of one replica now, and whenever it has moved.
fn watermarks(cell: StatusCell) -> BoxStream<'static, Event> {
    let mut changes = cell.subscribe();
    changes.mark_changed();
    let watcher = Watcher { cell, changes, told: None, not_before: Instant::now() };
    Box::pin(stream::unfold(watcher, async |mut watcher| {
        let event = watcher.next().await?;
        Some((event, watcher))
    }))
}

impl Watcher {
    /// The first move after a rest is told at once; what moves within the pause is told together after it.
    async fn next(&mut self) -> Option<Event> {
        loop {
            self.changes.changed().await.ok()?;
            tokio::time::sleep_until(self.not_before).await;
            self.changes.mark_unchanged();
            let now = Watermark::of(self.cell.get());
            if self.told.as_ref().is_none_or(|told| now.differs(told)) {
                self.not_before = Instant::now() + PACE;
                let event = event("watermark", &now);
                self.told = Some(now);
                return Some(event);
            }
        }
    }
}

fn transactions(receiver: broadcast::Receiver<events::Event>) -> BoxStream<'static, Event> {
    #[derive(Serialize)]
    struct Missed {
        events: u64,
    }
    Box::pin(stream::unfold(receiver, async |mut receiver| match receiver.recv().await {
        Ok(happened) => Some((event(happened.name(), &happened), receiver)),
        Err(RecvError::Lagged(events)) => Some((event("missed", &Missed { events }), receiver)),
        Err(RecvError::Closed) => None,
    }))
}

fn event(name: &str, data: &impl Serialize) -> Event {
    // None of these types has a key that is no text, which is all that could fail.
    Event::default().event(name).json_data(data).unwrap_or_default()
}
