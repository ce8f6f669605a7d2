//! Forms that are sent again: what is called saved is saved, and once.

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::json;

use crate::site::{Reply, SEED, Site};

async fn form(site: &Site, path: &str, body: &str) -> anyhow::Result<Reply> {
    let request = site.request(Method::POST, path).body(body.to_owned());
    Reply::of(request.header("content-type", "application/x-www-form-urlencoded")).await
}

/// The id in the form that a page shows.
fn form_id(page: &Reply) -> anyhow::Result<&str> {
    let after = page.text.split("name=\"id\" value=\"").nth(1).context("a form with an id")?;
    after.split('"').next().context("its end")
}

const ID: &str = "018f0000-0000-7000-8000-00000000f00d";

#[tokio::test]
async fn a_form_sent_again_with_another_text_is_not_called_saved() -> anyhow::Result<()> {
    let site = Site::start().await?;
    for path in ["/posts".to_owned(), format!("/posts/{SEED}/comments")] {
        let body = |text: &str| format!("id={ID}&user_id=ada&content={text}");
        ensure!(form(&site, &path, &body("first")).await?.code() == 303, "{path}: the first time");
        ensure!(form(&site, &path, &body("first")).await?.code() == 303, "{path}: a double click");
        let other = form(&site, &path, &body("second")).await?;
        ensure!(other.code() == 409 && other.text.contains("second"), "{path}: {other:?}");
        ensure!(other.text.contains("was saved already, with other input"), "{path}: {other:?}");
        let id = form_id(&other)?;
        ensure!(id != ID, "{path}: the new form would be refused too");
        let saved = form(&site, &path, &format!("id={id}&user_id=ada&content=second")).await?;
        ensure!(saved.code() == 303, "{path}: {saved:?}");
        let other_user = form(&site, &path, &format!("id={ID}&user_id=eve&content=first")).await?;
        ensure!(other_user.code() == 409, "{path}: {other_user:?}");
    }
    let other_post = site.post("another").await?.body();
    let path = format!("/posts/{}/comments", other_post["id"].as_str().unwrap_or_default());
    let elsewhere = form(&site, &path, &format!("id={ID}&user_id=ada&content=first")).await?;
    // The replicas have not got that post yet; the token is not sent, so the page can't be shown, but it is not "saved".
    ensure!(elsewhere.code() != 303, "{elsewhere:?}");
    site.replicate(&[0, 1, 2]).await?;
    let stats = site.get("/api/users/ada/stats").await?.body();
    ensure!(stats["posts"] == 3 && stats["comments"] == 2, "the seed's post and each text once: {stats}");
    Ok(())
}

#[tokio::test]
async fn a_form_shown_again_after_an_outage_keeps_its_id() -> anyhow::Result<()> {
    let site = Site::start().await?;
    site.leader().cut();
    for path in ["/posts".to_owned(), format!("/posts/{SEED}/comments")] {
        let page = form(&site, &path, &format!("id={ID}&user_id=ada&content=x")).await?;
        ensure!(page.code() == 503 && form_id(&page)? == ID, "{path}: {page:?}");
        ensure!(page.text.contains("Sending this form twice saves it once."), "{path}: {page:?}");
    }
    // What has no id of its own makes no such promise.
    let edit = form(&site, &format!("/posts/{SEED}"), "version=1&content=x").await?;
    let api = site.json(Method::POST, "/api/posts", &json!({ "user_id": "ada", "content": "x" })).await?;
    for reply in [edit, api] {
        ensure!(reply.code() == 503 && !reply.text.contains("twice"), "{reply:?}");
    }
    site.leader().restore();
    Ok(())
}

#[tokio::test]
async fn a_like_is_taken_back_only_where_there_was_one() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let unlike = |id: &str| format!("/posts/{id}/unlike");
    let never = form(&site, &unlike(SEED), "user_id=nobody").await?;
    ensure!(never.header("location").ends_with("?done=not-liked"), "{never:?}");
    let unknown = form(&site, &unlike("018f0000-0000-7000-8000-00000000dead"), "user_id=ada").await?;
    ensure!(unknown.code() == 404, "{unknown:?}");
    let like = json!({ "post_id": SEED, "user_id": "twice" });
    ensure!(site.json(Method::POST, "/api/likes", &like).await?.code() == 201, "the first like");
    let twice = site.json(Method::POST, "/api/likes", &like).await?;
    ensure!(twice.code() == 409 && !twice.header("x-consistency-token").is_empty(), "{twice:?}");
    Ok(())
}

