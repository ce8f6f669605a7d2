//! What callers bring from one request to the next: nothing they were shown is taken back, and tokens mean what they say.

use anyhow::ensure;
use reqwest::Method;
use tokio_postgres::Row;
use webapp::db::statement::{Params, Read};
use webapp::db::token::Token;

use crate::site::{PATIENCE, Reply, Site};

/// A browser with its cookies.
#[derive(Default)]
struct Browser(std::collections::BTreeMap<String, String>);

impl Browser {
    async fn get(&mut self, site: &Site, path: &str) -> anyhow::Result<Reply> {
        let cookies: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = site.request(Method::GET, path).header("cookie", cookies.join("; "));
        let reply = Reply::of(request).await?;
        self.keep(&reply);
        Ok(reply)
    }

    fn keep(&mut self, reply: &Reply) {
        for cookie in reply.cookies().split("; ").filter_map(|cookie| cookie.split_once('=')) {
            self.0.insert(cookie.0.to_owned(), cookie.1.to_owned());
        }
    }
}

struct CountPosts;

impl Read for CountPosts {
    type Output = i64;
    const SQL: &'static str = "SELECT count(*) FROM posts";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<i64, tokio_postgres::Error> {
        rows[0].try_get(0)
    }
}

#[tokio::test]
async fn the_watermark_is_of_the_very_snapshot_that_is_shown() -> anyhow::Result<()> {
    // So patient that the read outlasts the lock.
    let site = Site::start_empty(&[("WEBAPP__TIMEOUTS__READ_MS", "8000")]).await?;
    site.replicate(&[0, 1, 2]).await?;
    site.await_rotation(3).await?;
    let database = site.state().database();
    for replica in database.replicas().iter().skip(1) {
        replica.set_drained(true);
    }
    let before = database.read(&CountPosts, None.into()).await?;
    site.post("one more").await?;
    // The read has taken its place in the queue of the lock, and the watermark was read before that: as two transactions it
    // would show the new post, and say that it shows the old state.
    let lock = site.lock_posts(0).await?;
    let read = database.read(&CountPosts, None.into());
    let arrive = async {
        site.await_blocked(0).await?;
        site.replicate_within(0, &lock).await
    };
    let (during, arrived) = tokio::join!(read, arrive);
    arrived?;
    let during = during?;
    ensure!(during.served.by == "replica-1", "{during:?}");
    let after = database.read(&CountPosts, None.into()).await?;
    ensure!(after.value == before.value + 1 && after.seen.lsn > before.seen.lsn, "{before:?} {after:?}");
    let of_one_state = [&before, &after].iter().any(|a| (a.value, a.seen) == (during.value, during.seen));
    ensure!(of_one_state, "{before:?}, {during:?}, {after:?}");
    Ok(())
}

#[tokio::test]
async fn nobody_is_shown_an_older_state_than_before() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let post = site.post("new").await?;
    let path = format!("/api/posts/{}", post.body()["id"].as_str().unwrap_or_default());
    site.replicate(&[1]).await?;
    // Somebody else, who wrote nothing, reads in turn until the new state was shown; from then on it is there.
    let mut browser = Browser::default();
    let mut seen = false;
    for _ in 0..12 {
        let reply = browser.get(&site, &path).await?;
        ensure!(!seen || reply.code() == 200, "it was taken back: {reply:?}");
        ensure!(reply.code() == 404 || reply.served_by() == "replica-2", "{reply:?}");
        seen |= reply.code() == 200;
    }
    ensure!(seen, "the new state was never shown");
    // The same with the header, and no cookie.
    let mut token = String::new();
    let mut states = Vec::new();
    for _ in 0..8 {
        let request = site.request(Method::GET, &path);
        let request = if token.is_empty() { request } else { request.header("x-consistency-token", &token) };
        let reply = Reply::of(request).await?;
        ensure!(
            token.is_empty() || reply.cookies().is_empty(),
            "who brings a token gets no cookies: {reply:?}"
        );
        token = reply.header("x-consistency-token").to_owned();
        states.push(reply.code());
    }
    ensure!(states.is_sorted_by(|a, b| a >= b) && states.last() == Some(&200), "{states:?}");
    // The test can fail: without either, states alternate.
    let mut states = Vec::new();
    for _ in 0..6 {
        states.push(site.get(&path).await?.code());
    }
    ensure!(!states.is_sorted_by(|a, b| a >= b), "{states:?}");
    Ok(())
}

