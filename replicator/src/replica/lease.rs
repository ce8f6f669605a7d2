//! Keeping a replica: the lease, renewed on a session of its own.
//!
//! The advisory lock shows that the owner's session is there, not that its process lives. The lease shows the latter: it is
//! renewed whatever the apply transaction does, and it stops being renewed when the process is paused or cut off. Then a
//! standby ends the owner's session and takes over ([`super::checkpoint::acquire`]). The old owner can't commit any more,
//! since its session is gone; and it stops by itself as soon as it sees that its time is over.
//!
//! Each renewal also tells from where on the source has to keep changes. Apply transactions commit without waiting for the
//! replica's disk, so what they stored may be lost again with a crash; a source that had forgotten it by then could not bring
//! it back. A renewal does wait, and what was committed before it is on disk afterwards.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument as _;

use super::session::Session;
use super::{Disposition, ReplicaError, checkpoint};
use crate::vocabulary::offset::Offsets;

/// How often the lease is renewed within its time: losing one or two renewals costs nothing.
const RENEWALS: u32 = 4;

/// A lease that is being renewed, for as long as this value lives.
#[derive(Debug)]
pub struct Lease {
    renewing: JoinHandle<ReplicaError>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Lease {
    /// Connects to the replica, renews the lease of `epoch`, and goes on renewing it for `term` each time. After each renewal
    /// `kept` is told the first offsets that are still needed, whatever becomes of the replica's server.
    ///
    /// # Errors
    /// When the replica can't be reached, or is owned by another epoch.
    pub async fn keep(
        url: &tokio_postgres::Config,
        epoch: i64,
        term: Duration,
        kept: impl Fn(&Offsets) + Send + Sync + 'static,
    ) -> Result<Self, ReplicaError> {
        let renewed = Instant::now();
        let terms = Terms { url: url.clone(), epoch, term, kept: Box::new(kept) };
        let session = Session::connect(url).await?;
        renew(&session, &terms).await?;
        Ok(Lease { renewing: tokio::spawn(keep_renewing(terms, session, renewed).in_current_span()) })
    }

    /// Returns when the replica can't be held any more, with the reason: another owner, or no renewal within the term.
    /// Whatever is not committed by then must not be committed any more. Returns once.
    pub async fn lost(&mut self) -> ReplicaError {
        match (&mut self.renewing).await {
            Ok(reason) => reason,
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        }
    }
}

struct Terms {
    url: tokio_postgres::Config,
    epoch: i64,
    term: Duration,
    kept: Box<dyn Fn(&Offsets) + Send + Sync>,
}

/// Renews until that fails for good. The time counts from before a request was sent, so that this side never believes in
/// the lease for longer than the replica does.
async fn keep_renewing(terms: Terms, session: Session, mut renewed: Instant) -> ReplicaError {
    let mut session = Some(session);
    let mut last_failure = "no answer".to_owned();
    loop {
        sleep(terms.term / RENEWALS).await;
        let asked = Instant::now();
        let left = terms.term.saturating_sub(asked - renewed);
        match timeout(left, renew_through(&mut session, &terms)).await {
            Ok(Ok(())) => renewed = asked,
            Ok(Err(error)) if error.disposition() == Disposition::Yield => return error,
            Ok(Err(error)) => {
                tracing::debug!(error = %error, "the lease was not renewed");
                session = None;
                last_failure = error.to_string();
            }
            Err(_) => return ReplicaError::LeaseLost { seconds: terms.term.as_secs(), last_failure },
        }
    }
}

async fn renew_through(session: &mut Option<Session>, terms: &Terms) -> Result<(), ReplicaError> {
    let open = match session.take() {
        Some(open) => open,
        None => Session::connect(&terms.url).await?,
    };
    let open = session.insert(open);
    renew(open, terms).await
}

async fn renew(session: &Session, terms: &Terms) -> Result<(), ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "renew the lease", source };
    // Before the renewal: it is these that its commit puts on disk.
    let offsets = checkpoint::offsets(session).await?;
    let client = session.client();
    client.batch_execute("SET synchronous_commit = local").await.map_err(failed)?;
    client
        .execute("SELECT replicator.renew($1, $2)", &[&terms.epoch, &terms.term.as_secs_f64()])
        .await
        .map_err(failed)?;
    (terms.kept)(&offsets);
    Ok(())
}
