//! The first start, as somebody sees it who is early: the pages are there before anything else is, say what is missing, and
//! tick it off as it comes.

use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::wait;
use serde_json::Value;

use super::pages;
use crate::system::{PATIENCE, REPLICAS, System, script};
use crate::webdriver::Browser;

/// The ports of a second system, beside the first one's.
const BESIDE: u16 = 400;

/// No page may keep a person waiting longer, whatever is missing.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Figures that are nothing but a zero: nobody has counted anything yet.
const ZEROS: &str =
    "return [...document.querySelectorAll('main dd, main .flow')].map((e) => e.textContent.trim())
    .filter((text) => /^0([.,]0+)?( ?(ms|s|\\/s|B|changes))?$/.test(text) || text === 'Caught up')";

/// The lines of the list, with whether each is ticked.
const TICKS: &str =
    "return [...document.querySelectorAll('ul.checks li')].map((line) => line.textContent.trim())";

pub(super) async fn ticks_itself_off(system: Rc<System>) -> anyhow::Result<()> {
    let early = system.beside(BESIDE)?;
    let outcome = boots(&early).await;
    let stopped = early.stop().await.context("stop the second system");
    outcome.and(stopped)
}

async fn boots(system: &System) -> anyhow::Result<()> {
    let mode = system.source().mode();
    let empty = ["--mode", mode, "--fresh", "--only", "infrastructure"];
    script(system.command("start-system.sh").args(empty)).await?;
    for service in REPLICAS.iter().copied().chain(["leader"]) {
        system.service("stop", service).await?;
    }
    for program in ["webapp", "replicator"] {
        fs::create_dir_all(system.state().join(program)).context("make the program's folder")?;
    }
    system.service_without_waiting("start", "webapp").await?;
    wait::until("the web application to answer", PATIENCE, async || {
        let answer = system.get("webapp", "/livez").await.map_err(|error| error.to_string())?;
        if answer.0 == 200 { Ok(()) } else { Err(answer.0.to_string()) }
    })
    .await?;

    let browser = Browser::open().await?;
    browser.visit(&system.http_url("webapp", "/")?).await?;
    browser.await_text("Getting ready").await?;
    await_ticks(&browser, 0).await?;
    look(system, &browser, "boot-1-nothing").await?;
    every_page_answers(system).await?;

    system.service("start", "leader").await?;
    await_ticks(&browser, 1).await?;
    look(system, &browser, "boot-2-leader").await?;
    for replica in REPLICAS {
        system.service("start", replica).await?;
    }
    // They answer, and are empty: nothing that can be read is on them.
    browser.await_text("0 of 3 replicas have their first rows").await?;
    browser.await_text("Waiting for its first copy").await?;
    look(system, &browser, "boot-3-empty-replicas").await?;
    every_page_answers(system).await?;

    system.service_without_waiting("start", "replicator").await?;
    browser.await_text("All 3 replicas are caught up").await?;
    wait::until("the list to be gone", PATIENCE, async || {
        let text = browser.text().await.map_err(|error| error.to_string())?;
        if text.contains("Getting ready") { Err(text) } else { Ok(()) }
    })
    .await?;
    look(system, &browser, "boot-4-ready").await?;
    let errors = browser.console_errors().await?;
    ensure!(errors.is_empty(), "the console shows {errors:?}");
    println!("  the same page, never reloaded, went from nothing to caught up");
    browser.close().await
}

/// Waits until so many lines are ticked, and demands that no figure is a zero meanwhile.
async fn await_ticks(browser: &Browser, count: usize) -> anyhow::Result<()> {
    wait::until(&format!("{count} ticks"), PATIENCE, async || {
        let lines = browser.run(TICKS).await.map_err(|error| error.to_string())?;
        let lines: Vec<&str> = lines.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let ticked = lines.iter().filter(|line| line.starts_with('✓')).count();
        if !lines.is_empty() && ticked == count { Ok(()) } else { Err(lines.join("; ")) }
    })
    .await?;
    let zeros = browser.run(ZEROS).await?;
    ensure!(zeros.as_array().is_some_and(Vec::is_empty), "shown as facts: {zeros}");
    Ok(())
}

async fn look(system: &System, browser: &Browser, name: &str) -> anyhow::Result<()> {
    let findings = pages::look(system, browser, name).await?;
    ensure!(findings.is_empty(), "axe found:\n{}", findings.join("\n"));
    Ok(())
}

async fn every_page_answers(system: &System) -> anyhow::Result<()> {
    for (name, path) in pages::pages("00000000-0000-7000-8000-000000000000") {
        let started = Instant::now();
        let answer = system.http().get(system.http_url("webapp", &path)?).send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        ensure!(status != 500 && text.contains("</html>"), "{name} answered {status}: {text}");
        ensure!(started.elapsed() < ANSWER_WITHIN, "{name} took {:?}", started.elapsed());
    }
    Ok(())
}
