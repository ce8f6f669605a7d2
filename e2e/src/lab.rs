//! Tables of a random shape, and transactions on them that are awkward to replicate.
//!
//! The shapes, the order of the transactions and the values follow from a seed. On the leader a trigger counts every
//! table's rows and the sum of their weights into `lab.tally`, in the transaction that changes them, so each transaction
//! spans two tables at least and each snapshot of a replica can be checked: a table that disagrees with its tally shows a
//! part of a transaction.

mod shape;
mod statement;
mod writer;

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_postgres::error::{DbError, SqlState};

use crate::observe::Observer;
use crate::postgres;
use crate::random::Random;
pub use shape::Table;
pub use writer::{Transaction, Writer};

/// The tables that one seed makes. They live in the schema `lab`.
#[derive(Debug, Clone)]
pub struct Lab {
    seed: u64,
    tables: Vec<Table>,
}

/// What a writer did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Committed transactions.
    pub committed: u64,
    /// Transactions that PostgreSQL refused, for a key that was taken or a deadlock, and those rolled back on purpose.
    pub aborted: u64,
    /// Transactions during which the leader was lost: committed or not.
    pub unknown: u64,
}

impl Lab {
    /// The tables of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, tables: shape::tables(&mut Random::part(seed, 0)) }
    }

    /// The tables.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// SQL for the leader and each replica: the tables.
    pub fn create(&self) -> String {
        let tables: String = self.tables.iter().map(Table::create).collect();
        format!(
            "CREATE SCHEMA lab;
             CREATE TABLE lab.marks (id int PRIMARY KEY, number bigint NOT NULL);
             CREATE TABLE lab.tally (name text PRIMARY KEY, rows bigint NOT NULL, weight bigint NOT NULL);
             {tables}"
        )
    }

    /// SQL for the leader, after [`Lab::create`]: the tallies, the publication, and who may read.
    pub fn on_leader(&self) -> String {
        let triggers: String = self.tables.iter().map(Table::triggers).collect();
        let names: Vec<_> = self.tables.iter().map(Table::sql_name).collect();
        format!(
            "{}
             {triggers}
             GRANT USAGE ON SCHEMA lab TO debezium, replicator;
             GRANT SELECT ON ALL TABLES IN SCHEMA lab TO debezium, replicator;
             ALTER PUBLICATION cdc ADD TABLE lab.marks, lab.tally, {};",
            include_str!("lab/tally.sql"),
            names.join(", ")
        )
    }

    /// SQL for the leader, once the connector follows the tables: their first rows.
    pub fn first_rows(&self) -> String {
        let tallies = self.tables.iter().map(|table| format!("('{}', 0, 0)", table.name()));
        format!(
            "INSERT INTO lab.tally VALUES {}; INSERT INTO lab.marks VALUES (1, 0);",
            tallies.collect::<Vec<_>>().join(", ")
        )
    }

    /// SQL for each replica, after [`Lab::create`]: the replicator owns what it fills, readers read.
    pub fn on_replica(&self) -> String {
        let names = self.tables.iter().flat_map(Table::all_sql_names);
        let owned = names.chain(["lab.marks".to_owned(), "lab.tally".to_owned()]);
        let owned: String = owned.map(|name| format!("ALTER TABLE {name} OWNER TO replicator;\n")).collect();
        format!(
            "GRANT USAGE ON SCHEMA lab TO app_reader, replicator;
             GRANT CREATE ON SCHEMA lab TO replicator;
             {owned}
             GRANT SELECT ON ALL TABLES IN SCHEMA lab TO app_reader;"
        )
    }

    /// A query over one snapshot: NULL, or which tables disagree with their tallies and which rows lack their parents.
    pub fn invariant(&self) -> String {
        let counts = self.tables.iter().map(|table| {
            format!(
                "SELECT '{}' AS name, count(*) AS rows, coalesce(sum(weight), 0) AS weight FROM {}",
                table.name(),
                table.sql_name()
            )
        });
        format!(
            "SELECT string_agg(wrong, ', ') FROM (
                 SELECT format('%s has %s rows of weight %s, its tally says %s and %s',
                               coalesce(f.name, t.name), f.rows, f.weight, t.rows, t.weight) AS wrong
                 FROM ({}) AS f FULL JOIN lab.tally AS t USING (name)
                 WHERE (f.rows, f.weight) IS DISTINCT FROM (t.rows, t.weight)
                 UNION ALL
                 SELECT format('%s children lack their parents', count(*)) FROM lab.child AS c
                 WHERE NOT EXISTS (SELECT FROM lab.parent AS p WHERE p.id = c.parent_id) HAVING count(*) > 0
             ) AS all_wrong",
            counts.collect::<Vec<_>>().join(" UNION ALL ")
        )
    }

    /// The tables without a key, in which a change applied twice would show as a row too many.
    pub fn keyless(&self) -> Vec<String> {
        self.tables.iter().filter(|table| table.is_keyless()).map(Table::sql_name).collect()
    }

    /// A writer of transactions; each `number` gives other ones.
    pub fn writer(&self, number: u64) -> Writer<'_> {
        Writer::new(self, Random::part(self.seed, number + 1))
    }
}

