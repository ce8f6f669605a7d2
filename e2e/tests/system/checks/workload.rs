//! The mixed load, in calm and with faults: at the end everything is equal, and on the way nobody saw half a transaction.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::load::{self, Pace, Plan};
use e2e::observe::{self, Invariants, Lag, Observer, Snapshots};
use e2e::random::Random;
use tokio::task::spawn_local;

use crate::settings::{self, Source};
use crate::system::{Login, REPLICAS, System, script};
use crate::tables::{self, Tables};

/// Between two snapshots of one observer: three of them without a pause would be most of the load on a small machine.
const READ_PAUSE: Duration = Duration::from_millis(2);

/// Killed in turn by SIGKILL under load.
const OTHERS: &[&str] = &["connect", "replica-1", "broker", "connect", "replica-3"];

/// The same where changes come from the leader itself.
const OTHERS_DIRECT: &[&str] = &["leader", "replica-1", "leader", "replica-3"];

/// Transactions per second while the replicator or others are killed: the load must last as long as the kills do.
const RATE_WITH_KILLS: u32 = 200;

/// Transactions per second at most while a replica is down: what the connector delivers without falling behind on a small
/// machine, so that a lag would be the outage's.
const MAX_RATE_WITH_OUTAGE: u32 = 300;

/// Rows of each large transaction.
const LARGE_ROWS: u32 = 3000;

/// The lag that no replica may show while another one is down, and the longest time for which it may apply nothing. The
/// figures that count are printed; this is the point where "not delayed" has become wrong on any machine.
const MAX_LAG_MS: f64 = 5000.0;
const MAX_STANDSTILL: Duration = Duration::from_secs(4);

/// A snapshot and a lag observer for each replica.
struct Watch {
    started: Instant,
    snapshots: Vec<Observer<Snapshots>>,
    lags: Vec<Observer<Lag>>,
}

impl Watch {
    fn start(system: &System) -> anyhow::Result<Self> {
        Self::start_with(system, &Invariants::of_the_demo())
    }

    fn start_with(system: &System, invariants: &Invariants) -> anyhow::Result<Self> {
        let urls = REPLICAS.iter().map(|name| system.database_url(name, Login::Reader));
        let urls = urls.collect::<anyhow::Result<Vec<_>>>()?;
        let snapshots = urls.iter().map(|url| observe::snapshots(url, READ_PAUSE, invariants)).collect();
        let lags = urls.iter().map(|url| observe::lag(url)).collect();
        Ok(Self { started: Instant::now(), snapshots, lags })
    }

    /// Stops the observers, prints what they saw and demands that no snapshot was wrong. Returns the lags.
    async fn finish(self) -> anyhow::Result<Vec<Lag>> {
        let duration = self.started.elapsed();
        let (mut reads, mut full_reads, mut violations) = (0, 0, Vec::new());
        for (name, observer) in REPLICAS.iter().zip(self.snapshots) {
            let seen = observer.finish().await.with_context(|| format!("observe {name}"))?;
            ensure!(seen.reads > 100, "only {} snapshots of {name} were read in {duration:?}", seen.reads);
            reads += seen.reads;
            full_reads += seen.full_reads;
            violations.extend(seen.violations.into_iter().map(|text| format!("{name}: {text}")));
        }
        println!(
            "  {reads} snapshots read in {duration:.1?}, {full_reads} of them with all invariants; wrong: {}",
            violations.len()
        );
        let mut lags = Vec::new();
        for (name, observer) in REPLICAS.iter().zip(self.lags) {
            let lag = observer.finish().await.with_context(|| format!("sample {name}"))?;
            println!(
                "  {name}: lag p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms over {} samples; longest standstill {:.0?}",
                lag.quantile_ms(0.5),
                lag.quantile_ms(0.99),
                lag.quantile_ms(1.0),
                lag.ages_ms.len(),
                lag.longest_pause,
            );
            ensure!(lag.went_back == 0, "the watermark of {name} went back {} times", lag.went_back);
            lags.push(lag);
        }
        ensure!(violations.is_empty(), "{} wrong snapshots, the first: {}", violations.len(), violations[0]);
        Ok(lags)
    }
}

/// Makes the tables ready and waits until the replicas have that too.
async fn prepare(system: &System) -> anyhow::Result<String> {
    let url = system.database_url("leader", Login::Writer)?;
    load::prepare(&url).await?;
    system.assert_equal().await?;
    Ok(url)
}

