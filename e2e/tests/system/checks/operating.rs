//! What an operator does from the pages, in a browser: sign in, pause and resume, drain and return, copy a table afresh.

use std::rc::Rc;

use anyhow::{Context, ensure};
use e2e::wait;

use super::pages;
use crate::system::{ADMIN_TOKEN, Login, PATIENCE, System};
use crate::webdriver::Browser;

/// Reads while a replica is drained: in turn, each other one would get several.
const READS: usize = 12;

pub(super) async fn from_the_pages(system: Rc<System>) -> anyhow::Result<()> {
    let browser = Browser::open().await?;
    let status = system.http_url("webapp", "/status")?;
    browser.visit(&status).await?;
    browser.click_text("Sign in to operate").await?;
    let mut findings = pages::look(&system, &browser, "sign-in").await?;
    browser.fill("#token", ADMIN_TOKEN).await?;
    browser.click_text("Sign in").await?;
    browser.await_text("Operate").await?;
    findings.extend(pages::look(&system, &browser, "operate").await?);

    browser.click_text("Pause replica-2").await?;
    browser.await_text("Nothing more becomes visible on replica-2").await?;
    findings.extend(pages::look(&system, &browser, "confirm").await?);
    browser.click_text("Pause replica-2").await?;
    browser.await_text("replica-2 stands still until somebody resumes it.").await?;
    ensure!(paused_by(&system).await?.as_deref() == Some("the admin API"), "replica-2 is not paused");
    browser.visit(&status).await?;
    browser.await_text("replica-2 is paused").await?;
    pages::look(&system, &browser, "status-paused").await?;
    confirm(&browser, "Resume replica-2", "replica-2 goes on.").await?;
    ensure!(paused_by(&system).await?.is_none(), "replica-2 is paused still");

    browser.visit(&status).await?;
    confirm(&browser, "Drain replica-3", "replica-3 gets no more reads until somebody returns it.").await?;
    for _ in 0..READS {
        let answer = system.http().get(system.http_url("webapp", "/api/posts?limit=1")?).send().await?;
        let by = answer.headers().get("x-served-by").context("find who answered")?;
        ensure!(by != "replica-3", "the drained replica answered");
    }
    browser.visit(&status).await?;
    browser.await_text("replica-3 is drained").await?;
    confirm(&browser, "Return replica-3", "replica-3 gets reads again.").await?;

    browser.visit(&system.http_url("webapp", "/status/replicas/replica-2")?).await?;
    findings.extend(pages::look(&system, &browser, "operate-replica").await?);
    browser.run("document.querySelector('#copied').value = 'public.likes'").await?;
    browser.click_text("Copy afresh").await?;
    browser.await_text("One table of replica-2 is copied afresh from the leader: public.likes").await?;
    browser.click_text("Copy afresh public.likes on replica-2").await?;
    browser.await_text("A copy was asked for.").await?;
    await_copied(&system).await?;
    system.assert_equal().await.context("compare the replicas after the copy")?;
    browser.click_text("Sign out").await?;
    browser.await_text("Sign in to operate").await?;
    ensure!(findings.is_empty(), "axe found:\n{}", findings.join("\n"));
    browser.close().await?;
    everybody_reads(&system).await
}

/// Presses a button, and the one of the same name on the page that asks whether it is meant.
async fn confirm(browser: &Browser, button: &str, said: &str) -> anyhow::Result<()> {
    browser.click_text(button).await?;
    browser.await_text("What will happen").await?;
    browser.click_text(button).await?;
    browser.await_text(said).await
}

async fn paused_by(system: &System) -> anyhow::Result<Option<String>> {
    let replica = system.connect("replica-2", Login::Reader).await?;
    Ok(replica.query_one("SELECT paused_by FROM replicator.progress", &[]).await?.get(0))
}

/// Waits until the replicator has fulfilled what was asked.
async fn await_copied(system: &System) -> anyhow::Result<()> {
    let replica = system.connect("replica-2", Login::Owner).await?;
    wait::until("replica-2 to be copied", PATIENCE, async || {
        let asked = "SELECT count(*) FROM replicator.control WHERE kind = 'rebuild'";
        let row = replica.query_one(asked, &[]).await.map_err(|error| error.to_string())?;
        if row.get::<_, i64>(0) == 0 { Ok(()) } else { Err("a copy is asked for still".to_owned()) }
    })
    .await
}

/// Nothing of this is left to the checks that follow.
async fn everybody_reads(system: &System) -> anyhow::Result<()> {
    wait::until("all replicas to answer reads", PATIENCE, async || {
        let (_, status) = system.get("webapp", "/api/status").await.map_err(|error| error.to_string())?;
        let replicas = status["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
        let out = replicas.iter().any(|replica| replica["in_rotation"] != true);
        if !replicas.is_empty() && !out { Ok(()) } else { Err(status.to_string()) }
    })
    .await
}
