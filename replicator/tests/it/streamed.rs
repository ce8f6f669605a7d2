//! The direct source as the daemon runs it, with transactions that are applied while they run on the leader.

use std::sync::Arc;
use std::time::Duration;

use e2e::compare;
use e2e::postgres::{Cluster, Kind, Role};
use e2e::wait::until;
use replicator::config::{self, Config};
use replicator::events::Feed;
use replicator::lane::hub::{Hub, HubSettings};
use replicator::status::{StatusCell, WorkerState};
use replicator::worker::{self, WorkerSettings};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// Some hundred rows: more than the least that the leader decodes before it sends what is open.
const BULK: &str = "INSERT INTO items SELECT i, repeat('x', 100) FROM generate_series";

const TABLES: &str = "
    CREATE TABLE items (id int PRIMARY KEY, word text);
    CREATE TABLE twins (word text);
    ALTER TABLE twins REPLICA IDENTITY FULL;
    GRANT SELECT ON items, twins TO replicator;";

/// A leader and its replica, with a worker between them that can be stopped and started.
struct World {
    leader: Cluster,
    replica: Cluster,
    /// Two sessions of the leader, for what runs at the same time.
    one: Client,
    two: Client,
    on_replica: Client,
    daemon: Option<Daemon>,
}

struct Daemon {
    stop: CancellationToken,
    worker: JoinHandle<()>,
    status: StatusCell,
}

