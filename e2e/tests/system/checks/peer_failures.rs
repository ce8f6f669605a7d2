//! Where Debezium's JDBC sink corrupts, tears or dies (3.6, with its defaults, on the same stack), and the check in which
//! the same case ends with equal replicas here. All of them go through the real connector, or straight from the leader.
//!
//! | the case | what became of it in the sink | the check |
//! |---|---|---|
//! | unchanged TOAST, text | the placeholder over the value, silently | [`unchanged_toast`] |
//! | unchanged TOAST, jsonb | task FAILED, the insert beside it lost | [`unchanged_toast`] |
//! | a transaction over several rows or tables | up to 3 % of the snapshots torn | `workload`, `bulk`, `chaos` |
//! | a new row and one that refers to it | task FAILED on the foreign key | [`foreign_key`] |
//! | key change, keys swapped | correct | [`keys`] |
//! | unique values swapped, deferrable or not | correct by luck of the batch | [`unique_swaps`] |
//! | equal rows without a key | no key, no table | [`equal_rows`], `connect_kills` |
//! | TRUNCATE | ignored, the rows stay | [`truncate`] |
//! | numeric NaN and Infinity | task FAILED | [`numerics`] |
//! | numeric NaN with `decimal.handling.mode=precise` | NULL, silently | [`lossy_settings`] |
//! | a date that is infinite | task FAILED | [`times`] |
//! | a timestamptz that is infinite | correct | [`times`] |
//! | a timestamp that is infinite | the year 294247, silently | [`times`] |
//! | float NaN and Infinity | 0, silently | [`floats`] |
//! | interval | `1 mon 2 days` becomes 778:30:00, silently | [`intervals`], [`lossy_settings`] |
//! | arrays, bytea, uuid, ranges, generated columns | correct | [`containers`] |
//! | a row that a replica refuses | task FAILED, rows before and after it lost from view | [`poison_row`] |
//! | a replica killed | task FAILED until somebody restarts it | [`replica_killed`], `workload`, `chaos` |
//! | Connect killed | 53 s until equal, thousands of events twice | `connect_kills`, `workload`, `chaos` |
//! | decimal strings for numeric columns | task FAILED | [`numerics`] |

use std::rc::Rc;

use anyhow::{Context, ensure};
use e2e::wait;
use serde_json::Value;

use super::command_line;
use crate::settings::Source;
use crate::system::{Login, PATIENCE, REPLICAS, System};
use crate::tables::{self, Tables};

