//! Mixed transactions on a leader, made by pgbench from the scripts in `e2e/load/`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::time::sleep;
use tokio_postgres::Config;

use crate::observe::Observer;
use crate::postgres;
use crate::random::Random;

/// The scripts and how often each runs, in parts of the sum.
const MIX: &[(&str, u32)] = &[
    ("transfer", 40),
    ("open_account", 3),
    ("rekey", 4),
    ("write_post", 10),
    ("edit_post", 6),
    ("touch_posts", 6),
    ("comment", 12),
    ("comment_many", 1),
    ("like", 10),
    ("delete_post", 2),
    ("churn", 2),
    ("rollback", 2),
    ("savepoint", 2),
];

/// Sessions at once: enough for commits to overlap.
const CLIENTS: u32 = 4;

/// How much load, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Transactions that pgbench runs; the few that roll back count.
    pub transactions: u32,
    /// Transactions per second at most, so that the load lasts as long as the faults beside it. `None`: at full speed.
    pub rate: Option<u32>,
    /// The seed of pgbench's random numbers.
    pub seed: u64,
}

/// Load without an end of its own.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Transactions per second at most.
    pub rate: u32,
    /// The seed of pgbench's random numbers.
    pub seed: u64,
}

/// How many seconds one run of pgbench takes in a load without an end, when nothing comes between.
const ROUND_SECONDS: u32 = 3;

/// Between two attempts to go on after the leader was lost.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// How PostgreSQL's client says that it was the leader that failed. A commit that was under way may have happened or not,
/// which is no matter to transactions of which each keeps the invariants.
const LEADER_LOST: &[&str] = &[
    "server closed the connection",
    "terminating connection",
    "perhaps the backend died",
    "connection to server",
    "connection to database",
    "could not receive data",
    "could not send data",
    "the database system is",
];

/// What a finished load did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// Transactions that pgbench counted as processed.
    pub transactions: u32,
    /// From its start to its end.
    pub duration: Duration,
}

/// A load that runs. Dropping it ends pgbench.
#[derive(Debug)]
pub struct Load {
    pgbench: Child,
    started: Instant,
    planned: u32,
}

/// Brings the tables into the state that the scripts expect. Running it again changes nothing.
pub async fn prepare(leader_url: &str) -> anyhow::Result<()> {
    let client = postgres::connect(leader_url).await?;
    client.batch_execute(include_str!("../load/prepare.sql")).await.context("prepare the tables for the load")
}

/// Starts the load on the database at `leader_url`, which must allow what the web application may do.
pub fn start(leader_url: &str, plan: Plan) -> anyhow::Result<Load> {
    let config: Config = leader_url.parse().context("read the leader's URL")?;
    let port = config.get_ports().first().context("find the leader's port")?;
    let mut pgbench = Command::new(postgres::program("pgbench")?);
    pgbench
        .args(["--no-vacuum", "--host=127.0.0.1"])
        .arg(format!("--port={port}"))
        .arg(format!("--username={}", config.get_user().context("find the user")?))
        .arg(format!("--client={CLIENTS}"))
        .arg(format!("--transactions={}", plan.transactions.div_ceil(CLIENTS)))
        .arg(format!("--random-seed={}", plan.seed))
        // Multi-row statements of two sessions may deadlock; PostgreSQL ends one and pgbench runs it again.
        .arg("--max-tries=100")
        .env("PGPASSWORD", String::from_utf8_lossy(config.get_password().unwrap_or_default()).as_ref());
    if let Some(rate) = plan.rate {
        pgbench.arg(format!("--rate={rate}"));
    }
    for (name, weight) in MIX {
        pgbench.arg(format!("--file={}@{weight}", script(name).display()));
    }
    pgbench.arg(config.get_dbname().context("find the database")?);
    let pgbench = pgbench.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    Ok(Load {
        pgbench: pgbench.context("start pgbench")?,
        started: Instant::now(),
        planned: plan.transactions,
    })
}