#[tokio::test]
async fn mistakes_are_marked_where_they_were_made() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let like = form(&site, &format!("/posts/{SEED}/like"), "user_id=+").await?;
    ensure!(like.code() == 422 && like.text.contains("href=\"#like-user\""), "{like:?}");
    ensure!(
        like.text.contains("id=\"like-user-error\"") && !like.text.contains("id=\"user_id-error\""),
        "{like:?}"
    );
    let lost = form(&site, &format!("/posts/{SEED}"), "content=x").await?;
    ensure!(
        lost.code() == 422 && lost.text.contains("lost the post") && !lost.text.contains("#version"),
        "{lost:?}"
    );
    let request = site.request(Method::POST, "/posts").header("content-type", "text/plain").body("x");
    let wrong = Reply::of(request).await?;
    ensure!(wrong.code() == 415 && wrong.text.contains("application/x-www-form-urlencoded"), "{wrong:?}");
    Ok(())
}

#[tokio::test]
async fn the_newest_comments_are_shown_when_there_are_too_many() -> anyhow::Result<()> {
    let site = Site::start().await?;
    site.comment_many(SEED, 501).await?;
    site.replicate(&[0, 1, 2]).await?;
    let page = site.get(&format!("/posts/{SEED}")).await?.text;
    ensure!(page.contains("These are the newest 500 of "), "{page}");
    let (last, earlier) = (page.find("number 501<"), page.find("number 500<"));
    ensure!(last.is_some() && earlier < last && !page.contains("number 1<"), "{page}");
    Ok(())
}

#[tokio::test]
async fn an_empty_list_offers_rows_and_sending_that_twice_makes_none_twice() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let offer = "Seed 200 rows";
    ensure!(!site.get("/posts").await?.text.contains(offer), "there are posts");
    let seed = site.get("/api/posts").await?.body();
    for post in seed["posts"].as_array().context("posts")? {
        let id = post["id"].as_str().context("an id")?;
        ensure!(form(&site, &format!("/posts/{id}/delete"), "").await?.code() == 303, "delete {id}");
    }
    site.replicate(&[0, 1, 2]).await?;
    let empty = site.get("/posts").await?;
    ensure!(empty.text.contains(offer) && empty.text.contains("action=\"/posts/seed\""), "{empty:?}");
    for _ in 0..2 {
        let seeded = form(&site, "/posts/seed", "").await?;
        ensure!(
            seeded.code() == 303 && seeded.header("location").starts_with("/posts?done=seeded"),
            "{seeded:?}"
        );
    }
    let foreign = site.request(Method::POST, "/posts/seed").header("sec-fetch-site", "cross-site");
    ensure!(Reply::of(foreign).await?.code() == 403, "a form of another site");
    let leader = e2e::postgres::connect(&site.leader_url()).await?;
    let row = leader.query_one("SELECT count(*), count(DISTINCT created_at) FROM posts", &[]).await?;
    ensure!((row.get::<_, i64>(0), row.get::<_, i64>(1)) == (200, 200), "{row:?}");
    Ok(())
}

#[tokio::test]
async fn going_back_to_a_form_shows_it_with_the_id_that_was_sent() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let is_about_now = |page: &Reply| page.header("cache-control") == "no-store";
    let form = site.get("/posts/new").await?;
    ensure!(form.code() == 200 && !is_about_now(&form), "a browser has to fetch it anew: {form:?}");
    ensure!(
        form_id(&form)? != form_id(&site.get("/posts/new").await?)?,
        "each form is for a post of its own"
    );
    ensure!(is_about_now(&site.get("/posts").await?), "other pages are about now");
    Ok(())
}
