//! What a run does: its reads, and what is written beside them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Run;
use crate::db::queries::demo::{Count, Finding, Transfer, WhatIsThere, WhoAnswers};
use crate::db::route::Preference;
use crate::db::route::strategy::Rotation;
use crate::db::statement::Read;
use crate::db::token::Token;
use crate::db::{Answer, ReadOptions, random_seed};
use crate::model::demo::Sample;
use crate::model::demo::plan::Experiment;
use crate::state::AppState;

/// The writer's pause: 50 versions a second.
const WRITE_EVERY: Duration = Duration::from_millis(20);

/// Accounts that money is moved between.
const ACCOUNTS: u64 = 100;

struct Reader<'a> {
    run: &'a Run,
    state: &'a AppState,
    rotation: Rotation,
    delays: Vec<(String, Duration)>,
    started: Instant,
    /// The newest version that the leader has confirmed.
    written: AtomicU64,
}

/// Makes all reads of a run, with its writer beside them.
pub(super) async fn perform(run: &Run, state: &AppState, started: Instant) {
    let plan = &run.plan;
    let reader = Reader {
        run,
        state,
        rotation: Rotation::new(plan.strategy, random_seed()),
        delays: plan.slower.iter().cloned().collect(),
        started,
        written: AtomicU64::new(0),
    };
    let reads = async {
        match plan.experiment {
            Experiment::Spread | Experiment::Failure | Experiment::Staleness => reader.some_at_a_time().await,
            Experiment::OwnWrites => reader.own_writes().await,
            Experiment::TimeTravel => reader.time_travel().await,
            Experiment::Snapshot => reader.snapshots().await,
        }
    };
    tokio::select! {
        () = reads => {}
        // It never ends by itself.
        () = reader.write(), if plan.experiment.has_writer() => {}
    }
}

