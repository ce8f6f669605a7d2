//! The rules: facts in, checks out.

use std::time::Duration;

use super::{Check, Group, Level};
use crate::model::status::facts::{
    ConnectorFacts, LeaderFacts, ReplicaFacts, ReplicatorFacts, Seen, SlotFacts, WorkerFacts,
};
use crate::model::status::{ReplicaSample, words};

/// Of what may be kept for a slot, how much is used when somebody should look, and when it is urgent. In percent.
const HEADROOM_WARN: i64 = 75;
const HEADROOM_ERROR: i64 = 90;

/// Clocks further apart make times of several servers meaningless.
const SKEW_MAX_MS: i64 = 1000;

/// What the rules need beside the facts.
pub struct Context<'a> {
    /// How far behind a replica may be.
    pub lag_slo: Duration,
    /// The command that starts a service.
    pub start: &'a dyn Fn(&str) -> String,
    /// The connector's address in Kafka Connect's REST interface; none where that is not configured.
    pub connector: Option<&'a str>,
}

impl Context<'_> {
    /// The call that does this to the connector; without its address, the script that knows it.
    fn connector_call(&self, method: &str, verb: &str) -> String {
        match self.connector {
            Some(address) => format!("curl -X {method} '{address}/{verb}'"),
            None => "scripts/register-connector.sh --restart-failed".to_owned(),
        }
    }

    fn restart_failed(&self) -> String {
        self.connector_call("POST", "restart?includeTasks=true&onlyFailed=true")
    }
}

/// Judges everything. Not yet dated.
pub fn judge(
    leader: &Seen<LeaderFacts>,
    replicator: Option<&Seen<ReplicatorFacts>>,
    connector: Option<&Seen<ConnectorFacts>>,
    broker: Option<&Seen<()>>,
    replicas: &[ReplicaSample],
    context: &Context<'_>,
) -> Vec<Check> {
    let mut checks = leader_checks(leader, context);
    checks.extend(connector.map(|seen| connector_check(seen, context)));
    checks.extend(broker.map(|seen| {
        match &seen.failure {
            None => Check::ok("broker", Group::Way, "The broker takes connections"),
            Some(why) => Check::not_ok(Level::Error, "broker", Group::Way, "The broker is down", why)
                .mended_by((context.start)("broker")),
        }
    }));
    checks.extend(replicator.map(|seen| replicator_check(seen, context)));
    for replica in replicas {
        let worker =
            replicator.and_then(Seen::now).and_then(|r| r.replicas.iter().find(|w| w.name == replica.name));
        checks.extend(replica_checks(replica, worker, context));
    }
    checks
}

fn leader_checks(leader: &Seen<LeaderFacts>, context: &Context<'_>) -> Vec<Check> {
    let group = Group::Leader;
    if let Some(why) = &leader.failure {
        let cause = format!("It {why}. Nothing can be written; reads go on.");
        let down = Check::not_ok(Level::Error, "leader-reachable", group, "The leader is down", cause);
        return vec![down.mended_by((context.start)("leader"))];
    }
    let Some(facts) = leader.now() else {
        return vec![Check::not_ok(
            Level::Init,
            "leader-reachable",
            group,
            "The leader",
            "Not looked at yet.",
        )];
    };
    let mut checks = vec![if facts.in_recovery {
        let cause = "It is a standby. Point leader.url at the server that takes writes.";
        Check::not_ok(Level::Error, "leader-reachable", group, "The leader takes no writes", cause)
    } else {
        Check::ok("leader-reachable", group, "The leader takes writes")
    }];
    checks.push(if facts.wal_level == "logical" {
        Check::ok("leader-wal-level", group, "Its log carries rows (wal_level = logical)")
    } else {
        let cause = format!("wal_level is {}: changes can't be read from the log.", facts.wal_level);
        Check::not_ok(Level::Error, "leader-wal-level", group, "wal_level is not logical", cause)
            .mended_by("psql -c 'ALTER SYSTEM SET wal_level = logical'   # then restart the leader")
    });
    checks.push(publication_check(facts));
    checks.extend(slot_checks(facts, context));
    checks
}

fn publication_check(facts: &LeaderFacts) -> Check {
    let slug = "leader-publication";
    match (&facts.publication, facts.unpublished.as_slice()) {
        (None, _) => Check::not_ok(
            Level::Error,
            slug,
            Group::Leader,
            "There is no publication",
            "Without one, no change leaves the leader.",
        )
        .mended_by("psql -c 'CREATE PUBLICATION replicator FOR ALL TABLES'"),
        (Some(_), []) => Check::ok(slug, Group::Leader, "Every table is published"),
        (Some(name), tables) => {
            let cause = format!("Changes of {} stay on the leader.", tables.join(", "));
            Check::not_ok(Level::Warn, slug, Group::Leader, "Some tables are not published", cause)
                .mended_by(format!("psql -c 'ALTER PUBLICATION {name} ADD TABLE {}'", tables.join(", ")))
        }
    }
}

