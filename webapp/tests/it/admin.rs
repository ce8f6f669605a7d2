//! Operating from the pages and the API: off unless there is a token, and then only for who brings it.

use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use reqwest::Method;
use tokio::net::TcpListener;

use crate::site::{Reply, Site};

const TOKEN: &str = "a-token-of-some-length";
const REPLICATOR_TOKEN: &str = "the-replicator-s-own-token";

const FORM: &str = "application/x-www-form-urlencoded";

async fn form(site: &Site, path: &str, cookie: &str, body: &str) -> anyhow::Result<Reply> {
    let request = site.request(Method::POST, path).header("content-type", FORM).header("cookie", cookie);
    Reply::of(request.body(body.to_owned())).await
}

async fn page(site: &Site, path: &str, cookie: &str) -> anyhow::Result<Reply> {
    let mut reply = Reply::of(site.request(Method::GET, path).header("cookie", cookie)).await?;
    reply.text = reply.text.replace("&#39;", "'");
    Ok(reply)
}

/// Signs in and returns the cookie.
async fn sign_in(site: &Site) -> anyhow::Result<String> {
    let reply = form(site, "/admin/sign-in", "", &format!("token={TOKEN}&back=/status")).await?;
    ensure!(reply.code() == 303 && reply.header("location") == "/status", "{reply:?}");
    let cookie =
        reply.headers("set-cookie").find(|cookie| cookie.starts_with("admin_")).context("a cookie")?;
    ensure!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    Ok(reply.cookies())
}

/// What shows that a form of this page is of its session.
fn form_token(page: &Reply) -> anyhow::Result<String> {
    let after = page.text.split("name=\"form_token\" value=\"").nth(1).context("a form with a token")?;
    Ok(after.split('"').next().context("its end")?.to_owned())
}

async fn with_admin() -> anyhow::Result<Site> {
    let site = Site::start_empty(&[("WEBAPP__ADMIN__TOKEN", TOKEN)]).await?;
    site.replicate(&[0, 1, 2]).await?;
    site.await_rotation(3).await?;
    Ok(site)
}

/// Requests that a stand-in for the replicator got: method and path, authorization, body.
type Got = Arc<Mutex<Vec<(String, String, String)>>>;