/// Runs load on the database at `leader_url` until it is finished, and goes on when the leader was away.
pub fn endure(leader_url: &str, pace: Pace) -> Observer<Report> {
    let url = leader_url.to_owned();
    Observer::start(async move |stopped| {
        let started = Instant::now();
        let mut transactions = 0;
        // Not one after the other: many short rounds, while the leader is away, would reach the seed that the next load begins with,
        // which then made the same accounts again.
        let mut seeds = Random::new(pace.seed);
        while !*stopped.borrow() {
            let seed = seeds.below(u64::MAX);
            let plan = Plan { transactions: pace.rate * ROUND_SECONDS, rate: Some(pace.rate), seed };
            match start(&url, plan)?.run_to_end().await? {
                Ended::Done(done) => transactions += done,
                Ended::LeaderLost(done) => {
                    transactions += done;
                    sleep(RETRY_INTERVAL).await;
                }
            }
        }
        Ok(Report { transactions, duration: started.elapsed() })
    })
}

/// How a run of pgbench ended, and how many transactions it counted.
enum Ended {
    Done(u32),
    LeaderLost(u32),
}

fn script(name: &str) -> PathBuf {
    crate::repository().join("e2e/load").join(format!("{name}.sql"))
}

impl Load {
    /// Waits for the end. A failed or missing transaction is an error: the load must be what it says it is.
    pub async fn finish(self) -> anyhow::Result<Report> {
        let (started, planned) = (self.started, self.planned);
        let (report, errors, success) = tokio::task::spawn_blocking(move || self.collect()).await??;
        let duration = started.elapsed();
        ensure!(success, "pgbench failed: {errors}{report}");
        let transactions = processed(&report).with_context(|| format!("read pgbench's report: {report}"))?;
        if transactions < planned {
            bail!("pgbench processed {transactions} of {planned} transactions: {report}{errors}");
        }
        Ok(Report { transactions, duration })
    }

    /// Waits for the end, which may be the leader's.
    async fn run_to_end(self) -> anyhow::Result<Ended> {
        let (report, errors, success) = tokio::task::spawn_blocking(move || self.collect()).await??;
        let transactions = processed(&report);
        if success {
            return transactions.map(Ended::Done).with_context(|| format!("read pgbench's report: {report}"));
        }
        if LEADER_LOST.iter().any(|words| errors.contains(words)) {
            return Ok(Ended::LeaderLost(transactions.unwrap_or_default()));
        }
        bail!("pgbench failed: {errors}{report}")
    }

    fn collect(mut self) -> anyhow::Result<(String, String, bool)> {
        let read = |pipe: Option<&mut dyn std::io::Read>| -> anyhow::Result<String> {
            let mut text = String::new();
            pipe.context("find pgbench's output")?
                .read_to_string(&mut text)
                .context("read pgbench's output")?;
            Ok(text)
        };
        // Both outputs are a few lines, far below what a pipe holds, so one after the other can't block.
        let report = read(self.pgbench.stdout.as_mut().map(|pipe| pipe as &mut dyn std::io::Read))?;
        let errors = read(self.pgbench.stderr.as_mut().map(|pipe| pipe as &mut dyn std::io::Read))?;
        let status = self.pgbench.wait().context("wait for pgbench")?;
        Ok((report, errors, status.success()))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // After `finish` it has ended, and these do nothing.
        self.pgbench.kill().ok();
        self.pgbench.wait().ok();
    }
}

/// The number in `number of transactions actually processed: 4000/4000`.
fn processed(report: &str) -> Option<u32> {
    let line =
        report.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "))?;
    line.split('/').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_exists_and_every_file_is_used() {
        let mut files: Vec<_> = std::fs::read_dir(crate::repository().join("e2e/load"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .filter(|name| name != "prepare")
            .collect();
        files.sort();
        let mut names: Vec<_> = MIX.iter().map(|(name, _)| (*name).to_owned()).collect();
        names.sort();
        assert_eq!(files, names);
    }

    #[test]
    fn the_number_of_transactions_is_read_from_the_report() {
        let report = "scaling factor: 1\nnumber of transactions actually processed: 3998/4000\n";
        assert_eq!(processed(report), Some(3998));
        assert_eq!(processed("number of clients: 4\n"), None);
    }
}
