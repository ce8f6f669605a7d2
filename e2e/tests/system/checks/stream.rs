//! The leader's own stream: what can become of it, what is said about that, and the way out that is named there.
//!
//! Reading goes on in each of these states, and nothing is lost: at the end of every check everything is equal.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context, ensure};
use e2e::wait;
use serde_json::Value;

use super::command_line;
use crate::system::{Login, PATIENCE, REPLICAS, System, script};

/// How long a halted replica is left alone, in seconds: these checks wait for it several times.
const HALT_PAUSE: &str = "2";

/// The durable slot.
const SLOT: &str = "replicator";

/// Rows that a leader has written before it is restored to an older state: enough for the replicas to be ahead of whatever a
/// restarted server writes by itself.
const LOST_ROWS: u32 = 20_000;

/// A table that only the leader has: the replicas get it, and its rows.
pub(super) async fn new_table(system: Rc<System>) -> anyhow::Result<()> {
    let leader = system.connect("leader", Login::Owner).await?;
    leader
        .batch_execute(
            "CREATE TABLE public.added (id int PRIMARY KEY, word text NOT NULL DEFAULT 'none', at timestamptz);
             GRANT SELECT ON public.added TO replicator;
             ALTER PUBLICATION cdc ADD TABLE public.added;
             INSERT INTO public.added SELECT g, 'word ' || g, now() FROM generate_series(1, 100) AS g;
             UPDATE public.added SET word = 'other' WHERE id = 7;
             DELETE FROM public.added WHERE id = 8",
        )
        .await
        .context("make the table")?;
    for name in REPLICAS {
        let replica = system.connect(name, Login::Owner).await?;
        wait::until(&format!("{name} to have the table"), PATIENCE, async || {
            let query = "SELECT count(*), count(*) FILTER (WHERE word = 'other') FROM public.added";
            let row = replica.query_one(query, &[]).await.map_err(|error| error.to_string())?;
            let found: (i64, i64) = (row.get(0), row.get(1));
            if found == (99, 1) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await?;
    }
    leader.batch_execute("DROP TABLE public.added").await?;
    for name in REPLICAS {
        system.repair(name).await?.batch_execute("DROP TABLE public.added").await?;
    }
    system.assert_equal().await.map(drop)
}

/// The replicator is started while the leader is away: it says so, readers are served, and it goes on by itself.
pub(super) async fn leader_away(system: Rc<System>) -> anyhow::Result<()> {
    system.service("stop", "replicator").await?;
    let leader = system.connect("leader", Login::Owner).await?;
    write(&leader, "before the leader went away").await?;
    drop(leader);
    system.service("stop", "leader").await?;
    restart_impatient(&system).await?;
    let shown = await_all(&system, "retrying", &["can't be reached"]).await;
    let read = system.get("webapp", "/api/posts?limit=3").await;
    system.service("start", "leader").await?;
    println!("  cause: {}", shown?);
    let (status, _) = read?;
    ensure!(status == 200, "the leader is away, and reading answers {status}");
    system.assert_equal().await.map(drop)
}

/// The slot is dropped under live replicas. Nothing holds the changes from then on, so nothing may go on as if it did.
pub(super) async fn slot_dropped(system: Rc<System>) -> anyhow::Result<()> {
    restart_impatient(&system).await?;
    system.assert_equal().await?;
    let leader = system.connect("leader", Login::Owner).await?;
    let drop_slot = format!("SELECT pg_drop_replication_slot('{SLOT}')");
    let end_its_reader = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{SLOT}' AND active"
    );
    wait::until("the slot to be dropped", PATIENCE, async || {
        leader.query(&end_its_reader, &[]).await.map_err(|error| error.to_string())?;
        leader.execute(&drop_slot, &[]).await.map(drop).map_err(|error| error.to_string())
    })
    .await?;
    write(&leader, "behind the dropped slot").await?;
    let shown = await_all(&system, "halted", &[SLOT, "replicator rebuild"]).await?;
    println!("  cause: {shown}");
    rebuild_all(&system).await
}

/// So much is written while nobody reads that the leader gives the slot up.
pub(super) async fn slot_lost(system: Rc<System>) -> anyhow::Result<()> {
    system.assert_equal().await?;
    system.service("stop", "replicator").await?;
    let leader = system.connect("leader", Login::Owner).await?;
    let status =
        format!("SELECT coalesce(wal_status, 'lost') FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    let lost = async {
        for statement in [
            "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'",
            "ALTER SYSTEM SET max_wal_size = '32MB'",
            "ALTER SYSTEM SET min_wal_size = '32MB'",
            "SELECT pg_reload_conf()",
        ] {
            leader.batch_execute(statement).await?;
        }
        wait::until("the slot to be lost", PATIENCE, async || {
            for statement in ["SELECT pg_switch_wal()", "UPDATE posts SET version = version", "CHECKPOINT"] {
                leader.batch_execute(statement).await.map_err(|error| error.to_string())?;
            }
            let row = leader.query_one(&status, &[]).await.map_err(|error| error.to_string())?;
            let status: &str = row.get(0);
            if status == "lost" { Ok(()) } else { Err(status.to_owned()) }
        })
        .await
    }
    .await;
    for setting in ["max_slot_wal_keep_size", "max_wal_size", "min_wal_size"] {
        leader.batch_execute(&format!("ALTER SYSTEM RESET {setting}")).await?;
    }
    leader.batch_execute("SELECT pg_reload_conf()").await?;
    lost?;
    restart_impatient(&system).await?;
    let shown = await_all(&system, "halted", &[SLOT, "replicator rebuild"]).await?;
    println!("  cause: {shown}");
    rebuild_all(&system).await
}

/// Without its publication the leader can't say what a change is. Made again, it tells only of later ones.
pub(super) async fn publication_dropped(system: Rc<System>) -> anyhow::Result<()> {
    restart_impatient(&system).await?;
    system.assert_equal().await?;
    let leader = system.connect("leader", Login::Owner).await?;
    let published = "SELECT string_agg(format('%I.%I', schemaname, tablename), ', ')
        FROM pg_publication_tables WHERE pubname = 'cdc'";
    let tables: String = leader.query_one(published, &[]).await?.get(0);
    leader.batch_execute("DROP PUBLICATION cdc").await?;
    write(&leader, "without a publication").await?;
    let shown = await_all(&system, "halted", &["publication", "replicator rebuild"]).await;
    let create =
        format!("CREATE PUBLICATION cdc FOR TABLE {tables} WITH (publish_via_partition_root = true)");
    leader.batch_execute(&create).await.context("make the publication again")?;
    println!("  cause: {}", shown?);
    rebuild_all(&system).await
}

/// The leader's data is put back to what it was a while ago, as from a disk's snapshot: the replicas are ahead of it. They stay
/// halted when it has written past them, since what it has written there is not what they have.
pub(super) async fn leader_restored(system: Rc<System>) -> anyhow::Result<()> {
    restart_impatient(&system).await?;
    system.assert_equal().await?;
    system.service("stop", "leader").await?;
    let data = fs::canonicalize(system.state().join("leader"))?.join("data");
    let kept = data.with_extension("kept");
    copy(&data, &kept)?;
    system.service("start", "leader").await?;
    let leader = system.connect("leader", Login::Owner).await?;
    let lost = format!(
        "INSERT INTO posts (user_id, content) SELECT 'lost', repeat('x', 100) FROM generate_series(1, {LOST_ROWS})"
    );
    leader.batch_execute(&lost).await?;
    system.assert_equal().await?;
    drop(leader);
    system.service("stop", "leader").await?;
    fs::remove_dir_all(&data).context("remove the leader's data")?;
    fs::rename(&kept, &data).context("put the older data back")?;
    system.service("start", "leader").await?;
    let shown = await_all(&system, "halted", &["WAL ends at", "older state", "replicator rebuild"]).await?;
    println!("  cause: {shown}");
    let leader = system.connect("leader", Login::Owner).await?;
    for _ in 0..2 {
        leader.batch_execute(&lost.replace("'lost'", "'instead'")).await?;
    }
    let shown =
        await_all(&system, "halted", &["the leader does not", "older state", "replicator rebuild"]).await?;
    println!("  cause: {shown}");
    rebuild_all(&system).await
}

/// One replica finds its rows by a column that the leader's events don't tell. It halts; the others have the change.
pub(super) async fn other_identity(system: Rc<System>) -> anyhow::Result<()> {
    const CREATE: &str = "CREATE TABLE public.identity (id int NOT NULL, code int NOT NULL, word text)";
    restart_impatient(&system).await?;
    for (name, key) in REPLICAS.into_iter().zip(["code", "id", "code"]) {
        let make = format!(
            "{CREATE}; ALTER TABLE public.identity ADD PRIMARY KEY ({key}), OWNER TO replicator;
             GRANT SELECT ON public.identity TO app_reader"
        );
        system.repair(name).await?.batch_execute(&make).await.context("make the table of a replica")?;
    }
    let leader = system.connect("leader", Login::Owner).await?;
    leader
        .batch_execute(&format!(
            "{CREATE}; ALTER TABLE public.identity ADD PRIMARY KEY (id);
             CREATE UNIQUE INDEX told ON public.identity (code);
             ALTER TABLE public.identity REPLICA IDENTITY USING INDEX told;
             GRANT SELECT ON public.identity TO replicator;
             ALTER PUBLICATION cdc ADD TABLE public.identity"
        ))
        .await
        .context("make the table of the leader")?;
    leader.batch_execute("INSERT INTO public.identity VALUES (1, 10, 'one'), (2, 20, 'two')").await?;
    leader.batch_execute("UPDATE public.identity SET word = 'changed' WHERE id = 1").await?;
    for name in [REPLICAS[0], REPLICAS[2]] {
        let replica = system.connect(name, Login::Reader).await?;
        wait::until(&format!("{name} to have the change"), PATIENCE, async || {
            let query = "SELECT coalesce(string_agg(word, ' ' ORDER BY id), '') FROM public.identity";
            let row = replica.query_one(query, &[]).await.map_err(|error| error.to_string())?;
            let words: String = row.get(0);
            if words == "changed two" { Ok(()) } else { Err(words) }
        })
        .await?;
    }
    let shown =
        await_state(&system, &[1], "halted", &["replica identity", "public.identity", "\"id\""]).await?;
    println!("  cause: {shown}");
    // The way out that the hint names: the same key on both sides.
    let other = system.repair(REPLICAS[1]).await?;
    other
        .batch_execute(
            "ALTER TABLE public.identity DROP CONSTRAINT identity_pkey; ALTER TABLE public.identity ADD PRIMARY KEY (code)",
        )
        .await?;
    system.assert_equal().await.map(drop)
}

async fn write(leader: &tokio_postgres::Client, content: &str) -> anyhow::Result<()> {
    let insert = "INSERT INTO posts (user_id, content) VALUES ('stream', $1)";
    leader.execute(insert, &[&content]).await.map(drop).context("write on the leader")
}

/// Starts the replicator anew, so that a halted replica is tried again soon.
async fn restart_impatient(system: &System) -> anyhow::Result<()> {
    system.service("stop", "replicator").await?;
    let mut start = system.command("service.sh");
    start.args(["start", "replicator", "--no-wait"]);
    start.env("REPLICATOR__APPLY__HALT_PAUSE_SECONDS", HALT_PAUSE);
    script(&mut start).await
}

/// Copies every replica afresh, as the hint says, and demands that all is well then.
async fn rebuild_all(system: &System) -> anyhow::Result<()> {
    for name in REPLICAS {
        command_line::expect(&command_line::replicator(system, &["rebuild", name])?, 0)?;
    }
    wait::until("every replica to be copied and live", PATIENCE, async || {
        let states = states(system).await.map_err(|error| format!("{error:#}"))?;
        let are_live = states.iter().all(|replica| replica["state"] == "live");
        if are_live { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .await?;
    system.assert_equal().await.map(drop)
}

async fn states(system: &System) -> anyhow::Result<Vec<Value>> {
    let (_, body) = system.get("replicator", "/v1/replicas").await?;
    let replicas = body["replicas"].as_array().filter(|replicas| replicas.len() == REPLICAS.len());
    Ok(replicas.with_context(|| format!("read the replicas of {body}"))?.clone())
}

/// Waits until every replica is in this state, and says all `words` in its cause or the way out. Returns what one says.
async fn await_all(system: &System, state: &str, words: &[&str]) -> anyhow::Result<String> {
    await_state(system, &[0, 1, 2], state, words).await
}

async fn await_state(
    system: &System,
    replicas: &[usize],
    state: &str,
    words: &[&str],
) -> anyhow::Result<String> {
    wait::until(&format!("{state} with {words:?}"), PATIENCE, async || {
        let states = states(system).await.map_err(|error| format!("{error:#}"))?;
        let mut said = String::new();
        for replica in replicas.iter().map(|index| &states[*index]) {
            said = ["cause", "hint"].map(|key| replica[key].as_str().unwrap_or_default()).join(" ");
            if replica["state"] != state || !words.iter().all(|word| said.contains(word)) {
                return Err(replica.to_string());
            }
        }
        Ok(said)
    })
    .await
}

/// Copies a folder with its owners.
fn copy(from: &PathBuf, to: &PathBuf) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("--archive").args([from, to]).status().context("run cp")?;
    ensure!(status.success(), "copying {} failed", from.display());
    Ok(())
}