async fn stand_in(
    State((got, answer)): State<(Got, (StatusCode, &'static str))>,
    request: Request,
) -> Response {
    let what = format!("{} {}", request.method(), request.uri());
    let bearer = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let bearer = bearer.unwrap_or_default().to_owned();
    let body = axum::body::to_bytes(request.into_body(), 10_000).await.unwrap_or_default();
    // The sampler asks it, too.
    if what.starts_with("POST") {
        let body = String::from_utf8_lossy(&body).into_owned();
        got.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((what, bearer, body));
    }
    answer.into_response()
}

async fn replicator(answer: (StatusCode, &'static str)) -> anyhow::Result<(String, Got)> {
    let got = Got::default();
    let router = Router::new().fallback(stand_in).with_state((Arc::clone(&got), answer));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((url, got))
}

async fn with_replicator(url: &str) -> anyhow::Result<Site> {
    let settings = [
        ("WEBAPP__ADMIN__TOKEN", TOKEN),
        ("WEBAPP__ADMIN__REPLICATOR_TOKEN", REPLICATOR_TOKEN),
        ("WEBAPP__STATUS__REPLICATOR_URL", url),
    ];
    let site = Site::start_empty(&settings).await?;
    site.replicate(&[0, 1, 2]).await?;
    site.await_rotation(3).await?;
    Ok(site)
}

#[tokio::test]
async fn nothing_can_be_operated_unless_a_token_is_set() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let off = page(&site, "/admin", "").await?;
    ensure!(off.code() == 404 && off.text.contains("admin.token is not set"), "{off:?}");
    for path in ["/admin/sign-in", "/admin/sign-out", "/admin/confirm", "/admin/act"] {
        let body = "token=&action=drain&replica=replica-2&form_token=";
        ensure!(form(&site, path, "", body).await?.code() == 404, "{path}");
    }
    let api = Reply::of(site.request(Method::POST, "/api/replicas/replica-2/drain").bearer_auth("")).await?;
    ensure!(api.code() == 404 && api.body()["error"]["code"] == "not_found", "{api:?}");
    for path in ["/status", "/status/replicas/replica-2"] {
        let text = page(&site, path, "").await?.text;
        ensure!(!text.contains("Sign in") && !text.contains("form_token"), "{path}: {text}");
    }
    site.await_rotation(3).await
}

#[tokio::test]
async fn buttons_are_for_who_is_signed_in_and_forms_for_their_session() -> anyhow::Result<()> {
    let site = with_admin().await?;
    let stranger = page(&site, "/status", "").await?.text;
    ensure!(stranger.contains("/admin?back=%2Fstatus") && !stranger.contains("form_token"), "{stranger}");
    let wrong = form(&site, "/admin/sign-in", "", "token=a-token-of-some-lengtH").await?;
    ensure!(wrong.code() == 403 && wrong.text.contains("This is not the token."), "{wrong:?}");
    ensure!(wrong.cookies().split("; ").all(|cookie| !cookie.starts_with("admin_")), "{wrong:?}");
    let elsewhere = form(&site, "/admin/sign-in", "", &format!("token={TOKEN}&back=//example.org")).await?;
    ensure!(elsewhere.header("location") == "/admin", "{elsewhere:?}");

    let (mine, other) = (sign_in(&site).await?, sign_in(&site).await?);
    let status = page(&site, "/status", &mine).await?;
    ensure!(
        status.text.contains("Drain<span class=\"hidden\"> replica-2") && !status.text.contains("Sign in to"),
        "{status:?}"
    );
    // Without the replicator's token only what this application does itself.
    ensure!(
        !status.text.contains("value=\"pause\"") && status.text.contains("admin.replicator_token"),
        "{status:?}"
    );
    let stolen = form_token(&page(&site, "/status", &other).await?)?;
    let own = form_token(&status)?;
    for (cookie, token, code) in [(&mine, "", 403), (&mine, &stolen, 403), (&String::new(), &own, 303)] {
        for path in ["/admin/confirm", "/admin/act"] {
            let body = format!("action=drain&replica=replica-2&form_token={token}");
            let refused = form(&site, path, cookie, &body).await?;
            ensure!(refused.code() == code, "{path}: {refused:?}");
            ensure!(code == 403 || refused.header("location") == "/admin?back=/status", "{refused:?}");
        }
    }
    let request = site.request(Method::POST, "/admin/act").header("cookie", mine.as_str());
    let request = request.header("content-type", FORM).header("sec-fetch-site", "cross-site");
    let body = format!("action=drain&replica=replica-2&form_token={own}");
    let cross = Reply::of(request.body(body)).await?;
    ensure!(cross.code() == 403 && cross.text.contains("another site"), "{cross:?}");
    site.await_rotation(3).await?;

    let out = form(&site, "/admin/sign-out", &mine, "").await?;
    ensure!(out.code() == 303 && out.headers("set-cookie").any(|c| c.contains("Max-Age=0")), "{out:?}");
    Ok(())
}

#[tokio::test]
async fn a_drained_replica_gets_no_reads_until_it_is_returned() -> anyhow::Result<()> {
    let site = with_admin().await?;
    let cookie = sign_in(&site).await?;
    let act = async |path: &str, action: &str, replica: &str| {
        let token = form_token(&page(&site, "/status", &cookie).await?)?;
        form(&site, path, &cookie, &format!("action={action}&replica={replica}&form_token={token}")).await
    };
    let asked = act("/admin/confirm", "drain", "replica-2").await?;
    ensure!(asked.code() == 200 && asked.text.contains("<h1>Drain replica-2?</h1>"), "{asked:?}");
    ensure!(asked.text.contains("sends no more reads to replica-2"), "{asked:?}");
    site.await_rotation(3).await?;

    let done = act("/admin/act", "drain", "replica-2").await?;
    ensure!(done.header("location") == "/status/replicas/replica-2?did=drain", "{done:?}");
    let shown = page(&site, done.header("location"), &cookie).await?.text;
    ensure!(shown.contains("replica-2 gets no more reads until somebody returns it."), "{shown}");
    ensure!(shown.contains("value=\"return\"") && shown.contains("Drained"), "{shown}");
    for _ in 0..6 {
        let read = page(&site, "/posts", "").await?;
        ensure!(["replica-1", "replica-3"].contains(&read.served_by()), "{read:?}");
    }
    let again = act("/admin/act", "drain", "replica-2").await?;
    ensure!(
        page(&site, again.header("location"), "").await?.text.contains("was drained already"),
        "{again:?}"
    );
    ensure!(act("/admin/act", "return", "replica-2").await?.code() == 303, "returned");
    site.await_rotation(3).await?;

    for (action, replica, code) in
        [("drain", "replica-9", 404), ("destroy", "replica-2", 404), ("pause", "replica-2", 409)]
    {
        let refused = act("/admin/act", action, replica).await?;
        ensure!(refused.code() == code, "{action} {replica}: {refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_replicator_is_told_with_its_own_token() -> anyhow::Result<()> {
    let (url, got) = replicator((StatusCode::OK, "{\"changed\":true}")).await?;
    let site = with_replicator(&url).await?;
    let cookie = sign_in(&site).await?;
    let detail = page(&site, "/status/replicas/replica-2", &cookie).await?;
    ensure!(detail.text.contains("<option>public.posts</option>"), "{detail:?}");
    let token = form_token(&detail)?;
    let body = |action: &str, table: &str| {
        format!("action={action}&table={table}&replica=replica-2&form_token={token}")
    };
    let asked = form(&site, "/admin/confirm", &cookie, &body("rebuild", "public.posts")).await?.text;
    ensure!(
        asked.contains("One table of replica-2 is copied afresh from the leader: public.posts (about"),
        "{asked}"
    );
    ensure!(
        got.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty(),
        "nothing was confirmed yet"
    );
    for (action, table, words) in [
        ("rebuild", "public.posts", "A copy was asked for."),
        ("rebuild", "", "A copy was asked for."),
        ("pause", "", "replica-2 stands still until somebody resumes it."),
        ("resume", "", "replica-2 goes on."),
    ] {
        let done = form(&site, "/admin/act", &cookie, &body(action, table)).await?;
        let shown = page(&site, done.header("location"), &cookie).await?.text;
        ensure!(done.code() == 303 && shown.contains(words), "{action}: {done:?}");
    }
    let bearer = format!("Bearer {REPLICATOR_TOKEN}");
    let expected =
        [("rebuild", "{\"tables\":[\"public.posts\"]}"), ("rebuild", ""), ("pause", ""), ("resume", "")];
    let expected = expected
        .map(|(verb, body)| (format!("POST /v1/replicas/replica-2/{verb}"), bearer.clone(), body.to_owned()));
    let got = got.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    ensure!(got == expected, "{got:?}");
    let wrong = form(&site, "/admin/act", &cookie, &body("pause", "public.posts")).await?;
    ensure!(wrong.code() == 422, "{wrong:?}");
    Ok(())
}

#[tokio::test]
async fn a_replicator_that_refuses_or_is_away_is_a_sentence() -> anyhow::Result<()> {
    // Nobody listens on port 9 (discard).
    let (refusing, _) =
        replicator((StatusCode::UNPROCESSABLE_ENTITY, "replica-2 has no table 'x.y'\n")).await?;
    let (other_token, _) = replicator((StatusCode::UNAUTHORIZED, "")).await?;
    let (cut_off, _) = replicator((StatusCode::SERVICE_UNAVAILABLE, "connect to host=10.0.0.7\n")).await?;
    for (url, code, words) in [
        ("http://127.0.0.1:9", 503, "The replicator does not answer, so replica-2 was not copied."),
        (
            &refusing,
            409,
            "The replicator refused, so replica-2 was not copied: replica-2 has no table 'x.y'.",
        ),
        (&other_token, 409, "does not accept this application's token"),
        (&cut_off, 503, "can't reach replica-2 or the leader"),
    ] {
        let site = with_replicator(url).await?;
        let cookie = sign_in(&site).await?;
        let token = form_token(&page(&site, "/status", &cookie).await?)?;
        let body = format!("action=rebuild&table=x.y&replica=replica-2&form_token={token}");
        let mut failed = form(&site, "/admin/act", &cookie, &body).await?;
        failed.text = failed.text.replace("&#39;", "'");
        ensure!(failed.code() == code && failed.text.contains(words), "{words}: {failed:?}");
        ensure!(!failed.text.contains("10.0.0.7") && !failed.text.contains(REPLICATOR_TOKEN), "{failed:?}");
        let api = site.request(Method::POST, "/api/replicas/replica-2/pause").bearer_auth(TOKEN);
        let api = Reply::of(api).await?;
        ensure!(api.code() == code && api.body()["error"]["message"].is_string(), "{api:?}");
    }
    Ok(())
}

#[tokio::test]
async fn who_is_wrong_too_often_has_to_wait() -> anyhow::Result<()> {
    let site = with_admin().await?;
    let drain = |token: &str| {
        Reply::of(site.request(Method::POST, "/api/replicas/replica-2/drain").bearer_auth(token))
    };
    let without = Reply::of(site.request(Method::POST, "/api/replicas/replica-2/drain")).await?;
    ensure!(without.code() == 401 && without.header("www-authenticate") == "Bearer", "{without:?}");
    for _ in 0..5 {
        ensure!(drain("wrong").await?.code() == 401, "a wrong one");
    }
    for locked in [drain(TOKEN).await?, form(&site, "/admin/sign-in", "", &format!("token={TOKEN}")).await?] {
        let wait: u64 = locked.header("retry-after").parse().context("read Retry-After")?;
        ensure!(locked.code() == 429 && (50..=61).contains(&wait), "{locked:?}");
    }
    site.await_rotation(3).await
}
