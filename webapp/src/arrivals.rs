//! How writes made by forms arrive on the replicas, for the page that follows. A write is followed for a while, whether
//! somebody watches or not: the page comes a moment after it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use uuid::Uuid;

use crate::db::token::Token;
use crate::state::AppState;

/// Writes that are remembered; older ones are forgotten.
const KEPT: usize = 64;

/// What has not arrived by then is no longer waited for: the status page says why.
const PATIENCE: Duration = Duration::from_secs(30);

/// The replicas in the order of the configuration, with how long a write took to each; `None` while it is on its way.
pub type Arrived = Vec<(String, Option<Duration>)>;

/// A write on its way.
pub struct Arrival {
    /// Names it in addresses. Nobody can guess it, though there is nothing to be learnt.
    pub id: Uuid,
    replicas: watch::Sender<Arrived>,
}

impl Arrival {
    /// How far it is.
    pub fn replicas(&self) -> Arrived {
        self.replicas.borrow().clone()
    }

    /// Tells when it has arrived somewhere.
    pub fn subscribe(&self) -> watch::Receiver<Arrived> {
        self.replicas.subscribe()
    }
}

/// The latest writes of forms.
#[derive(Default)]
pub struct Arrivals(Mutex<VecDeque<Arc<Arrival>>>);

impl Arrivals {
    /// Follows a write that has just been committed.
    pub fn follow(&self, state: &AppState, token: Token) -> Uuid {
        let committed = Instant::now();
        let set = state.database().replicas();
        let nowhere = set.iter().map(|replica| (replica.name().to_owned(), None)).collect();
        let arrival = Arc::new(Arrival { id: Uuid::new_v4(), replicas: watch::Sender::new(nowhere) });
        let mut kept = self.lock();
        kept.push_front(Arc::clone(&arrival));
        kept.truncate(KEPT);
        drop(kept);
        let (id, shutdown) = (arrival.id, state.shutdown().clone());
        tokio::spawn(async move {
            let note = |index: usize| {
                arrival.replicas.send_modify(|replicas| replicas[index].1 = Some(committed.elapsed()));
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(PATIENCE) => {}
                () = set.follow(token, note) => {}
            }
        });
        id
    }

    /// The write of this id, if it is still remembered.
    pub fn find(&self, id: Uuid) -> Option<Arc<Arrival>> {
        self.lock().iter().find(|arrival| arrival.id == id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Arrival>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
