use jiff::Timestamp;

use super::*;
use crate::model::lsn::Lsn;
use crate::model::status::{Behind, Sample};

fn leader() -> LeaderFacts {
    LeaderFacts {
        position: Lsn(100),
        in_recovery: false,
        wal_level: "logical".to_owned(),
        row_changes: 0,
        unpublished: vec![],
        publication: Some("cdc".to_owned()),
        keep_bytes: Some(1000),
        slots: vec![SlotFacts {
            name: "replicator".to_owned(),
            active: true,
            wal_status: "reserved".to_owned(),
            retained: Some(10),
            safe: Some(990),
        }],
    }
}

fn facts() -> ReplicaFacts {
    ReplicaFacts {
        state: "live".to_owned(),
        watermark: Lsn(100),
        committed_at: None,
        applied_at: None,
        transactions: 1,
        changes: 1,
        owner: Some("a daemon".to_owned()),
        owner_lives: true,
        paused: None,
        quarantined: 0,
        diverged: vec![],
        offsets: std::collections::BTreeMap::new(),
        clock_ahead_ms: 0,
    }
}

fn seen<T>(answer: Result<T, &str>) -> Seen<T> {
    let mut seen = Seen::not_yet();
    seen.update(answer.map_err(str::to_owned), Timestamp::UNIX_EPOCH);
    seen
}

fn replica(answer: Result<ReplicaFacts, &str>, seconds: u64) -> ReplicaSample {
    let time = Duration::from_secs(seconds);
    ReplicaSample {
        name: "replica-1".to_owned(),
        facts: seen(answer),
        rotation: Ok(()),
        behind: Some(Behind { time, changes: Some(5), bytes: 10 }),
        rate: None,
        rates: vec![],
    }
}

fn context() -> Context<'static> {
    Context { lag_slo: Duration::from_secs(5), start: &|service| format!("start {service}"), connector: None }
}

/// The level of one check, and the whole of it for the message.
fn level_of(checks: &[Check], slug: &str) -> Level {
    checks.iter().find(|check| check.slug == slug).unwrap_or_else(|| panic!("no {slug} in {checks:?}")).level
}

fn of_leader(facts: LeaderFacts) -> Vec<Check> {
    judge(&seen(Ok(facts)), None, None, None, &[], &context())
}

fn of_replica(sample: ReplicaSample, worker: Option<WorkerFacts>) -> Vec<Check> {
    let workers = seen(Ok(ReplicatorFacts { replicas: worker.into_iter().collect(), topics: vec![] }));
    judge(&seen(Ok(leader())), Some(&workers), None, None, &[sample], &context())
}

#[test]
fn a_healthy_system_has_nothing_to_say() {
    let checks = of_replica(replica(Ok(facts()), 0), None);
    assert!(checks.iter().all(|check| check.level == Level::Ok && check.cause.is_none()), "{checks:?}");
    let slugs: Vec<&str> = checks.iter().map(|check| check.slug.as_str()).collect();
    assert_eq!(
        slugs,
        [
            "leader-reachable",
            "leader-wal-level",
            "leader-publication",
            "slot-replicator",
            "slot-replicator-headroom",
            "replicator",
            "replica-1-applying",
            "replica-1-lag",
            "replica-1-quarantine",
        ]
    );
}

#[test]
fn a_database_that_is_down_is_named_with_the_command_that_starts_it() {
    let checks =
        judge(&seen(Err("can't be reached")), None, None, None, &[replica(Err("is slow"), 0)], &context());
    let fixes: Vec<_> = checks.iter().map(|check| (check.level, check.fix.clone().unwrap())).collect();
    assert_eq!(
        fixes,
        [(Level::Error, "start leader".to_owned()), (Level::Error, "start replica-1".to_owned())]
    );
}

#[test]
fn each_thing_that_can_be_wrong_with_the_leader_is_seen() {
    let with = |change: &dyn Fn(&mut LeaderFacts)| {
        let mut facts = leader();
        change(&mut facts);
        of_leader(facts)
    };
    let level = |change: &dyn Fn(&mut LeaderFacts), slug| level_of(&with(change), slug);
    assert_eq!(level(&|f| f.in_recovery = true, "leader-reachable"), Level::Error);
    assert_eq!(level(&|f| f.wal_level = "replica".to_owned(), "leader-wal-level"), Level::Error);
    assert_eq!(level(&|f| f.publication = None, "leader-publication"), Level::Error);
    assert_eq!(level(&|f| f.unpublished = vec!["t".to_owned()], "leader-publication"), Level::Warn);
    assert_eq!(level(&|f| f.slots.clear(), "slot"), Level::Init);
    assert_eq!(level(&|f| f.slots[0].active = false, "slot-replicator"), Level::Error);
    assert_eq!(level(&|f| f.slots[0].wal_status = "lost".to_owned(), "slot-replicator"), Level::Error);
    for (safe, expected) in
        [(300, Level::Ok), (250, Level::Warn), (110, Level::Warn), (100, Level::Error), (-5, Level::Error)]
    {
        assert_eq!(
            level(&|f| f.slots[0].safe = Some(safe), "slot-replicator-headroom"),
            expected,
            "{safe} left"
        );
    }
    assert_eq!(level(&|f| f.keep_bytes = None, "slot-replicator-headroom"), Level::Ok);
}

