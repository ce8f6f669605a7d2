//! The program itself: how it starts without databases, complains, and ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};

const REPLICA: [(&str, &str); 3] = [
    ("WEBAPP__LEADER__URL", "postgres://u:s3cret@127.0.0.1:1/app"),
    ("WEBAPP__REPLICAS__0__NAME", "replica-1"),
    ("WEBAPP__REPLICAS__0__URL", "postgres://u:s3cret@127.0.0.1:1/app"),
];

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webapp"));
    command.envs(REPLICA).env("WEBAPP__BIND", "127.0.0.1:0").stderr(Stdio::piped()).stdout(Stdio::null());
    command
}

/// Ends the program also when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_wrong_configuration_is_explained_with_exit_code_78() -> anyhow::Result<()> {
    for (key, value, expected) in [
        ("WEBAPP__LEADER__ULR", "x", "did you mean leader.url?"),
        (
            "WEBAPP__LEADER__URL",
            "postgres://u:s3cret@host:port/app",
            "the connection URL of leader is not valid",
        ),
        ("WEBAPP__LOG__LEVEL", "loud=very", "log.level"),
    ] {
        let output = program().env(key, value).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(78), "{key}={value}: {output:?}");
        ensure!(text.contains(expected) && !text.contains("s3cret"), "{text}");
    }
    let output = program().args(["--config", "/nowhere/at/all.toml"]).output()?;
    ensure!(output.status.code() == Some(78), "{output:?}");
    ensure!(program().arg("--nonsense").output()?.status.code() == Some(2), "wrong usage");
    let busy = std::net::TcpListener::bind("127.0.0.1:0")?;
    let output = program().env("WEBAPP__BIND", busy.local_addr()?.to_string()).output()?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn it_starts_without_databases_and_ends_on_sigterm() -> anyhow::Result<()> {
    let mut running = Running(program().env("WEBAPP__LOG__FORMAT", "json").spawn()?);
    let lines = BufReader::new(running.0.stderr.take().context("its log")?).lines();
    let log = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let told = std::sync::Arc::clone(&log);
    let ready = tokio::task::spawn_blocking(move || {
        let mut lines = lines.map_while(Result::ok);
        let ready = lines.find(|line| line.contains("\"ready\""));
        // The rest must be read, or the program would wait for somebody to do so.
        std::thread::spawn(move || {
            lines.for_each(|line| {
                told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push_str(&line);
            });
        });
        ready
    });
    let line: serde_json::Value = serde_json::from_str(&ready.await?.context("a ready line")?)?;
    let url = line["url"].as_str().context("an address")?;
    let page = reqwest::get(format!("{url}posts")).await?;
    ensure!(page.status() == 503, "{page:?}");
    ensure!(
        page.text().await?.contains("Neither a replica nor the leader answers"),
        "the page does not say why"
    );
    ensure!(reqwest::get(format!("{url}livez")).await?.status() == 200, "it lives");

    let pid = running.0.id().to_string();
    // Nothing has changed, and that is no reason to end.
    ensure!(Command::new("kill").args(["-HUP", &pid]).status()?.success(), "send SIGHUP");
    e2e::wait::until("the reload", std::time::Duration::from_secs(10), async || {
        let told = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if told.contains("the replicas are the same") { Ok(()) } else { Err(told) }
    })
    .await?;
    ensure!(reqwest::get(format!("{url}livez")).await?.status() == 200, "it lives");
    ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "send SIGTERM");
    let ended = tokio::task::spawn_blocking(move || running.0.wait()).await??;
    ensure!(ended.code() == Some(0), "{ended:?}");
    Ok(())
}
