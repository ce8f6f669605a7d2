//! Parcels to all replicas of a lane, without one of them holding the others up.
//!
//! Each subscriber has a queue bounded in bytes. A queue that is full is waited for while the other subscribers still have
//! something to do; once one of them has run dry for longer than `detach_after`, the slow one is let go. It goes on
//! from its checkpoint in a lane of its own and comes back when it has caught up.

use std::ops::Deref;
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

/// Parcels that go to the replicas together: one queue operation for as many transactions as have come.
pub(super) type Batch = Arc<Vec<Parcel>>;

/// A batch on its way to one replica, and the room that it takes in its queue until it is dropped.
#[derive(Debug, Clone)]
struct Load {
    /// Shared with the other replicas.
    parcels: Batch,
    _room: Arc<OwnedSemaphorePermit>,
}

/// One parcel of a batch. The room of the whole batch is free when the last one of its parcels has been dropped.
#[derive(Debug)]
pub struct Sealed {
    load: Load,
    index: usize,
}

impl Deref for Sealed {
    type Target = Parcel;

    fn deref(&self) -> &Parcel {
        &self.load.parcels[self.index]
    }
}

impl Load {
    fn new(batch: &Batch, room: OwnedSemaphorePermit) -> Self {
        Load { parcels: Arc::clone(batch), _room: Arc::new(room) }
    }
}

/// How often it is looked who runs dry while somebody is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// A replica's end of the queue, as the lane holds it.
#[derive(Debug)]
struct Subscriber {
    batches: mpsc::Sender<Load>,
    room: Arc<Semaphore>,
    detached: Arc<AtomicBool>,
    status: StatusCell,
}

/// A replica's end of the queue, as its worker holds it.
#[derive(Debug)]
pub(super) struct Outlet {
    batches: mpsc::Receiver<Load>,
    /// What is left of the batch that has come last, and where it goes on.
    current: Option<(Load, usize)>,
    /// Whether the lane has let this replica go.
    pub(super) detached: Arc<AtomicBool>,
}

impl Outlet {
    /// The next parcel; none when there will be no more.
    pub(super) async fn recv(&mut self) -> Option<Sealed> {
        if self.current.is_none() {
            self.current = Some((self.batches.recv().await?, 0));
        }
        self.take()
    }

    /// The next parcel, if it has come.
    pub(super) fn try_recv(&mut self) -> Option<Sealed> {
        if self.current.is_none() {
            self.current = Some((self.batches.try_recv().ok()?, 0));
        }
        self.take()
    }

