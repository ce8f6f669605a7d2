//! One parcel to all replicas of a lane, without one of them holding the others up.
//!
//! Each subscriber has a queue bounded in bytes. A queue that is full is waited for while the other subscribers still have
//! something to do; once one of them has run dry for longer than `detach_after`, the slow one is let go. It goes on
//! from its checkpoint in a lane of its own and comes back when it has caught up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::status::StatusCell;
use crate::vocabulary::parcel::Parcel;

/// A parcel on its way to one replica, and the room that it takes in its queue until it is dropped.
#[derive(Debug)]
pub struct Sealed {
    /// The parcel, shared with the other replicas.
    pub parcel: Arc<Parcel>,
    _room: OwnedSemaphorePermit,
}

/// How often it is looked who runs dry while somebody is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// A replica's end of the queue, as the lane holds it.
#[derive(Debug)]
struct Subscriber {
    parcels: mpsc::Sender<Sealed>,
    room: Arc<Semaphore>,
    detached: Arc<AtomicBool>,
    status: StatusCell,
}

/// A replica's end of the queue, as its worker holds it.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) parcels: mpsc::Receiver<Sealed>,
    /// Whether the lane has let this replica go.
    pub(super) detached: Arc<AtomicBool>,
}

/// The subscribers of one lane.
#[derive(Debug)]
pub(super) struct FanOut {
    subscribers: Vec<Subscriber>,
    queue_bytes: usize,
    detach_after: Duration,
}

impl FanOut {
    /// A fan-out without subscribers; each gets a queue of `queue_bytes`.
    pub(super) fn new(queue_bytes: usize, detach_after: Duration) -> Self {
        FanOut { subscribers: Vec::new(), queue_bytes, detach_after }
    }

    /// Adds a subscriber, who gets what is sent from now on.
    pub(super) fn subscribe(&mut self, status: StatusCell) -> Outlet {
        // The bytes are the limit: no parcel takes less than one permit, so the number of parcels never is.
        let (sender, parcels) = mpsc::channel(permits(self.queue_bytes) as usize);
        let detached = Arc::new(AtomicBool::new(false));
        self.subscribers.push(Subscriber {
            parcels: sender,
            room: Arc::new(Semaphore::new(permits(self.queue_bytes) as usize)),
            detached: Arc::clone(&detached),
            status,
        });
        Outlet { parcels, detached }
    }

    /// How many subscribers there are, after those have been forgotten that have gone.
    pub(super) fn count(&mut self) -> usize {
        self.subscribers.retain(|s| !s.parcels.is_closed());
        self.subscribers.len()
    }

    /// Tells every subscriber's status what the lane waits for.
    pub(super) fn report(&self, waiting_for: Option<&str>, duplicates: u64, lane: u64) {
        for subscriber in &self.subscribers {
            subscriber.status.reading(waiting_for.map(str::to_owned), duplicates, lane);
        }
    }

    /// Gives a parcel to every subscriber.
    pub(super) async fn send(&mut self, parcel: Parcel) {
        self.count();
        let wanted = permits(parcel.size_bytes).min(permits(self.queue_bytes));
        let parcel = Arc::new(parcel);
        let full: Vec<usize> =
            (0..self.subscribers.len()).filter(|&i| !self.subscribers[i].offer(&parcel, wanted)).collect();
        if full.is_empty() {
            return;
        }
        let too_slow = self.wait_for(full, &parcel, wanted).await;
        // From the back, so that the other positions stay what they are.
        for position in too_slow.into_iter().rev() {
            self.subscribers.remove(position).detached.store(true, Ordering::Release);
        }
    }

    /// Waits for room in full queues for as long as nobody else runs dry. Returns who did not get the parcel.
    async fn wait_for(&self, full: Vec<usize>, parcel: &Arc<Parcel>, wanted: u32) -> Vec<usize> {
        let mut waiting = full.clone();
        let mut sending: FuturesUnordered<_> = full
            .into_iter()
            .map(async |position| {
                self.subscribers[position].send(parcel, wanted).await;
                position
            })
            .collect();
        let mut dry_since: Option<Instant> = None;
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                sent = sending.next() => match sent {
                    Some(position) => waiting.retain(|&w| w != position),
                    None => return waiting,
                },
                _ = look.tick() => {
                    let dry = self.subscribers.iter().any(|s| s.is_dry(self.queue_bytes));
                    dry_since = dry.then(|| dry_since.unwrap_or_else(Instant::now));
                    if dry_since.is_some_and(|since| since.elapsed() >= self.detach_after) {
                        return waiting;
                    }
                }
            }
        }
    }
}

