//! What every request shares.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use axum_extra::extract::cookie::Key;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::arrivals::Arrivals;
use crate::config::{Config, SessionKey};
use crate::db::pool::BadUrl;
use crate::db::{Database, push};
use crate::demo::Runs;
use crate::model::changes::Changes;
use crate::sampler::Sampler;
use crate::session::Sessions;
use crate::telemetry::RequestMeters;

/// The application's shared parts.
pub struct App {
    bind: SocketAddr,
    sessions: Sessions,
    admin: Admin,
    runs: Runs,
    arrivals: Arrivals,
    changes: Mutex<Changes>,
    request_meters: RequestMeters,
    /// Of the present replicas, and what ends it.
    sampler: RwLock<(Arc<Sampler>, CancellationToken)>,
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
        let key = config.session.key.as_ref().map_or_else(Key::generate, derive);
        Ok(Self(Arc::new(App {
            bind: config.bind,
            admin: Admin::new(config, &key),
            sessions: Sessions::new(Arc::new(Database::new(config)?), key, config.bind.port()),
            runs: Runs::default(),
            arrivals: Arrivals::default(),
            changes: Mutex::default(),
            request_meters: RequestMeters::default(),
            sampler: RwLock::new((Arc::new(Sampler::new(config)?), shutdown.child_token())),
            shutdown,
        })))
    }

    /// Starts watching the replicas, and everything else for the status page; returns when each replica was looked at once.
    pub async fn start(&self, config: &Config) {
        self.database().start_monitors(config, &self.shutdown).await;
        if let Some(replicator) = config.status.replicator() {
            let (database, url) = (Arc::clone(self.sessions().database()), format!("{replicator}/v1/events"));
            let state = self.clone();
            let note = move |event: &str, data: &str| state.changes().note(event, data);
            tokio::spawn(push::listen(database, note, url, self.shutdown.clone()));
        }
        self.sample();
    }

    /// Puts the replicas of another configuration in the place of the present ones; everything else of it counts from the
    /// next start on. Requests under way end where they began.
    ///
    /// # Errors
    /// When a connection URL can't be understood; then nothing is changed.
    pub async fn reload(&self, config: &Config) -> Result<(), BadUrl> {
        let sampler = Arc::new(Sampler::new(config)?);
        let (new, gone) = self.database().replace_replicas(config, &self.shutdown).await?;
        if new.is_empty() && gone.is_empty() {
            tracing::info!("reloaded: the replicas are the same");
            return Ok(());
        }
        let now = (sampler, self.shutdown.child_token());
        let before =
            std::mem::replace(&mut *self.sampler.write().unwrap_or_else(PoisonError::into_inner), now);
        // Streams of the old one end with it, and browsers open them again.
        before.1.cancel();
        self.sample();
        tracing::info!(new = new.join(","), gone = gone.join(","), "reloaded: the replicas were replaced");
        Ok(())
    }

    fn sample(&self) {
        let (sampler, ended) = self.sampler.read().unwrap_or_else(PoisonError::into_inner).clone();
        let set = self.database().replicas();
        tokio::spawn(async move { sampler.run(&set, &ended).await });
    }
}

impl Deref for AppState {
    type Target = App;

    fn deref(&self) -> &App {
        &self.0
    }
}

impl App {
    /// The address that the configuration has us listen on.
    pub fn bind(&self) -> SocketAddr {
        self.bind
    }

    /// The databases.
    pub fn database(&self) -> &Database {
        self.sessions.database()
    }

    /// What callers have written and seen.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Who may operate, and by what.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Writes on their way.
    pub fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// The latest transactions.
    pub fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What requests are measured with.
    pub(crate) fn request_meters(&self) -> &RequestMeters {
        &self.request_meters
    }

    /// The demo's runs.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// How everything is.
    pub fn sampler(&self) -> Arc<Sampler> {
        Arc::clone(&self.sampler.read().unwrap_or_else(PoisonError::into_inner).0)
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
