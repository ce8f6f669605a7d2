//! What people do with forms besides sending them once: twice, back and again, reload, and too late.

use std::rc::Rc;

use anyhow::{Context, ensure};
use serde_json::json;

use super::web;
use crate::system::{Login, System};
use crate::webdriver::Browser;

/// Who writes here.
const WRITER: &str = "impatient";

/// How the document was answered that the window shows.
const STATUS: &str = "return performance.getEntriesByType('navigation')[0].responseStatus";

/// Sending a form twice, from the page before, or again by reload makes no second row.
pub(super) async fn twice(system: Rc<System>) -> anyhow::Result<()> {
    clear(&system).await?;
    let browser = Browser::open().await?;
    let new = system.http_url("webapp", "/posts/new")?;
    let fill = async |text: &str| {
        browser.visit(&new).await?;
        browser.fill("#user_id", WRITER).await?;
        browser.fill("#content", text).await
    };

    fill("sent by a double click").await?;
    browser
        .run("const f = document.querySelector('form.stack'); f.requestSubmit(); f.requestSubmit()")
        .await?;
    browser.await_text("Saved on the leader").await?;
    ensure!(rows(&system).await? == 1, "a double click made {} posts", rows(&system).await?);

    fill("sent, and sent again from the page before").await?;
    browser.click_text("Save").await?;
    browser.await_text("Saved on the leader").await?;
    let post = browser.url().await?;
    browser.run("history.back()").await?;
    browser.await_text("Write a post").await?;
    browser.click_text("Save").await?;
    browser.await_text("Post of impatient").await?;
    let again = browser.url().await?;
    let path = |url: &str| url.split('?').next().unwrap_or_default().to_owned();
    ensure!(path(&again) == path(&post), "the second time led to {again} and not to {post}");
    for _ in 0..3 {
        browser.run("location.reload()").await?;
        browser.await_text("Post of impatient").await?;
    }
    ensure!(rows(&system).await? == 2, "back and reload made {} posts", rows(&system).await?);

    // A comment's form stands on the page that answers it.
    browser.fill("#user_id", WRITER).await?;
    browser.fill("#content", "a comment, once").await?;
    let send = "const f = document.querySelector('form[action$=\"/comments\"]'); f.requestSubmit(); f.requestSubmit()";
    browser.run(send).await?;
    browser.await_text("1 comment").await?;
    browser.run("location.reload()").await?;
    browser.await_text("a comment, once").await?;
    let leader = system.connect("leader", Login::Owner).await?;
    let count = "SELECT count(*) FROM comments WHERE user_id = $1";
    let comments: i64 = leader.query_one(count, &[&WRITER]).await?.get(0);
    ensure!(comments == 1, "{comments} comments");
    println!("  double clicks, back and reload: two posts and one comment, as meant");
    browser.close().await?;
    clear(&system).await
}

/// Who edits what somebody else has edited meanwhile sees both versions, and loses neither.
pub(super) async fn too_late(system: Rc<System>) -> anyhow::Result<()> {
    let post = json!({ "user_id": WRITER, "content": "the first text" });
    let (_, made) = web::send(&system, "POST", "/api/posts", &post).await?;
    let id = made["id"].as_str().context("find the post's id")?.to_owned();
    system.await_replicas().await?;
    let browser = Browser::open().await?;
    browser.visit(&system.http_url("webapp", &format!("/posts/{id}/edit"))?).await?;
    let theirs = json!({ "content": "their text", "version": 1 });
    let (status, body) = web::send(&system, "PUT", &format!("/api/posts/{id}"), &theirs).await?;
    ensure!(status == 200, "PUT answered {status}: {body}");
    browser.fill("#content", "my text").await?;
    browser.click_text("Save").await?;
    browser.await_text("Somebody else was faster").await?;
    let shown = browser.text().await?;
    ensure!(browser.run(STATUS).await? == 409, "answered {}", browser.run(STATUS).await?);
    ensure!(shown.contains("their text") && shown.contains("my text"), "a version is missing: {shown}");
    ensure!(text_of(&system, &id).await? == "their text", "the stale edit was saved");
    browser.click_text("Replace their version").await?;
    browser.await_text("version 3").await?;
    ensure!(text_of(&system, &id).await? == "my text", "the second attempt was not saved");
    // The 409 itself is noted as an error of the console: that is the browser's word for it.
    let errors = browser.console_errors().await?;
    ensure!(errors.iter().all(|error| error.contains("409")), "{errors:?}");
    browser.close().await?;
    println!("  a stale edit is a 409 with both versions, and nothing is lost");
    clear(&system).await
}

async fn rows(system: &System) -> anyhow::Result<i64> {
    let leader = system.connect("leader", Login::Owner).await?;
    Ok(leader.query_one("SELECT count(*) FROM posts WHERE user_id = $1", &[&WRITER]).await?.get(0))
}

async fn text_of(system: &System, id: &str) -> anyhow::Result<String> {
    let leader = system.connect("leader", Login::Owner).await?;
    Ok(leader.query_one("SELECT content FROM posts WHERE id::text = $1", &[&id]).await?.get(0))
}

/// Nothing of this is left to the checks that follow.
async fn clear(system: &System) -> anyhow::Result<()> {
    let delete = format!("DELETE FROM posts WHERE user_id = '{WRITER}'");
    system.connect("leader", Login::Writer).await?.batch_execute(&delete).await?;
    system.assert_equal().await.map(drop)
}
