//! The pages: what they show, what they keep, what they allow.

use anyhow::{Context, ensure};
use reqwest::Method;

use crate::site::{Reply, SEED, Site};

async fn form(site: &Site, path: &str, body: &'static str) -> anyhow::Result<Reply> {
    let request = site.request(Method::POST, path).body(body);
    Reply::of(request.header("content-type", "application/x-www-form-urlencoded")).await
}

#[tokio::test]
async fn every_page_says_who_answered_and_is_strict() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let post = format!("/posts/{SEED}");
    let edit = format!("/posts/{SEED}/edit");
    for path in ["/posts", &post, &edit, "/users/ada", "/posts?search=leader"] {
        let page = site.get(path).await?;
        ensure!(page.code() == 200 && page.served_by().starts_with("replica-"), "{path}: {page:?}");
        let lag: u64 = page.header("x-replica-lag-ms").parse().context("a lag")?;
        ensure!(lag < 60_000, "{path}: {lag}");
        ensure!(page.header("server-timing").starts_with("db;dur="), "{path}: {page:?}");
        ensure!(
            page.text.contains("Read from replica-") && page.text.contains("complete up to"),
            "{path}: {page:?}"
        );
    }
    for path in ["/", "/posts", "/posts/new", "/Home/Demo", "/demo", "/nowhere"] {
        let page = site.get(path).await?;
        let policy = page.header("content-security-policy");
        ensure!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
            "{path}: {policy}"
        );
        ensure!(
            page.header("x-content-type-options") == "nosniff" && !page.header("referrer-policy").is_empty(),
            "{path}"
        );
        let inline = ["<style", "style=\"", "onclick", "<script>", "http://", "https://"];
        ensure!(!inline.iter().any(|part| page.text.contains(part)), "{path}: {}", page.text);
        ensure!(page.text.matches("<h1").count() == 1 && page.text.contains("Skip to the content"), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn commands_to_copy_name_the_address_that_the_reader_used() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let started = form(&site, "/demo/runs", "reads=3").await?;
    let run = started.header("location").to_owned();
    ensure!(started.code() == 303 && run.starts_with("/demo/runs/"), "{started:?}");
    // The tests' own address first, then what a proxy would send, and what must never get into somebody's shell.
    let own = site.get("/api").await?.text.replace("&#39;", "'");
    let curl = format!("curl '{}/api/posts", site.host());
    ensure!(own.contains(&curl) && !own.contains("localhost:8080"), "no {curl} in {own}");
    for (host, scheme, expected) in [
        ("posts.example.org", "http", "curl 'posts.example.org/api/"),
        ("posts.example.org:8443", "https", "curl 'https://posts.example.org:8443/api/"),
        ("[::1]:8080", "http", "curl '[::1]:8080/api/"),
        ("x';reboot;'", "http", "curl '127.0.0.1:8080/api/"),
    ] {
        for path in ["/api", &run] {
            let request = site.request(Method::GET, path).header("host", host);
            let page = Reply::of(request.header("x-forwarded-proto", scheme)).await?;
            let text = page.text.replace("&#39;", "'");
            ensure!(page.code() == 200 && text.contains(expected), "no {expected} on {path}: {text}");
            ensure!(!text.contains("reboot"), "{path}: {text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn assets_are_kept_for_ever_under_a_name_that_changes_with_them() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let page = site.get("/Home/Demo").await?.text;
    let addresses: Vec<&str> = page.split('"').filter(|part| part.starts_with("/assets/")).collect();
    ensure!(addresses.len() == 5, "style, two scripts, and the icon twice: {addresses:?}");
    for address in addresses {
        let asset = site.get(address).await?;
        ensure!(asset.code() == 200 && asset.header("cache-control").contains("immutable"), "{asset:?}");
    }
    ensure!(site.get("/assets/app-0000000000000000.css").await?.code() == 404, "an older version");
    Ok(())
}

#[tokio::test]
async fn what_people_write_is_shown_as_text() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let body = "user_id=%3Cb%3Eeve%2F..%2F%3Fx%3C%2Fb%3E&content=%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    ensure!(form(&site, "/posts", body).await?.code() == 303, "save");
    site.replicate(&[0, 1, 2]).await?;
    let page = site.get("/posts").await?.text;
    ensure!(!page.contains("<script>alert") && page.contains("&#60;script&#62;alert(1)"), "{page}");
    let link = page.split('"').find(|part| part.starts_with("/users/%3C")).context("a link to the user")?;
    let user = site.get(link).await?;
    ensure!(user.code() == 200 && user.text.contains("alert(1)"), "{user:?}");
    Ok(())
}

#[tokio::test]
async fn a_stale_edit_shows_both_versions_and_can_be_decided() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let post = format!("/posts/{SEED}");
    let edited = form(&site, &post, "version=1&content=theirs").await?;
    ensure!(edited.code() == 303, "{edited:?}");
    let stale = form(&site, &post, "version=1&content=my+own+words").await?;
    ensure!(
        stale.code() == 409 && stale.text.contains("theirs") && stale.text.contains("my own words"),
        "{stale:?}"
    );
    ensure!(stale.text.contains("name=\"version\" value=\"2\""), "{stale:?}");
    ensure!(form(&site, &post, "version=2&content=my+own+words").await?.code() == 303, "decided");
    site.replicate(&[0, 1, 2]).await?;
    let post = site.get(&post).await?.text;
    ensure!(post.contains("my own words") && post.contains("version 3"), "{post}");
    Ok(())
}

#[tokio::test]
async fn wrong_input_is_marked_and_kept() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let page = form(&site, "/posts", "user_id=+&content=kept+words").await?;
    ensure!(page.code() == 422 && page.text.contains("kept words"), "{page:?}");
    ensure!(page.text.contains("aria-invalid") && page.text.contains("The user name is empty."), "{page:?}");
    let page = form(&site, &format!("/posts/{SEED}/comments"), "user_id=ada&content=").await?;
    ensure!(page.code() == 422 && page.text.contains("The comment is empty."), "{page:?}");
    let page = form(&site, &format!("/posts/{SEED}"), "version=1&content=+").await?;
    ensure!(page.code() == 422 && page.text.contains("The text is empty."), "{page:?}");
    let page = form(&site, &format!("/posts/{SEED}"), "content=without+a+version").await?;
    ensure!(page.code() == 422 && page.text.contains("without a version"), "{page:?}");
    Ok(())
}

