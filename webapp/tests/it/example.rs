//! The example is an application of its own: its callers are kept the same promises.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use reqwest::Method;

use crate::site::{Reply, Site};

/// Ends the program also when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The example that `cargo test` builds beside this test, unless it was told to build this test only.
fn program() -> anyhow::Result<Command> {
    let here = std::env::current_exe().context("find this program")?;
    let build = here.parent().and_then(|deps| deps.parent()).context("find the build folder")?;
    Ok(Command::new(build.join("examples/notes")))
}

#[tokio::test]
async fn the_example_keeps_the_same_promises() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let mut command = program()?;
    command.env("WEBAPP__BIND", "127.0.0.1:0").env("WEBAPP__LEADER__URL", site.leader_url());
    for index in 0..3 {
        let name = format!("replica-{}", index + 1);
        command.env(format!("WEBAPP__REPLICAS__{index}__NAME"), name);
        command.env(format!("WEBAPP__REPLICAS__{index}__URL"), site.replica_url(index));
    }
    let mut running = Running(
        command
            .stderr(Stdio::piped())
            .spawn()
            .context("start the example; `cargo build -p webapp --example notes` makes it")?,
    );
    let log = BufReader::new(running.0.stderr.take().context("its log")?);
    let address = tokio::task::spawn_blocking(|| {
        let mut lines = log.lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("listening on "));
        // The rest must be read, or the program would wait for somebody to do so.
        std::thread::spawn(move || lines.for_each(drop));
        line
    });
    let line = address.await?.context("an address")?;
    let address = line.rsplit(' ').next().context("an address")?.to_owned();

    let http = reqwest::Client::new();
    let send = async |method: Method, path: &str, cookies: &str| {
        Reply::of(http.request(method, format!("{address}/{path}")).header("cookie", cookies)).await
    };
    let before = send(Method::GET, "", "").await?;
    ensure!(before.code() == 200 && before.served_by().starts_with("replica"), "{before:?}");
    let written = send(Method::POST, "a-note", "").await?;
    ensure!(written.code() == 200 && written.served_by() == "leader", "{written:?}");
    let mine = send(Method::GET, "", &written.cookies()).await?;
    ensure!(mine.text.parse::<i64>()? == before.text.parse::<i64>()? + 1, "{before:?} {mine:?}");
    let strangers = send(Method::GET, "", "").await?;
    ensure!(strangers.text == before.text, "nothing has been replicated: {strangers:?}");
    site.replicate(&[1]).await?;
    let mine = send(Method::GET, "", &written.cookies()).await?;
    ensure!(mine.served_by() == "replica-2", "{mine:?}");
    Ok(())
}
