//! Sessions that several brief reads share.
//!
//! A session answers one question after the other, and takes further ones while it does. Reads that are quick to answer
//! need not wait for a session each: those that come at the same time go to the server, and come back from it, in fewer
//! packets, system calls and wake-ups of fewer processes. The price is that one waits for those before it, so only
//! statements that touch few rows by a key take part ([`Read::IS_BRIEF`](super::statement::Read::IS_BRIEF)), and only so
//! many on one session. Each is a transaction of its own, with its own deadline: an error of one is nothing to the others, and
//! when a session hangs, each of them is asked on another replica.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use deadpool_postgres::{Object, Pool, PoolError};

/// Reads that one session takes at a time. One more opens another session, so a busy replica uses as many of its
/// processors as it would otherwise.
const SEATS: usize = 8;

/// The sessions of one pool on which reads are under way. Nothing is kept here: with the last of its reads a session
/// returns to the pool.
#[derive(Default)]
pub(super) struct Shared(Mutex<Vec<Weak<Session>>>);

impl Shared {
    /// A session for one brief read: one that others are using and that has room, or else one of the pool's.
    ///
    /// # Errors
    /// When the pool can't give one.
    pub(super) async fn join(&self, pool: &Pool) -> Result<Arc<Session>, PoolError> {
        if let Some(session) = self.with_room() {
            return Ok(session);
        }
        let session = Arc::new(Session::alone(pool.get().await?));
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|session| session.strong_count() > 0);
        open.push(Arc::downgrade(&session));
        Ok(session)
    }

    /// The first that has room, so that those behind it come to an end.
    fn with_room(&self) -> Option<Arc<Session>> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = open.iter().filter(|session| session.strong_count() < SEATS);
        has_room.filter_map(Weak::upgrade).find(|session| session.is_usable())
    }
}

/// A session of a pool, for as long as somebody uses it.
pub(super) struct Session {
    /// There until the end.
    object: Option<Object>,
    is_spoiled: AtomicBool,
}

impl Session {
    /// One that nobody shares.
    pub(super) fn alone(object: Object) -> Self {
        Self { object: Some(object), is_spoiled: AtomicBool::new(false) }
    }

    /// It is late or broken: nobody joins it any more, and it does not return to the pool. What it was asked may still be
    /// running, and its answer must not meet the next caller.
    pub(super) fn spoil(&self) {
        self.is_spoiled.store(true, Ordering::Relaxed);
    }

    fn is_usable(&self) -> bool {
        !self.is_spoiled.load(Ordering::Relaxed) && !self.is_closed()
    }
}

impl Deref for Session {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.object.as_ref().expect("only the end takes it")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(object) = self.object.take().filter(|_| *self.is_spoiled.get_mut()) {
            drop(Object::take(object));
        }
    }
}
