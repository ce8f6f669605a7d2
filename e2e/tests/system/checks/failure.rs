//! The failure experiment by its own buttons: a replica is taken away while the reads go on, and brought back, by mouse and by
//! keyboard. Nobody is shown an error, and the sentence says where it happened.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::wait;

use super::pages::{self, ENTER, tab_to};
use super::pictures;
use crate::system::{PATIENCE, System};
use crate::webdriver::Browser;

/// Enough reads that somebody can act meanwhile: one replica takes some milliseconds for each of its own.
const READS: u64 = 6000;

pub(super) async fn by_its_buttons(system: Rc<System>) -> anyhow::Result<()> {
    for by_keyboard in [false, true] {
        let browser = Browser::open().await?;
        browser.visit(&system.http_url("webapp", "/demo?experiment=failure")?).await?;
        browser.fill("#reads", &READS.to_string()).await?;
        // The plan takes nobody away: the buttons do.
        for (field, value) in [("slower", "replica-1"), ("drain", "none")] {
            browser.run(&format!("document.getElementById('{field}').value = '{value}'")).await?;
        }
        browser.fill("#slower_ms", "4").await?;
        press(&browser, "Run", by_keyboard).await?;
        await_reads(&browser, READS / 6).await?;
        press(&browser, "Take replica-2 away", by_keyboard).await?;
        await_pressed(&browser, true).await?;
        let left = await_reads(&browser, READS / 3).await?;
        pictures::keep(&system, &browser, "failure-while-away").await?;
        press(&browser, "Take replica-2 away", by_keyboard).await?;
        await_pressed(&browser, false).await?;
        browser.await_text("Belief = truth").await?;
        let shown = browser.text().await?;
        let sentence = shown.lines().find(|line| line.contains("replica-2 left the rotation after"));
        let sentence = sentence.with_context(|| format!("no sentence says where: {shown}"))?;
        ensure!(sentence.contains("and returned after"), "it did not return: {sentence}");
        ensure!(shown.contains("Errors shown\n0"), "an error was shown: {shown}");
        let page = browser.url().await?;
        let (_, id) = page.rsplit_once('/').context("find the run")?;
        let (_, run) = system.get("webapp", &format!("/demo/runs/{id}.json")).await?;
        ensure!(run["errors"] == 0 && run["mismatches"] == 0 && run["done"] == READS, "{run}");
        let sequence = run["sequence"].as_array().context("read the sequence")?;
        let to_second =
            |part: &[serde_json::Value]| part.iter().filter(|server| **server == "replica-2").count();
        let (begin, end) = (&sequence[..READS as usize / 10], &sequence[sequence.len() - 100..]);
        ensure!(to_second(begin) > 0 && to_second(end) > 0, "it was there at the beginning and at the end");
        let findings = pages::look(&system, &browser, "failure-run").await?;
        ensure!(findings.is_empty(), "axe found:\n{}", findings.join("\n"));
        let how = if by_keyboard { "keyboard" } else { "mouse" };
        println!("  by {how}, taken away before read {left}: {sentence}");
        browser.close().await?;
    }
    Ok(())
}

async fn press(browser: &Browser, button: &str, by_keyboard: bool) -> anyhow::Result<()> {
    if !by_keyboard {
        return browser.click_text(button).await;
    }
    let is_there = format!("return document.activeElement.textContent.trim() === '{button}'");
    // The key works on the button that has the focus already, too.
    if browser.run(&is_there).await? != true {
        tab_to(browser, button, &is_there).await?;
    }
    browser.press(ENTER).await
}

/// Waits until the page shows that so many reads are made; returns how many are.
async fn await_reads(browser: &Browser, count: u64) -> anyhow::Result<u64> {
    wait::until(&format!("{count} reads"), PATIENCE, async || {
        let done = browser.run("return document.getElementById('live-bar').value").await;
        let done = done.map_err(|error| error.to_string())?.as_f64().unwrap_or_default() as u64;
        if done >= count { Ok(done) } else { Err(format!("{done} reads")) }
    })
    .await
}

async fn await_pressed(browser: &Browser, pressed: bool) -> anyhow::Result<()> {
    let expected = if pressed { "true" } else { "false" };
    wait::until("the button to show it", Duration::from_secs(10), async || {
        let script =
            "return document.querySelector('[data-away=\"replica-2\"]').getAttribute('aria-pressed')";
        let shown = browser.run(script).await.map_err(|error| error.to_string())?;
        if shown.as_str() == Some(expected) { Ok(()) } else { Err(shown.to_string()) }
    })
    .await
}