    fn take(&mut self) -> Option<Sealed> {
        let (load, index) = self.current.take()?;
        if index + 1 < load.parcels.len() {
            self.current = Some((load.clone(), index + 1));
        }
        Some(Sealed { load, index })
    }
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
        // The bytes are the limit: no batch takes less than one permit, so the number of batches never is.
        let (sender, batches) = mpsc::channel(permits(self.queue_bytes) as usize);
        let detached = Arc::new(AtomicBool::new(false));
        self.subscribers.push(Subscriber {
            batches: sender,
            room: Arc::new(Semaphore::new(permits(self.queue_bytes) as usize)),
            detached: Arc::clone(&detached),
            status,
        });
        Outlet { batches, current: None, detached }
    }

    /// How many subscribers there are, after those have been forgotten that have gone.
    pub(super) fn count(&mut self) -> usize {
        self.subscribers.retain(|s| !s.batches.is_closed());
        self.subscribers.len()
    }

    /// Tells every subscriber's status what the lane waits for.
    pub(super) fn report(&self, waiting_for: Option<&str>, duplicates: u64, lane: u64) {
        for subscriber in &self.subscribers {
            subscriber.status.reading(waiting_for.map(str::to_owned), duplicates, lane);
        }
    }

    /// Gives parcels to every subscriber.
    pub(super) async fn send(&mut self, parcels: Vec<Parcel>) {
        self.count();
        if parcels.is_empty() {
            return;
        }
        let bytes = parcels.iter().map(|parcel| parcel.size_bytes).sum();
        let wanted = permits(bytes).min(permits(self.queue_bytes));
        let batch = Arc::new(parcels);
        let full: Vec<usize> =
            (0..self.subscribers.len()).filter(|&i| !self.subscribers[i].offer(&batch, wanted)).collect();
        if full.is_empty() {
            return;
        }
        let too_slow = self.wait_for(full, &batch, wanted).await;
        // From the back, so that the other positions stay what they are.
        for position in too_slow.into_iter().rev() {
            self.subscribers.remove(position).detached.store(true, Ordering::Release);
        }
    }

    /// Waits for room in full queues for as long as nobody else runs dry. Returns who did not get the batch.
    async fn wait_for(&self, full: Vec<usize>, batch: &Batch, wanted: u32) -> Vec<usize> {
        let mut waiting = full.clone();
        let mut sending: FuturesUnordered<_> = full
            .into_iter()
            .map(async |position| {
                self.subscribers[position].send(batch, wanted).await;
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
    /// Puts a batch into the queue if there is room. True also when nobody listens any more.
    fn offer(&self, batch: &Batch, wanted: u32) -> bool {
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(wanted) else { return false };
        match self.batches.try_send(Load::new(batch, room)) {
            Ok(()) | Err(TrySendError::Closed(_)) => true,
            Err(TrySendError::Full(_)) => false,
        }
    }

    /// Puts a batch into the queue when there is room. Ends also when nobody listens any more.
    async fn send(&self, batch: &Batch, wanted: u32) {
        let sending = async {
            if let Ok(room) = Arc::clone(&self.room).acquire_many_owned(wanted).await {
                // An error says that nobody listens: that is found out and dealt with at the next batch.
                drop(self.batches.send(Load::new(batch, room)).await);
            }
        };
        tokio::select! {
            () = sending => {}
            () = self.batches.closed() => {}
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
        fan_out.send(vec![parcel()]).await;
        let (a, b) = (first.recv().await.unwrap(), second.recv().await.unwrap());
        assert!(std::ptr::eq(&*a, &*b));
    }

    #[tokio::test]
    async fn a_batch_is_taken_parcel_by_parcel_and_keeps_its_room_until_the_last_is_gone() {
        let mut fan_out = fan_out();
        let mut outlet = fan_out.subscribe(StatusCell::new("1"));
        fan_out.send(vec![parcel(), parcel(), parcel()]).await;
        fan_out.send(vec![parcel()]).await;
        let room = || fan_out.subscribers[0].room.available_permits();
        let first = outlet.recv().await.unwrap();
        drop(outlet.try_recv().unwrap());
        let third = outlet.try_recv().unwrap();
        drop(first);
        assert_eq!(room(), 0);
        drop(third);
        assert_eq!(room(), 3);
        drop(outlet.try_recv().unwrap());
        assert!(outlet.try_recv().is_none() && room() == 4);
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_let_go_when_another_runs_dry() {
        let mut fan_out = fan_out();
        let mut slow = fan_out.subscribe(StatusCell::new("slow"));
        let mut quick = fan_out.subscribe(StatusCell::new("quick"));
        let let_go = Arc::clone(&quick.detached);
        let reading = tokio::spawn(async move { while quick.recv().await.is_some() {} });
        for _ in 0..5 {
            fan_out.send(vec![parcel()]).await;
        }
        assert_eq!(fan_out.count(), 1);
        assert!(slow.detached.load(Ordering::Acquire) && !let_go.load(Ordering::Acquire));
        // What it was given before is still its own, and then its queue ends.
        for _ in 0..4 {
            assert!(slow.recv().await.is_some());
        }
        assert!(slow.recv().await.is_none());
        drop(fan_out);
        reading.await.unwrap();
    }

    #[tokio::test]
    async fn a_full_queue_is_waited_for_while_the_others_are_busy() {
        let mut fan_out = fan_out();
        let mut slow = fan_out.subscribe(StatusCell::new("slow"));
        let busy = fan_out.subscribe(StatusCell::new("busy"));
        for _ in 0..4 {
            fan_out.send(vec![parcel()]).await;
        }
        let sent = tokio::time::timeout(Duration::from_millis(200), fan_out.send(vec![parcel()])).await;
        assert!(sent.is_err(), "nobody is dry, so nobody is let go: the lane waits");
        assert!(!slow.detached.load(Ordering::Acquire) && !busy.detached.load(Ordering::Acquire));
        drop(busy);
        drop(slow.recv().await.unwrap());
        fan_out.send(vec![parcel()]).await;
        assert_eq!(fan_out.count(), 1);
    }

    #[tokio::test]
    async fn a_subscriber_that_has_gone_is_forgotten() {
        let mut fan_out = fan_out();
        drop(fan_out.subscribe(StatusCell::new("gone")));
        for _ in 0..10 {
            fan_out.send(vec![parcel()]).await;
        }
        assert_eq!(fan_out.count(), 0);
    }
}
