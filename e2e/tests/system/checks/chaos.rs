//! Everything at once: transfers and a lab of random tables on the leader, two replicators, and faults of every part.
//! Snapshots are read on every replica all the time, and at the end everything is equal.
//!
//! `scripts/chaos.sh` runs it alone on a fresh system, for as long as it is told.

mod attack;
mod daemons;
mod disk;
mod fault;

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::lab::{self, Lab, Written};
use e2e::load::{self, Pace, Report};
use e2e::observe::{self, Invariants, Lag, Marks, Observer, Snapshots};

use self::attack::Attack;
use self::daemons::Daemons;
use self::disk::SmallDisk;
use crate::settings;
use crate::system::{Login, REPLICAS, System};
use crate::tables::{self, Tables};

/// Between two snapshots of one observer.
const READ_PAUSE: Duration = Duration::from_millis(15);

/// Between two transactions of one of the lab's writers.
const WRITE_PAUSE: Duration = Duration::from_millis(60);

const WRITERS: u64 = 2;

/// Between two marks.
const MARK_PAUSE: Duration = Duration::from_millis(50);

/// How long the replicas may take for what is left when the last fault is healed.
const CATCH_UP: Duration = Duration::from_secs(600);

pub(super) async fn survives(system: Rc<System>) -> anyhow::Result<()> {
    let minutes: f64 = settings::number("E2E_CHAOS_MINUTES", 2.0)?;
    let seed = settings::seed()?;
    let outcome = run(&system, seed, Duration::from_secs_f64(minutes * 60.0)).await;
    if outcome.is_err() {
        keep_logs(&system, seed)?;
    }
    outcome
}

async fn run(system: &Rc<System>, seed: u64, duration: Duration) -> anyhow::Result<()> {
    let lab = Lab::new(seed);
    let disk = SmallDisk::mount()
        .inspect_err(|error| println!("  no disk can be filled here, so this fault is left out: {error:#}"))
        .ok();
    prepare(system, &lab, disk.as_ref()).await?;
    let daemons = Daemons::start(system).await?;
    system.assert_equal().await.context("before the first fault")?;

    let attack = Rc::new(Attack::new(Rc::clone(system), daemons, disk));
    let traffic = Traffic::start(system, &lab, seed)?;
    attack.run(seed, Instant::now() + duration).await?;
    let result = judge(system, &lab, &attack, traffic).await;
    tear_down(system, &attack).await.context("put the system back")?;
    result
}

/// Makes the tables of the lab and of the load.
async fn prepare(system: &System, lab: &Lab, disk: Option<&SmallDisk>) -> anyhow::Result<()> {
    if let Some(disk) = disk {
        let replica = system.repair(REPLICAS[2]).await?;
        let location = disk.location().display().to_string();
        replica.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{location}'")).await?;
        replica.batch_execute("GRANT CREATE ON TABLESPACE small TO replicator").await?;
        replica.batch_execute("ALTER DATABASE app SET default_tablespace = small").await?;
    }
    let create = lab.create();
    let tables = Tables {
        leader: format!("{create} {}", lab.on_leader()),
        replica: format!("{create} {}", lab.on_replica()),
    };
    tables::follow(system, &tables).await?;
    system.connect("leader", Login::Owner).await?.batch_execute(&lab.first_rows()).await?;
    load::prepare(&system.database_url("leader", Login::Writer)?).await
}

/// What runs beside the faults.
struct Traffic {
    started: Instant,
    logs: Logs,
    load: Observer<Report>,
    writers: Vec<Observer<Written>>,
    marker: Observer<u64>,
    snapshots: Vec<Observer<Snapshots>>,
    lags: Vec<Observer<Lag>>,
}

