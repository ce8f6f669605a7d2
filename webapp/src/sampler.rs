//! Looks at everything once a second and tells everybody who watches. One sample serves all: a page or a stream asks no
//! database for how things are.
//!
//! It depends on nothing that it watches: whatever fails, the rest of the sample is of now, and what failed shows its last
//! answer with the reason.

mod outside;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, StatusConfig};
use crate::db::observe::Observers;
use crate::db::pool::BadUrl;
use crate::db::replica::Health;
use crate::db::set::ReplicaSet;
use crate::model::status::checks::{Context, date, judge};
use crate::model::status::facts::{ConnectorFacts, LeaderFacts, ReplicaFacts, ReplicatorFacts, Seen};
use crate::model::status::track::{LeaderTrack, ReplicaTrack};
use crate::model::status::{DRAINED, Point, ReplicaSample, Sample};
use outside::Outside;

/// Rates in a sample: a minute at one per second.
pub const SHOWN: usize = 60;

/// The present sample, those before, and who makes them.
pub struct Sampler {
    observers: Observers,
    outside: Outside,
    settings: StatusConfig,
    latest: watch::Sender<Arc<Sample>>,
    /// Written by the sampling task once a second; read when somebody opens a chart.
    past: Mutex<Past>,
    /// Somebody wants a look before the next tick.
    wanted: Notify,
}

#[derive(Default)]
struct Past {
    leader: LeaderTrack,
    replicas: Vec<ReplicaTrack>,
}

/// The answers of one look.
struct Look {
    leader: Result<LeaderFacts, String>,
    replicas: Vec<Result<ReplicaFacts, String>>,
    replicator: Option<Result<ReplicatorFacts, String>>,
    connector: Option<Result<ConnectorFacts, String>>,
    broker: Option<Result<(), String>>,
}

impl Sampler {
    /// Makes what is needed to look; looks at nothing yet.
    ///
    /// # Errors
    /// When a connection URL can't be understood.
    pub fn new(config: &Config) -> Result<Self, BadUrl> {
        let unseen = config.replicas.iter().map(|replica| ReplicaSample {
            name: replica.name.clone(),
            facts: Seen::not_yet(),
            rotation: Err("not reached yet".to_owned()),
            behind: None,
            rate: None,
            rates: vec![],
        });
        let status = &config.status;
        let sample = Sample {
            seq: 0,
            at: Timestamp::now(),
            leader: Seen::not_yet(),
            leader_rate: None,
            replicator: status.replicator().map(|_| Seen::not_yet()),
            connector: status.connect().map(|_| Seen::not_yet()),
            broker: status.broker().map(|_| Seen::not_yet()),
            replicas: unseen.collect(),
            checks: vec![],
        };
        let tracks = config.replicas.iter().map(|_| ReplicaTrack::default()).collect();
        Ok(Self {
            observers: Observers::new(config)?,
            outside: Outside::new(status),
            settings: status.clone(),
            latest: watch::Sender::new(Arc::new(sample)),
            wanted: Notify::new(),
            past: Mutex::new(Past { leader: LeaderTrack::default(), replicas: tracks }),
        })
    }

    /// The present sample.
    pub fn latest(&self) -> Arc<Sample> {
        Arc::clone(&self.latest.borrow())
    }

