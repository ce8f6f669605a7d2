//! A headless Chromium, driven through chromedriver: the few commands of the WebDriver protocol that the checks need.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use e2e::{process, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The key of an element reference in the protocol (W3C WebDriver, section 12.3).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

const PATIENCE: Duration = Duration::from_secs(30);

/// Without a sandbox, because root can't have one; and without Chromium's own traffic, which would only fail here.
const ARGUMENTS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
];

pub(crate) struct Browser {
    driver: Child,
    http: reqwest::Client,
    session: String,
    /// Removed after the browser has ended.
    profile: tempfile::TempDir,
}

impl Browser {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let profile = tempfile::tempdir().context("make the browser's profile")?;
        let mut command = Command::new("chromedriver");
        command
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let driver = command.spawn().context("start chromedriver (Debian's package chromium-driver)")?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
        let mut browser = Self { driver, http, session: format!("http://127.0.0.1:{port}"), profile };
        wait::until("chromedriver to be ready", PATIENCE, async || {
            let status = browser
                .command("GET", "/status", &Value::Null)
                .await
                .map_err(|error| format!("{error:#}"))?;
            if status["ready"] == true { Ok(()) } else { Err(status.to_string()) }
        })
        .await?;
        let profile = format!("--user-data-dir={}", browser.profile.path().display());
        let arguments: Vec<&str> = ARGUMENTS.iter().copied().chain([profile.as_str()]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let session = browser.command("POST", "/session", &wanted).await.context("open Chromium")?;
        let id = session["sessionId"].as_str().context("find the session's id")?;
        browser.session = format!("{}/session/{id}", browser.session);
        Ok(browser)
    }

    /// Opens an address and waits until the page is loaded.
    pub(crate) async fn visit(&self, url: &str) -> anyhow::Result<()> {
        self.command("POST", "/url", &json!({ "url": url })).await.with_context(|| format!("open {url}"))?;
        Ok(())
    }

    /// The present address.
    pub(crate) async fn url(&self) -> anyhow::Result<String> {
        let url = self.command("GET", "/url", &Value::Null).await?;
        url.as_str().map(str::to_owned).context("read the address")
    }

    /// All text that a person sees.
    pub(crate) async fn text(&self) -> anyhow::Result<String> {
        let text = self.run("return document.body.innerText").await?;
        text.as_str().map(str::to_owned).context("read the page's text")
    }

    /// Waits until the page shows `text`.
    pub(crate) async fn await_text(&self, text: &str) -> anyhow::Result<()> {
        wait::until(&format!("the page to show '{text}'"), PATIENCE, async || {
            let shown = self.text().await.map_err(|error| format!("{error:#}"))?;
            if shown.contains(text) { Ok(()) } else { Err(shown) }
        })
        .await
    }

    /// The result of a script in the page.
    pub(crate) async fn run(&self, script: &str) -> anyhow::Result<Value> {
        self.command("POST", "/execute/sync", &json!({ "script": script, "args": [] })).await
    }

    /// Types into the element that a CSS selector names, in place of what is there.
    pub(crate) async fn fill(&self, selector: &str, text: &str) -> anyhow::Result<()> {
        let element = self.element("css selector", selector).await?;
        self.command("POST", &format!("/element/{element}/clear"), &json!({})).await?;
        self.command("POST", &format!("/element/{element}/value"), &json!({ "text": text })).await?;
        Ok(())
    }

    /// Clicks the link or button with this text, as a person would look for it.
    pub(crate) async fn click_text(&self, text: &str) -> anyhow::Result<()> {
        let named = format!("normalize-space(.)='{text}'");
        let path = format!("//a[{named}] | //button[{named}] | //summary[{named}]");
        let element = self.element("xpath", &path).await?;
        let clicked = self.command("POST", &format!("/element/{element}/click"), &json!({})).await;
        clicked.with_context(|| format!("click '{text}'"))?;
        Ok(())
    }

    async fn element(&self, strategy: &str, value: &str) -> anyhow::Result<String> {
        let query = json!({ "using": strategy, "value": value });
        wait::until(&format!("the element {value}"), PATIENCE, async || {
            let found =
                self.command("POST", "/element", &query).await.map_err(|error| format!("{error:#}"))?;
            found[ELEMENT].as_str().map(str::to_owned).ok_or_else(|| found.to_string())
        })
        .await
    }