fn slot_checks(facts: &LeaderFacts, context: &Context<'_>) -> Vec<Check> {
    if facts.slots.is_empty() {
        let cause = "Nothing keeps the log for the replicas. The slot is made when the replicator, or the connector, first \
                     starts.";
        let none = Check::not_ok(Level::Init, "slot", Group::Leader, "There is no slot yet", cause);
        return vec![none.mended_by((context.start)("replicator"))];
    }
    facts.slots.iter().flat_map(|slot| [slot_check(slot), headroom_check(slot, facts.keep_bytes)]).collect()
}

fn slot_check(slot: &SlotFacts) -> Check {
    let slug = format!("slot-{}", slot.name);
    let not_ok = |level, title: String, cause: &str| Check::not_ok(level, &slug, Group::Leader, title, cause);
    match (slot.wal_status.as_str(), slot.active) {
        ("lost", _) => {
            let cause = "More log was written than may be kept for it. What came meanwhile is lost to it: copy each replica \
                         afresh.";
            not_ok(Level::Error, format!("Slot {} is lost", slot.name), cause)
                .mended_by("replicator --config FILE rebuild REPLICA")
        }
        (_, false) => {
            let cause =
                "Nobody reads it, so the leader keeps its log: replicas fall behind and the disk fills.";
            not_ok(Level::Error, format!("Slot {} has no reader", slot.name), cause)
        }
        _ => Check::ok(&slug, Group::Leader, format!("Slot {} is read", slot.name)),
    }
}

fn headroom_check(slot: &SlotFacts, keep_bytes: Option<i64>) -> Check {
    let slug = format!("slot-{}-headroom", slot.name);
    let kept =
        slot.retained.map_or_else(|| "—".to_owned(), |retained| words::bytes(retained.max(0).unsigned_abs()));
    let (Some(safe), Some(keep)) = (slot.safe, keep_bytes) else {
        return Check::ok(&slug, Group::Leader, format!("{kept} of log kept, without a limit"));
    };
    let used = 100 - (100 * safe.max(0)).checked_div(keep).unwrap_or(0).min(100);
    let limit = words::bytes(keep.unsigned_abs());
    let title = format!("{kept} of log kept, {limit} may be");
    if used < HEADROOM_WARN {
        return Check::ok(&slug, Group::Leader, title);
    }
    let level = if used < HEADROOM_ERROR { Level::Warn } else { Level::Error };
    let left = words::bytes(safe.max(0).unsigned_abs());
    let cause = format!(
        "After {left} more (max_slot_wal_keep_size) the slot is lost and the replicas need a new copy."
    );
    Check::not_ok(level, &slug, Group::Leader, title, cause).mended_by(
        "psql -c \"ALTER SYSTEM SET max_slot_wal_keep_size = '16GB'\" -c 'SELECT pg_reload_conf()'",
    )
}

fn connector_check(seen: &Seen<ConnectorFacts>, context: &Context<'_>) -> Check {
    let not_ok =
        |level, title: &str, cause: String| Check::not_ok(level, "connector", Group::Way, title, cause);
    if let Some(why) = &seen.failure {
        return not_ok(Level::Error, "Kafka Connect does not answer", why.clone())
            .mended_by((context.start)("connect"));
    }
    let Some(facts) = seen.now() else {
        return not_ok(Level::Init, "Kafka Connect", "Not looked at yet.".to_owned());
    };
    let broken = facts.tasks.iter().find(|(state, _)| state != "RUNNING");
    match (facts.state.as_str(), broken) {
        ("RUNNING", None) if !facts.tasks.is_empty() => {
            Check::ok("connector", Group::Way, "Connector and task are running")
        }
        ("RUNNING", None) => {
            not_ok(Level::Init, "The connector has no task yet", "It is starting.".to_owned())
        }
        ("RUNNING", Some((state, trace))) => {
            let why = trace.clone().unwrap_or_else(|| "It gives no reason.".to_owned());
            not_ok(Level::Error, &format!("The connector's task is {state}"), why)
                .mended_by(context.restart_failed())
        }
        ("PAUSED" | "STOPPED", _) => {
            not_ok(Level::Paused, "The connector is paused", "Somebody paused it.".to_owned())
                .mended_by(context.connector_call("PUT", "resume"))
        }
        (state, _) => {
            not_ok(Level::Error, &format!("The connector is {state}"), "It does not run.".to_owned())
                .mended_by(context.restart_failed())
        }
    }
}

fn replicator_check(seen: &Seen<ReplicatorFacts>, context: &Context<'_>) -> Check {
    match &seen.failure {
        None => Check::ok("replicator", Group::Way, "The replicator answers"),
        Some(why) => {
            let cause = format!("{why} Until it is back, nothing new arrives on the replicas.");
            Check::not_ok(Level::Error, "replicator", Group::Way, "The replicator does not answer", cause)
                .mended_by((context.start)("replicator"))
        }
    }
}

