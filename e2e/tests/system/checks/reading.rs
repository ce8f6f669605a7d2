//! Pages for those who don't see them as they are drawn: without style sheets, and by the place where the focus is.

use std::rc::Rc;

use anyhow::ensure;
use e2e::wait;
use serde_json::json;

use super::{pages, pictures};
use crate::system::{ADMIN_TOKEN, PATIENCE, System};
use crate::webdriver::Browser;

/// What is wrong with the order of a page that has no style sheet: sentences, none when all is well.
const ORDER: &str = r#"
    for (const sheet of document.styleSheets) sheet.disabled = true;
    const wrong = [];
    const before = (a, b) => a && b && (a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING);
    const one = (selector) => document.querySelector(selector);
    if (document.querySelectorAll("h1").length !== 1) wrong.push("not one h1");
    const first = one("a, button, input, select, textarea");
    if (!first.matches("a[href='#main']")) wrong.push("the first link does not skip to the content");
    for (const [a, b] of [["header", "main"], ["main", "footer"], ["main h1, main .verdict", "main form, main table"]])
        if (one(b) && !before(one(a), one(b))) wrong.push(`${b} stands before ${a}`);
    let level = 1;
    for (const heading of document.querySelectorAll("main h1, main h2, main h3, main h4")) {
        const now = Number(heading.tagName[1]);
        if (now > level + 1) wrong.push(`'${heading.textContent.trim()}' is an h${now} below an h${level}`);
        level = now;
    }
    for (const field of document.querySelectorAll("main input:not([type=hidden]):not([type=checkbox]), main select, main textarea"))
        if (!before(field.labels && field.labels[0], field)) wrong.push(`${field.id} has no label before it`);
    for (const table of document.querySelectorAll("main table"))
        if (!table.querySelector("th[scope=col]")) wrong.push("a table without headings of its columns");
    return wrong;"#;

/// Whether what is drawn stands in the order in which it is written: the tops of headings, down the narrow page.
const DRAWN: &str = r#"
    const tops = [...document.querySelectorAll("main h1, main h2, main h3")].filter((h) => h.offsetParent && !h.matches(".hidden"))
        .map((h) => [h.getBoundingClientRect().top, h.textContent.trim()]);
    return tops.filter(([top], index) => index > 0 && top < tops[index - 1][0]).map(([, text]) => `'${text}' is drawn above what it follows`);"#;

/// Without style sheets the order of each page makes sense, and with them it is the same.
pub(super) async fn without_styles(system: Rc<System>) -> anyhow::Result<()> {
    let run = pictures::run(&system).await?;
    let browser = Browser::open().await?;
    browser.look_like(320, "light").await?;
    let mut wrong = Vec::new();
    for (name, path) in pages::pages(&run) {
        browser.visit(&system.http_url("webapp", &path)?).await?;
        for script in [DRAWN, ORDER] {
            let found = browser.run(script).await?;
            if found != json!([]) {
                wrong.push(format!("{name}: {found}"));
            }
        }
        pictures::keep(&system, &browser, &format!("{name}-without-styles")).await?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The scripts can find something: a heading of the third level behind one of the first.
    browser.run("document.querySelector('main h1').insertAdjacentHTML('afterend', '<h3>x</h3>')").await?;
    ensure!(browser.run(ORDER).await? != json!([]), "a level that is left out is not found");
    let errors = browser.console_errors().await?;
    ensure!(errors.iter().all(|error| error.contains("404")), "{errors:?}");
    browser.close().await
}

/// Whoever has the focus somewhere on a page that changes by itself keeps it there, whatever else comes and goes.
pub(super) async fn focus_stays(system: Rc<System>) -> anyhow::Result<()> {
    let outcome = focus_on(&system).await;
    // Whatever came of it, the replica answers those that follow.
    drain(&system, "return").await?;
    outcome
}

async fn focus_on(system: &System) -> anyhow::Result<()> {
    let browser = Browser::open().await?;
    for (path, selector) in [
        ("/status", "a[href='/status/replicas/replica-2']"),
        ("/status", "#live-status [tabindex='0']"),
        ("/", "#live-home a[href='/status/replicas/replica-2']"),
        ("/status/replicas/replica-2", "#live-replica"),
    ] {
        browser.visit(&system.http_url("webapp", path)?).await?;
        let focus = format!(
            "const one = document.querySelector(\"{selector}\"); if (one.tabIndex < 0) one.tabIndex = -1;
             one.focus(); window.chosen = one; window.looks = 0;
             new MutationObserver(() => {{ window.looks += 1; }}).observe(document.querySelector('main'),
                 {{ subtree: true, childList: true, characterData: true, attributes: true }});
             return document.activeElement === one"
        );
        ensure!(browser.run(&focus).await? == true, "{path}: {selector} takes no focus");
        // Something that was not there appears above it, and goes again.
        for (action, is_there) in [("drain", true), ("return", false)] {
            drain(system, action).await?;
            wait::until("the page to change", PATIENCE, async || {
                let text = browser.text().await.map_err(|error| error.to_string())?;
                let looks =
                    browser.run("return window.looks > 0").await.map_err(|error| error.to_string())?;
                if looks == true && has_drained(&text) == is_there { Ok(()) } else { Err(text) }
            })
            .await?;
            let kept = "return document.activeElement === window.chosen && window.chosen.isConnected";
            let now = browser.run("return document.activeElement.outerHTML.slice(0, 120)").await?;
            ensure!(browser.run(kept).await? == true, "{path}: after {action} the focus is on {now}");
        }
    }
    println!("  the focus stays while a complaint comes and goes above it");
    browser.close().await
}

/// A replica that is drained is named on each of these pages.
fn has_drained(text: &str) -> bool {
    text.to_lowercase().contains("drained")
}

async fn drain(system: &System, action: &str) -> anyhow::Result<()> {
    let url = system.http_url("webapp", &format!("/api/replicas/replica-2/{action}"))?;
    let answer = system.http().post(url).bearer_auth(ADMIN_TOKEN).send().await?;
    ensure!(answer.status().is_success(), "{action} answered {}", answer.status());
    Ok(())
}
