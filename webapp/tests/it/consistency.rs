//! Nobody loses their own write, whatever the replicas have of it.

use anyhow::ensure;
use axum::response::IntoResponse as _;
use axum_extra::extract::cookie::{Cookie, SignedCookieJar};
use reqwest::Method;

use crate::site::{PATIENCE, Reply, Site};

const BEHIND: &str = "Read from the leader: no replica had your write yet";

async fn read_with(site: &Site, path: &str, token: &str) -> anyhow::Result<Reply> {
    Reply::of(site.request(Method::GET, path).header("x-consistency-token", token)).await
}

#[tokio::test]
async fn without_replication_the_writer_reads_from_the_leader_and_others_do_not() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let written = site.post("mine").await?;
    let path = format!("/api/posts/{}", written.body()["id"].as_str().unwrap_or_default());
    let token = written.header("x-consistency-token").to_owned();
    ensure!(written.served_by() == "leader" && !token.is_empty(), "{written:?}");

    // Without the token any replica may answer, and none has it: this is what the token is for.
    let stranger = site.get(&path).await?;
    ensure!(stranger.code() == 404 && stranger.served_by().starts_with("replica"), "{stranger:?}");
    let mine = read_with(&site, &path, &token).await?;
    ensure!(mine.code() == 200 && mine.served_by() == "leader", "{mine:?}");

    let browser = written.cookies();
    let page =
        Reply::of(site.request(Method::GET, path.trim_start_matches("/api")).header("cookie", browser))
            .await?;
    ensure!(page.code() == 200 && page.text.contains(BEHIND), "{page:?}");
    Ok(())
}

#[tokio::test]
async fn the_one_replica_that_has_the_write_answers_its_writer() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let written = site.post("only on the second").await?;
    site.replicate(&[1]).await?;
    let path = format!("/api/posts/{}", written.body()["id"].as_str().unwrap_or_default());
    for _ in 0..12 {
        let reply = read_with(&site, &path, written.header("x-consistency-token")).await?;
        ensure!(reply.code() == 200 && reply.served_by() == "replica-2", "{reply:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_read_waits_for_a_write_that_is_on_its_way() -> anyhow::Result<()> {
    let patient = [("WEBAPP__CONSISTENCY__WAIT_MAX_MS", "8000")];
    let site = Site::start_empty(&patient).await?;
    site.replicate(&[0, 1, 2]).await?;
    site.await_rotation(3).await?;
    let written = site.post("on its way").await?;
    let path = format!("/posts/{}", written.body()["id"].as_str().unwrap_or_default());
    let read = read_with(&site, &path, written.header("x-consistency-token"));
    let arrive = async {
        e2e::wait::until("the read to wait", PATIENCE, async || {
            if site.state().database().replicas().is_awaited() {
                Ok(())
            } else {
                Err("nobody waits".to_owned())
            }
        })
        .await?;
        site.replicate(&[2]).await
    };
    let (reply, arrived) = tokio::join!(read, arrive);
    arrived?;
    let reply = reply?;
    ensure!(reply.code() == 200 && reply.served_by() == "replica-3", "{reply:?}");
    ensure!(reply.text.contains("for your write to arrive"), "the wait is not told: {reply:?}");
    Ok(())
}

#[tokio::test]
async fn a_write_by_a_form_is_on_the_page_that_follows() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let body = "id=018f0000-0000-7000-8000-00000000f00d&user_id=ada&content=by%20a%20form";
    let form = |path: &str, body: &'static str| {
        let request = site.request(Method::POST, path).body(body);
        request.header("content-type", "application/x-www-form-urlencoded")
    };
    let saved = Reply::of(form("/posts", body)).await?;
    ensure!(saved.code() == 303, "{saved:?}");
    let cookies = saved.cookies();
    ensure!(cookies.contains("session_8080=") && cookies.contains("name=ada"), "{cookies}");
    let follow = async |reply: &Reply, cookies: &str| {
        Reply::of(site.request(Method::GET, reply.header("location")).header("cookie", cookies)).await
    };
    let page = follow(&saved, &cookies).await?;
    ensure!(page.code() == 200 && page.text.contains("by a form") && page.text.contains(BEHIND), "{page:?}");
    // The form is filled in for the next time.
    ensure!(page.text.contains("value=\"ada\""), "{page:?}");

    // Sent twice (a double click, the back button) it makes no second row.
    let again = Reply::of(form("/posts", body)).await?;
    // What follows is how each of the two writes arrives.
    let page = |reply: &Reply| reply.header("location").split('&').next().map(str::to_owned);
    ensure!(again.code() == 303 && page(&again) == page(&saved), "{again:?}");
    site.replicate(&[0, 1, 2]).await?;
    ensure!(site.get("/api/users/ada/stats").await?.body()["posts"] == 2, "the seed's post and this one");
    Ok(())
}

#[tokio::test]
async fn a_cookie_of_our_own_making_counts_and_a_forged_one_does_not() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let read = |cookie: String| Reply::of(site.request(Method::GET, "/posts").header("cookie", cookie));
    let forged = read("session_8080=FFFFFFFF/FFFFFFFF".to_owned()).await?;
    ensure!(forged.served_by().starts_with("replica"), "{forged:?}");
    let written = site.post("something").await?;
    ensure!(read(written.cookies()).await?.served_by() == "leader", "our own cookie");
    let bad = read_with(&site, "/api/posts", "not a token").await?;
    ensure!(bad.code() == 400 && bad.body()["error"]["field"] == "X-Consistency-Token", "{bad:?}");
    Ok(())
}

#[tokio::test]
async fn a_token_ahead_of_the_leader_is_left_aside_and_its_cookie_expires() -> anyhow::Result<()> {
    // So patient that a wait would be noticed.
    let site = Site::start_empty(&[("WEBAPP__CONSISTENCY__WAIT_MAX_MS", "60000")]).await?;
    site.replicate(&[0, 1, 2]).await?;
    site.await_rotation(3).await?;
    for _ in 0..4 {
        let made_up = read_with(&site, "/api/posts", "FFFFFFFF/FFFFFFFF").await?;
        ensure!(made_up.code() == 200 && made_up.served_by().starts_with("replica"), "{made_up:?}");
    }
    // As of a system that was here before, under the same key.
    let jar = SignedCookieJar::new(site.state().sessions().key().clone())
        .add(Cookie::new(site.state().sessions().written_cookie().to_owned(), "FFFFFFFF/0"))
        .into_response();
    let cookie = jar.headers()["set-cookie"].to_str()?.to_owned();
    let page = Reply::of(site.request(Method::GET, "/posts").header("cookie", cookie)).await?;
    ensure!(page.code() == 200 && page.served_by().starts_with("replica"), "{page:?}");
    let expires = |cookie: &&str| cookie.starts_with("session_8080=;") && cookie.contains("Max-Age=0");
    ensure!(page.headers("set-cookie").any(|cookie| expires(&cookie)), "{page:?}");
    Ok(())
}
