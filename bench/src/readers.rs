//! `readers`: reads over HTTP, spread over three replicas, beside the same statements straight on one of them.
//!
//! - *reads*: requests per second, latency and CPU of reads of a row, of a post with its comments and of lists, by the number of
//!   connections;
//! - *demo*: a sequential run of the demo beside one pgbench client that makes the same reads;
//! - *memory*: of the web application, after more and more requests.

mod http;
mod load;
mod report;
mod straight;
mod web;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use crate::environment::Environment;
use crate::peers::carrier::{Carrier, Carrying};
use crate::peers::servers;
use crate::peers::stage::Stage;
use crate::peers::subscriptions::Start;
use crate::peers::usage::Usage;
use crate::process;
use crate::system::{System, server_name};

use http::Connection;
use load::{Question, Until};
use straight::Script;
use web::Web;

/// Reads before anything is measured: connections, prepared statements and caches are there after them.
const WARMING: i64 = 2_000;

/// Options of `readers`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Connections that ask at the same time.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    connections: Vec<u64>,
    /// What is read: a row, a post with its comments and likes, a list.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "row,post,list")]
    reads: Vec<Workload>,
    /// Seconds for which each is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Times that everything is measured; reports have the median and the range.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Posts to read from.
    #[arg(long, default_value_t = 10_000)]
    posts: u64,
    /// Reads of a demo run.
    #[arg(long, default_value_t = 1000)]
    demo_reads: u64,
    /// Requests at whose end the web application's memory is looked at, and at a quarter and a half of them; 0 leaves that out.
    #[arg(long, default_value_t = 1_000_000)]
    requests: i64,
    /// The replicator's program.
    #[arg(long, env = "BENCH_REPLICATOR")]
    replicator: PathBuf,
    #[command(flatten)]
    web: web::Settings,
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Workload {
    /// A post alone.
    Row,
    /// A post with its comments and likes.
    Post,
    /// The newest posts.
    List,
}

impl Workload {
    fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Post => "post",
            Self::List => "list",
        }
    }

    fn question(self, posts: u64) -> Question {
        match self {
            Self::Row => Question::Row { posts },
            Self::Post => Question::Post { posts },
            Self::List => Question::List,
        }
    }

    /// pgbench's own read is one of a row, so it is beside those.
    fn ways(self) -> &'static [Way] {
        match self {
            Self::Row => &[Way::Web, Way::Pgbench, Way::SelectOnly, Way::SelectPrepared],
            Self::Post | Self::List => &[Way::Web, Way::Pgbench],
        }
    }
}

/// How a read gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Way {
    /// Over HTTP, from any of three replicas.
    #[serde(rename = "web")]
    Web,
    /// The same statement by pgbench, from one replica.
    #[serde(rename = "pgbench")]
    Pgbench,
    /// pgbench's own read of one column, in the protocol that it takes unless told otherwise.
    #[serde(rename = "pgbench -S")]
    SelectOnly,
    /// The same, prepared.
    #[serde(rename = "pgbench -S -M prepared")]
    SelectPrepared,
}

/// One measurement of reads.
#[derive(Debug, Clone, Serialize)]
struct Reads {
    workload: Workload,
    way: Way,
    connections: u64,
    per_second: f64,
    /// Milliseconds.
    p50: f64,
    p99: f64,
    /// Microseconds of CPU for each read, by part.
    cpu: Cpu,
}

/// Microseconds of CPU for each read.
#[derive(Debug, Clone, Copy, Serialize)]
struct Cpu {
    web: f64,
    replicas: f64,
    /// Whoever makes the requests: this process, or pgbench.
    generator: f64,
    /// The leader and the replicator, which have nothing to do.
    others: f64,
}

/// One demo run, and the same reads by one pgbench client.
#[derive(Debug, Clone, Serialize)]
struct Demo {
    /// Server time of the run, in milliseconds, and of pgbench's reads.
    web_ms: f64,
    pgbench_ms: f64,
    /// Of one read, in milliseconds.
    web_p50: f64,
    pgbench_p50: f64,
}

/// The web application's memory in MiB.
#[derive(Debug, Clone, Serialize)]
struct Memory {
    requests: i64,
    resident: f64,
    peak: f64,
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
struct Figures {
    reads: Vec<Reads>,
    demo: Vec<Demo>,
    memory: Vec<Memory>,
}

/// Runs the scenario and writes its report.
pub(crate) async fn run(system: &System, options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.seconds > 0 && options.repeat > 0 && options.posts > 0 && options.demo_reads > 0,
        "--seconds, --repeat, --posts and --demo-reads must be above 0"
    );
    ensure!(options.connections.iter().all(|&count| count > 0), "--connections must be above 0");
    let environment = Environment::without_broker(system, &options.replicator).await?;
    let stage = Stage::new(system, &options.replicator);
    let carrying = begin(&stage, options.posts).await?;
    let replicator = carrying.daemon().context("find the replicator")?.url().to_owned();
    let web = Web::start(system, &options.web, &replicator).await?;
    straight::prepare(system).await?;
    let bench = Bench { system, options, stage, carrying: &carrying, web: &web };
    let figures = bench.measure().await?;
    web.stop().await?;
    carrying.stop().await?;
    report::write(system, options, environment, &figures)
}

