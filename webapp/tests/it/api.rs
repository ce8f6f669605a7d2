//! The JSON API: every status that it promises.

use anyhow::ensure;
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::{Reply, SEED, Site};

const NOBODY: &str = "018f0000-0000-7000-8000-00000000dead";

#[tokio::test]
async fn what_is_written_is_read_with_its_comments_and_likes() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let created = site.post("ünïcödé \"quotes\"\nand a second line").await?;
    let post = created.body();
    let id = post["id"].as_str().unwrap_or_default();
    ensure!(created.header("location") == format!("/api/posts/{id}"), "{created:?}");
    ensure!(post["version"] == 1 && post["user_id"] == "tester", "{post}");

    // A number is taken as text.
    let comment = json!({ "post_id": id, "user_id": 42, "content": "first" });
    let comment = site.json(Method::POST, "/api/comments", &comment).await?;
    ensure!(comment.code() == 201 && comment.body()["user_id"] == "42", "{comment:?}");
    let like = json!({ "post_id": id, "user_id": "grace" });
    ensure!(site.json(Method::POST, "/api/likes", &like).await?.code() == 201, "the like");
    let edit = json!({ "content": "edited", "version": 1 });
    let edited = site.json(Method::PUT, &format!("/api/posts/{id}"), &edit).await?;
    ensure!(edited.code() == 200 && edited.body()["version"] == 2, "{edited:?}");

    site.replicate(&[0, 1, 2]).await?;
    let read = site.get(&format!("/api/posts/{id}")).await?;
    let post = read.body();
    ensure!(post["content"] == "edited" && post["comment_count"] == 1 && post["like_count"] == 1, "{post}");
    ensure!(post["comments"][0]["content"] == "first" && post["likes"][0]["user_id"] == "grace", "{post}");
    ensure!(post["created_at"] == created.body()["created_at"], "{post}");
    let row = site.get(&format!("/api/posts/{id}/row")).await?;
    ensure!(row.header("x-served-by").starts_with("replica-"), "{row:?}");
    ensure!(row.body() == edited.body(), "{row:?}");

    let stats = site.get("/api/users/tester/stats").await?.body();
    let expected =
        json!({ "user_id": "tester", "posts": 1, "comments": 0, "likes_given": 0, "likes_received": 1 });
    ensure!(stats == expected, "{stats}");
    let posts = site.get("/api/users/tester/posts").await?.body();
    ensure!(posts["posts"].as_array().map(Vec::len) == Some(1) && posts["posts"][0]["id"] == id, "{posts}");

    ensure!(
        Reply::of(site.request(Method::DELETE, &format!("/api/posts/{id}"))).await?.code() == 204,
        "delete"
    );
    site.replicate(&[0, 1, 2]).await?;
    ensure!(site.get(&format!("/api/posts/{id}")).await?.code() == 404, "a deleted post is still there");
    ensure!(
        site.get("/api/users/grace/stats").await?.body()["likes_given"] == 0,
        "the like outlived its post"
    );
    Ok(())
}

#[tokio::test]
async fn each_bad_request_has_its_status_its_code_and_its_field() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let like = json!({ "post_id": SEED, "user_id": "twice" });
    ensure!(site.json(Method::POST, "/api/likes", &like).await?.code() == 201, "the first like");
    let post = |user_id: Value, content: Value| json!({ "user_id": user_id, "content": content });
    let on_post = |id: &str| json!({ "post_id": id, "user_id": "a", "content": "x" });
    let seed = format!("/api/posts/{SEED}");
    let cases = [
        (Method::POST, "/api/posts", post("a".into(), "".into()), 422, "invalid", "content"),
        (Method::POST, "/api/posts", post("a".into(), " \n".into()), 422, "invalid", "content"),
        (Method::POST, "/api/posts", post("a".into(), "x".repeat(10_001).into()), 422, "invalid", "content"),
        (Method::POST, "/api/posts", post("a".into(), 7.into()), 422, "invalid", "content"),
        (Method::POST, "/api/posts", post("a".into(), "nul\0".into()), 422, "invalid", "content"),
        (Method::POST, "/api/posts", post(Value::Null, "x".into()), 422, "invalid", "user_id"),
        (Method::POST, "/api/posts", post("x".repeat(65).into(), "x".into()), 422, "invalid", "user_id"),
        (Method::POST, "/api/posts", post(true.into(), "x".into()), 422, "invalid", "user_id"),
        (Method::POST, "/api/posts", json!(["a"]), 400, "not_json", ""),
        (Method::POST, "/api/posts", post("a".into(), "x".repeat(300_000).into()), 413, "too_large", ""),
        (Method::POST, "/api/comments", on_post(NOBODY), 404, "not_found", ""),
        (Method::POST, "/api/comments", on_post("no-uuid"), 422, "invalid", "post_id"),
        (Method::POST, "/api/comments", json!({}), 422, "invalid", "post_id"),
        (Method::POST, "/api/likes", json!({ "post_id": NOBODY, "user_id": "a" }), 404, "not_found", ""),
        (Method::POST, "/api/likes", like, 409, "already_liked", "user_id"),
        (
            Method::PUT,
            seed.as_str(),
            json!({ "content": "x", "version": 99 }),
            409,
            "stale_version",
            "version",
        ),
        (Method::PUT, seed.as_str(), json!({ "content": "x", "version": 0 }), 422, "invalid", "version"),
        (Method::PUT, seed.as_str(), json!({ "version": 1 }), 422, "invalid", "content"),
        (Method::PUT, "/api/posts/no-uuid", json!({ "content": "x" }), 404, "not_found", ""),
        (
            Method::PUT,
            "/api/posts/018f0000-0000-7000-8000-00000000dead",
            json!({ "content": "x" }),
            404,
            "not_found",
            "",
        ),
        (Method::PATCH, seed.as_str(), json!({}), 405, "method_not_allowed", ""),
        (Method::GET, "/api/nothing", json!({}), 404, "not_found", ""),
        (Method::DELETE, "/api/posts/018f0000-0000-7000-8000-00000000dead", json!({}), 404, "not_found", ""),
    ];
    for (method, path, body, status, code, field) in cases {
        let reply = site.json(method.clone(), path, &body).await?;
        let error = &reply.body()["error"];
        ensure!(reply.code() == status && error["code"] == code, "{method} {path}: {reply:?}");
        ensure!(error["field"].as_str().unwrap_or_default() == field, "{method} {path}: {reply:?}");
        ensure!(
            error["message"].as_str().is_some_and(|message| message.len() > 10),
            "{method} {path}: {reply:?}"
        );
    }
    for (path, field) in [
        ("/api/posts?limit=0", "limit"),
        ("/api/posts?limit=101", "limit"),
        ("/api/posts?limit=x", "limit"),
        ("/api/posts?after=x", "after"),
        ("/api/posts?after=-300000000000000000_00000000000000000000000000000000", "after"),
        (&format!("/api/posts?search={}", "x".repeat(201)), "search"),
        ("/api/posts?search=a%00b", "search"),
        ("/api/demo?reads=0", "reads"),
    ] {
        let reply = site.get(path).await?;
        ensure!(reply.code() == 400 && reply.body()["error"]["field"] == field, "{path}: {reply:?}");
    }
    Ok(())
}

