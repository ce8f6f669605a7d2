//! What the replicator's command line says about a running system, and about mistakes.

use std::process::{Command, Output};
use std::rc::Rc;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::settings::Source;
use crate::system::{Login, REPLICAS, System};

pub(super) async fn explains(system: Rc<System>) -> anyhow::Result<()> {
    system.await_replicas().await?;
    let status = replicator(&system, &["status", "--json"])?;
    let text = expect(&status, 0)?;
    let body: Value =
        serde_json::from_str(&text).with_context(|| format!("read the status as JSON: {text}"))?;
    let replicas = body["replicas"].as_array().context("find the replicas")?;
    let live: Vec<_> = replicas
        .iter()
        .filter(|replica| replica["state"] == "live")
        .filter_map(|replica| replica["name"].as_str())
        .collect();
    ensure!(live == REPLICAS, "live by status --json: {live:?}");
    let states = text.matches("\"state\":").count();
    ensure!(
        states == REPLICAS.len(),
        "{states} states of {} replicas: a key comes twice: {text}",
        REPLICAS.len()
    );

    let check = expect(&replicator(&system, &["check"])?, 0)?;
    ensure!(
        check.contains("exactly once") && check.contains("0 errors"),
        "check of a healthy system says {check}"
    );
    println!("  check says: {}", check.lines().last().unwrap_or_default());

    let settings = expect(&replicator(&system, &["config", "show"])?, 0)?;
    // A setting of the source, one that is almost one, and the one that was probably meant.
    let (setting, mistyped, meant) = match system.source() {
        Source::Kafka => ("source.topic_prefix", "REPLICATOR__SOURCE__BROKRES", "source.brokers"),
        Source::Direct => ("source.publication", "REPLICATOR__SOURCE__SLTO", "source.slot"),
    };
    ensure!(settings.contains(setting) && settings.contains("***"), "config show says {settings}");
    let password = system.password("REPLICATOR_PASSWORD")?;
    for text in [&text, &check, &settings] {
        ensure!(!text.contains(password), "a password is shown: {text}");
    }

    let usage = replicator(&system, &["--no-such-option"])?;
    expect(&usage, 2)?;
    let mut command = command(&system)?;
    command.args(["config", "show"]).env(mistyped, "x");
    let mistyped = command.output().context("run the replicator")?;
    expect(&mistyped, 78)?;
    let advice = String::from_utf8_lossy(&mistyped.stderr);
    ensure!(advice.contains(&format!("did you mean {meant}")), "a mistyped key is answered with {advice}");
    println!(
        "  status, check, config show, wrong usage (2) and wrong configuration (78) answer as documented"
    );
    Ok(())
}

/// What stands against the promises is found, each with the statement that ends it; and nothing is, once that has been run.
pub(super) async fn check_finds(system: Rc<System>) -> anyhow::Result<()> {
    let check = |code| expect(&replicator(&system, &["check"])?, code);
    let leader = system.connect("leader", Login::Owner).await?;
    leader.batch_execute("CREATE TABLE public.unseen (id int PRIMARY KEY)").await?;
    let found = check(0)?;
    leader.batch_execute("DROP TABLE public.unseen").await?;
    ensure!(
        found.contains("no change of public.unseen reaches a replica") && !found.contains("is missing"),
        "a table that nobody captures: {found}"
    );

    let replica = system.repair(REPLICAS[1]).await?;
    replica.batch_execute("ALTER TABLE public.likes OWNER TO postgres").await?;
    let found = check(1)?;
    let grant = "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON public.likes TO replicator;";
    ensure!(
        found.contains("replicator may not write public.likes") && found.contains(grant),
        "no grant: {found}"
    );
    replica.batch_execute(grant).await?;
    let found = check(0)?;
    let own = "ALTER TABLE public.likes OWNER TO replicator;";
    ensure!(found.contains("can't add the columns") && found.contains(own), "not the owner: {found}");
    replica.batch_execute(own).await?;

    replica.batch_execute("REVOKE SET ON PARAMETER session_replication_role FROM replicator").await?;
    let found = check(1);
    replica.batch_execute("GRANT SET ON PARAMETER session_replication_role TO replicator").await?;
    let found = found?;
    ensure!(
        found.contains("GRANT SET ON PARAMETER session_replication_role TO"),
        "triggers can't be silenced: {found}"
    );

    let found = check(0)?;
    ensure!(found.contains("0 errors, 0 unknown, 0 warnings"), "mended: {found}");
    println!(
        "  check finds a table nobody captures, missing grants and ownership, and ends without a finding"
    );
    Ok(())
}

/// The program that the scripts started, with its configuration.
pub(super) fn command(system: &System) -> anyhow::Result<Command> {
    let mut command = Command::new(system.program("replicator")?);
    command.arg("--config").arg(system.state().join("replicator/replicator.toml"));
    Ok(command)
}

/// Runs a command of it to its end.
pub(super) fn replicator(system: &System, arguments: &[&str]) -> anyhow::Result<Output> {
    command(system)?.args(arguments).output().context("run the replicator")
}

/// Demands an exit code; returns standard output.
pub(super) fn expect(output: &Output, code: i32) -> anyhow::Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(code),
        "ended with {} and not {code}: {text}{errors}",
        output.status
    );
    Ok(text)
}
