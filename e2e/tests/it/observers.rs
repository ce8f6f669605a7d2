//! The load, the comparison and the observers, tried on PostgreSQL's own logical replication: what is known to be right
//! passes, and what is known to be wrong is seen.

use std::time::Duration;

use e2e::compare::{self, contents};
use e2e::load::{self, Plan};
use e2e::observe::{self, Invariants, Progress, Reader};
use e2e::postgres::{Cluster, Role};
use e2e::wait;
use tokio_postgres::Client;

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_replication_of_the_load_passes_every_check_and_a_fault_fails_them() {
    let leader = Cluster::leader().await.unwrap();
    let replica = Cluster::replica("native").await.unwrap();
    let source = leader.connect(Role::Superuser).await.unwrap();
    let target = replica.connect(Role::Superuser).await.unwrap();
    target.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    let connection = format!(
        "host=127.0.0.1 port={} dbname=app user=postgres password={}",
        leader.port(),
        Role::Superuser.password()
    );
    target
        .batch_execute(&format!("CREATE SUBSCRIPTION native CONNECTION '{connection}' PUBLICATION cdc"))
        .await
        .unwrap();
    until_equal(&source, &target).await.unwrap();

    load::prepare(&leader.url(Role::AppWriter)).await.unwrap();
    until_equal(&source, &target).await.unwrap();
    let invariants = Invariants::of_the_demo();
    let observer = observe::snapshots(&replica.url(Role::AppReader), Duration::from_millis(1), &invariants);
    let plan = Plan { transactions: 600, rate: None, seed: 1 };
    let report = load::start(&leader.url(Role::AppWriter), plan).unwrap().finish().await.unwrap();
    assert_eq!(report.transactions, 600);
    until_equal(&source, &target).await.unwrap();
    let seen = observer.finish().await.unwrap();
    println!(
        "{} snapshots in {:?}, {} of them with all invariants",
        seen.reads, report.duration, seen.full_reads
    );
    assert!(seen.reads > 50 && seen.full_reads > 0, "{seen:?}");
    assert_eq!(seen.violations, Vec::<String>::new());

    // Each fault is seen by the check that exists for it.
    let faults = [
        ("UPDATE accounts SET balance = balance + 0.01 WHERE id = 1", "off by 0.01"),
        (
            "UPDATE accounts SET balance = balance + CASE id WHEN 1 THEN 1 ELSE -1 END WHERE id IN (1, 2)",
            "2 rows contradict",
        ),
        ("DELETE FROM posts WHERE id IN (SELECT post_id FROM comments LIMIT 1)", "contradict"),
    ];
    for (fault, expected) in faults {
        target.batch_execute("BEGIN; SET LOCAL session_replication_role = replica").await.unwrap();
        target.batch_execute(fault).await.unwrap();
        let reader = Reader::new(&target, &invariants).await.unwrap();
        let violations = reader.read(true, &mut Progress::default()).await.unwrap();
        assert!(violations.iter().any(|text| text.contains(expected)), "{fault}: {violations:?}");
        let differences = contents(&source).await.unwrap().differences(&contents(&target).await.unwrap());
        assert_eq!(differences.len(), 1, "{fault}: {differences:?}");
        target.batch_execute("ROLLBACK").await.unwrap();
    }
}

async fn until_equal(source: &Client, target: &Client) -> anyhow::Result<()> {
    wait::until("the replica to equal the leader", SOON, async || {
        let (left, right) = (contents(source).await, contents(target).await);
        let (left, right) =
            (left.map_err(|error| error.to_string())?, right.map_err(|error| error.to_string())?);
        let differences = compare::Contents::differences(&left, &right);
        if differences.is_empty() { Ok(()) } else { Err(format!("{differences:?}")) }
    })
    .await
}

#[tokio::test]
async fn the_lag_observer_measures_age_and_standstill() {
    let replica = Cluster::replica("replica-1").await.unwrap();
    let owner = replica.connect(Role::Replicator).await.unwrap();
    owner.batch_execute("UPDATE replicator.checkpoint SET watermark = '0/20', committed_at = clock_timestamp() - interval '5 s'").await.unwrap();
    let observer = observe::lag(&replica.url(Role::AppReader));
    wait_a_little(700).await;
    owner.batch_execute("UPDATE replicator.checkpoint SET watermark = '0/10'").await.unwrap();
    wait_a_little(300).await;
    let lag = observer.finish().await.unwrap();
    assert!(lag.ages_ms.len() >= 5, "{lag:?}");
    assert!(lag.quantile_ms(0.0) >= 5000.0 && lag.quantile_ms(1.0) < 15_000.0, "{lag:?}");
    assert!(lag.longest_pause >= Duration::from_millis(500), "{lag:?}");
    assert!(lag.went_back >= 1, "{lag:?}");
}

/// The passing of time is the thing under test here.
async fn wait_a_little(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