/// Three replicas with as many posts as the leader, kept up to date by the replicator without a broker.
async fn begin<'a>(stage: &Stage<'a>, posts: u64) -> anyhow::Result<Carrying<'a>> {
    servers::prepare(stage, Carrier::Direct).await?;
    let fill = include_str!("../sql/posts.sql").replace("{posts}", &posts.to_string());
    stage.leader().await?.batch_execute(&fill).await.context("fill the posts")?;
    let mut carrying = Carrier::Direct.start(stage, Start::Copy).await?;
    carrying.await_live().await?;
    let count = "SELECT count(*) FROM public.posts";
    let wanted: i64 = stage.leader().await?.query_one(count, &[]).await?.get(0);
    for (index, client) in stage.replicas().await?.iter().enumerate() {
        client.batch_execute("VACUUM ANALYZE public.posts").await.context("vacuum the posts")?;
        let found: i64 = client.query_one(count, &[]).await?.get(0);
        ensure!(found == wanted, "{} has {found} of {wanted} posts", server_name(index + 1));
    }
    Ok(carrying)
}

/// What is measured, and with what.
struct Bench<'a> {
    system: &'a System,
    options: &'a Options,
    stage: Stage<'a>,
    carrying: &'a Carrying<'a>,
    web: &'a Web,
}

impl Bench<'_> {
    async fn measure(&self) -> anyhow::Result<Figures> {
        let mut figures = Figures::default();
        let (fresh, fresh_peak) = self.web.memory_mib()?;
        for &workload in &self.options.reads {
            let question = workload.question(self.options.posts);
            load::run(self.web.port(), question, 8, Until::Requests(WARMING)).await?;
        }
        for _ in 0..self.options.repeat {
            for &connections in &self.options.connections {
                for &workload in &self.options.reads {
                    for &way in workload.ways() {
                        let what = format!("{}, {way:?}, {connections} connections", workload.name());
                        let reads = self.reads(workload, way, connections).await;
                        let reads = reads.with_context(|| what.clone())?;
                        println!("{what}: {:.0}/s", reads.per_second);
                        figures.reads.push(reads);
                    }
                }
            }
            figures.demo.push(self.demo().await?);
        }
        if self.options.requests > 0 {
            figures.memory.push(Memory { requests: 0, resident: fresh, peak: fresh_peak });
            figures.memory.extend(self.memory(Workload::Row.question(self.options.posts)).await?);
        }
        Ok(figures)
    }

    async fn reads(&self, workload: Workload, way: Way, connections: u64) -> anyhow::Result<Reads> {
        let time = Duration::from_secs(self.options.seconds);
        let question = workload.question(self.options.posts);
        let script = match (way, workload) {
            (Way::SelectOnly, _) => Script::SelectOnly,
            (Way::SelectPrepared, _) => Script::SelectPrepared,
            (_, Workload::Row) => Script::Row,
            (_, Workload::Post) => Script::Post,
            (_, Workload::List) => Script::List,
        };
        let before = self.used()?;
        let (requests, per_second, latency) = if way == Way::Web {
            let load = load::run(self.web.port(), question, connections, Until::Time(time)).await?;
            (load.requests, load.requests / load.seconds, load.latency)
        } else {
            let (figures, latency) =
                straight::for_time(self.system, script, self.options.posts, connections, time).await?;
            (figures.transactions, figures.tps, latency)
        };
        let cpu = self.used()?.since(&before, requests);
        Ok(Reads { workload, way, connections, per_second, p50: latency.p50, p99: latency.p99, cpu })
    }

    async fn demo(&self) -> anyhow::Result<Demo> {
        let reads = self.options.demo_reads;
        let mut connection = Connection::open(self.web.port()).await?;
        let path = format!("/api/demo?reads={reads}&in_flight=1");
        let run: Value =
            serde_json::from_slice(connection.get(&path).await?.body).context("read the demo's answer")?;
        ensure!(
            run["done"] == reads && run["errors"] == 0 && run["mismatches"] == 0,
            "the demo's run: {} reads, {} errors, {} answers from others than believed",
            run["done"],
            run["errors"],
            run["mismatches"]
        );
        let milliseconds = |value: &Value| value.as_f64().context("read a time of the demo");
        let (figures, latency) = straight::times(self.system, Script::Demo, reads).await?;
        Ok(Demo {
            web_ms: milliseconds(&run["elapsed_ms"])?,
            pgbench_ms: figures.transactions / figures.tps * 1e3,
            web_p50: milliseconds(&run["milliseconds"]["p50"])?,
            pgbench_p50: latency.p50,
        })
    }

    /// The peak is of the whole run until then.
    async fn memory(&self, question: Question) -> anyhow::Result<Vec<Memory>> {
        let all = self.options.requests;
        let mut found = Vec::new();
        let mut made = 0;
        for goal in [all / 4, all / 2, all] {
            load::run(self.web.port(), question, 8, Until::Requests(goal - made)).await?;
            made = goal;
            let (resident, peak) = self.web.memory_mib()?;
            println!("after {made} requests: {resident:.1} MiB");
            found.push(Memory { requests: made, resident, peak });
        }
        Ok(found)
    }

    fn used(&self) -> anyhow::Result<Used> {
        Ok(Used {
            servers: Usage::now(&self.stage, Carrier::Direct, self.carrying.daemon(), &[])?,
            web: self.web.cpu_seconds()?,
            // pgbench is counted with this process as soon as it has ended; the web application, which runs on, is not.
            generator: process::own_cpu_seconds(std::process::id())?,
        })
    }
}

/// CPU so far.
struct Used {
    servers: Usage,
    web: f64,
    generator: f64,
}

impl Used {
    fn since(&self, earlier: &Self, reads: f64) -> Cpu {
        let servers = self.servers.since(&earlier.servers, reads);
        let of = |part| servers.get(part).copied().unwrap_or_default();
        let each = |now: f64, before: f64| (now - before) * 1e6 / reads;
        Cpu {
            web: each(self.web, earlier.web),
            replicas: of("replicas"),
            generator: each(self.generator, earlier.generator),
            others: of("all") - of("replicas"),
        }
    }
}
