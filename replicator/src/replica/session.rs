//! One connection to a replica, with the settings that applying needs and the statements that it has prepared.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};

use super::ReplicaError;
use super::connection::{CONNECT_SECONDS, Connection, TEXT_FORM};
use super::sql::{self, Part, Shape, Stage, Verb};
use crate::vocabulary::row::Form;
use crate::vocabulary::schema::{Table, TableName};

/// Settings of every session that applies, beside [`TEXT_FORM`].
///
/// - `session_replication_role`: triggers and foreign keys stay silent, as in native logical replication.
/// - `standard_conforming_strings`: a literal means the same here as where it was printed.
/// - `synchronous_commit`: safe, since the checkpoint commits with the rows; a crash loses both and they come again.
/// - the planner: updates join a few rows of parameters with a big table, for which only the index is right. Without
///   this, a stale estimate makes it hash the table. There is nothing to learn from the values either: one plan for all.
/// - `client_min_messages`: that a stage exists already is no news.
/// - `tcp_*`: when this host vanishes, the server ends the session in half a minute, and with it the advisory lock. The
///   kernel's default is two hours.
/// - `lock_timeout`: a reader that blocks a truncate makes an error that is shown and retried, not a silent wait.
const SETTINGS: &str = "
    SET session_replication_role = replica;
    SET default_transaction_read_only = off;
    SET standard_conforming_strings = on;
    SET synchronous_commit = off;
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET jit = off;
    SET plan_cache_mode = force_generic_plan;
    SET client_min_messages = warning;
    SET statement_timeout = 0;
    SET idle_in_transaction_session_timeout = 0;
    SET lock_timeout = '10s';
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = '30s'";

/// What is being done when the role lacks the right to silence triggers.
pub(super) const SET_UP: &str = "set up the session";

/// How long a session waits for a lock while transactions are applied beside each other. What one of them has locked it keeps
/// until its transaction ends on the leader, which may be hours; the leader's own locks keep them apart, as long as the
/// replica's tables have no other keys and rows.
const RIVALS_WAIT: &str = "SET lock_timeout = '1s'";

/// The lock timeout of [`SETTINGS`].
const ALONE_WAITS: &str = "SET lock_timeout = '10s'";

/// So many combinations of parts are remembered. A workload of which no two transactions are alike must not fill the server's
/// memory with plans.
const WHOLES: usize = 128;

/// So many statements are kept prepared: of each the server keeps a plan. Which columns an update leaves out makes another
/// statement, and a table with twenty values out of line has a million such sets.
const STATEMENTS: usize = 512;

/// What a statement is cached under: its table, what it does there, and how its values come.
type StatementKey = (TableName, Shape, Form);

/// A statement for a whole transaction.
#[derive(Debug)]
enum Whole {
    /// It was wanted so many times.
    Wanted(u32),
    Prepared(Statement),
    /// The server has no such statement: a rule of one of the tables makes several of it. Those that go one by one and are not
    /// counted by the server may succeed.
    Refused,
}

/// A connection that applies.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    statements: HashMap<StatementKey, Statement>,
    wholes: HashMap<Vec<StatementKey>, Whole>,
    stages: HashMap<(TableName, Verb), Stage>,
    may_stage: bool,
}

impl Session {
    /// Connects and applies the settings.
    ///
    /// # Errors
    /// When the replica does not answer in time, or refuses.
    pub async fn connect(url: &tokio_postgres::Config) -> Result<Self, ReplicaError> {
        let limit = Duration::from_secs(CONNECT_SECONDS);
        tokio::time::timeout(limit, Self::open(url)).await.unwrap_or(Err(ReplicaError::TimedOut {
            action: "connect to the replica",
            seconds: CONNECT_SECONDS,
        }))
    }

    /// Connects as one that applies beside the session that owns the replica in this epoch. It ends at the latest when another
    /// daemon takes the replica.
    ///
    /// # Errors
    /// As [`Session::connect`]; SQLSTATE RP001 when another daemon has taken it.
    pub async fn connect_beside(url: &tokio_postgres::Config, epoch: i64) -> Result<Self, ReplicaError> {
        let session = Self::connect(url).await?;
        let failed = |source| ReplicaError::Postgres { action: "open a side session", source };
        session.client().execute("SELECT replicator.assist($1)", &[&epoch]).await.map_err(failed)?;
        session.expect_rivals(true).await?;
        Ok(session)
    }

    /// Says whether other sessions of this program write to the replica meanwhile.
    ///
    /// # Errors
    /// When the replica does not answer.
    pub async fn expect_rivals(&self, expected: bool) -> Result<(), ReplicaError> {
        let wait = if expected { RIVALS_WAIT } else { ALONE_WAITS };
        let failed = |source| ReplicaError::Postgres { action: "set how long locks are waited for", source };
        self.client().batch_execute(wait).await.map_err(failed)
    }