#[test]
fn lag_is_judged_by_what_is_promised() {
    for (seconds, expected) in
        [(0, Level::Ok), (5, Level::Ok), (6, Level::Warn), (10, Level::Warn), (11, Level::Error)]
    {
        let checks = of_replica(replica(Ok(facts()), seconds), None);
        assert_eq!(level_of(&checks, "replica-1-lag"), expected, "{seconds} s behind");
    }
    let unknown = ReplicaSample { behind: None, ..replica(Ok(facts()), 0) };
    assert_eq!(level_of(&of_replica(unknown, None), "replica-1-lag"), Level::Unknown, "unknown is not well");
}

#[test]
fn the_states_of_a_replica_are_told_apart() {
    let with = |change: &dyn Fn(&mut ReplicaFacts)| {
        let mut facts = facts();
        change(&mut facts);
        of_replica(replica(Ok(facts), 0), None)
    };
    let level = |change: &dyn Fn(&mut ReplicaFacts), slug| level_of(&with(change), slug);
    let applying = "replica-1-applying";
    assert_eq!(
        level(&|f| f.paused = Some((Timestamp::UNIX_EPOCH, "me".to_owned())), applying),
        Level::Paused
    );
    assert_eq!(level(&|f| f.state = "copying".to_owned(), applying), Level::Init);
    assert_eq!(level(&|f| f.state = "degraded".to_owned(), applying), Level::Warn);
    assert_eq!(level(&|f| f.owner_lives = false, applying), Level::Error);
    assert_eq!(level(&|f| f.quarantined = 2, "replica-1-quarantine"), Level::Error);
    assert_eq!(level(&|f| f.clock_ahead_ms = -2000, "replica-1-clock"), Level::Warn);
}

#[test]
fn a_drained_replica_is_no_failure() {
    let drained =
        ReplicaSample { rotation: Err(crate::model::status::DRAINED.to_owned()), ..replica(Ok(facts()), 0) };
    assert_eq!(drained.state(), (Level::Paused, "Drained"));
    assert_eq!(level_of(&of_replica(drained, None), "replica-1-rotation"), Level::Paused);
}

#[test]
fn the_worker_tells_the_cause_and_the_way_out() {
    let worker = WorkerFacts {
        name: "replica-1".to_owned(),
        state: "halted".to_owned(),
        cause: Some("column x is missing".to_owned()),
        hint: Some("add it".to_owned()),
        waiting_for: None,
        lane: None,
        restarts: 1,
    };
    let checks = of_replica(replica(Ok(facts()), 0), Some(worker));
    let check = checks.iter().find(|check| check.slug == "replica-1-applying").unwrap();
    assert_eq!((check.cause.as_deref(), check.fix.as_deref()), (Some("Column x is missing"), Some("add it")));
}

#[test]
fn a_running_connector_with_a_failed_task_does_not_run() {
    let judge = |facts| judge(&seen(Ok(leader())), None, Some(&seen(facts)), None, &[], &context());
    let with = |task: &str| {
        let tasks = vec![(task.to_owned(), Some("no such slot".to_owned()))];
        Ok(ConnectorFacts { state: "RUNNING".to_owned(), tasks })
    };
    assert_eq!(level_of(&judge(with("RUNNING")), "connector"), Level::Ok);
    assert_eq!(level_of(&judge(with("FAILED")), "connector"), Level::Error);
    assert_eq!(level_of(&judge(Err("did not answer")), "connector"), Level::Error);
    let paused = Ok(ConnectorFacts { state: "PAUSED".to_owned(), tasks: vec![] });
    assert_eq!(level_of(&judge(paused), "connector"), Level::Paused);
}

#[test]
fn the_way_out_names_the_configured_address() {
    let address = "http://connect.internal:18083/connectors/orders";
    let context = Context { connector: Some(address), ..context() };
    let fix = |state: &str, task: &str| {
        let tasks = vec![(task.to_owned(), None)];
        let facts = ConnectorFacts { state: state.to_owned(), tasks };
        let checks = judge(&seen(Ok(leader())), None, Some(&seen(Ok(facts))), None, &[], &context);
        checks.into_iter().find(|check| check.slug == "connector").unwrap().fix.unwrap()
    };
    assert_eq!(fix("PAUSED", "PAUSED"), format!("curl -X PUT '{address}/resume'"));
    let restart = format!("curl -X POST '{address}/restart?includeTasks=true&onlyFailed=true'");
    assert_eq!((fix("RUNNING", "FAILED"), fix("FAILED", "RUNNING")), (restart.clone(), restart));
}

#[test]
fn what_can_be_ended_comes_before_what_only_follows() {
    let idle =
        LeaderFacts { slots: vec![SlotFacts { active: false, ..leader().slots[0].clone() }], ..leader() };
    let (leader, replicator) = (seen(Ok(idle)), seen(Err("Nothing listens there.")));
    let replicas = vec![replica(Ok(facts()), 0)];
    let sample = Sample {
        seq: 1,
        at: Timestamp::UNIX_EPOCH,
        checks: judge(&leader, Some(&replicator), None, None, &replicas, &context()),
        leader,
        leader_rate: None,
        replicator: Some(replicator),
        connector: None,
        broker: None,
        replicas,
    };
    let slugs: Vec<&str> = sample.complaints().iter().map(|check| check.slug.as_str()).collect();
    assert_eq!(slugs, ["replicator", "slot-replicator"]);
    assert_eq!(sample.pill(), (Level::Error, "Replicator down".to_owned()));
}