impl Subscriber {
    /// Puts a parcel into the queue if there is room. True also when nobody listens any more.
    fn offer(&self, parcel: &Arc<Parcel>, wanted: u32) -> bool {
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(wanted) else { return false };
        match self.parcels.try_send(Sealed { parcel: Arc::clone(parcel), _room: room }) {
            Ok(()) | Err(TrySendError::Closed(_)) => true,
            Err(TrySendError::Full(_)) => false,
        }
    }

    /// Puts a parcel into the queue when there is room. Ends also when nobody listens any more.
    async fn send(&self, parcel: &Arc<Parcel>, wanted: u32) {
        let sending = async {
            if let Ok(room) = Arc::clone(&self.room).acquire_many_owned(wanted).await {
                let sealed = Sealed { parcel: Arc::clone(parcel), _room: room };
                // An error says that nobody listens: that is found out and dealt with at the next parcel.
                drop(self.parcels.send(sealed).await);
            }
        };
        tokio::select! {
            () = sending => {}
            () = self.parcels.closed() => {}
        }
    }

    /// Whether the replica has applied everything that it was given.
    fn is_dry(&self, queue_bytes: usize) -> bool {
        self.room.available_permits() == permits(queue_bytes) as usize
    }
}

/// One semaphore permit is a KiB, so that a queue of many GiB still fits its counter.
fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024).max(1)).unwrap_or(u32::MAX).min(MAX_PERMITS)
}

/// What tokio's semaphore can count on every platform, and more bytes than anybody would let a queue have.
const MAX_PERMITS: u32 = u32::MAX >> 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::parcel::ParcelEnd;

    const QUEUE: usize = 4 << 10;

    fn parcel() -> Parcel {
        Parcel::new(vec![], 1 << 10, ParcelEnd::Open)
    }

    fn fan_out() -> FanOut {
        FanOut::new(QUEUE, Duration::from_millis(50))
    }

    #[tokio::test]
    async fn every_subscriber_gets_the_same_parcel() {
        let mut fan_out = fan_out();
        let mut first = fan_out.subscribe(StatusCell::new("1"));
        let mut second = fan_out.subscribe(StatusCell::new("2"));
        fan_out.send(parcel()).await;
        let (a, b) = (first.parcels.recv().await.unwrap(), second.parcels.recv().await.unwrap());
        assert!(Arc::ptr_eq(&a.parcel, &b.parcel));
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_let_go_when_another_runs_dry() {
        let mut fan_out = fan_out();
        let mut slow = fan_out.subscribe(StatusCell::new("slow"));
        let mut quick = fan_out.subscribe(StatusCell::new("quick"));
        let let_go = Arc::clone(&quick.detached);
        let reading = tokio::spawn(async move { while quick.parcels.recv().await.is_some() {} });
        for _ in 0..5 {
            fan_out.send(parcel()).await;
        }
        assert_eq!(fan_out.count(), 1);
        assert!(slow.detached.load(Ordering::Acquire) && !let_go.load(Ordering::Acquire));
        // What it was given before is still its own, and then its queue ends.
        for _ in 0..4 {
            assert!(slow.parcels.recv().await.is_some());
        }
        assert!(slow.parcels.recv().await.is_none());
        drop(fan_out);
        reading.await.unwrap();
    }

    #[tokio::test]
    async fn a_full_queue_is_waited_for_while_the_others_are_busy() {
        let mut fan_out = fan_out();
        let mut slow = fan_out.subscribe(StatusCell::new("slow"));
        let busy = fan_out.subscribe(StatusCell::new("busy"));
        for _ in 0..4 {
            fan_out.send(parcel()).await;
        }
        let sent = tokio::time::timeout(Duration::from_millis(200), fan_out.send(parcel())).await;
        assert!(sent.is_err(), "nobody is dry, so nobody is let go: the lane waits");
        assert!(!slow.detached.load(Ordering::Acquire) && !busy.detached.load(Ordering::Acquire));
        drop(busy);
        drop(slow.parcels.recv().await.unwrap());
        fan_out.send(parcel()).await;
        assert_eq!(fan_out.count(), 1);
    }

    #[tokio::test]
    async fn a_subscriber_that_has_gone_is_forgotten() {
        let mut fan_out = fan_out();
        drop(fan_out.subscribe(StatusCell::new("gone")));
        for _ in 0..10 {
            fan_out.send(parcel()).await;
        }
        assert_eq!(fan_out.count(), 0);
    }
}
