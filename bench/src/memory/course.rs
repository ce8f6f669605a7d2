//! The course of one shape: everything that happens, and when.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use e2e::wait;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use crate::arrivals::{self, Watched};
use crate::daemon::{Daemon, Source};
use crate::fill::ensure_equal;
use crate::lag::{self, Sight, Watcher};
use crate::load::{Commit, Load, Numbering, SEED};
use crate::stats::{Percentiles, milliseconds};
use crate::stream::{Format, Stream};
use crate::system::{DATABASE, REPLICAS, System, server_name};
use crate::watch::{self, Step};

use super::{Figures, Live, Options, Part, Reading, Shape};

/// How long a large transaction may take to arrive: the connector needs a minute for a million rows.
const PATIENCE: Duration = Duration::from_secs(600);

/// Rows that a small transaction inserts; it updates as many.
const SMALL: i64 = 1;

/// Bytes that a table grows by when rows of a large transaction arrive, and not by the small ones before it.
const GROWTH: i64 = 256 << 10;

/// A consumer's first records come late.
const CONSUMER_START: Duration = Duration::from_secs(2);

/// The replica whose server is frozen.
const FROZEN: usize = REPLICAS;

/// A live run, as it was seen.
struct Seen {
    peak_memory_mib: f64,
    /// From here on replicas were looked at.
    watched: Instant,
    began: Instant,
    committed: Instant,
    /// Of the large transaction.
    xid: u32,
    /// All replicas showed it.
    visible: Instant,
    ended: Instant,
    /// By replica.
    sights: Vec<Vec<Sight>>,
    /// By xid, when each END was readable.
    readable: HashMap<u32, Instant>,
}

/// All three runs of one shape.
pub(super) async fn run(system: &System, options: &Options, shape: Shape) -> anyhow::Result<Figures> {
    for server in 0..=REPLICAS {
        system.reset(server).await?;
    }
    let stream = Stream::start(system, "memory", Format::Plain, &[]).await?;
    let measured = runs(system, options, shape, stream.prefix()).await;
    // A run that failed may have left the server frozen, and resuming one that runs does nothing.
    system.service("resume", &server_name(FROZEN)).await?;
    stream.discard(system).await?;
    measured
}

async fn runs(system: &System, options: &Options, shape: Shape, prefix: &str) -> anyhow::Result<Figures> {
    let rows = shape.rows(options);
    let load = Load::start(system, options.rate, SMALL).await?;
    let numbering = load.numbering();
    let seen = live(system, options, shape, prefix, numbering).await.context("live")?;
    println!("{rows} {}: backlog", shape.name());
    let backlog = Backlog { system, options, prefix, rows };
    let (daemon, quiet) = backlog.read().await.context("backlog")?;
    daemon.stop().await?;
    // From here on the topics hold everything.
    let commits = load.stop().await?;
    println!("{rows} {}: backlog with {} frozen", shape.name(), server_name(FROZEN));
    let (daemon, frozen) = backlog.read_frozen().await.context("frozen")?;
    await_transactions(system, numbering, commits.len()).await?;
    daemon.stop().await?;
    ensure_equal(system).await?;
    Ok(Figures { shape, rows, live: figures(&seen, &commits)?, backlog: quiet, frozen })
}

async fn live(
    system: &System,
    options: &Options,
    shape: Shape,
    prefix: &str,
    numbering: Numbering,
) -> anyhow::Result<Seen> {
    let daemon = Daemon::start(system, &options.replicator, Source::Topics(prefix), REPLICAS)?;
    await_transactions(system, numbering, 1).await?;
    let mut arrivals = arrivals::watch(&system.brokers(), prefix, Watched::Ends)?;
    let watchers: Vec<_> = (1..=REPLICAS).map(|server| Watcher::start(system, server, numbering)).collect();
    // What the topics held when the consumer began is read by then.
    sleep(CONSUMER_START).await;
    let watched = Instant::now();
    sleep(Duration::from_secs(options.around)).await;

    let rows = shape.rows(options);
    println!("{rows} {}: live", shape.name());
    let began = Instant::now();
    let mut leader = system.connect(0, DATABASE).await?;
    let transaction = leader.transaction().await?;
    let large = include_str!("../../sql/large.sql");
    transaction
        .execute(large, &[&rows, &shape.repeats()])
        .await
        .context("insert the large transaction's rows")?;
    let xid = transaction.query_one("SELECT pg_current_xact_id()::xid::text", &[]).await?;
    let xid = xid.get::<_, String>(0).parse().context("read a xid")?;
    transaction.commit().await.context("commit the large transaction")?;
    let committed = Instant::now();
    await_large(system, rows).await?;
    let visible = Instant::now();
    sleep(Duration::from_secs(options.around)).await;
    let ended = Instant::now();

    let mut sights = Vec::new();
    for watcher in watchers {
        sights.push(watcher.stop().await?);
    }
    let peak_memory_mib = daemon.peak_memory_mib()?;
    daemon.stop().await?;
    let readable = arrivals::last_of_each(std::iter::from_fn(|| arrivals.try_recv().ok()));
    Ok(Seen { peak_memory_mib, watched, began, committed, xid, visible, ended, sights, readable })
}

