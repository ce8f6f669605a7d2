//! All replicas, and how those who wait learn that one has moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, watch};

use super::pool::BadUrl;
use super::replica::{Counted, Replica};
use super::route::strategy::Rotation;
use super::token::Token;
use crate::config::Config;

/// What all sets of one application share, so that who waits on an old set learns of what it still has.
#[derive(Default)]
pub(super) struct Signals {
    changed: watch::Sender<()>,
    waiters: AtomicUsize,
    waiter_came: Notify,
}

impl Signals {
    /// Something about a replica has changed.
    pub(super) fn tell(&self) {
        self.changed.send_replace(());
    }

    /// Whether somebody waits for a watermark.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) > 0
    }

    /// Returns when somebody begins to wait for a watermark.
    pub(super) async fn awaited(&self) {
        self.waiter_came.notified().await;
    }
}

/// The replicas of one configuration. Another configuration makes another set; a request keeps the one it began with.
pub struct ReplicaSet {
    replicas: Vec<Arc<Replica>>,
    rotation: Arc<Rotation>,
    signals: Arc<Signals>,
}

impl ReplicaSet {
    /// Makes the pools, without connecting.
    ///
    /// # Errors
    /// When a connection URL can't be understood.
    pub(super) fn new(config: &Config, rotation: Rotation) -> Result<Self, BadUrl> {
        let none = Self { replicas: vec![], rotation: Arc::new(rotation), signals: Arc::default() };
        none.renewed(config)
    }

    /// The set of another configuration. Replicas that both name stay what they are, with their connections, their health
    /// and whether they are drained.
    ///
    /// # Errors
    /// When a connection URL can't be understood.
    pub(super) fn renewed(&self, config: &Config) -> Result<Self, BadUrl> {
        let replica = |wanted| match self.replicas.iter().find(|replica| replica.is(wanted)) {
            Some(replica) => Ok(Arc::clone(replica)),
            None => Replica::new(wanted, config, Arc::clone(&self.signals)).map(Arc::new),
        };
        Ok(Self {
            replicas: config.replicas.iter().map(replica).collect::<Result<_, _>>()?,
            rotation: Arc::clone(&self.rotation),
            signals: Arc::clone(&self.signals),
        })
    }

    /// Those that `other` has not.
    pub(super) fn without(&self, other: &Self) -> Vec<Arc<Replica>> {
        let is_elsewhere = |replica: &Arc<Replica>| other.replicas.iter().any(|r| Arc::ptr_eq(r, replica));
        self.replicas.iter().filter(|replica| !is_elsewhere(replica)).cloned().collect()
    }

    /// The replicas, for who keeps them longer than the set.
    pub(super) fn iter_shared(&self) -> impl Iterator<Item = &Arc<Replica>> {
        self.replicas.iter()
    }

    pub(super) fn signals(&self) -> &Arc<Signals> {
        &self.signals
    }

    /// Nothing is pushed any more.
    pub(super) fn silence(&self) {
        self.iter().for_each(|replica| replica.hint(None, None));
    }

    /// The replicas, in the order of the configuration.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Replica> {
        self.replicas.iter().map(|replica| &**replica)
    }

    /// How many there are, up or down.
    pub fn len(&self) -> usize {
        self.replicas.len()
    }

    /// Whether none is configured.
    pub fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// One replica, by its place in the configuration.
    pub fn get(&self, index: usize) -> &Replica {
        &self.replicas[index]
    }

    /// The rotation that ordinary requests share.
    pub fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// One replica, by its name.
    pub fn find(&self, name: &str) -> Option<&Replica> {
        self.iter().find(|replica| replica.name() == name)
    }

    /// Returns when a usable replica is known to have what `token` stands for. While somebody waits here, the monitors
    /// of those that push nothing look often; one look serves all who wait.
    pub async fn wait_for(&self, token: Token) {
        let _waiting = Counted::new(&self.signals.waiters);
        self.signals.waiter_came.notify_waiters();
        let mut changes = self.signals.changed.subscribe();
        let has_it = |replica: &Replica| {
            let view = replica.view();
            view.in_rotation && !view.drained && view.live && token.is_met_by(&view.standing)
        };
        while !self.iter().any(has_it) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells of each replica, by its place, when it is known to have what `token` stands for; returns when all have it. The
    /// monitors look often meanwhile, as for [`Self::wait_for`].
    pub async fn follow(&self, token: Token, mut has_it: impl FnMut(usize)) {
        let _waiting = Counted::new(&self.signals.waiters);
        self.signals.waiter_came.notify_waiters();
        let mut changes = self.signals.changed.subscribe();
        let mut missing: Vec<usize> = (0..self.len()).collect();
        loop {
            missing.retain(|index| {
                let view = self.get(*index).view();
                let arrived = view.in_rotation && view.live && token.is_met_by(&view.standing);
                if arrived {
                    has_it(*index);
                }
                !arrived
            });
            if missing.is_empty() || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether somebody waits for a watermark.
    pub fn is_awaited(&self) -> bool {
        self.signals.is_awaited()
    }
}