const CREATE: &str = "
CREATE SCHEMA peer;
CREATE TABLE peer.toast (id int PRIMARY KEY, n int, body text, meta jsonb);
CREATE TABLE peer.account (id int PRIMARY KEY, balance int NOT NULL);
CREATE TABLE peer.moved (id int PRIMARY KEY, src int NOT NULL REFERENCES peer.account, amount int NOT NULL);
CREATE TABLE peer.keyed (id int PRIMARY KEY, label text);
CREATE TABLE peer.tagged (id int PRIMARY KEY, tag int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE peer.unique_tag (id int PRIMARY KEY, tag int UNIQUE);
CREATE TABLE peer.bag (colour text, amount numeric, document json);
ALTER TABLE peer.bag REPLICA IDENTITY FULL;
CREATE TABLE peer.emptied (id int PRIMARY KEY);
CREATE TABLE peer.kinds (
    id int PRIMARY KEY, n numeric, money numeric(12,2), d date, ts timestamp, tz timestamptz, f8 float8, f4 float4,
    i interval, a int[], t text[], b bytea, u uuid, r tsrange, twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE peer.poison (id int PRIMARY KEY, n int);
CREATE TABLE peer.bulk (id int PRIMARY KEY, n int, filler text);
CREATE TABLE peer.bulk_bag (colour int, filler text);
ALTER TABLE peer.bulk_bag REPLICA IDENTITY FULL;";

const NAMES: &[&str] = &[
    "toast",
    "account",
    "moved",
    "keyed",
    "tagged",
    "unique_tag",
    "bag",
    "emptied",
    "kinds",
    "poison",
    "bulk",
    "bulk_bag",
];

/// Makes the tables once, whichever check comes first.
pub(super) async fn prepare(system: &System) -> anyhow::Result<()> {
    let leader = system.connect("leader", Login::Owner).await?;
    let exists = leader.query_one("SELECT to_regnamespace('peer') IS NOT NULL", &[]).await?;
    if exists.get(0) {
        return Ok(());
    }
    let names: Vec<_> = NAMES.iter().map(|name| format!("peer.{name}")).collect();
    let owned: String = names.iter().map(|n| format!("ALTER TABLE {n} OWNER TO replicator;")).collect();
    let tables = Tables {
        leader: format!(
            "{CREATE} GRANT USAGE ON SCHEMA peer TO debezium, replicator;
             GRANT SELECT ON ALL TABLES IN SCHEMA peer TO debezium, replicator;
             ALTER PUBLICATION cdc ADD TABLE {};",
            names.join(", ")
        ),
        replica: format!(
            "{CREATE} GRANT USAGE ON SCHEMA peer TO app_reader, replicator; {owned}
             GRANT SELECT ON ALL TABLES IN SCHEMA peer TO app_reader;"
        ),
    };
    tables::follow(system, &tables).await?;
    // So that it reads the replicas' catalogs anew.
    system.restart("replicator").await
}

/// Runs `scripts` on the leader, one transaction each, and demands equality and that `claim` holds on every replica.
async fn prove(system: &System, scripts: &[&str], claim: &str) -> anyhow::Result<()> {
    prepare(system).await?;
    let leader = system.connect("leader", Login::Owner).await?;
    for script in scripts {
        leader.batch_execute(script).await.with_context(|| format!("run {script}"))?;
    }
    system.assert_equal().await?;
    for name in REPLICAS {
        let replica = system.connect(name, Login::Reader).await?;
        let holds: Option<bool> = replica.query_one(claim, &[]).await?.get(0);
        ensure!(holds == Some(true), "not true on {name}: {claim}");
    }
    Ok(())
}

pub(super) async fn unchanged_toast(system: Rc<System>) -> anyhow::Result<()> {
    let insert = "INSERT INTO peer.toast SELECT 1, 1,
        (SELECT string_agg(md5(random()::text || g), '') FROM generate_series(1, 625) AS g),
        (SELECT jsonb_agg(md5(random()::text || g)) FROM generate_series(1, 600) AS g)";
    let update = "UPDATE peer.toast SET n = n + 1";
    let rekey = "UPDATE peer.toast SET id = 2";
    let claim =
        "SELECT length(body) = 20000 AND jsonb_array_length(meta) = 600 AND n = 3 AND id = 2 FROM peer.toast";
    prove(&system, &[insert, update, update, rekey], claim).await
}

pub(super) async fn foreign_key(system: Rc<System>) -> anyhow::Result<()> {
    let script = "BEGIN; INSERT INTO peer.account SELECT g, 100 FROM generate_series(1, 200) AS g;
        INSERT INTO peer.moved SELECT g, g, 1 FROM generate_series(1, 200) AS g;
        UPDATE peer.account SET balance = balance - 1; COMMIT";
    let claim =
        "SELECT (SELECT count(*) FROM peer.moved) = 200 AND (SELECT sum(balance) FROM peer.account) = 19800";
    prove(&system, &[script], claim).await
}

pub(super) async fn keys(system: Rc<System>) -> anyhow::Result<()> {
    let scripts = [
        "INSERT INTO peer.keyed VALUES (1, 'one'), (2, 'two'), (3, 'three')",
        "UPDATE peer.keyed SET id = 30 WHERE id = 3",
        "BEGIN; UPDATE peer.keyed SET id = -1 WHERE id = 1; UPDATE peer.keyed SET id = 1 WHERE id = 2;
         UPDATE peer.keyed SET id = 2 WHERE id = -1; COMMIT",
    ];
    let claim = "SELECT string_agg(id || label, ' ' ORDER BY id) = '1two 2one 30three' FROM peer.keyed";
    prove(&system, &scripts, claim).await
}

pub(super) async fn unique_swaps(system: Rc<System>) -> anyhow::Result<()> {
    let scripts = [
        "INSERT INTO peer.tagged VALUES (1, 10), (2, 20); INSERT INTO peer.unique_tag VALUES (1, 10), (2, 20)",
        "BEGIN; UPDATE peer.tagged SET tag = 20 WHERE id = 1; UPDATE peer.tagged SET tag = 10 WHERE id = 2; COMMIT",
        "BEGIN; UPDATE peer.unique_tag SET tag = -1 WHERE id = 1; UPDATE peer.unique_tag SET tag = 10 WHERE id = 2;
         UPDATE peer.unique_tag SET tag = 20 WHERE id = 1; COMMIT",
        // The value moves to a new row when its old one goes.
        "BEGIN; DELETE FROM peer.unique_tag WHERE id = 2; INSERT INTO peer.unique_tag VALUES (3, 10); COMMIT",
    ];
    let claim = "SELECT (SELECT array_agg(tag ORDER BY id) FROM peer.tagged) = '{20,10}'
        AND (SELECT array_agg(id || '=' || tag ORDER BY id) FROM peer.unique_tag) = '{1=20,3=10}'";
    prove(&system, &scripts, claim).await
}

/// One of several equal rows changes, one goes, and so does one that another row equals but for a spelling.
pub(super) async fn equal_rows(system: Rc<System>) -> anyhow::Result<()> {
    let one = "ctid = (SELECT min(ctid) FROM peer.bag WHERE colour = 'red')";
    let scripts = [
        "INSERT INTO peer.bag SELECT 'red', 1.0, '{\"a\":1}' FROM generate_series(1, 5)",
        "INSERT INTO peer.bag VALUES ('blue', 1.0, NULL), ('blue', 1.00, NULL), (NULL, NULL, NULL), (NULL, NULL, NULL)",
        &format!("UPDATE peer.bag SET colour = 'green' WHERE {one}"),
        &format!("DELETE FROM peer.bag WHERE {one}"),
        "DELETE FROM peer.bag WHERE amount::text = '1.0' AND colour = 'blue'",
        "DELETE FROM peer.bag WHERE ctid = (SELECT min(ctid) FROM peer.bag WHERE colour IS NULL)",
    ];
    let claim = "SELECT string_agg(concat_ws('/', colour, amount, document), ' ' ORDER BY colour) =
        'blue/1.00 green/1.0/{\"a\":1} red/1.0/{\"a\":1} red/1.0/{\"a\":1} red/1.0/{\"a\":1} ' FROM peer.bag";
    prove(&system, &scripts, claim).await
}

pub(super) async fn truncate(system: Rc<System>) -> anyhow::Result<()> {
    let scripts = [
        "INSERT INTO peer.emptied SELECT generate_series(1, 50)",
        "BEGIN; TRUNCATE peer.emptied; INSERT INTO peer.emptied VALUES (7); COMMIT",
    ];
    prove(&system, &scripts, "SELECT array_agg(id) = '{7}' FROM peer.emptied").await
}

pub(super) async fn numerics(system: Rc<System>) -> anyhow::Result<()> {
    let insert = "INSERT INTO peer.kinds (id, n, money) VALUES (1, 'NaN', 'NaN'), (2, 'Infinity', 1.10),
        (3, '-Infinity', -0.01), (4, 12345678901234567890.1234567890, 9999999999.99), (5, 1.50, 0)";
    let claim = "SELECT string_agg(n::text || '/' || money, ' ' ORDER BY id) =
        'NaN/NaN Infinity/1.10 -Infinity/-0.01 12345678901234567890.1234567890/9999999999.99 1.50/0.00'
        FROM peer.kinds WHERE id <= 5";
    prove(&system, &[insert, "UPDATE peer.kinds SET n = n WHERE id <= 5"], claim).await
}

pub(super) async fn times(system: Rc<System>) -> anyhow::Result<()> {
    let insert = "INSERT INTO peer.kinds (id, d, ts, tz) VALUES (11, 'infinity', 'infinity', 'infinity'),
        (12, '-infinity', '-infinity', '-infinity'), (13, '0044-03-15 BC', '9999-12-31 23:59:59.999999', '0001-01-01 00:00+00')";
    let claim = "SELECT string_agg(concat_ws('/', d, ts), ' ' ORDER BY id) =
        'infinity/infinity -infinity/-infinity 0044-03-15 BC/9999-12-31 23:59:59.999999'
        AND count(*) FILTER (WHERE tz IN ('infinity', '-infinity')) = 2 FROM peer.kinds WHERE id BETWEEN 11 AND 13";
    prove(&system, &[insert], claim).await
}

pub(super) async fn floats(system: Rc<System>) -> anyhow::Result<()> {
    let insert =
        "INSERT INTO peer.kinds (id, f8, f4) VALUES (21, 'NaN', 'NaN'), (22, 'Infinity', 'Infinity'),
        (23, '-Infinity', '-Infinity'), (24, '-0', 1.1)";
    let claim = "SELECT string_agg(f8 || '/' || f4, ' ' ORDER BY id) =
        'NaN/NaN Infinity/Infinity -Infinity/-Infinity -0/1.1' FROM peer.kinds WHERE id BETWEEN 21 AND 24";
    prove(&system, &[insert], claim).await
}

pub(super) async fn intervals(system: Rc<System>) -> anyhow::Result<()> {
    let insert =
        "INSERT INTO peer.kinds (id, i) VALUES (31, '1 mon 2 days'), (32, '-1 year 3 days -04:05:06.789')";
    let claim = "SELECT string_agg(i::text, '|' ORDER BY id) = '1 mon 2 days|-1 years +3 days -04:05:06.789'
        FROM peer.kinds WHERE id BETWEEN 31 AND 32";
    prove(&system, &[insert], claim).await
}

/// What the connector has made of a value before it is sent can't be mended here, so `check` refuses such settings.
pub(super) async fn lossy_settings(system: Rc<System>) -> anyhow::Result<()> {
    prepare(&system).await?;
    let good = system.connector_config().await?;
    let mut lossy = good.clone();
    lossy["decimal.handling.mode"] = Value::from("precise");
    lossy["interval.handling.mode"] = Value::from("numeric");
    system.configure(&lossy).await?;
    let checked = command_line::replicator(&system, &["check"]);
    system.configure(&good).await?;
    let advice = command_line::expect(&checked?, 1)?;
    for key in ["decimal.handling.mode", "interval.handling.mode"] {
        ensure!(advice.contains(&format!("Set {key}=string")), "no advice about {key}: {advice}");
    }
    prove(&system, &[], "SELECT true").await
}

pub(super) async fn containers(system: Rc<System>) -> anyhow::Result<()> {
    let insert = r#"INSERT INTO peer.kinds (id, a, t, b, u, r) VALUES (41, '{1,NULL,-3}', '{"a,b","{c}",NULL,""}',
        '\x00ff10', '018f0000-0000-7000-8000-000000000001', '[2026-01-01 10:00,infinity)'), (42, '{}', '{}', '', NULL, 'empty')"#;
    let claim = r#"SELECT a::text = '{1,NULL,-3}' AND t::text = '{"a,b","{c}",NULL,""}' AND b = '\x00ff10'
        AND u = '018f0000-0000-7000-8000-000000000001' AND r::text = '["2026-01-01 10:00:00",infinity)' AND twice = 82
        FROM peer.kinds WHERE id = 41"#;
    prove(&system, &[insert], claim).await
}

pub(super) async fn replica_killed(system: Rc<System>) -> anyhow::Result<()> {
    prepare(&system).await?;
    system.service("kill", REPLICAS[0]).await?;
    let leader = system.connect("leader", Login::Owner).await?;
    leader.batch_execute("INSERT INTO peer.emptied SELECT generate_series(1000, 1999)").await?;
    system.await_closed(REPLICAS[0]).await?;
    system.service("start", REPLICAS[0]).await?;
    prove(&system, &[], "SELECT count(*) = 1000 FROM peer.emptied WHERE id >= 1000").await
}

/// Only the replica that can't take the row stops; it says where, and goes on when it is mended.
pub(super) async fn poison_row(system: Rc<System>) -> anyhow::Result<()> {
    prepare(&system).await?;
    let poisoned = system.repair(REPLICAS[1]).await?;
    poisoned.batch_execute("ALTER TABLE peer.poison ADD CONSTRAINT refused CHECK (n < 100)").await?;
    let leader = system.connect("leader", Login::Owner).await?;
    for row in ["(1, 1)", "(2, 500)", "(3, 3)"] {
        leader.batch_execute(&format!("INSERT INTO peer.poison VALUES {row}")).await?;
    }
    for name in [REPLICAS[0], REPLICAS[2]] {
        let replica = system.connect(name, Login::Reader).await?;
        wait::until(&format!("{name} to have all rows"), PATIENCE, async || {
            let row = replica.query_one("SELECT count(*) FROM peer.poison", &[]).await;
            let count: i64 = row.map_err(|error| error.to_string())?.get(0);
            if count == 3 { Ok(()) } else { Err(format!("{count} rows")) }
        })
        .await?;
    }
    let cause = wait::until("the cause to be shown", PATIENCE, async || {
        let (_, body) =
            system.get("replicator", "/v1/replicas").await.map_err(|error| format!("{error:#}"))?;
        let replica = &body["replicas"][1];
        let cause = replica["cause"].as_str().unwrap_or_default();
        let words: &[&str] = match system.source() {
            Source::Kafka => &["app.peer.poison", "offset", "refused"],
            Source::Direct => &["the leader's WAL at", "poison", "refused"],
        };
        let names_the_place = words.iter().all(|word| cause.contains(word));
        if replica["state"] == "halted" && names_the_place {
            Ok(cause.to_owned())
        } else {
            Err(replica.to_string())
        }
    })
    .await?;
    println!("  cause: {cause}");
    ensure!(!cause.contains("500"), "the cause tells the row's values");
    poisoned.batch_execute("ALTER TABLE peer.poison DROP CONSTRAINT refused").await?;
    prove(&system, &[], "SELECT count(*) = 3 FROM peer.poison").await
}
