//! The databases: writes go to the leader, reads go to the replicas.
//!
//! ```text
//! Database::write ─▶ leader ─▶ value + token (the log position after COMMIT, and the transaction's id)
//! Database::read  ─▶ route (pure) ─┬─▶ Replica(i): progress and statement in one snapshot ─▶ new enough? answer
//!                        ▲         ├─▶ Wait: until a replica is heard of that has what the token stands for
//!                        └─────────┴─▶ Leader(reason)
//! ```
//!
//! SQL text lives here and nowhere else. Nothing here knows HTTP, and nothing but [`queries`], the application's own
//! statements, knows what the application is about.

mod attempt;
pub mod error;
pub mod leader;
pub mod lsn;
pub mod monitor;
pub mod observe;
pub mod pool;
pub mod progress;
pub mod push;
pub mod queries;
pub mod replica;
pub mod route;
pub mod set;
mod shared;
pub mod statement;
pub mod token;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use attempt::Attempt;
use error::DbError;
use leader::{Committed, Leader};
use lsn::Lsn;
use replica::Replica;
use route::strategy::Rotation;
use route::{FallbackReason, Preference, Route};
use set::ReplicaSet;
use statement::{Read, Write};
use token::Token;

/// Who answered a read, and at what cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The name of the database that answered.
    pub by: String,
    /// Why the leader answered, if it did.
    pub fallback: Option<FallbackReason>,
    /// From asking to having the answer, waiting included.
    pub duration: Duration,
    /// How long the read waited for a replica to have the caller's write.
    pub waited: Duration,
    /// At most this old: every commit of the leader up to so long ago is in the answer.
    pub lag: Option<Duration>,
    /// A replica failed first, and another one answered.
    pub retried: bool,
}

/// A value read from a database, and who answered.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// Who answered.
    pub served: Served,
    /// The state that the answer shows: a later one that meets this is not older.
    pub seen: Token,
    /// The caller's token was of no history that the leader has had, so it was left aside.
    pub token_void: bool,
}

/// How a read, or a run of reads, finds its replica.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions<'a> {
    /// How fresh the answer must be.
    pub preference: Preference,
    /// Whose turn it is, and by which strategy.
    pub rotation: &'a Rotation,
    /// Replicas, by name, that are to look slower than they are, and by how much. Nobody else's reads notice.
    pub delays: &'a [(String, Duration)],
    /// A replica, by name, that is passed over, as if it were drained. Nobody else's reads notice.
    pub without: Option<&'a str>,
}

/// The leader and the replicas.
pub struct Database {
    leader: Leader,
    replicas: RwLock<Arc<ReplicaSet>>,
    wait_max: Duration,
    deadline: Duration,
    /// Where the leader was when it last said so. A lower bound of where it is, so tokens up to here can be true.
    leader_seen: Mutex<Option<Token>>,
}

/// A request asks replicas at most this often before it settles for the leader: a bound for the case that watermarks
/// and health change under it all the time.
const MAX_ATTEMPTS: usize = 16;

impl Database {
    /// Makes the pools. Connects to nothing yet: the application starts, and explains itself, without any database.
    ///
    /// # Errors
    /// When a connection URL can't be understood.
    pub fn new(config: &Config) -> Result<Self, pool::BadUrl> {
        let replicas = ReplicaSet::new(config, Rotation::new(config.strategy, random_seed()))?;
        Ok(Self {
            leader: Leader::new(&config.leader, &config.timeouts)?,
            replicas: RwLock::new(Arc::new(replicas)),
            wait_max: Duration::from_millis(config.consistency.wait_max_ms),
            deadline: Duration::from_millis(config.timeouts.request_ms),
            leader_seen: Mutex::new(None),
        })
    }

    /// Starts one monitor per replica; they end when `shutdown` is cancelled. Returns when each replica was looked at
    /// once, so that the first request finds them in rotation.
    pub async fn start_monitors(&self, config: &Config, shutdown: &CancellationToken) {
        let set = self.replicas();
        monitor::start(set.iter_shared().cloned().collect(), set.signals(), config, shutdown).await;
    }

    /// Puts the replicas of another configuration in the place of the present ones. New ones are looked at first, so that
    /// they take part at once; requests under way end where they began. Returns the names of the new ones and of those that
    /// are gone.
    ///
    /// # Errors
    /// When a connection URL can't be understood; then nothing is changed.
    pub async fn replace_replicas(
        &self,
        config: &Config,
        shutdown: &CancellationToken,
    ) -> Result<(Vec<String>, Vec<String>), pool::BadUrl> {
        let before = self.replicas();
        let now = Arc::new(before.renewed(config)?);
        let (new, gone) = (now.without(&before), before.without(&now));
        let names = |replicas: &[Arc<Replica>]| replicas.iter().map(|r| r.name().to_owned()).collect();
        let changes = (names(&new), names(&gone));
        monitor::start(new, now.signals(), config, shutdown).await;
        *self.replicas.write().unwrap_or_else(PoisonError::into_inner) = now;
        gone.iter().for_each(|replica| replica.remove());
        Ok(changes)
    }

    /// The leader.
    pub fn leader(&self) -> &Leader {
        &self.leader
    }