impl World {
    async fn new() -> anyhow::Result<Self> {
        let (leader, replica) = tokio::try_join!(
            Cluster::with_settings(Kind::Leader, "leader", &[]),
            Cluster::replica("replica-1")
        )?;
        let (one, two) = tokio::try_join!(leader.connect(Role::Superuser), leader.connect(Role::Superuser))?;
        let on_replica = replica.superuser().await?;
        one.batch_execute(&format!("{TABLES} ALTER PUBLICATION cdc ADD TABLE items, twins")).await?;
        on_replica.batch_execute(TABLES).await?;
        on_replica
            .batch_execute("ALTER TABLE items OWNER TO replicator; ALTER TABLE twins OWNER TO replicator")
            .await?;
        let mut world = World { leader, replica, one, two, on_replica, daemon: None };
        world.start()?;
        until("the replica to be live", PATIENCE, async || {
            let status = world.daemon.as_ref().map(|daemon| daemon.status.get());
            let is_live = status.as_ref().is_some_and(|status| status.state == WorkerState::Live);
            if is_live { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await?;
        Ok(world)
    }

    fn config(&self) -> anyhow::Result<Config> {
        let settings = [
            ("SOURCE__KIND", "postgres".to_owned()),
            ("SOURCE__PUBLICATION", "cdc".to_owned()),
            ("SOURCE__STREAMING_WORK_MEM", "64kB".to_owned()),
            ("LEADER__URL", self.leader.url(Role::Replicator)),
            ("REPLICAS__0__NAME", "replica-1".to_owned()),
            ("REPLICAS__0__URL", self.replica.url(Role::Replicator)),
        ];
        let settings = settings.map(|(name, value)| (format!("REPLICATOR__{name}"), value));
        Ok(config::load(None, settings)?.config)
    }

    /// What the supervisor does for one replica.
    fn start(&mut self) -> anyhow::Result<()> {
        let config = self.config()?;
        let stop = CancellationToken::new();
        let hub = HubSettings {
            source: config.source(),
            replicas: vec!["replica-1".to_owned()],
            detach_after: Duration::from_millis(config.apply.detach_after_ms),
        };
        let settings = WorkerSettings {
            name: "replica-1".to_owned(),
            url: config.replicas[0].url.config().clone(),
            source_id: config.source_id(),
            owner: "test".to_owned(),
            lease: config.lease(),
            failure: config.failure,
            leader: config.leader.as_ref().map(|leader| leader.url.config().clone()),
            additive: true,
            lane: config.lane_limits(),
            copy: config.copy(),
            group_changes: config.apply.group_changes,
            halt_pause: Duration::from_millis(200),
            feed: Feed::default(),
        };
        let status = StatusCell::new("replica-1");
        let hub = Hub::new(hub, stop.clone());
        let worker = tokio::spawn(worker::run(settings, Arc::clone(&hub), status.clone(), stop.clone()));
        self.daemon = Some(Daemon { stop, worker, status });
        Ok(())
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(Daemon { stop, worker, .. }) = self.daemon.take() {
            stop.cancel();
            tokio::time::timeout(PATIENCE, worker).await??;
        }
        Ok(())
    }

    fn restarts(&self) -> u64 {
        self.daemon.as_ref().map_or(0, |daemon| daemon.status.get().restarts)
    }

    /// How many side sessions there are on the replica, within a transaction.
    async fn sides(&self) -> anyhow::Result<i64> {
        let sql = "
            SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE locktype = 'advisory' AND objid::bigint = replicator.side_lock() AND state LIKE 'idle in%'";
        Ok(self.on_replica.query_one(sql, &[]).await?.get(0))
    }

    async fn await_sides(&self, expected: i64) -> anyhow::Result<()> {
        until(&format!("{expected} side transactions"), PATIENCE, async || match self.sides().await {
            Ok(found) if found == expected => Ok(()),
            other => Err(format!("{other:?}; {:?}", self.cause())),
        })
        .await
    }

    /// Begins a transaction that grows until it is applied on the replica, beside so many others.
    async fn begin(&self, sql: &Client, first: u32, others: i64) -> anyhow::Result<()> {
        sql.batch_execute("BEGIN").await?;
        // What a stream that has just been opened skips does not count: only what comes then makes the leader send it.
        let mut last = first;
        until("the transaction to be applied while it runs", PATIENCE, async || {
            sql.batch_execute(&format!("{BULK}({last}, {}) i", last + 999))
                .await
                .map_err(|e| e.to_string())?;
            last += 1000;
            match self.sides().await {
                Ok(found) if found > others => Ok(()),
                other => Err(format!("{other:?}; {:?}", self.cause())),
            }
        })
        .await
    }

    /// Waits until the replica shows this.
    async fn shows(&self, query: &str, expected: &str) -> anyhow::Result<()> {
        until(&format!("{query}: {expected}"), PATIENCE, async || {
            let row = self.on_replica.query_one(query, &[]).await.map_err(|error| error.to_string())?;
            let found: Option<String> = row.get(0);
            if found.as_deref() == Some(expected) {
                Ok(())
            } else {
                Err(format!("{found:?}; {:?}", self.cause()))
            }
        })
        .await
    }

    fn cause(&self) -> Option<String> {
        self.daemon.as_ref().and_then(|daemon| daemon.status.get().cause)
    }

    /// Waits until both have the same rows.
    async fn equal(&self) -> anyhow::Result<()> {
        let tables = ["items", "twins"].map(str::to_owned);
        until("leader and replica to be equal", PATIENCE, async || {
            let both = tokio::try_join!(
                compare::contents_of(&self.one, &tables),
                compare::contents_of(&self.on_replica, &tables)
            );
            let (leader, replica) = both.map_err(|error| error.to_string())?;
            if leader == replica { Ok(()) } else { Err(format!("different; {:?}", self.cause())) }
        })
        .await
    }
}

#[tokio::test]
async fn a_large_transaction_is_applied_while_it_runs_and_shown_when_it_commits() -> anyhow::Result<()> {
    let world = World::new().await?;
    let sql = &world.one;
    sql.batch_execute(&format!("BEGIN; {BULK}(1, 3000) i")).await?;
    world.await_sides(1).await?;
    world.two.batch_execute("INSERT INTO items VALUES (100000, 'between')").await?;
    world.shows("SELECT string_agg(id::text, ',') FROM items", "100000").await?;
    sql.batch_execute(&format!("SAVEPOINT a; {BULK}(3001, 6000) i; SAVEPOINT b; {BULK}(6001, 9000) i"))
        .await?;
    sql.batch_execute(&format!("ROLLBACK TO b; {BULK}(9001, 12000) i; ROLLBACK TO a")).await?;
    sql.batch_execute(&format!("UPDATE items SET word = 'y' WHERE id <= 2000; {BULK}(5000, 5100) i")).await?;
    world.two.batch_execute("UPDATE items SET word = 'later' WHERE id = 100000").await?;
    world.shows("SELECT string_agg(word, ',') FROM items", "later").await?;
    sql.batch_execute("COMMIT").await?;
    world.equal().await?;
    world.shows("SELECT count(*)::text FROM items", "3102").await?;
    world.await_sides(0).await?;
    assert_eq!(world.restarts(), 0);
    Ok(())
}

#[tokio::test]
async fn several_run_at_once_and_one_is_rolled_back() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.begin(&world.one, 1, 0).await?;
    world.begin(&world.two, 1_000_000, 1).await?;
    world.one.batch_execute("ROLLBACK").await?;
    world.two.batch_execute("COMMIT").await?;
    world.equal().await?;
    // The session of the one that committed serves the next.
    world.begin(&world.one, 1, 0).await?;
    world.one.batch_execute("COMMIT").await?;
    world.equal().await
}

#[tokio::test]
async fn a_stop_rolls_back_what_is_open_and_it_comes_again() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    world.begin(&world.one, 1, 0).await?;
    world.stop().await?;
    world.await_sides(0).await?;
    world.one.batch_execute("COMMIT; INSERT INTO items VALUES (0, 'after')").await?;
    world.start()?;
    world.equal().await
}

/// Equal rows without a key: the leader deletes two, each in a transaction of its own; the replica takes the first it finds
/// both times.
#[tokio::test]
async fn two_that_meet_on_the_replica_only_are_applied_one_after_the_other() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.one.batch_execute("INSERT INTO twins VALUES ('same'), ('same'), ('other')").await?;
    world.equal().await?;
    let delete = |which: &str| {
        format!("DELETE FROM twins WHERE ctid = (SELECT {which}(ctid) FROM twins WHERE word = 'same')")
    };
    world.begin(&world.one, 1, 0).await?;
    world.one.batch_execute(&format!("{}; {BULK}(0, -3000, -1) i", delete("min"))).await?;
    // The leader sends the delete with the rows behind it.
    let deleted = "SELECT count(*)::text FROM pg_locks WHERE relation = 'twins'::regclass AND mode = 'RowExclusiveLock'";
    world.shows(deleted, "1").await?;
    world.two.batch_execute(&delete("max")).await?;
    world.shows("SELECT string_agg(word, ',' ORDER BY word) FROM twins", "other,same").await?;
    assert_eq!(world.sides().await?, 0, "it goes on with whole transactions");
    world.one.batch_execute("COMMIT").await?;
    world.equal().await?;
    world.begin(&world.one, 1_000_000, 0).await?;
    world.one.batch_execute("COMMIT").await?;
    world.equal().await?;
    assert_eq!(world.restarts(), 0, "none of it is a failure");
    Ok(())
}