impl Traffic {
    fn start(system: &System, lab: &Lab, seed: u64) -> anyhow::Result<Self> {
        let rate: u32 = settings::number("E2E_CHAOS_RATE", 60)?;
        let owner = system.database_url("leader", Login::Owner)?;
        let marks = Marks::default();
        let invariants = Invariants::of_the_demo().with(lab.invariant()).with_marks(&marks);
        let urls = REPLICAS.iter().map(|name| system.database_url(name, Login::Reader));
        let urls = urls.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self {
            started: Instant::now(),
            logs: Logs::begin(system),
            load: load::endure(&system.database_url("leader", Login::Writer)?, Pace { rate, seed }),
            writers: (0..WRITERS).map(|number| lab::write(&owner, lab, number, WRITE_PAUSE)).collect(),
            marker: observe::mark(&owner, MARK_PAUSE, &marks),
            snapshots: urls.iter().map(|url| observe::snapshots(url, READ_PAUSE, &invariants)).collect(),
            lags: urls.iter().map(|url| observe::lag(url)).collect(),
        })
    }
}

/// Ends the traffic, waits for the replicas, and says what was seen; an error when anything of it is wrong.
async fn judge(system: &System, lab: &Lab, attack: &Attack, traffic: Traffic) -> anyhow::Result<()> {
    let mut written = Written::default();
    for writer in traffic.writers {
        let one = writer.finish().await.context("write the lab's transactions")?;
        written.committed += one.committed;
        written.aborted += one.aborted;
        written.unknown += one.unknown;
    }
    let marks = traffic.marker.finish().await.context("make the marks")?;
    let transfers = traffic.load.finish().await.context("run the load")?;
    let duration = traffic.started.elapsed();
    attack.daemons.demand_both().await?;
    let drained = system.await_replicas_for(CATCH_UP).await;

    let (mut reads, mut full_reads, mut violations) = (0, 0, Vec::new());
    for (name, observer) in REPLICAS.iter().zip(traffic.snapshots) {
        let seen = observer.finish().await.with_context(|| format!("observe {name}"))?;
        reads += seen.reads;
        full_reads += seen.full_reads;
        violations.extend(seen.violations.into_iter().map(|text| format!("{name}: {text}")));
    }
    println!("  duration: {duration:.0?}");
    println!(
        "  written: {} transactions of the load, {} of the lab, {} rolled back and {} cut short, {marks} marks",
        transfers.transactions, written.committed, written.aborted, written.unknown
    );
    println!("  faults injected: {} ({})", attack.tally.borrow().total(), attack.tally.borrow());
    println!(
        "  the other replicator took over {} times; the connector's task was restarted {} times",
        attack.takeovers.get(),
        attack.restarts.get()
    );
    println!("  snapshots checked: {reads}, {full_reads} of them with all invariants");
    println!("  violations: {}", violations.len());
    violations.iter().take(10).for_each(|violation| println!("    {violation}"));
    for (name, observer) in REPLICAS.iter().zip(traffic.lags) {
        let lag = observer.finish().await.with_context(|| format!("sample {name}"))?;
        println!(
            "  {name}: lag p50 {:.1} s, p99 {:.1} s, max {:.1} s; longest standstill {:.1?}",
            lag.quantile_ms(0.5) / 1000.0,
            lag.quantile_ms(0.99) / 1000.0,
            lag.quantile_ms(1.0) / 1000.0,
            lag.longest_pause
        );
    }
    println!(
        "  a part worked again at most {:.1?} after the end of its fault, and every replica had everything {:.1?} after the last",
        attack.slowest.get(),
        drained?
    );

    let (contents, differences) = system.compare().await?;
    let (tables, rows) = contents.size();
    println!("  differences in {tables} tables with {rows} rows: {}", differences.len());
    differences.iter().take(10).for_each(|difference| println!("    {difference}"));
    let left_over = left_over(system, lab).await?;
    left_over.iter().for_each(|text| println!("    {text}"));
    let complaints = traffic.logs.complaints()?;
    println!("  panics and halts in the replicators' logs: {}", complaints.len());
    complaints.iter().take(10).for_each(|text| println!("    {text}"));
    ensure!(attack.tally.borrow().total() > 0 && reads > 0, "nothing was tried");
    ensure!(violations.is_empty(), "{} snapshots were wrong", violations.len());
    ensure!(differences.is_empty(), "{} tables differ", differences.len());
    ensure!(left_over.is_empty(), "rows are doubled or quarantined");
    ensure!(complaints.is_empty(), "a replicator panicked, or halted a replica");
    Ok(())
}