    /// The replicas, in the order of the configuration.
    pub fn replicas(&self) -> Arc<ReplicaSet> {
        Arc::clone(&self.replicas.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a change on the leader.
    ///
    /// # Errors
    /// When the leader can't be reached, or refuses the change.
    pub async fn write<W: Write>(&self, write: &W) -> Result<Committed<W::Output>, DbError> {
        let committed = self.leader.write(write).await?;
        let mut seen = self.leader_seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Writes at the same time may return in another order; another history begins anew.
        let is_newer =
            |seen: Token| committed.token.lsn > seen.lsn || committed.token.is_foreign_to(seen.history);
        if seen.is_none_or(is_newer) {
            *seen = Some(committed.token);
        }
        drop(seen);
        Ok(committed)
    }

    /// Answers a read in the common rotation.
    ///
    /// # Errors
    /// When neither a replica nor the leader can answer.
    pub async fn read<R: Read>(
        &self,
        read: &R,
        preference: Preference,
    ) -> Result<Answer<R::Output>, DbError> {
        let set = self.replicas();
        let options = ReadOptions { preference, rotation: set.rotation(), delays: &[], without: None };
        self.read_from(&set, read, options).await
    }

    /// Answers a read as the caller wants it answered.
    ///
    /// # Errors
    /// As for [`Database::read`].
    pub async fn read_with<R: Read>(
        &self,
        read: &R,
        options: ReadOptions<'_>,
    ) -> Result<Answer<R::Output>, DbError> {
        self.read_from(&self.replicas(), read, options).await
    }

    async fn read_from<R: Read>(
        &self,
        set: &ReplicaSet,
        read: &R,
        options: ReadOptions<'_>,
    ) -> Result<Answer<R::Output>, DbError> {
        let mut preference = options.preference;
        let mut attempt = Attempt::new(set.len(), self.wait_max, self.deadline);
        for _ in 0..MAX_ATTEMPTS {
            match attempt.next_route(set, preference, &options) {
                Route::Replica(index) => {
                    let replica = set.get(index);
                    let delay = options.delay_of(replica.name());
                    match replica.read(read, delay, attempt.limit()).await {
                        Ok((progress, value)) => {
                            attempt.asked[index] = true;
                            let is_too_old = !attempt.takes_old && replica.is_too_old(&progress);
                            if progress.answers(preference) && !is_too_old {
                                return Ok(attempt.answered_by(replica, &progress, preference, value));
                            }
                        }
                        Err(error) => attempt.failed_on(index, replica, &error),
                    }
                }
                Route::Wait if self.is_beyond(preference).await => attempt.leave_token(&mut preference),
                Route::Leader(FallbackReason::Behind | FallbackReason::History)
                    if self.is_void(preference).await =>
                {
                    attempt.leave_token(&mut preference);
                }
                Route::Wait => attempt.wait(set, preference).await,
                Route::Leader(reason) => match self.read_from_leader(read, reason, &attempt).await {
                    // Replicas look late when the leader is away, though they have all that it ever wrote. Their answers say
                    // how old they are; there are none better.
                    Err(error) if reason == FallbackReason::Lagging && error.is_outage() => {
                        attempt.take_old();
                    }
                    answer => return answer,
                },
            }
        }
        self.read_from_leader(read, FallbackReason::Behind, &attempt).await
    }

    /// Whether a token is worth asking the leader about before anybody waits for it: it is beyond what we know of, or of
    /// another history. Tokens of this process never are.
    async fn is_beyond(&self, preference: Preference) -> bool {
        let Preference::AtLeast(token) = preference else { return false };
        let seen = *self.leader_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_possible = seen.is_some_and(|seen| is_possible(token, seen));
        !is_possible && self.is_void(preference).await
    }

    /// Whether the leader itself can't have been where the token says, so that no replica can ever reach it: it is made up,
    /// or of another system, or of a leader that was set up anew, restored, or replaced in a failover. A leader that does
    /// not answer settles nothing.
    async fn is_void(&self, preference: Preference) -> bool {
        let Preference::AtLeast(token) = preference else { return false };
        let Ok(position) = self.leader.position().await else { return false };
        // Stored, not raised: a leader that was set up anew begins again.
        *self.leader_seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
        !is_possible(token, position)
    }

    /// The leader has no indexes for lists and searches (`postgres/leader/30-indexes.sql`), so these scan its posts; its
    /// pool of readers and the statement time-out bound what that can cost the writes.
    async fn read_from_leader<R: Read>(
        &self,
        read: &R,
        reason: FallbackReason,
        attempt: &Attempt,
    ) -> Result<Answer<R::Output>, DbError> {
        metrics::counter!("web_leader_fallback_reads_total", "reason" => reason.label()).increment(1);
        let answer = self.leader.read_with_position(read).await;
        let (value, seen) = answer.map_err(|error| error.without_replica(reason))?;
        let served = Served {
            by: Leader::NAME.to_owned(),
            fallback: Some(reason),
            duration: attempt.started.elapsed(),
            waited: attempt.waited,
            lag: Some(Duration::ZERO),
            retried: attempt.failed.contains(&true),
        };
        Ok(Answer { value, served, seen, token_void: attempt.token_void })
    }
}

impl ReadOptions<'_> {
    fn delay_of(&self, replica: &str) -> Duration {
        let found = self.delays.iter().find(|(name, _)| name == replica);
        found.map_or(Duration::ZERO, |(_, delay)| *delay)
    }
}

/// Whether the leader can have been where the token says, being at `position` now.
fn is_possible(token: Token, position: Token) -> bool {
    token.lsn <= position.lsn && !token.is_foreign_to(position.history)
}

/// PostgreSQL's type for a position, and ours.
fn position(position: tokio_postgres::types::PgLsn) -> Lsn {
    Lsn(position.into())
}

/// Another number in every process; it only spreads reads.
pub fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
