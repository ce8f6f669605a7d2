//! Every page, in every state that the system can be in, as a browser shows it: the right sentence, no error, nothing that
//! leaves the site, and nothing that somebody can't use (axe).

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::wait;
use serde_json::{Value, json};

use super::pictures::{self, LOOKS};
use crate::settings::Source;
use crate::system::{PATIENCE, REPLICAS, System};
use crate::webdriver::Browser;

/// A post that is there from the start (`postgres/leader/50-seed.sql`).
const SEED: &str = "018f0000-0000-7000-8000-000000000001";

const AXE: &str = include_str!("../axe/axe.min.js");

/// No page may keep a person waiting longer, whatever is down.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Special keys (W3C WebDriver, 17.4.2).
const TAB: &str = "\u{e004}";
pub(super) const ENTER: &str = "\u{e007}";
const RIGHT: &str = "\u{e014}";
const DOWN: &str = "\u{e015}";
const END: &str = "\u{e010}";

/// All kinds of pages. The last one does not exist: its page must be as good as the others.
pub(super) fn pages(run: &str) -> Vec<(&'static str, String)> {
    vec![
        ("home", "/".to_owned()),
        ("posts", "/posts".to_owned()),
        ("post", format!("/posts/{SEED}")),
        ("write", "/posts/new".to_owned()),
        ("user", "/users/ada".to_owned()),
        ("demo", "/demo".to_owned()),
        ("experiment", "/demo?experiment=time-travel".to_owned()),
        ("run", format!("/demo/runs/{run}")),
        ("status", "/status".to_owned()),
        ("replica", "/status/replicas/replica-2?compare=1".to_owned()),
        ("changes", "/changes?all=1".to_owned()),
        ("api", "/api".to_owned()),
        ("errors", "/errors".to_owned()),
        ("missing", "/nowhere".to_owned()),
    ]
}

/// Each page in light and dark, narrow and wide, with axe; and a picture of each for people to look at.
pub(super) async fn accessible(system: Rc<System>) -> anyhow::Result<()> {
    let run = pictures::run(&system).await?;
    let browser = Browser::open().await?;
    browser.visit(&system.http_url("webapp", "/")?).await?;
    browser.run("document.querySelector('main').append(document.createElement('select'))").await?;
    ensure!(
        !examine(&browser).await?.is_empty(),
        "axe does not find a field without a name, so it finds nothing"
    );
    let mut looked = 0;
    let mut findings = Vec::new();
    for (name, path) in pages(&run) {
        browser.visit(&system.http_url("webapp", &path)?).await?;
        findings.extend(look(&system, &browser, name).await?);
        looked += LOOKS.len();
        let strangers = browser.run(OTHER_ORIGINS).await?;
        ensure!(strangers == json!([]), "{name} asked other sites: {strangers}");
    }
    ensure!(findings.is_empty(), "axe found:\n{}", findings.join("\n"));
    // The missing page is a 404, which the console notes; a broken policy would be noted, too.
    let errors = browser.console_errors().await?;
    let unexpected: Vec<&String> = errors.iter().filter(|error| !error.contains("404")).collect();
    ensure!(unexpected.is_empty(), "the console shows {unexpected:?}");
    browser.close().await?;
    println!(
        "  {looked} looks with axe: nothing serious; pictures in {}",
        pictures::folder(&system).display()
    );
    Ok(())
}

/// The present page in light and dark, narrow and wide: what axe finds. A picture of each is kept.
pub(super) async fn look(system: &System, browser: &Browser, name: &str) -> anyhow::Result<Vec<String>> {
    let mut findings = Vec::new();
    for (width, colours) in LOOKS {
        let name = format!("{name}-{width}-{colours}");
        pictures::show(browser, &name, (width, colours)).await?;
        findings.extend(examine(browser).await?.into_iter().map(|finding| format!("{name}: {finding}")));
        pictures::keep(system, browser, &name).await?;
    }
    Ok(findings)
}

/// The demo without a pointer: to the button, through the marks of the result.
pub(super) async fn by_keyboard(system: Rc<System>) -> anyhow::Result<()> {
    let browser = Browser::open().await?;
    browser.visit(&system.http_url("webapp", "/demo")?).await?;
    tab_to(&browser, "the Run button", "return document.activeElement.textContent.trim() === 'Run'").await?;
    browser.press(ENTER).await?;
    browser.await_text("Belief = truth").await?;
    tab_to(&browser, "the marks", "return document.activeElement.hasAttribute('data-waffle')").await?;
    browser.press(&format!("{RIGHT}{RIGHT}{DOWN}")).await?;
    browser.await_text("#42 replica-").await?;
    browser.press(END).await?;
    browser.await_text("#1000 replica-").await?;
    browser.close().await
}

/// Presses the tab key until the focus is where it shall be. Whoever tabs must come there, so there is an end to it.
pub(super) async fn tab_to(browser: &Browser, what: &str, is_there: &str) -> anyhow::Result<()> {
    for _ in 0..40 {
        browser.press(TAB).await?;
        if browser.run(is_there).await? == true {
            let outlined =
                "const s = getComputedStyle(document.activeElement); return s.outlineStyle !== 'none'";
            ensure!(browser.run(outlined).await? == true, "nobody sees that the focus is on {what}");
            return Ok(());
        }
    }
    anyhow::bail!("the tab key does not lead to {what}")
}