async fn finish(system: &System, watch: Watch) -> anyhow::Result<Vec<Lag>> {
    let drained = system.await_replicas().await;
    let lags = watch.finish().await?;
    println!("  every replica had everything {:.1?} after the last commit", drained?);
    println!("  equal on the leader and three replicas: {}", system.assert_equal().await?);
    Ok(lags)
}

pub(super) async fn calm(system: Rc<System>) -> anyhow::Result<()> {
    let url = prepare(&system).await?;
    let plan = Plan {
        transactions: settings::number("E2E_TRANSACTIONS", 4000)?,
        rate: None,
        seed: settings::seed()?,
    };
    let watch = Watch::start(&system)?;
    let report = load::start(&url, plan)?.finish().await?;
    let per_second = f64::from(report.transactions) / report.duration.as_secs_f64();
    println!("  {} transactions in {:.1?}: {per_second:.0} per second", report.transactions, report.duration);
    finish(&system, watch).await.map(drop)
}

pub(super) async fn replicator_kills(system: Rc<System>) -> anyhow::Result<()> {
    kills(&system, &["replicator"; 5]).await
}

/// Connect sends again what it had not flushed; the leader sends from what was confirmed to it; a replica that does not wait for its disk loses its last commits, and
/// its checkpoint with them.
pub(super) async fn other_kills(system: Rc<System>) -> anyhow::Result<()> {
    let victims = match system.source() {
        Source::Kafka => OTHERS,
        Source::Direct => OTHERS_DIRECT,
    };
    kills(&system, victims).await
}

async fn kills(system: &System, victims: &[&str]) -> anyhow::Result<()> {
    let url = prepare(system).await?;
    let seed = settings::seed()?;
    let transactions: u32 = settings::number("E2E_TRANSACTIONS", 4000)?;
    let pace = Pace { rate: (transactions / 40).max(RATE_WITH_KILLS), seed };
    let mut random = Random::new(seed);
    let watch = Watch::start(system)?;
    let load = load::endure(&url, pace);
    for victim in victims {
        // The moment is what is tried here, so it is left to chance.
        tokio::time::sleep(Duration::from_millis(200 + random.below(2500))).await;
        let killed = Instant::now();
        system.service("kill", victim).await?;
        system.await_closed(victim).await?;
        system.service("start", victim).await?;
        println!("  {victim} killed, and ready again after {:.1?}", killed.elapsed());
    }
    let done = load.finish().await?.transactions;
    println!("  {done} transactions, {} kills", victims.len());
    finish(system, watch).await.map(drop)
}

