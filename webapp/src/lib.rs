//! The web application: writes to the leader, reads round-robin from the replicas, and shows which one answered.
//!
//! ```text
//! main ─▶ routes ─▶ handlers ─▶ visit ─▶ session (one caller's tokens) ─▶ db ─▶ leader, replicas
//!                      ├──▶ model (pure) ◀──┘
//!                      └──▶ sampler (one look a second, for all who watch) ─▶ databases, replicator, Kafka Connect
//! ```
//!
//! `session` and `db`, but for `db::queries`, know nothing of posts: any axum application can use them
//! (`examples/notes.rs`).
//!
//! What it never does: show a person a page without that person's own last write, or one older than the last; let a replica's failure reach the
//! page; send internals of an error to a client.

pub mod admin;
pub mod arrivals;
pub mod assets;
pub mod config;
pub mod db;
pub mod demo;
pub mod error;
pub mod extract;
pub mod handlers;
pub mod middleware;
pub mod model;
pub mod page;
pub mod routes;
pub mod sampler;
pub mod session;
pub mod state;
pub mod telemetry;
pub mod visit;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use routes::app;
pub use state::AppState;

/// How often recorded durations are folded into their histograms; without it they pile up until somebody scrapes.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Serves until `shutdown` is cancelled, then lets open requests finish. Streams end by themselves at the shutdown.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let metrics = telemetry::metrics();
    let upkeep = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(METRICS_UPKEEP);
        loop {
            ticks.tick().await;
            metrics.run_upkeep();
        }
    });
    // Who is wrong too often is told by the address.
    let service = app(state).into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await;
    upkeep.abort();
    served
}
