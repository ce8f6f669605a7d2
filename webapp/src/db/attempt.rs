//! What one request has learnt about the replicas so far, and what becomes of it.

use std::time::{Duration, Instant};

use super::error::DbError;
use super::progress::Progress;
use super::replica::Replica;
use super::route::{Preference, ReplicaView, Route, route};
use super::set::ReplicaSet;
use super::token::Token;
use super::{Answer, ReadOptions, Served};

/// What one request has learnt about the replicas so far.
pub(super) struct Attempt {
    pub(super) started: Instant,
    /// By the replica's place: it was asked, and was not new enough.
    pub(super) asked: Vec<bool>,
    /// By the replica's place: it was asked, and failed.
    pub(super) failed: Vec<bool>,
    pub(super) waited: Duration,
    wait_max: Duration,
    deadline: Duration,
    pub(super) token_void: bool,
    /// Answers that are older than the operator allows will do: there are no others.
    pub(super) takes_old: bool,
}

impl Attempt {
    pub(super) fn new(replicas: usize, wait_max: Duration, deadline: Duration) -> Self {
        let none = vec![false; replicas];
        Self {
            started: Instant::now(),
            asked: none.clone(),
            failed: none,
            waited: Duration::ZERO,
            wait_max,
            deadline,
            token_void: false,
            takes_old: false,
        }
    }

    /// What to do next, from all that is known now.
    pub(super) fn next_route(
        &self,
        set: &ReplicaSet,
        preference: Preference,
        options: &ReadOptions<'_>,
    ) -> Route {
        let views = set.iter().enumerate().map(|(index, replica)| {
            let view = replica.view();
            ReplicaView {
                asked: self.asked[index],
                failed: self.failed[index],
                lagging: view.lagging && !self.takes_old,
                drained: view.drained || options.without == Some(replica.name()),
                ..view
            }
        });
        let views: Vec<ReplicaView> = views.collect();
        options.rotation.choose(|turn| route(preference, &views, turn, self.may_wait()))
    }

    /// How long the next replica may take: half of what is left, so that there is always time for another answer.
    pub(super) fn limit(&self) -> Duration {
        self.deadline.saturating_sub(self.started.elapsed()) / 2
    }

    /// From here on the age of an answer is no reason to go without one.
    pub(super) fn take_old(&mut self) {
        self.takes_old = true;
        self.asked.fill(false);
    }

    /// From here on any replica may answer, also those that were not fresh enough for the token.
    pub(super) fn leave_token(&mut self, preference: &mut Preference) {
        *preference = Preference::Any;
        self.asked.fill(false);
        self.token_void = true;
        metrics::counter!("web_void_tokens_total").increment(1);
    }

    pub(super) fn may_wait(&self) -> bool {
        self.waited < self.wait_max
    }

    pub(super) fn failed_on(&mut self, index: usize, replica: &Replica, error: &DbError) {
        self.failed[index] = true;
        replica.meters().error.increment(1);
        tracing::debug!(replica = replica.name(), error = %error, "a read failed on a replica, trying elsewhere");
    }

    pub(super) async fn wait(&mut self, replicas: &ReplicaSet, preference: Preference) {
        let Preference::AtLeast(token) = preference else { return };
        let since = Instant::now();
        let left = self.wait_max.saturating_sub(self.waited);
        let arrived = tokio::time::timeout(left, replicas.wait_for(token)).await;
        // On time-out the whole budget counts as spent, whatever the clock's rounding says.
        self.waited = if arrived.is_ok() { self.waited + since.elapsed() } else { self.wait_max };
        metrics::histogram!("web_ryw_wait_seconds").record(since.elapsed().as_secs_f64());
    }

    pub(super) fn answered_by<T>(
        &self,
        replica: &Replica,
        progress: &Progress,
        preference: Preference,
        value: T,
    ) -> Answer<T> {
        let served = Served {
            by: replica.name().to_owned(),
            fallback: None,
            duration: self.started.elapsed(),
            waited: self.waited,
            lag: progress.lag(jiff::Timestamp::now()),
            retried: self.failed.contains(&true),
        };
        let meters = replica.meters();
        let outcome = if served.retried { &meters.retried } else { &meters.ok };
        outcome.increment(1);
        meters.duration.record(served.duration.as_secs_f64());
        if matches!(preference, Preference::AtLeast(token) if token.is_met_by_xid_only(&progress.standing()))
        {
            metrics::counter!("web_reads_met_by_xid_total").increment(1);
        }
        let seen = Token::of_read(progress.watermark, progress.history);
        Answer { value, served, seen, token_void: self.token_void }
    }
}