/// What the quarantine holds, and rows that a keyless table has too often.
async fn left_over(system: &System, lab: &Lab) -> anyhow::Result<Vec<String>> {
    let leader = system.connect("leader", Login::Owner).await?;
    let mut wrong = Vec::new();
    let (mut quarantined, mut doubled) = (0, 0);
    for name in REPLICAS {
        let replica = system.connect(name, Login::Owner).await?;
        let exists =
            replica.query_one("SELECT to_regclass('replicator.quarantine') IS NOT NULL", &[]).await?;
        if exists.get(0) {
            let row = replica.query_one("SELECT count(*) FROM replicator.quarantine", &[]).await?;
            quarantined += row.get::<_, i64>(0);
        }
        for table in lab.keyless() {
            let query = format!("SELECT count(*) FROM {table}");
            let here: i64 = replica.query_one(&query, &[]).await?.get(0);
            let there: i64 = leader.query_one(&query, &[]).await?.get(0);
            doubled += (here - there).max(0);
        }
    }
    println!("  in the quarantine: {quarantined}; duplicates in keyless tables: {doubled}");
    if quarantined > 0 {
        wrong.push(format!("{quarantined} rows sit in the quarantine"));
    }
    if doubled > 0 {
        wrong.push(format!("{doubled} rows of keyless tables are there twice"));
    }
    Ok(wrong)
}

/// The replicators' logs, and where they stood when the chaos began.
struct Logs(Vec<(PathBuf, usize)>);

impl Logs {
    fn begin(system: &System) -> Self {
        let folder = system.state().join("logs");
        let paths = ["replicator.log", "replicator-second.log"].map(|name| folder.join(name));
        Self(paths.map(|path| (path.clone(), fs::read(path).map_or(0, |text| text.len()))).to_vec())
    }

    /// Lines that tell of a panic, ever, or since then of a replica that was given up until somebody mends it: no fault of these
    /// leads there.
    fn complaints(&self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for (path, begin) in &self.0 {
            let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
            let since = String::from_utf8_lossy(text.get(*begin..).unwrap_or(&text));
            let is_halt = |line: &&str| line.contains("ERROR") && line.contains("halted");
            found.extend(since.lines().filter(is_halt).map(str::to_owned));
            let ever = String::from_utf8_lossy(&text);
            found.extend(ever.lines().filter(|line| line.contains("panicked")).map(str::to_owned));
        }
        Ok(found)
    }
}

/// One replicator, and no small disk.
async fn tear_down(system: &System, attack: &Attack) -> anyhow::Result<()> {
    if let Some(disk) = &attack.disk {
        system.service("stop", "replicator").await?;
        let replica = system.repair(REPLICAS[2]).await?;
        for statement in [
            "ALTER DATABASE app RESET default_tablespace",
            "ALTER TABLE ALL IN TABLESPACE small SET TABLESPACE pg_default",
            "ALTER INDEX ALL IN TABLESPACE small SET TABLESPACE pg_default",
            "CHECKPOINT",
        ] {
            replica.batch_execute(statement).await.with_context(|| statement.to_owned())?;
        }
        disk.remove_leftovers()?;
        replica.batch_execute("DROP TABLESPACE small").await.context("drop the tablespace")?;
    }
    attack.daemons.stop().await
}

/// Copies what a failed run leaves to where stopping the system does not delete it.
fn keep_logs(system: &System, seed: u64) -> anyhow::Result<()> {
    let kept = e2e::repository().join(".run").join(format!("chaos-{seed}"));
    fs::create_dir_all(&kept).context("make a folder for the logs")?;
    for entry in fs::read_dir(system.state().join("logs")).context("list the logs")? {
        let entry = entry?;
        fs::copy(entry.path(), kept.join(entry.file_name())).context("copy a log")?;
    }
    println!("  logs: {}", kept.display());
    Ok(())
}