#[tokio::test]
async fn a_cookie_is_sent_when_it_has_changed_only() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let mut browser = Browser::default();
    let first = browser.get(&site, "/posts").await?;
    let cookies = first.cookies();
    ensure!(cookies.starts_with("seen_8080=") && !cookies.contains("session"), "{cookies}");
    let header = first.header("set-cookie");
    ensure!(header.contains("HttpOnly") && header.contains("SameSite=Lax"), "{header}");
    let second = browser.get(&site, "/posts").await?;
    ensure!(second.cookies().is_empty(), "nothing has changed: {second:?}");
    // The leader is ahead of the replicas; what it shows is not taken back either.
    (0..3).for_each(|index| site.replica(index).cut());
    site.await_rotation(0).await?;
    site.post("seen on the leader").await?;
    let from_leader = browser.get(&site, "/posts").await?;
    ensure!(from_leader.served_by() == "leader" && from_leader.text.contains("seen on the leader"));
    (0..3).for_each(|index| site.replica(index).restore());
    site.await_rotation(3).await?;
    let later = browser.get(&site, "/posts").await?;
    ensure!(later.text.contains("seen on the leader"), "it was taken back: {later:?}");
    Ok(())
}

#[tokio::test]
async fn the_callers_own_transaction_is_recognised_below_the_tokens_position() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let written = site.post("mine").await?;
    let token: Token = written.header("x-consistency-token").parse()?;
    let xid = token.shortcut.map(|shortcut| shortcut.xid);
    ensure!(xid.is_some() && token.history.is_some(), "{token}");
    // As if a large transaction of somebody else had written between the commit and the question for the position.
    let later = Token { lsn: webapp::db::lsn::Lsn(token.lsn.0 + 64), ..token };
    let read = async |token: &str| {
        let path = format!("/api/posts/{}", written.body()["id"].as_str().unwrap_or_default());
        Reply::of(site.request(Method::GET, &path).header("x-consistency-token", token)).await
    };
    site.replicate_at(0, token.lsn, xid).await?;
    // The leader's position is beyond the token by now, or it would be void.
    site.post("another").await?;
    let mine = read(&later.to_string()).await?;
    ensure!(mine.code() == 200 && mine.served_by() == "replica-1", "{mine:?}");
    let without = Token { shortcut: None, ..later };
    let mine = read(&without.to_string()).await?;
    ensure!(mine.code() == 200 && mine.served_by() == "leader", "{mine:?}");
    Ok(())
}

#[tokio::test]
async fn tokens_and_replicas_of_another_history_do_not_meet() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let written = site.post("mine").await?;
    let token: Token = written.header("x-consistency-token").parse()?;
    let history = token.history.ok_or_else(|| anyhow::anyhow!("no history in {token}"))?;
    site.replicate(&[0, 1, 2]).await?;
    let read = async |token: String| {
        Reply::of(site.request(Method::GET, "/api/posts").header("x-consistency-token", token)).await
    };
    site.set_history(0, &format!("{}/{}", history.system, history.timeline)).await?;
    site.set_history(1, &format!("{}/{}", history.system, history.timeline + 1)).await?;
    site.set_history(2, "1/1").await?;
    for _ in 0..6 {
        let reply = read(token.to_string()).await?;
        ensure!(reply.served_by() == "replica-1", "of another history: {reply:?}");
    }
    // A token of before a failover is void, and says so by being replaced.
    let before = Token { history: Some(webapp::db::token::History { timeline: 99, ..history }), ..token };
    let reply = read(before.to_string()).await?;
    ensure!(reply.code() == 200 && reply.served_by().starts_with("replica"), "{reply:?}");
    let now: Token = reply.header("x-consistency-token").parse()?;
    ensure!(now.history != before.history, "{now}");
    // No replica of the leader's history: the leader answers, and says why.
    site.set_history(0, "1/1").await?;
    e2e::wait::until("the new history to be noticed", PATIENCE, async || {
        let request = site.request(Method::GET, "/posts").header("x-consistency-token", token.to_string());
        let reply = Reply::of(request).await.map_err(|error| error.to_string())?;
        let told = reply.text.contains("have not followed the leader");
        if reply.served_by() == "leader" && told { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await
}