#[tokio::test]
async fn likes_comments_and_deletion_work_by_forms_alone() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let at = |what: &str| format!("/posts/{SEED}/{what}");
    let done = |reply: &Reply| {
        let word = reply.header("location").split_once("done=").map_or("", |(_, word)| word);
        word.split('&').next().unwrap_or_default().to_owned()
    };
    ensure!(done(&form(&site, &at("like"), "user_id=ada").await?) == "liked", "like");
    ensure!(done(&form(&site, &at("like"), "user_id=ada").await?) == "liked-already", "like twice");
    let comment = form(&site, &at("comments"), "user_id=ada&content=nice").await?;
    ensure!(done(&comment) == "commented", "{comment:?}");
    site.replicate(&[0, 1, 2]).await?;
    // The browser that wrote as ada is offered to take the like back.
    let page =
        Reply::of(site.request(Method::GET, &format!("/posts/{SEED}")).header("cookie", "name=ada")).await?;
    ensure!(page.text.contains("2 likes") && page.text.contains("2 comments"), "{page:?}");
    ensure!(page.text.contains("Take the like back"), "{page:?}");
    ensure!(done(&form(&site, &at("unlike"), "user_id=ada").await?) == "unliked", "unlike");
    ensure!(done(&form(&site, &at("delete"), "").await?) == "deleted", "delete");
    let gone = form(&site, &at("comments"), "user_id=ada&content=late").await?;
    ensure!(gone.code() == 404 && gone.text.contains("There is no such post"), "{gone:?}");
    ensure!(form(&site, &at("delete"), "").await?.code() == 404, "delete twice");
    for path in ["/posts/no-uuid", "/posts/no-uuid/edit", "/nowhere"] {
        let page = site.get(path).await?;
        ensure!(page.code() == 404 && page.text.contains("Not found"), "{path}: {page:?}");
    }
    Ok(())
}

#[tokio::test]
async fn forms_of_other_sites_are_refused_and_programs_are_not() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let send = |name: &'static str, value: String| {
        let request = site.request(Method::POST, "/posts").body("user_id=a&content=x").header(name, value);
        Reply::of(request.header("content-type", "application/x-www-form-urlencoded"))
    };
    let evil = send("origin", "https://evil.example".to_owned()).await?;
    ensure!(evil.code() == 403 && evil.text.contains("another site"), "{evil:?}");
    ensure!(send("sec-fetch-site", "cross-site".to_owned()).await?.code() == 403, "by the browser's word");
    ensure!(send("sec-fetch-site", "same-origin".to_owned()).await?.code() == 303, "our own form");
    ensure!(send("user-agent", "curl".to_owned()).await?.code() == 303, "a program sends neither");
    Ok(())
}

#[tokio::test]
async fn a_page_can_be_read_again_elsewhere_and_from_the_leader() -> anyhow::Result<()> {
    let site = Site::start().await?;
    for path in ["/posts", "/posts?search=leader", &format!("/posts/{SEED}")] {
        let mut by = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let page = site.get(path).await?;
            ensure!(page.text.contains(&format!("href=\"{path}\">Re-read</a>")), "{path}: {page:?}");
            by.insert(page.header("x-served-by").to_owned());
        }
        ensure!(by.len() == 3, "{path} was answered by {by:?} only");
        let leader = format!("{path}{}from=leader", if path.contains('?') { "&" } else { "?" });
        let escaped = leader.replace('&', "&#38;");
        let offered = site.get(path).await?;
        ensure!(
            offered.text.contains(&format!("href=\"{escaped}\">Read from the leader</a>")),
            "{path}: {offered:?}"
        );
        let page = site.get(&leader).await?;
        ensure!(page.header("x-served-by") == "leader", "{page:?}");
        for part in ["Answered by the leader", &format!("href=\"{path}\">Read from the replicas</a>")] {
            ensure!(page.text.contains(part), "{path}: {part} is not in {}", page.text);
        }
    }
    ensure!(site.get("/posts?from=replica-1").await?.code() == 400, "no such server to choose");
    Ok(())
}