    /// Tells of each new sample.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Sample>> {
        self.latest.subscribe()
    }

    /// Looks at once and returns when it has, so that what an operator has just done shows; after `limit` in any case.
    pub async fn refresh(&self, limit: Duration) {
        let mut samples = self.subscribe();
        let looked_twice = async {
            // The first may have begun before.
            for _ in 0..2 {
                self.wanted.notify_one();
                if samples.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, looked_twice).await.ok();
    }

    /// What is kept of the replica at this place of the configuration: up to an hour, the newest last.
    pub fn points(&self, index: usize) -> Vec<Point> {
        self.past().replicas.get(index).map(ReplicaTrack::points).unwrap_or_default()
    }

    /// Connections for what a page shows on request.
    pub fn observers(&self) -> &Observers {
        &self.observers
    }

    /// The settings of the status page.
    pub fn settings(&self) -> &StatusConfig {
        &self.settings
    }

    /// Takes one sample after the other until `shutdown` is cancelled.
    pub async fn run(&self, replicas: &ReplicaSet, shutdown: &CancellationToken) {
        let mut ticks = tokio::time::interval(Duration::from_millis(self.settings.interval_ms));
        // A look that took longer than a tick is not made up for: the next one is of now anyhow.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.wanted.notified() => {}
            }
            let look = self.look(replicas).await;
            let sample = self.sample(look, replicas, Timestamp::now());
            self.latest.send_replace(Arc::new(sample));
        }
    }

    /// Everything at the same time, so that one that does not answer delays the sample by its own limit only.
    async fn look(&self, set: &ReplicaSet) -> Look {
        let (leader, replicas, replicator, connector, broker) = tokio::join!(
            self.observers.leader(),
            self.observers.replicas(set),
            self.outside.replicator(),
            self.outside.connector(),
            self.outside.broker(),
        );
        Look {
            leader: leader.map_err(|error| error.words().to_owned()),
            replicas,
            replicator,
            connector,
            broker,
        }
    }

    fn sample(&self, look: Look, set: &ReplicaSet, at: Timestamp) -> Sample {
        let mut sample = Sample::clone(&self.latest.borrow());
        sample.seq += 1;
        sample.at = at;
        let mut past = self.past();
        if let Ok(facts) = &look.leader {
            past.leader.note(at, facts.position, facts.row_changes);
        }
        sample.leader_rate = look.leader.is_ok().then(|| past.leader.rate()).flatten();
        sample.leader.update(look.leader, at);
        for (index, answer) in look.replicas.into_iter().enumerate() {
            let replica = &mut sample.replicas[index];
            replica.facts.update(answer, at);
            replica.rotation = rotation(set, index);
            // How far it is follows from what it said last, also while it does not answer: it can't have gone back.
            // One that has never been filled is behind by everything, and by no time.
            let filled = replica.facts.last().filter(|facts| facts.state != "empty");
            replica.behind = filled.and_then(|facts| past.leader.behind(facts.watermark, at));
            let now = replica.facts.now();
            let lag = now.and(replica.behind).map(|behind| behind.time);
            let track = &mut past.replicas[index];
            replica.rate = track.note(at, now.map(|facts| facts.changes), lag);
            replica.rates = track.rates(SHOWN);
        }
        drop(past);
        update(&mut sample.replicator, look.replicator, at);
        update(&mut sample.connector, look.connector, at);
        update(&mut sample.broker, look.broker, at);
        let start = |service: &str| self.settings.start(service);
        let connector = self.settings.connector_address();
        let context = Context {
            lag_slo: Duration::from_millis(self.settings.lag_slo_ms),
            start: &start,
            connector: connector.as_deref(),
        };
        let mut checks = judge(
            &sample.leader,
            sample.replicator.as_ref(),
            sample.connector.as_ref(),
            sample.broker.as_ref(),
            &sample.replicas,
            &context,
        );
        date(&mut checks, &sample.checks, at);
        sample.checks = checks;
        sample
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn update<T>(seen: &mut Option<Seen<T>>, answer: Option<Result<T, String>>, at: Timestamp) {
    if let (Some(seen), Some(answer)) = (seen, answer) {
        seen.update(answer, at);
    }
}

/// Whether the router sends reads to the replica at this place.
fn rotation(set: &ReplicaSet, index: usize) -> Result<(), String> {
    let status = set.get(index).status();
    if set.get(index).is_drained() {
        return Err(DRAINED.to_owned());
    }
    match (status.health, status.progress) {
        (Health::Down { reason, .. }, _) => Err(reason.to_owned()),
        (Health::Up, Some(progress)) if progress.live => Ok(()),
        (Health::Up, _) => Err("not live".to_owned()),
    }
}