fn replica_checks(
    replica: &ReplicaSample,
    worker: Option<&WorkerFacts>,
    context: &Context<'_>,
) -> Vec<Check> {
    let name = &replica.name;
    let slug = |what: &str| format!("{name}-{what}");
    let group = Group::Replica;
    if let Some(why) = &replica.facts.failure {
        let cause = format!("It {why}. Reads go elsewhere; it is tried again all the time.");
        let down = Check::not_ok(Level::Error, &slug("reachable"), group, format!("{name} is down"), cause);
        return vec![down.mended_by((context.start)(name))];
    }
    let Some(facts) = replica.facts.now() else {
        return vec![Check::not_ok(Level::Init, &slug("reachable"), group, name, "Not looked at yet.")];
    };
    let mut checks = vec![applying_check(name, &slug("applying"), facts, worker)];
    if facts.state == "live" && facts.paused.is_none() {
        checks.push(lag_check(replica, &slug("lag"), context.lag_slo));
    }
    if replica.is_drained() {
        let cause =
            "Somebody took it out of the rotation. It is applied to, and returns when somebody returns it.";
        checks.push(Check::not_ok(
            Level::Paused,
            &slug("rotation"),
            group,
            format!("{name} is drained"),
            cause,
        ));
    }
    checks.push(if facts.quarantined == 0 && facts.diverged.is_empty() {
        Check::ok(&slug("quarantine"), group, format!("{name} took every change"))
    } else {
        let tables = facts.diverged.join(", ");
        let cause =
            format!("{} changes are kept aside; {tables} differs from the leader's.", facts.quarantined);
        Check::not_ok(Level::Error, &slug("quarantine"), group, format!("{name} refused changes"), cause)
            .mended_by("replicator --config FILE quarantine list")
    });
    if facts.clock_ahead_ms.abs() > SKEW_MAX_MS {
        let cause =
            format!("It differs from ours by {} ms: times of this replica mislead.", facts.clock_ahead_ms);
        let title = format!("{name}'s clock is off");
        checks.push(Check::not_ok(Level::Warn, &slug("clock"), group, title, cause));
    }
    checks
}

fn applying_check(name: &str, slug: &str, facts: &ReplicaFacts, worker: Option<&WorkerFacts>) -> Check {
    let not_ok =
        |level, title: String, cause: String| Check::not_ok(level, slug, Group::Replica, title, cause);
    if let Some((since, by)) = &facts.paused {
        let cause = format!("{by} paused it at {}.", since.strftime("%H:%M:%S UTC on %-d %b"));
        return not_ok(Level::Paused, format!("{name} is paused"), cause)
            .mended_by(format!("replicator --config FILE resume {name}"));
    }
    // The worker knows the cause; without it, what the database shows has to do.
    if let Some(worker) = worker
        && let Some(level) = match worker.state.as_str() {
            "halted" => Some(Level::Error),
            "retrying" => Some(Level::Warn),
            _ => None,
        }
    {
        let cause = worker.cause.as_deref().map_or_else(|| "It gives no reason.".to_owned(), words::sentence);
        let check = not_ok(level, format!("{name} is {}", worker.state), cause);
        return worker.hint.clone().map_or_else(|| check.clone(), |hint| check.clone().mended_by(hint));
    }
    match facts.state.as_str() {
        "live" if !facts.owner_lives => {
            let cause = "No replicator has shown a sign of life for it in time.".to_owned();
            not_ok(Level::Error, format!("Nobody applies to {name}"), cause)
        }
        "live" => Check::ok(slug, Group::Replica, format!("{name} is applied to")),
        "empty" => not_ok(
            Level::Init,
            format!("{name} waits for its first copy"),
            "It joins when all of its tables are here.".to_owned(),
        ),
        "copying" => not_ok(
            Level::Init,
            format!("{name} is being copied"),
            "It joins when all of its tables are here.".to_owned(),
        ),
        "degraded" => not_ok(
            Level::Warn,
            format!("{name} is fed without transactions"),
            "The source carries no transaction metadata, so reads can't promise a moment.".to_owned(),
        ),
        other => not_ok(Level::Unknown, format!("{name} is in a state unknown here"), other.to_owned()),
    }
}

fn lag_check(replica: &ReplicaSample, slug: &str, slo: Duration) -> Check {
    let name = &replica.name;
    let Some(behind) = replica.behind else {
        let cause = "The leader has not answered yet, so there is nothing to compare with.";
        return Check::not_ok(Level::Unknown, slug, Group::Replica, format!("How far {name} is"), cause);
    };
    if behind.is_caught_up() {
        return Check::ok(slug, Group::Replica, format!("{name} is caught up"));
    }
    let title = format!("{name} is {} behind", words::span(behind.time));
    if behind.time <= slo {
        return Check::ok(slug, Group::Replica, title);
    }
    let level = if behind.time <= 2 * slo { Level::Warn } else { Level::Error };
    let changes = behind
        .changes
        .map_or_else(String::new, |n| format!(", about {} changes", words::count(n.max(0).unsigned_abs())));
    let cause = format!("Promised are {}; {}{changes} wait.", words::span(slo), words::bytes(behind.bytes));
    Check::not_ok(level, slug, Group::Replica, title, cause)
}

#[cfg(test)]
mod tests;