    /// Gives everything up at once that the session holds, the replica above all. Dropping it does so when the server notices.
    ///
    /// # Errors
    /// When the replica does not answer; then the server gives it up.
    pub async fn release(&self) -> Result<(), ReplicaError> {
        let failed = |source| ReplicaError::Postgres { action: "release the replica", source };
        let release = "ROLLBACK; SELECT pg_advisory_unlock_all()";
        self.client().batch_execute(release).await.map_err(failed)
    }

    async fn open(url: &tokio_postgres::Config) -> Result<Self, ReplicaError> {
        let failed = |source| ReplicaError::Postgres { action: "connect to the replica", source };
        let connection = Connection::open(url, "replicator").await.map_err(failed)?;
        let failed = |source| ReplicaError::Postgres { action: SET_UP, source };
        connection.batch_execute(&format!("{TEXT_FORM}{SETTINGS}")).await.map_err(failed)?;
        let may = "SELECT has_database_privilege(current_database(), 'TEMPORARY')";
        let may_stage = connection.query_one(may, &[]).await.map_err(failed)?.get(0);
        Ok(Session {
            connection,
            statements: HashMap::new(),
            wholes: HashMap::new(),
            stages: HashMap::new(),
            may_stage,
        })
    }

    /// The driver's client.
    pub fn client(&self) -> &Client {
        &self.connection
    }

    /// The statement of this shape for values of this form, prepared once per table.
    ///
    /// # Errors
    /// When the replica refuses the statement: its table differs from what the catalog said.
    pub(super) async fn prepare(
        &mut self,
        table: &Table,
        shape: &Shape,
        form: Form,
    ) -> Result<Statement, ReplicaError> {
        let key = (table.name.clone(), shape.clone(), form);
        if let Some(statement) = self.statements.get(&key) {
            return Ok(statement.clone());
        }
        let failed = |source| ReplicaError::Postgres { action: "prepare a statement", source };
        let stage = match shape.staged() {
            Some(verb) => {
                let stage = self.stage(table, verb);
                self.connection.batch_execute(&sql::stage(table, verb, stage)).await.map_err(failed)?;
                stage
            }
            None => Stage::default(),
        };
        // Each parameter is cast, and what it is cast to first is what the server takes it for.
        let statement = self.connection.prepare(&shape.sql(table, stage, form)).await.map_err(failed)?;
        if self.statements.len() >= STATEMENTS {
            // The server forgets each when its last clone is dropped.
            self.statements.clear();
        }
        self.statements.insert(key, statement.clone());
        Ok(statement)
    }

    /// The statement of these parts together with the checkpoint; none where the server has none, and until it is wanted for the
    /// `worth`-th time. A single part always is worth preparing.
    ///
    /// # Errors
    /// As [`Session::prepare`].
    pub(super) async fn prepare_whole(
        &mut self,
        parts: &[Part<'_>],
        worth: u32,
    ) -> Result<Option<Statement>, ReplicaError> {
        let key: Vec<StatementKey> = parts.iter().map(Part::key).collect();
        let wanted = match self.wholes.get(&key) {
            Some(Whole::Prepared(statement)) => return Ok(Some(statement.clone())),
            Some(Whole::Refused) => return Ok(None),
            Some(Whole::Wanted(times)) => times + 1,
            None => 1,
        };
        if wanted == 1 {
            self.make_room();
        }
        if wanted < worth && parts.len() > 1 {
            self.wholes.insert(key, Whole::Wanted(wanted));
            return Ok(None);
        }
        match self.connection.prepare(&sql::whole(parts)).await {
            Ok(statement) => {
                self.wholes.insert(key, Whole::Prepared(statement.clone()));
                Ok(Some(statement))
            }
            Err(error) if error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED) => {
                tracing::debug!(%error, "no statement for a whole transaction");
                self.wholes.insert(key, Whole::Refused);
                Ok(None)
            }
            Err(source) => Err(ReplicaError::Postgres { action: "prepare a statement", source }),
        }
    }

    /// Forgets what is wanted now and then, and everything where that makes little room: plans that were of use once.
    fn make_room(&mut self) {
        if self.wholes.len() >= WHOLES {
            self.wholes.retain(|_, whole| !matches!(whole, Whole::Wanted(_)));
            if self.wholes.len() > WHOLES / 4 * 3 {
                self.wholes.clear();
            }
        }
    }

    /// Whether the role may create temporary tables. PostgreSQL allows it to everyone; a hardened database may not.
    pub(super) fn may_stage(&self) -> bool {
        self.may_stage
    }

    /// The stage for the rows that a verb on a table brings. It need not exist.
    pub(super) fn stage(&mut self, table: &Table, verb: &Verb) -> Stage {
        let next = Stage(self.stages.len());
        *self.stages.entry((table.name.clone(), verb.clone())).or_insert(next)
    }
}