    /// What a script passes to `done`, which is the last of its arguments.
    pub(crate) async fn run_until_done(&self, script: &str) -> anyhow::Result<Value> {
        let script = format!("const done = arguments[arguments.length - 1];\n{script}");
        self.command("POST", "/execute/async", &json!({ "script": script, "args": [] })).await
    }

    /// A command of Chromium's own protocol, for what WebDriver has no word.
    pub(crate) async fn chromium(&self, command: &str, parameters: &Value) -> anyhow::Result<Value> {
        let body = json!({ "cmd": command, "params": parameters });
        self.command("POST", "/goog/cdp/execute", &body)
            .await
            .with_context(|| format!("tell Chromium {command}"))
    }

    /// Pretends that the window is so wide and that the reader likes these colours: `light` or `dark`.
    pub(crate) async fn look_like(&self, width: u32, colours: &str) -> anyhow::Result<()> {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.chromium("Emulation.setDeviceMetricsOverride", &metrics).await?;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": colours }] });
        self.chromium("Emulation.setEmulatedMedia", &media).await?;
        Ok(())
    }

    /// The whole page as a picture (PNG), as wide as the window: by itself Chromium leaves out a scroll bar's width.
    pub(crate) async fn picture(&self) -> anyhow::Result<Vec<u8>> {
        let size = self.run("return [innerWidth, document.documentElement.scrollHeight]").await?;
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let whole = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let answer = self.chromium("Page.captureScreenshot", &whole).await?;
        let encoded = answer["data"].as_str().context("read the picture")?;
        base64::engine::general_purpose::STANDARD.decode(encoded).context("decode the picture")
    }

    /// Hides the window, and with it the page.
    pub(crate) async fn minimize(&self) -> anyhow::Result<()> {
        self.command("POST", "/window/minimize", &json!({})).await.context("hide the window").map(drop)
    }

    /// Shows a hidden window again.
    pub(crate) async fn restore(&self) -> anyhow::Result<()> {
        let size = json!({ "width": 1280, "height": 900 });
        self.command("POST", "/window/rect", &size).await.context("show the window").map(drop)
    }

    /// Presses keys one after the other, wherever the focus is. The codes of special keys are in W3C WebDriver, 17.4.2.
    pub(crate) async fn press(&self, keys: &str) -> anyhow::Result<()> {
        let strokes = keys.chars().flat_map(|key| {
            let key = key.to_string();
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        });
        let actions =
            json!({ "actions": [{ "type": "key", "id": "keys", "actions": strokes.collect::<Vec<_>>() }] });
        self.command("POST", "/actions", &actions).await?;
        Ok(())
    }

    /// Everything that the page wrote to the console as an error, since the last call.
    pub(crate) async fn console_errors(&self) -> anyhow::Result<Vec<String>> {
        let log = self.command("POST", "/se/log", &json!({ "type": "browser" })).await?;
        let entries = log.as_array().context("read the console")?;
        let errors = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        Ok(errors.map(|entry| entry["message"].to_string()).collect())
    }

    async fn command(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.http.request(method.parse()?, format!("{}{path}", self.session));
        let request = if body.is_null() { request } else { request.json(body) };
        let response = request.send().await.context("ask chromedriver")?;
        let is_success = response.status().is_success();
        let mut answer: Value = response.json().await.context("read chromedriver's answer")?;
        let value = answer["value"].take();
        if !is_success {
            bail!(
                "{}: {}",
                value["error"].as_str().unwrap_or("failed"),
                value["message"].as_str().unwrap_or_default()
            );
        }
        Ok(value)
    }

    /// Closes the browser. Its end is part of the check: a crashed one can't close.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        let errors = self.console_errors().await?;
        self.command("DELETE", "", &Value::Null).await.context("close Chromium")?;
        ensure!(errors.is_empty(), "the console shows errors: {}", errors.join("; "));
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let browsers = process::children(self.driver.id());
        // SIGTERM lets chromedriver end a browser that a failed check has left open; SIGKILL would orphan it.
        process::signal(self.driver.id(), Signal::TERM).ok();
        self.driver.wait().ok();
        // It has left one behind, whose page then held a stream of the system of a later run.
        for browser in browsers {
            process::signal(browser, Signal::TERM).ok();
        }
    }
}