/// Waits until every replica shows the large transaction: the moment of each.
async fn await_large(system: &System, rows: i64) -> anyhow::Result<[Instant; REPLICAS]> {
    let mut looks = JoinSet::new();
    for server in 1..=REPLICAS {
        let client = system.connect_to_look(server, DATABASE).await?;
        // The last row has the lowest key.
        looks.spawn(async move { watch::until(&client, Step::Inserted, -rows).await.map(|at| (server, at)) });
    }
    let mut moments = [Instant::now(); REPLICAS];
    let all = async {
        while let Some(look) = looks.join_next().await {
            let (server, at) = look??;
            moments[server - 1] = at;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, all).await.context("wait for the large transaction on every replica")??;
    Ok(moments)
}

/// Waits until a replica has received rows of the large transaction, which stay invisible until its end.
async fn await_rows(client: &Client) -> anyhow::Result<()> {
    watch::until(client, Step::Inserted, SEED).await?;
    let size = async || -> anyhow::Result<i64> {
        Ok(client.query_one("SELECT pg_relation_size('bench.accounts')", &[]).await?.get(0))
    };
    let before = size().await?;
    wait::until("rows of the large transaction", PATIENCE, async || match size().await {
        Ok(now) if now - before > GROWTH => Ok(()),
        Ok(now) => Err(format!("{} bytes", now - before)),
        Err(error) => Err(format!("{error:#}")),
    })
    .await
}

/// Waits until every replica has so many small transactions.
async fn await_transactions(system: &System, numbering: Numbering, wanted: usize) -> anyhow::Result<()> {
    for server in 1..=REPLICAS {
        let client = system.connect(server, DATABASE).await?;
        wait::until(
            &format!("{} to have {wanted} transactions", server_name(server)),
            PATIENCE,
            async || {
                let row = client.query_one("SELECT max(id) FROM bench.accounts", &[]).await;
                let found = numbering.of_key(row.map_err(|error| error.to_string())?.get(0));
                if found >= wanted { Ok(()) } else { Err(format!("{found}")) }
            },
        )
        .await?;
    }
    Ok(())
}

/// Topics that a replicator reads with empty replicas.
struct Backlog<'a> {
    system: &'a System,
    options: &'a Options,
    prefix: &'a str,
    rows: i64,
}

impl Backlog<'_> {
    /// The replicator goes on running.
    async fn read(&self) -> anyhow::Result<(Daemon, Reading)> {
        let (daemon, started) = self.start().await?;
        let moments = await_large(self.system, self.rows).await?;
        Self::reading(daemon, started, moments)
    }

    /// The same, with one server frozen as soon as it has received rows of the large transaction.
    async fn read_frozen(&self) -> anyhow::Result<(Daemon, Reading)> {
        let (daemon, started) = self.start().await?;
        let freeze = async {
            let client = self.system.connect(FROZEN, DATABASE).await?;
            await_rows(&client).await?;
            self.system.service("pause", &server_name(FROZEN)).await?;
            sleep(Duration::from_secs(self.options.freeze_seconds)).await;
            self.system.service("resume", &server_name(FROZEN)).await
        };
        let (moments, ()) = tokio::try_join!(await_large(self.system, self.rows), freeze)?;
        Self::reading(daemon, started, moments)
    }

    async fn start(&self) -> anyhow::Result<(Daemon, Instant)> {
        for server in 1..=REPLICAS {
            self.system.reset(server).await?;
        }
        let started = Instant::now();
        let daemon =
            Daemon::start(self.system, &self.options.replicator, Source::Topics(self.prefix), REPLICAS)?;
        Ok((daemon, started))
    }

    fn reading(
        daemon: Daemon,
        started: Instant,
        moments: [Instant; REPLICAS],
    ) -> anyhow::Result<(Daemon, Reading)> {
        let seconds = moments.map(|at| (at - started).as_secs_f64());
        let peak_memory_mib = daemon.peak_memory_mib()?;
        Ok((daemon, Reading { peak_memory_mib, seconds }))
    }
}

fn figures(seen: &Seen, commits: &[Commit]) -> anyhow::Result<Live> {
    let readable = *seen.readable.get(&seen.xid).context("see the large transaction's END")?;
    let visible: Vec<_> = seen.sights.iter().map(|sights| lag::visible(sights, commits.len())).collect();
    let windows = [
        ("before", seen.watched..seen.began),
        ("beside", seen.began..seen.visible),
        ("behind", seen.visible..seen.ended),
    ];
    let mut parts = Vec::new();
    for (name, window) in windows {
        let lags =
            visible.iter().flat_map(|visible| lag::lags(commits, visible, &window, |commit| Some(commit.at)));
        let end = |commit: &Commit| seen.readable.get(&commit.xid).copied();
        let own = visible.iter().flat_map(|visible| lag::lags(commits, visible, &window, end));
        if let (Some(lag), Some(own)) = (Percentiles::of(lags), Percentiles::of(own)) {
            parts.push(Part { name, lag, own });
        }
    }
    Ok(Live {
        peak_memory_mib: seen.peak_memory_mib,
        statement_seconds: (seen.committed - seen.began).as_secs_f64(),
        readable_seconds: milliseconds(seen.committed, readable) / 1e3,
        own_seconds: milliseconds(readable, seen.visible) / 1e3,
        parts,
    })
}