/// Between two attempts to reach a leader that is away.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(100);

/// Writes on the leader at `url`, which must be the owner's, with `pause` between two transactions. When the leader is lost,
/// it goes on with the next transaction: whether the last one was committed is then not known, and of no matter to whoever
/// compares the replicas with what the leader has.
pub fn write(url: &str, lab: &Lab, number: u64, pause: Duration) -> Observer<Written> {
    let (url, lab) = (url.to_owned(), lab.clone());
    Observer::start(async move |stopped| {
        // Values are made by PostgreSQL's random(), which follows from the seed as well.
        let seed = f64::from(u32::try_from(number % 1000)?) / 1000.0;
        let mut writer = lab.writer(number);
        let mut written = Written::default();
        let mut session = None;
        while !*stopped.borrow() {
            let client = match session.take() {
                Some(client) => client,
                None => match connect(&url, seed).await {
                    Ok(client) => client,
                    Err(_) => {
                        sleep(RECONNECT_INTERVAL).await;
                        continue;
                    }
                },
            };
            match run(&client, &writer.next_transaction()).await {
                Ok(true) => written.committed += 1,
                Ok(false) => written.aborted += 1,
                Err(_) if client.is_closed() => {
                    written.unknown += 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
            session = Some(client);
            sleep(pause).await;
        }
        Ok(written)
    })
}

async fn connect(url: &str, seed: f64) -> anyhow::Result<Client> {
    let client = postgres::connect(url).await?;
    client.query_one("SELECT setseed($1)", &[&seed]).await.context("set the seed of the values")?;
    Ok(client)
}

/// Runs one transaction; `false` when it was rolled back, on purpose or because PostgreSQL refused it for a reason that
/// such transactions have.
///
/// # Errors
/// When it was refused for any other reason.
pub async fn run(client: &Client, transaction: &Transaction) -> anyhow::Result<bool> {
    let Err(error) = client.batch_execute(&transaction.sql()).await else {
        return Ok(transaction.commits());
    };
    if client.is_closed() {
        return Err(error).context("the leader is gone");
    }
    client.batch_execute("ROLLBACK").await.context("roll back")?;
    const EXPECTED: &[SqlState] = &[
        SqlState::UNIQUE_VIOLATION,
        SqlState::NOT_NULL_VIOLATION,
        SqlState::FOREIGN_KEY_VIOLATION,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    match error.code() {
        Some(code) if EXPECTED.contains(code) => Ok(false),
        _ => {
            let start: String = transaction.sql().chars().take(400).collect();
            bail!("the leader refused '{start} …': {:?}", error.as_db_error().map(DbError::message))
        }
    }
}