/// TRUNCATE would lock the replica's readers out until the leader's transaction ends.
#[tokio::test]
async fn what_would_stop_readers_is_applied_when_it_is_committed() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.one.batch_execute("INSERT INTO items VALUES (0, 'before')").await?;
    world.equal().await?;
    world.one.batch_execute(&format!("BEGIN; TRUNCATE items; {BULK}(1, 3000) i")).await?;
    world.two.batch_execute("INSERT INTO twins VALUES ('meanwhile')").await?;
    world.shows("SELECT max(word) FROM twins", "meanwhile").await?;
    world.shows("SELECT string_agg(word, ',') FROM items", "before").await?;
    world.one.batch_execute("COMMIT").await?;
    world.equal().await
}

/// Rows of a table that is not there for anybody else yet.
#[tokio::test]
async fn a_table_that_the_transaction_itself_has_made_comes_with_its_commit() -> anyhow::Result<()> {
    let world = World::new().await?;
    world
        .one
        .batch_execute(
            "BEGIN; CREATE TABLE fresh (id int PRIMARY KEY, word text); GRANT SELECT ON fresh TO replicator;
             ALTER PUBLICATION cdc ADD TABLE fresh;
             INSERT INTO fresh SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i",
        )
        .await?;
    world.two.batch_execute("INSERT INTO twins VALUES ('meanwhile')").await?;
    world.shows("SELECT max(word) FROM twins", "meanwhile").await?;
    world.one.batch_execute("COMMIT").await?;
    world.shows("SELECT count(*)::text FROM fresh", "3000").await
}