/// Pages without JavaScript: a post is written, the demo runs, the status is readable.
pub(super) async fn without_scripts(system: Rc<System>) -> anyhow::Result<()> {
    let browser = Browser::open().await?;
    browser.chromium("Emulation.setScriptExecutionDisabled", &json!({ "value": true })).await?;
    browser.visit(&system.http_url("webapp", "/status")?).await?;
    browser.await_text("replicas are caught up").await?;
    browser.visit(&system.http_url("webapp", "/demo")?).await?;
    browser.click_text("Run").await?;
    browser.await_text("334 / 333 / 333").await?;
    browser.visit(&system.http_url("webapp", "/posts/new")?).await?;
    browser.fill("#user_id", "noscript").await?;
    browser.fill("#content", "Written without a script").await?;
    browser.click_text("Save").await?;
    browser.await_text("Written without a script").await?;
    browser.click_text("Edit").await?;
    browser.fill("#content", "Edited without a script").await?;
    browser.click_text("Save").await?;
    browser.await_text("Edited without a script").await?;
    browser.click_text("Delete…").await?;
    browser.click_text("Delete the post of noscript").await?;
    browser.await_text("The post and everything about it is deleted.").await?;
    browser.close().await
}

/// A page that was opened before something broke says so by itself, and says by itself that it is well again. Meanwhile
/// every page answers in time, and none with a fault of ours.
pub(super) async fn outages(system: Rc<System>) -> anyhow::Result<()> {
    let mut outages = vec![
        (vec!["replica-2"], "2 of 3 replicas answer reads. replica-2 is left out"),
        (REPLICAS.to_vec(), "No replica answers"),
        (vec!["leader"], "The leader can't be reached: nothing can be written"),
        (vec!["replicator"], "The replicator does not answer"),
    ];
    if system.source() == Source::Kafka {
        outages.push((vec!["broker"], "The broker is down"));
        outages.push((vec!["connect"], "Kafka Connect does not answer"));
    }
    let run = pictures::run(&system).await?;
    let browser = Browser::open().await?;
    browser.visit(&system.http_url("webapp", "/status")?).await?;
    for (services, sentence) in outages {
        for service in &services {
            system.service("stop", service).await?;
        }
        let during = during(&system, &browser, &services, sentence, &run).await;
        for service in &services {
            system.service("start", service).await?;
        }
        during.with_context(|| format!("with {} stopped", services.join(", ")))?;
        system.await_replicas().await?;
        browser.await_text("All 3 replicas are caught up").await?;
    }
    if system.source() == Source::Kafka {
        system.await_connector().await?;
    }
    let errors = browser.console_errors().await?;
    let policy: Vec<&String> =
        errors.iter().filter(|error| error.contains("Content Security Policy")).collect();
    ensure!(policy.is_empty(), "{policy:?}");
    browser.close().await
}

async fn during(
    system: &System,
    browser: &Browser,
    services: &[&str],
    sentence: &str,
    run: &str,
) -> anyhow::Result<()> {
    browser.await_text(sentence).await?;
    let findings = examine(browser).await?;
    ensure!(findings.is_empty(), "axe found {}", findings.join("; "));
    let mut slowest = Duration::ZERO;
    for (name, path) in pages("00000000-0000-7000-8000-000000000000") {
        let started = Instant::now();
        let answer = system.http().get(system.http_url("webapp", &path)?).send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        let took = started.elapsed();
        slowest = slowest.max(took);
        ensure!(status != 500 && text.contains("</html>"), "{name} answered {status}: {text}");
        ensure!(took < ANSWER_WITHIN, "{name} took {took:?}");
        // Said before somebody types, and not after.
        let is_warned = text.contains("nothing can be saved now");
        ensure!(name != "write" || is_warned == (*services == ["leader"]), "{name} is silent: {text}");
    }
    let looked = Instant::now();
    pictures::of_every_page(system, run, &format!("without-{}", services.join("-"))).await?;
    println!(
        "  without {}: the slowest page took {slowest:.1?}; pictures of all in {:.1?}",
        services.join(", "),
        looked.elapsed()
    );
    Ok(())
}

/// Requests of the page that went elsewhere.
const OTHER_ORIGINS: &str = "return performance.getEntriesByType('resource').map((entry) => entry.name)
    .filter((name) => new URL(name).origin !== location.origin)";

/// What axe finds serious or critical, a line for each place.
async fn examine(browser: &Browser) -> anyhow::Result<Vec<String>> {
    let script = format!(
        "{AXE}
        axe.run(document, {{ resultTypes: ['violations'] }}).then(
            (results) => done(results.violations.filter((v) => ['serious', 'critical'].includes(v.impact)).map((v) =>
                `${{v.id}} (${{v.help}}): ` + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(' | '))),
            (error) => done([`axe failed: ${{error}}`]))"
    );
    let found = browser.run_until_done(&script).await.context("run axe")?;
    let found = found.as_array().context("read axe's findings")?;
    Ok(found.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// Opens the status page in two tabs' worth of streams and shows that they cost the databases nothing.
pub(super) async fn streams(system: Rc<System>) -> anyhow::Result<()> {
    let sessions = async || {
        let replica = system.connect("replica-1", crate::system::Login::Owner).await?;
        let row = replica
            .query_one("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'webapp'", &[])
            .await?;
        anyhow::Ok(row.get::<_, i64>(0))
    };
    let before = sessions().await?;
    let url = system.http_url("webapp", "/live/status")?;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(system.http().get(&url).send().await?);
    }
    wait::until("each stream to have an event", PATIENCE, async || {
        for stream in &mut open {
            stream.chunk().await.map_err(|error| error.to_string())?.ok_or("a stream ended")?;
        }
        Ok(())
    })
    .await?;
    let during = sessions().await?;
    ensure!(during <= before, "20 streams took {before} sessions to {during}");
    println!("  20 streams open, {during} sessions on replica-1 as before");
    Ok(())
}