/// Large transactions, which the leader sends while they run, with subtransactions that are rolled back or not, beside the
/// small ones of the load; and the replicator killed at any moment of them.
pub(super) async fn streamed_kills(system: Rc<System>) -> anyhow::Result<()> {
    let create = "CREATE TABLE public.large (id bigint PRIMARY KEY, writer int NOT NULL, word text);";
    let leader = format!(
        "{create} CREATE SEQUENCE public.large_ids; GRANT USAGE ON public.large_ids TO app_writer;
         GRANT SELECT, INSERT, UPDATE ON public.large TO app_writer; GRANT SELECT ON public.large TO replicator;
         ALTER PUBLICATION cdc ADD TABLE public.large"
    );
    let replica = format!(
        "{create} ALTER TABLE public.large OWNER TO replicator; GRANT SELECT ON public.large TO app_reader"
    );
    tables::follow(&system, &Tables { leader, replica }).await?;
    let url = prepare(&system).await?;
    let seed = settings::seed()?;
    let mut random = Random::new(seed);
    let start = async || {
        let mut command = system.command("service.sh");
        command.args(["start", "replicator"]);
        // The least that the leader takes: some hundred rows.
        command.env("REPLICATOR__SOURCE__STREAMING_WORK_MEM", "64kB");
        script(&mut command).await
    };
    system.service("stop", "replicator").await?;
    start().await?;
    let torn = format!(
        "SELECT CASE WHEN count(*) % {LARGE_ROWS} > 0 THEN format('%s rows of large transactions', count(*)) END
         FROM public.large"
    );
    let watch = Watch::start_with(&system, &Invariants::of_the_demo().with(torn))?;
    let load = load::endure(&url, Pace { rate: RATE_WITH_KILLS, seed });
    let stop = Rc::new(Cell::new(false));
    let writers: Vec<_> = (0..2)
        .map(|number| {
            let (system, stop) = (Rc::clone(&system), Rc::clone(&stop));
            spawn_local(async move {
                let client = system.connect("leader", Login::Writer).await?;
                let mut written = 0u32;
                while !stop.get() {
                    client
                        .batch_execute(&large(number, written))
                        .await
                        .context("write a large transaction")?;
                    written += 1;
                }
                anyhow::Ok(written)
            })
        })
        .collect();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(500 + random.below(2500))).await;
        system.service("kill", "replicator").await?;
        system.await_closed("replicator").await?;
        start().await?;
    }
    stop.set(true);
    let mut written = 0;
    for writer in writers {
        written += writer.await??;
    }
    println!("  {} small transactions, {written} large ones, 5 kills", load.finish().await?.transactions);
    finish(&system, watch).await?;
    let metrics = system.http().get(system.http_url("replicator", "/metrics")?).send().await?.text().await?;
    let streamed = metrics.lines().filter(|line| line.starts_with("replicator_streamed_transactions_total{"));
    let streamed: Vec<_> = streamed.collect();
    println!("  since the last kill: {}", streamed.join(", "));
    let leader = system.connect("leader", Login::Owner).await?;
    leader.batch_execute("DROP TABLE public.large; DROP SEQUENCE public.large_ids").await?;
    for name in REPLICAS {
        system.repair(name).await?.batch_execute("DROP TABLE public.large").await?;
    }
    system.restart("replicator").await?;
    system.assert_equal().await.map(drop)
}

/// One large transaction of [`LARGE_ROWS`] rows, in parts that are taken back and parts that stay; every third is rolled back.
fn large(writer: u32, number: u32) -> String {
    let rows = |word: &str| {
        format!(
            "INSERT INTO public.large SELECT nextval('public.large_ids'), {writer}, '{word} of {number}: ' || g
             FROM generate_series(1, {}) AS g;",
            LARGE_ROWS / 2
        )
    };
    let touch = format!(
        "UPDATE public.large SET word = word || '!' WHERE writer = {writer} AND word LIKE '% of {number}: %7';"
    );
    let end = if number % 3 == 2 { "ROLLBACK" } else { "COMMIT" };
    format!(
        "BEGIN; {} SAVEPOINT a; {} SAVEPOINT b; {touch} ROLLBACK TO a; SAVEPOINT c; {} RELEASE c; {touch} {end}",
        rows("first"),
        rows("gone"),
        rows("second"),
    )
}

pub(super) async fn outage(system: Rc<System>) -> anyhow::Result<()> {
    let url = prepare(&system).await?;
    let down = Duration::from_secs(settings::number("E2E_OUTAGE_SECONDS", 8)?);
    let transactions: u32 = settings::number("E2E_TRANSACTIONS", 4000)?;
    // A few seconds with the replica before and after.
    let seconds = u32::try_from(down.as_secs())? + 6;
    let plan = Plan {
        transactions,
        rate: Some(transactions.div_ceil(seconds).min(MAX_RATE_WITH_OUTAGE)),
        seed: settings::seed()?,
    };
    let watch = Watch::start(&system)?;
    let load = load::start(&url, plan)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stopped = Instant::now();
    system.service("stop", REPLICAS[1]).await?;
    tokio::time::sleep(down.saturating_sub(stopped.elapsed())).await;
    system.service("start", REPLICAS[1]).await?;
    println!("  {} was down for {:.1?}", REPLICAS[1], stopped.elapsed());
    let report = load.finish().await?;
    println!("  {} transactions in {:.1?}", report.transactions, report.duration);
    let lags = finish(&system, watch).await?;
    ensure!(lags[1].reconnects > 0, "{} was never away", REPLICAS[1]);
    for index in [0, 2] {
        let (worst, pause) = (lags[index].quantile_ms(1.0), lags[index].longest_pause);
        ensure!(
            worst < MAX_LAG_MS && pause < MAX_STANDSTILL,
            "while another replica was down, {} was {worst:.0} ms behind and stood still for {pause:.1?}",
            REPLICAS[index],
        );
    }
    Ok(())
}
