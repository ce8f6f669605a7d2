//! Snapshots of a replica, each checked against what holds between transactions.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::{Client, Statement};

use super::{Marks, Observer, reach};

/// The cheap invariant, in every read: every account starts with 1000, and transfers move money only. NULL while the
/// snapshot has no accounts yet, so that there is nothing to sum. Beside it, from the same snapshot, the watermark and
/// when the server was started.
const QUICK: &str = "
SELECT (SELECT (sum(balance) - 1000 * count(*))::text FROM accounts),
       (SELECT (watermark - '0/0')::bigint FROM replicator.progress),
       extract(epoch FROM pg_postmaster_start_time())::float8";

/// The expensive ones, in every [`FULL_READ_EVERY`]th read, as a count of wrong rows in one snapshot: accounts that
/// disagree with their transfers; comments and likes without their post; rows of rolled back transactions.
const FULL: &str = "
SELECT nullif(
       (SELECT count(*) FROM accounts AS a LEFT JOIN (
            SELECT id, sum(amount) AS amount
            FROM (SELECT src AS id, -amount AS amount FROM transfers UNION ALL SELECT dst, amount FROM transfers) AS m
            GROUP BY id) AS moved USING (id)
        WHERE a.balance <> 1000 + coalesce(moved.amount, 0))
     + (SELECT count(*) FROM comments AS c WHERE NOT EXISTS (SELECT FROM posts AS p WHERE p.id = c.post_id))
     + (SELECT count(*) FROM likes AS l WHERE NOT EXISTS (SELECT FROM posts AS p WHERE p.id = l.post_id))
     + (SELECT count(*) FROM posts WHERE user_id = 'nobody' OR user_id LIKE 'gone-%' OR content IN ('first', 'second')), 0)
     || ' rows contradict other rows of the same snapshot'";

/// Keeps the observer from becoming most of the load.
const FULL_READ_EVERY: u64 = 50;

/// What must hold in every snapshot.
#[derive(Debug, Clone)]
pub struct Invariants {
    quick: String,
    full: Vec<String>,
    marks: Option<Marks>,
}

impl Invariants {
    /// Those of the demo's tables under [`crate::load`].
    pub fn of_the_demo() -> Self {
        Self { quick: format!("{QUICK}, NULL::bigint"), full: vec![FULL.to_owned()], marks: None }
    }

    /// Another one, for the reads with all of them: a query whose one value is NULL, or what is wrong in words.
    #[must_use]
    pub fn with(mut self, query: String) -> Self {
        self.full.push(query);
        self
    }

    /// Compares the watermark with these marks as well, in every read. Needs the table `lab.marks`.
    #[must_use]
    pub fn with_marks(mut self, marks: &Marks) -> Self {
        self.quick = format!("{QUICK}, (SELECT number FROM lab.marks)");
        self.marks = Some(marks.clone());
        self
    }
}

/// What a snapshot observer saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// Snapshots read.
    pub reads: u64,
    /// Of these, read with all invariants.
    pub full_reads: u64,
    /// Connections lost and made again.
    pub reconnects: u64,
    /// Every wrong snapshot, in words.
    pub violations: Vec<String>,
}

/// Reads snapshots of the replica at `url` in a loop, with `pause` between two reads, and checks each.
pub fn snapshots(url: &str, pause: Duration, invariants: &Invariants) -> Observer<Snapshots> {
    let (url, invariants) = (url.to_owned(), invariants.clone());
    Observer::start(|stopped| read_snapshots(url, pause, invariants, stopped))
}

async fn read_snapshots(
    url: String,
    pause: Duration,
    invariants: Invariants,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Snapshots> {
    let mut seen = Snapshots::default();
    let mut connection = None;
    let mut progress = Progress::default();
    while !*stopped.borrow() {
        let Some(client) = reach(&url, &mut connection, &mut seen.reconnects).await else { continue };
        let Ok(reader) = Reader::new(client, &invariants).await else {
            connection = None;
            continue;
        };
        while !*stopped.borrow() {
            // Alternating would leave the sum unchecked where the full read is; the full read comes on top.
            let is_full = seen.reads % FULL_READ_EVERY == 0;
            let Ok(violations) = reader.read(is_full, &mut progress).await else { break };
            seen.reads += 1;
            seen.full_reads += u64::from(is_full);
            seen.violations.extend(violations);
            sleep(pause).await;
        }
        connection = None;
    }
    Ok(seen)
}

/// How far the replica was in the last read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    watermark: i64,
    started: f64,
}

/// The invariants, prepared on one connection.
#[derive(Debug)]
pub struct Reader<'a> {
    client: &'a Client,
    quick: Statement,
    full: Vec<Statement>,
    marks: Option<Marks>,
}

impl<'a> Reader<'a> {
    /// Prepares the statements.
    ///
    /// # Errors
    /// When the server can't be asked, or lacks a table.
    pub async fn new(client: &'a Client, invariants: &Invariants) -> Result<Self, tokio_postgres::Error> {
        let quick = client.prepare(&invariants.quick).await?;
        let mut full = Vec::new();
        for query in &invariants.full {
            full.push(client.prepare(query).await?);
        }
        Ok(Self { client, quick, full, marks: invariants.marks.clone() })
    }

    /// Reads one snapshot, and with `is_full` one for each further invariant, and says what is wrong with them.
    ///
    /// # Errors
    /// When the server can't be asked.
    pub async fn read(
        &self,
        is_full: bool,
        progress: &mut Progress,
    ) -> Result<Vec<String>, tokio_postgres::Error> {
        let mut wrong = Vec::new();
        let row = self.client.query_one(&self.quick, &[]).await?;
        let error: Option<&str> = row.get(0);
        if let Some(error) = error.filter(|error| error.chars().any(|c| ('1'..='9').contains(&c))) {
            wrong.push(format!("the sum of all balances is off by {error}"));
        }
        let (watermark, started): (i64, f64) = (row.get(1), row.get(2));
        wrong.extend(progress.advance(watermark, started));
        let number: Option<i64> = row.get(3);
        wrong.extend(self.marks.as_ref().zip(number).and_then(|(m, n)| m.contradiction(watermark, n)));
        for query in self.full.iter().filter(|_| is_full) {
            let error: Option<String> = self.client.query_one(query, &[]).await?.get(0);
            wrong.extend(error);
        }
        Ok(wrong)
    }
}

impl Progress {
    /// Takes the new position over; says so when the watermark went back.
    ///
    /// A server that was killed comes back without its last commits, rows and watermark alike: replicas run with
    /// `synchronous_commit=off`, and what they lost is applied again.
    fn advance(&mut self, watermark: i64, started: f64) -> Option<String> {
        let went_back = started <= self.started && watermark < self.watermark;
        let before = self.watermark;
        *self = Self { watermark, started };
        went_back.then(|| format!("the watermark went back from {before:x} to {watermark:x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_may_go_back_with_its_server_only() {
        let mut progress = Progress::default();
        assert_eq!(progress.advance(10, 1.0), None);
        assert_eq!(progress.advance(10, 1.0), None);
        assert!(progress.advance(9, 1.0).is_some());
        assert_eq!(progress.advance(20, 1.0), None);
        assert_eq!(progress.advance(15, 2.0), None, "another run of the server");
    }
}