#[tokio::test]
async fn addresses_that_are_no_text_and_other_sites_get_json_that_nobody_keeps() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let odd = site.get("/api/posts/%ff").await?;
    ensure!(odd.code() == 404 && odd.body()["error"]["code"] == "not_found", "{odd:?}");
    ensure!(site.get("/posts/%ff").await?.text.contains("Not found"), "a page for people");
    let demo = site.request(Method::GET, "/api/demo?reads=3").header("sec-fetch-site", "cross-site");
    let demo = Reply::of(demo).await?;
    ensure!(demo.code() == 403 && demo.body()["error"]["code"] == "cross_site", "{demo:?}");
    for reply in [odd, demo, site.get("/api/posts").await?] {
        ensure!(reply.header("cache-control") == "no-store", "{reply:?}");
    }
    // As large as a post can be: in a form each of its characters has nine bytes.
    let text = "%E6%BC%A2".repeat(9000);
    let form = site.request(Method::POST, "/posts").body(format!("user_id=ada&content={text}"));
    let form = Reply::of(form.header("content-type", "application/x-www-form-urlencoded")).await?;
    ensure!(form.code() == 303, "{form:?}");
    Ok(())
}

#[tokio::test]
async fn bodies_that_are_no_json_are_told_apart() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let send = |media_type: &'static str, body: &'static str| {
        Reply::of(site.request(Method::POST, "/api/posts").header("content-type", media_type).body(body))
    };
    let broken = send("application/json", "{\"user_id\": ").await?;
    ensure!(broken.code() == 400 && broken.body()["error"]["code"] == "not_json", "{broken:?}");
    ensure!(broken.text.contains("line 1"), "the place is not named: {broken:?}");
    ensure!(send("text/plain", "{}").await?.code() == 415, "text is no JSON");
    ensure!(
        send("application/json; charset=utf-8", "{}").await?.code() == 422,
        "parameters are no other type"
    );
    Ok(())
}

#[tokio::test]
async fn pages_of_posts_neither_repeat_nor_miss_one() -> anyhow::Result<()> {
    let site = Site::start().await?;
    for number in 0..7 {
        site.post(&format!("number {number}")).await?;
    }
    site.replicate(&[0, 1, 2]).await?;
    let mut seen = Vec::new();
    let mut path = "/api/posts?limit=3".to_owned();
    loop {
        let page = site.get(&path).await?.body();
        let posts = page["posts"].as_array().cloned().unwrap_or_default();
        seen.extend(posts.iter().map(|post| post["content"].as_str().unwrap_or_default().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        ensure!(posts.len() == 3, "a page that is not the last is full: {page}");
        path = format!("/api/posts?limit=3&after={next}");
        // What arrives meanwhile is newer than the cursor, and disturbs nothing.
        site.post("late").await?;
        site.replicate(&[0, 1, 2]).await?;
    }
    let numbers: Vec<_> = (0..7).rev().map(|number| format!("number {number}")).collect();
    ensure!(seen.len() == 10 && seen[..7] == numbers, "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn search_finds_words_phrases_and_leaves_out() -> anyhow::Result<()> {
    let site = Site::start().await?;
    for content in ["Cats are running home", "A cat stays", "Dogs run", "O'Reilly & \"sons\" -- 100%"] {
        site.post(content).await?;
    }
    site.replicate(&[0, 1, 2]).await?;
    for (search, expected) in [
        ("cats", vec!["A cat stays", "Cats are running home"]),
        ("cat -running", vec!["A cat stays"]),
        ("\"running home\"", vec!["Cats are running home"]),
        ("stays or dogs", vec!["Dogs run", "A cat stays"]),
        ("O'Reilly", vec!["O'Reilly & \"sons\" -- 100%"]),
        ("'; drop table posts; --", vec![]),
        ("zebra", vec![]),
    ] {
        let encoded: String = search.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let reply = site.get(&format!("/api/posts?search={encoded}")).await?;
        let posts = reply.body()["posts"].as_array().cloned().unwrap_or_default();
        let found: Vec<_> = posts.iter().filter_map(|post| post["content"].as_str()).collect();
        ensure!(reply.code() == 200 && found == expected, "{search}: {found:?}");
    }
    Ok(())
}
