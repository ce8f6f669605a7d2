//! The connector can be registered by the call that every user of Debezium knows, and by the script.

use std::process::Command;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, ensure};
use e2e::wait;

use crate::system::{Login, PATIENCE, System, answer, script};

pub(super) async fn both(system: Rc<System>) -> anyhow::Result<()> {
    let connector = system.http_url("connect", "/connectors/postgres-connector")?;
    let (status, _) = answer(system.http().delete(&connector)).await?;
    ensure!(status == 204, "DELETE of the connector answered {status}");
    let writer = system.connect("leader", Login::Writer).await?;
    let write =
        "INSERT INTO posts (user_id, content) VALUES ('curl', 'written while there was no connector')";
    writer.batch_execute(write).await?;

    let url = system.http_url("connect", "/connectors")?;
    // Right after the deletion the worker may answer 409 for a moment, while it distributes its work anew.
    wait::until("the plain curl to be accepted", PATIENCE, async || {
        plain_curl(&url).map_err(|error| format!("{error:#}"))
    })
    .await?;
    system.await_connector().await?;
    let contents = system.assert_equal().await?;
    println!("  registered by plain curl; written meanwhile and arrived: {contents}");

    for time in ["first", "second"] {
        let started = Instant::now();
        script(&mut system.command("register-connector.sh")).await?;
        println!("  scripts/register-connector.sh, the {time} time: {:.1?}", started.elapsed());
        system.await_connector().await?;
    }
    system.assert_equal().await.map(drop)
}

/// Word for word what the README shows, but for the port.
fn plain_curl(url: &str) -> anyhow::Result<()> {
    let output = Command::new("curl")
        .args([
            "-X",
            "POST",
            url,
            "-H",
            "Content-Type: application/json",
            "-d",
            "@debezium/register-postgres.json",
        ])
        .args(["--silent", "--show-error"])
        .current_dir(e2e::repository())
        .output()
        .context("run curl")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let body: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("read the answer '{text}'"))?;
    ensure!(body["name"] == "postgres-connector" && body["config"].is_object(), "the worker answered {text}");
    Ok(())
}
