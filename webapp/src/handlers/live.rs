//! Streams of what changes on a page: each event maps the ids of elements to their new content. An event is the whole
//! state, so one that is lost matters to nobody. One sample serves all streams, and no stream asks a database.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use tokio::sync::watch;
use uuid::Uuid;

use crate::arrivals::{Arrival, Arrived};
use crate::error::AppError;
use crate::extract::{PathText, QueryFields};
use crate::handlers::changes::Filter;
use crate::handlers::{changes, home, posts, replica, status};
use crate::model::status::Sample;
use crate::page::pill;
use crate::state::AppState;

/// A browser that has lost the stream comes back after this long.
const RETRY: Duration = Duration::from_secs(2);

/// What a page shows of a sample.
#[derive(Clone)]
enum View {
    /// The health in the head of each page, and nothing else.
    Pill,
    Home,
    Status,
    Changes(Filter),
    /// A write on its way.
    Arrival(Arc<Arrival>),
    /// One replica, and how many minutes of it.
    Replica(String, usize),
}

impl View {
    fn parse(text: &str, query: &QueryFields, state: &AppState) -> Option<Self> {
        match text {
            "pill" => Some(Self::Pill),
            "home" => Some(Self::Home),
            "status" => Some(Self::Status),
            "changes" => Some(Self::Changes(Filter::of(query))),
            "arrival" => {
                let id = Uuid::parse_str(query.get("write")?).ok()?;
                state.arrivals().find(id).map(Self::Arrival)
            }
            "replica" => {
                let minutes = if query.get("minutes") == Some("60") { 60 } else { 5 };
                Some(Self::Replica(query.get("name")?.to_owned(), minutes))
            }
            _ => None,
        }
    }

    /// The parts of the page that changed, by the id of their place.
    fn parts(
        &self,
        state: &AppState,
        sample: &Arc<Sample>,
    ) -> askama::Result<BTreeMap<&'static str, String>> {
        let mut parts = BTreeMap::from([("live-pill", pill(sample)?)]);
        match self {
            Self::Pill => {}
            Self::Home => drop(parts.insert("live-home", home::live(Arc::clone(sample))?)),
            Self::Changes(filter) => {
                drop(parts.insert("live-changes", changes::live(state, sample, filter)?));
            }
            Self::Arrival(arrival) => drop(parts.insert("live-arrival", posts::arriving(arrival)?)),
            Self::Replica(name, minutes) => {
                parts
                    .extend(replica::live(state, sample, name, *minutes)?.map(|live| ("live-replica", live)));
            }
            Self::Status => drop(parts.insert("live-status", status::live(Arc::clone(sample))?)),
        }
        Ok(parts)
    }
}

/// `GET /live/{view}`; of a replica, `/live/replica?name=&minutes=`
///
/// # Errors
/// 404 when there is no such view.
pub async fn stream(
    State(state): State<AppState>,
    PathText(view): PathText,
    query: QueryFields,
) -> Result<Response, AppError> {
    let view = View::parse(&view, &query, &state)
        .ok_or_else(|| AppError::NotFound("There is no such stream.".to_owned()))?;
    let stream = Sse::new(events(state, view)).keep_alive(KeepAlive::default());
    // A proxy that collects the stream would defeat it.
    Ok(([("x-accel-buffering", "no"), ("cache-control", "no-store")], stream).into_response())
}

/// Counts one open stream for as long as it lives.
pub struct OpenStream(&'static str);

impl OpenStream {
    /// One more stream of this kind.
    pub fn new(kind: &'static str) -> Self {
        metrics::gauge!("web_sse_clients", "stream" => kind).increment(1.0);
        Self(kind)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        metrics::gauge!("web_sse_clients", "stream" => self.0).decrement(1.0);
    }
}

/// What a stream waits for.
struct Watcher {
    state: AppState,
    view: View,
    samples: watch::Receiver<Arc<Sample>>,
    arrival: Option<watch::Receiver<Arrived>>,
    _open: OpenStream,
}

impl Watcher {
    /// The next sample, or the present one when a write has arrived somewhere meanwhile; nothing at the end.
    async fn news(&mut self) -> Option<Arc<Sample>> {
        let arrival = self.arrival.as_mut();
        let arrived = async {
            let changed = match arrival {
                Some(arrival) => arrival.changed().await.is_ok(),
                None => false,
            };
            // It is everywhere, or nobody follows it any more: only samples are news.
            if !changed {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            // An open stream must not hold up the application's end.
            () = self.state.shutdown().cancelled() => return None,
            () = arrived => {}
            changed = self.samples.changed() => changed.ok()?,
        }
        Some(Arc::clone(&self.samples.borrow_and_update()))
    }
}

fn events(state: AppState, view: View) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut samples = state.sampler().subscribe();
    // The page was made from a sample of its own: the present one is news only if there is none yet.
    samples.mark_changed();
    let arrival = if let View::Arrival(arrival) = &view { Some(arrival.subscribe()) } else { None };
    let watcher = Watcher { state, view, samples, arrival, _open: OpenStream::new("live") };
    futures_util::stream::unfold(watcher, |mut watcher| async move {
        let sample = watcher.news().await?;
        let parts = watcher.view.parts(&watcher.state, &sample);
        let parts = parts.inspect_err(|error| tracing::error!(%error, "a part of a page failed"));
        let data = serde_json::to_string(&parts.ok()?).ok()?;
        let event = Event::default().id(sample.seq.to_string()).retry(RETRY).data(data);
        Some((Ok(event), watcher))
    })
}
