//! What every request shares.

use std::ops::Deref;
use std::sync::Arc;

use axum_extra::extract::cookie::Key;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, SessionKey};
use crate::db::Database;
use crate::db::pool::BadUrl;
use crate::demo::Runs;
use crate::sampler::Sampler;
use crate::session::Sessions;

/// The application's shared parts.
pub struct App {
    sessions: Sessions,
    runs: Runs,
    sampler: Sampler,
    shutdown: CancellationToken,
}

/// A handle on [`App`], for axum's state.
#[derive(Clone)]
pub struct AppState(Arc<App>);

impl AppState {
    /// Makes the pools, without connecting. Streams and monitors end when `shutdown` is cancelled.
    ///
    /// # Errors
    /// When a connection URL can't be understood.
    pub fn new(config: &Config, shutdown: CancellationToken) -> Result<Self, BadUrl> {
        // First of all: metrics recorded before the recorder is there are lost.
        crate::telemetry::metrics();
        Ok(Self(Arc::new(App {
            sessions: Sessions::new(
                Database::new(config)?,
                config.session.key.as_ref().map_or_else(Key::generate, derive),
                config.bind.port(),
            ),
            runs: Runs::default(),
            sampler: Sampler::new(config)?,
            shutdown,
        })))
    }

    /// Starts watching the replicas, and everything else for the status page; returns when each replica was looked at once.
    pub async fn start(&self, config: &Config) {
        self.database().start_monitors(config, &self.shutdown).await;
        let state = self.clone();
        tokio::spawn(async move { state.sampler.run(state.database().replicas(), &state.shutdown).await });
    }
}

impl Deref for AppState {
    type Target = App;

    fn deref(&self) -> &App {
        &self.0
    }
}

impl App {
    /// The databases.
    pub fn database(&self) -> &Database {
        self.sessions.database()
    }

    /// What callers have written and seen.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The demo's runs.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// How everything is.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Cancelled when the application stops.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }
}

fn derive(key: &SessionKey) -> Key {
    use sha2::{Digest, Sha512};
    // The cookie's key has 64 bytes; the configured one has any length from 32 characters.
    Key::from(&Sha512::digest(key.expose().as_bytes()))
}
