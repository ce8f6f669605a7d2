//! Pictures of the pages for people to look at, kept below `.run/screenshots`: every page, narrow and wide, in light and dark,
//! well and while a part of the system is away.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::json;

use super::pages;
use crate::system::System;
use crate::webdriver::Browser;

/// Widths and colours in which a page is looked at.
pub(super) const LOOKS: [(u32, &str); 4] = [(1280, "light"), (320, "dark"), (1280, "dark"), (320, "light")];

/// What makes the page wider than its window; what scrolls by itself does not.
const BEYOND_THE_EDGE: &str = "const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    return [...document.querySelectorAll('body *')].filter((element) =>
        element.getBoundingClientRect().right > root.clientWidth && !element.closest('.scroll'))
        .slice(0, 5).map((element) => element.outerHTML.slice(0, 120))";

/// Words in the drawing on Home that stand on a box that is not theirs, or beyond their own box: nobody could read them.
const HIDDEN_WORDS: &str = "return [...document.querySelectorAll('svg.topology')]
    .filter((svg) => svg.getClientRects().length).flatMap((svg) => {
        const boxes = [...svg.querySelectorAll('.node')].map((node) => [node, node.querySelector('rect').getBoundingClientRect()]);
        return [...svg.querySelectorAll('text')].filter((text) => {
            const own = text.closest('.node'), words = text.getBoundingClientRect();
            return boxes.some(([node, box]) => node === own ? words.right > box.right || words.left < box.left :
                words.left < box.right && words.right > box.left && words.top < box.bottom && words.bottom > box.top);
        }).map((text) => text.textContent)
    })";

/// Makes the page look so, and demands that all of it can be seen.
pub(super) async fn show(browser: &Browser, name: &str, (width, colours): (u32, &str)) -> anyhow::Result<()> {
    browser.look_like(width, colours).await?;
    for (script, fault) in [(BEYOND_THE_EDGE, "is wider than the window"), (HIDDEN_WORDS, "hides words")] {
        let found = browser.run(script).await?;
        ensure!(found == json!([]), "{name} at {width} px {fault}: {found}");
    }
    Ok(())
}

/// Keeps a picture of the present page for people to look at.
pub(super) async fn keep(system: &System, browser: &Browser, name: &str) -> anyhow::Result<()> {
    let folder = folder(system);
    fs::create_dir_all(&folder).context("make the folder for pictures")?;
    fs::write(folder.join(format!("{name}.png")), browser.picture().await?).context("keep a picture")
}

/// Where they are kept.
pub(super) fn folder(system: &System) -> PathBuf {
    let folder = system.state();
    folder.parent().unwrap_or(&folder).join("screenshots").join(system.source().mode())
}

/// A picture of every page as it is now, in one look each, the next page in the next; in all with `E2E_PICTURES=all`.
pub(super) async fn of_every_page(system: &System, run: &str, when: &str) -> anyhow::Result<()> {
    let is_whole = std::env::var("E2E_PICTURES").is_ok_and(|wanted| wanted == "all");
    let looks = if is_whole { LOOKS.len() } else { 1 };
    // Of its own: the page that is open elsewhere is to recover without being loaded again.
    let browser = Browser::open().await?;
    for (index, (page, path)) in pages::pages(run).into_iter().enumerate() {
        browser.visit(&system.http_url("webapp", &path)?).await?;
        for look in LOOKS.iter().cycle().skip(index).take(looks) {
            let name = format!("{when}-{page}-{}-{}", look.0, look.1);
            show(&browser, &name, *look).await?;
            keep(system, &browser, &name).await?;
        }
    }
    // Pages that can't be had are a 503, and the missing one a 404: the console notes these, and nothing else.
    let errors = browser.console_errors().await?;
    let is_expected = |error: &String| error.contains("503") || error.contains("404");
    ensure!(errors.iter().all(is_expected), "the console shows {errors:?}");
    browser.close().await
}

/// A finished run of the demo, to be looked at again.
pub(super) async fn run(system: &System) -> anyhow::Result<String> {
    let (_, run) = system.get("webapp", "/api/demo?reads=1000").await?;
    run["id"].as_str().map(str::to_owned).with_context(|| format!("find the run's id in {run}"))
}