impl Reader<'_> {
    /// Writes until it is dropped. A write that fails is made again: the reads show how old they are either way.
    async fn write(&self) {
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turn = random_seed();
        loop {
            ticks.tick().await;
            turn = turn.wrapping_add(1);
            let database = self.state.database();
            let failed = if self.run.plan.experiment == Experiment::Snapshot {
                database.write(&transfer(turn)).await.err()
            } else {
                let counted = database.write(&Count).await;
                counted.map(|committed| self.written.fetch_max(committed.value, Ordering::Relaxed)).err()
            };
            if let Some(error) = failed {
                tracing::debug!(%error, "the writer of a demo run failed");
            }
        }
    }

    async fn ask<R: Read>(&self, read: &R, preference: Preference) -> (Option<Answer<R::Output>>, Duration) {
        let asked = Instant::now();
        let options = ReadOptions {
            preference,
            rotation: &self.rotation,
            delays: &self.delays,
            without: self.run.without(),
        };
        let answer = self.state.database().read_with(read, options).await;
        let answer = answer.inspect_err(|error| tracing::debug!(%error, "a demo read got no answer")).ok();
        (answer, asked.elapsed())
    }

    fn sample<T>(
        &self,
        answer: Option<&Answer<T>>,
        name: impl Fn(&T) -> (&str, Option<i32>),
        took: Duration,
    ) -> Sample {
        let Some(answer) = answer else {
            return Sample {
                server: None,
                duration: took,
                agrees: false,
                port: None,
                retried: false,
                lag: None,
                odd: None,
            };
        };
        let served = &answer.served;
        let (name, port) = name(&answer.value);
        Sample {
            server: self.run.names.iter().position(|name| *name == served.by),
            duration: took,
            agrees: name == served.by,
            port,
            retried: served.retried,
            lag: served.lag,
            odd: None,
        }
    }

    /// Takes a replica away, or brings it back, when so many reads have begun.
    fn keep_to_the_plan(&self, begun: usize) {
        let Some(drain) = &self.run.plan.drain else { return };
        if drain.back == Some(begun) {
            self.run.do_without(None);
        } else if drain.after == begun {
            self.run.do_without(Some(&drain.replica));
        }
    }

    /// As many readers as the plan says share the reads.
    async fn some_at_a_time(&self) {
        let next = AtomicUsize::new(0);
        let reader = async || {
            loop {
                let begun = next.fetch_add(1, Ordering::Relaxed);
                if begun >= self.run.plan.reads {
                    return;
                }
                self.keep_to_the_plan(begun);
                let sample = if !self.run.plan.experiment.looks_for_oddities() {
                    let (answer, took) = self.ask(&WhoAnswers, Preference::Any).await;
                    self.sample(answer.as_ref(), |who| (&who.name, who.port), took)
                } else {
                    // Compared with what was confirmed before the read: what comes meanwhile it need not have.
                    let newest = self.written.load(Ordering::Relaxed);
                    let (answer, took) = self.ask(&WhatIsThere, Preference::Any).await;
                    let behind = answer.as_ref().map(|found| newest.saturating_sub(found.value.counter));
                    let sample = self.sample(answer.as_ref(), of_finding, took);
                    Sample { odd: behind.filter(|behind| *behind > 0), ..sample }
                };
                self.run.add(sample, self.started);
            }
        };
        futures_util::future::join_all((0..self.run.plan.in_flight).map(|_| reader())).await;
    }

    /// Each read comes right behind a write. Without a token it takes what it gets.
    async fn own_writes(&self) {
        for _ in 0..self.run.plan.reads {
            let written = self.state.database().write(&Count).await;
            let written = written.inspect_err(|error| tracing::debug!(%error, "a demo write failed")).ok();
            let token = written.as_ref().map(|committed| committed.token);
            let demand = token.filter(|_| self.run.plan.guarded);
            let (answer, took) = self.ask(&WhatIsThere, demand.into()).await;
            let missing = written
                .zip(answer.as_ref())
                .map(|(committed, found)| committed.value.saturating_sub(found.value.counter));
            let sample = self.sample(answer.as_ref(), of_finding, took);
            self.run.add(Sample { odd: missing.filter(|missing| *missing > 0), ..sample }, self.started);
        }
    }

    /// Each read is held against the newest that was seen before it. With a token it asks for at least that.
    async fn time_travel(&self) {
        let mut newest = 0_u64;
        let mut seen: Option<Token> = None;
        for _ in 0..self.run.plan.reads {
            let demand = seen.filter(|_| self.run.plan.guarded);
            let (answer, took) = self.ask(&WhatIsThere, demand.into()).await;
            let mut sample = self.sample(answer.as_ref(), of_finding, took);
            if let Some(found) = answer {
                sample.odd = Some(newest.saturating_sub(found.value.counter)).filter(|back| *back > 0);
                newest = newest.max(found.value.counter);
                seen = Some(seen.map_or(found.seen, |before| before.and(found.seen)));
            }
            self.run.add(sample, self.started);
        }
    }

    /// Every answer must have the sum of the first one.
    async fn snapshots(&self) {
        let mut first: Option<String> = None;
        for _ in 0..self.run.plan.reads {
            let (answer, took) = self.ask(&WhatIsThere, Preference::Any).await;
            let mut sample = self.sample(answer.as_ref(), of_finding, took);
            if let Some(found) = answer {
                let first = first.get_or_insert_with(|| found.value.sum.clone());
                sample.odd = (*first != found.value.sum).then_some(1);
            }
            self.run.add(sample, self.started);
        }
    }
}

fn of_finding(found: &Finding) -> (&str, Option<i32>) {
    (&found.name, found.port)
}

/// One unit from some account to another one.
fn transfer(turn: u64) -> Transfer {
    let from = turn % ACCOUNTS;
    let to = (from + 1 + turn / ACCOUNTS % (ACCOUNTS - 1)) % ACCOUNTS;
    let id = |index: u64| i64::try_from(index + 1).unwrap_or(1);
    Transfer { from: id(from), to: id(to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_always_moved_between_two_accounts_that_exist() {
        for turn in (0..100_000).chain([u64::MAX]) {
            let Transfer { from, to } = transfer(turn);
            assert!(
                from != to && (1..=100).contains(&from) && (1..=100).contains(&to),
                "{turn}: {from} {to}"
            );
        }
    }
}
