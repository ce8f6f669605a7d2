//! The JSON API, from outside: a write is on every replica, a bad request is told what is wrong with it.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, ensure};
use e2e::wait;
use serde_json::{Value, json};

use crate::system::{Login, PATIENCE, REPLICAS, System, answer};

pub(super) async fn post(system: Rc<System>) -> anyhow::Result<()> {
    let started = Instant::now();
    let content = "made through the API: ünïcödé \"quotes\" and\na second line";
    let (status, body) =
        send(&system, "POST", "/api/posts", &json!({ "user_id": "e2e", "content": content })).await?;
    ensure!(status == 201, "POST /api/posts answered {status}: {body}");
    let id = body["id"].as_str().context("find the id of the post")?.to_owned();
    for name in REPLICAS {
        let replica = system.connect(name, Login::Reader).await?;
        let query = format!("SELECT content FROM posts WHERE id = '{id}'");
        let found = wait::until(&format!("the post on {name}"), PATIENCE, async || {
            let row = replica.query_opt(&query, &[]).await.map_err(|error| error.to_string())?;
            row.map(|row| row.get::<_, String>(0)).ok_or_else(|| "no such row".to_owned())
        })
        .await?;
        ensure!(found == content, "{name} holds {found:?}");
    }
    println!("  written and seen on three replicas after {:.0?}", started.elapsed());

    let on_post = json!({ "post_id": id, "user_id": "reader", "content": "a comment" });
    let (status, body) = send(&system, "POST", "/api/comments", &on_post).await?;
    ensure!(status == 201, "POST /api/comments answered {status}: {body}");
    let (status, body) =
        send(&system, "POST", "/api/likes", &json!({ "post_id": id, "user_id": "reader" })).await?;
    ensure!(status == 201, "POST /api/likes answered {status}: {body}");
    let (status, body) =
        send(&system, "PUT", &format!("/api/posts/{id}"), &json!({ "content": "edited", "version": 1 }))
            .await?;
    ensure!(status == 200, "PUT answered {status}: {body}");
    system.await_replicas().await?;

    // Three reads in a row are answered by three replicas, and each shows the same.
    let mut servers = Vec::new();
    for _ in REPLICAS {
        let response =
            system.http().get(system.http_url("webapp", &format!("/api/posts/{id}"))?).send().await?;
        let server =
            response.headers().get("x-served-by").and_then(|name| name.to_str().ok()).unwrap_or_default();
        servers.push(server.to_owned());
        let body: Value = response.json().await.context("read the post")?;
        ensure!(
            body["content"] == "edited" && body["version"] == 2,
            "{} shows {body}",
            servers[servers.len() - 1]
        );
        ensure!(
            body["comments"][0]["content"] == "a comment" && body["like_count"] == 1,
            "comments or likes missing: {body}"
        );
    }
    servers.sort();
    ensure!(servers == REPLICAS, "three reads were answered by {servers:?}");

    let (status, body) = send(&system, "DELETE", &format!("/api/posts/{id}"), &Value::Null).await?;
    ensure!(status == 204, "DELETE answered {status}: {body}");
    system.assert_equal().await?;
    for _ in REPLICAS {
        let (status, _) = system.get("webapp", &format!("/api/posts/{id}")).await?;
        ensure!(status == 404, "a deleted post answers {status}");
    }
    Ok(())
}

pub(super) async fn bad_requests(system: Rc<System>) -> anyhow::Result<()> {
    let missing = "018f0000-0000-7000-8000-00000000dead";
    let seed = "018f0000-0000-7000-8000-000000000001";
    let like = json!({ "post_id": seed, "user_id": "twice" });
    let (status, body) = send(&system, "POST", "/api/likes", &like).await?;
    ensure!(status == 201, "the first like answered {status}: {body}");
    let cases = [
        ("POST", "/api/posts".to_owned(), json!({ "user_id": "e2e", "content": "" }), 422),
        ("POST", "/api/posts".to_owned(), json!({ "user_id": "e2e", "content": "x".repeat(10_001) }), 422),
        ("POST", "/api/posts".to_owned(), json!({ "content": "nobody's" }), 422),
        (
            "POST",
            "/api/comments".to_owned(),
            json!({ "post_id": missing, "user_id": "e2e", "content": "x" }),
            404,
        ),
        (
            "POST",
            "/api/comments".to_owned(),
            json!({ "post_id": "no-uuid", "user_id": "e2e", "content": "x" }),
            422,
        ),
        ("POST", "/api/likes".to_owned(), like.clone(), 409),
        ("PUT", format!("/api/posts/{missing}"), json!({ "content": "x" }), 404),
        ("PUT", format!("/api/posts/{seed}"), json!({ "content": "x", "version": 99 }), 409),
        ("DELETE", format!("/api/posts/{missing}"), Value::Null, 404),
        ("GET", format!("/api/posts/{missing}"), Value::Null, 404),
        ("GET", "/api/posts?limit=x".to_owned(), Value::Null, 400),
    ];
    for (method, path, body, expected) in &cases {
        let (status, answer) = send(&system, method, path, body).await?;
        ensure!(status == *expected, "{method} {path} answered {status} and not {expected}: {answer}");
        ensure!(answer.to_string().len() > 20, "{method} {path} does not say what is wrong: {answer}");
    }
    let request = system.http().post(system.http_url("webapp", "/api/posts")?);
    let (status, _) =
        answer(request.header("content-type", "application/json").body("{\"user_id\": ")).await?;
    ensure!(status == 400, "a body that is no JSON answered {status}");
    println!("  {} bad requests refused with the right status", cases.len() + 1);
    system.assert_equal().await.map(drop)
}

/// Sends a request with a JSON body (`null`: none).
pub(super) async fn send(
    system: &System,
    method: &str,
    path: &str,
    body: &Value,
) -> anyhow::Result<(u16, Value)> {
    let url = system.http_url("webapp", path)?;
    let request = system.http().request(method.parse().context("read the method")?, url);
    answer(if body.is_null() { request } else { request.json(body) }).await
}
