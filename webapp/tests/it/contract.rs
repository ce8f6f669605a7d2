//! What `/openapi.json` says is what the server does: every operation answers as described, and none is left out.

use std::collections::BTreeSet;

use anyhow::{Context, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::{Reply, SEED, Site};

/// Complaints about where `value` is not as `schema` says.
fn check(value: &Value, schema: &Value, all: &Value, place: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return check(value, &all["components"]["schemas"][name], all, place);
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return vec![format!("{place}: no type in {schema}")],
    };
    let is = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    };
    if !kinds.iter().any(is) {
        return vec![format!("{place}: {value} is none of {kinds:?}")];
    }
    let mut complaints = Vec::new();
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        complaints.push(format!("{place}: {value} is none of {allowed:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(name).is_none() {
            complaints.push(format!("{place}: {name} is missing"));
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            complaints.extend(check(value, schema, all, &format!("{place}.{name}")));
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        complaints.extend(check(item, &schema["items"], all, &format!("{place}[{index}]")));
    }
    complaints
}

const TOKEN: &str = "a-token-of-some-length";

struct Contract {
    site: Site,
    description: Value,
    seen: BTreeSet<String>,
}

impl Contract {
    /// Makes a request and holds the answer against the description of its operation.
    async fn holds(
        &mut self,
        method: Method,
        path: &str,
        address: &str,
        body: Option<&Value>,
        status: u16,
    ) -> anyhow::Result<()> {
        let operation = &self.description["paths"][path][method.as_str().to_lowercase()];
        ensure!(operation.is_object(), "{method} {path} is not described");
        let mut request = self.site.request(method.clone(), address);
        // What a program has to bring, it brings; 401 is what it gets otherwise.
        if !operation["security"].is_null() && status != 401 {
            request = request.bearer_auth(TOKEN);
        }
        let reply = Reply::of(if let Some(body) = body { request.json(body) } else { request }).await?;
        ensure!(reply.code() == status, "{method} {address} answered {}: {}", reply.code(), reply.text);
        let described = &operation["responses"][status.to_string()];
        ensure!(described.is_object(), "{method} {path} answers {status}, which is not described");
        match &described["content"]["application/json"]["schema"] {
            Value::Null => ensure!(reply.text.is_empty(), "{method} {path}: a body that is not described"),
            schema => {
                ensure!(reply.header("content-type").starts_with("application/json"), "{reply:?}");
                let complaints = check(&reply.body(), schema, &self.description, "body");
                ensure!(complaints.is_empty(), "{method} {address} {status}: {}", complaints.join("; "));
            }
        }
        self.seen.insert(format!("{method} {path}"));
        Ok(())
    }
}

#[tokio::test]
async fn every_operation_answers_as_it_is_described() -> anyhow::Result<()> {
    const NOBODY: &str = "018f0000-0000-7000-8000-00000000dead";
    let site = Site::start_empty(&[("WEBAPP__ADMIN__TOKEN", TOKEN)]).await?;
    site.replicate(&[0, 1, 2]).await?;
    site.await_rotation(3).await?;
    let description = site.get("/openapi.json").await?.body();
    ensure!(description["openapi"] == "3.1.0", "{description}");
    let operations: BTreeSet<String> = operations(&description)?;
    let mut contract = Contract { site, description, seen: BTreeSet::new() };
    let operate = "/api/replicas/{name}/{action}";
    let (post, one, like) = ("/api/posts", "/api/posts/{id}", "/api/likes");
    let seed = format!("/api/posts/{SEED}");
    let nobody = format!("/api/posts/{NOBODY}");
    let hello = json!({ "user_id": "ada", "content": "Hello" });
    let liked = json!({ "post_id": SEED, "user_id": "contract" });
    let comment = json!({ "post_id": SEED, "user_id": "ada", "content": "Well said" });
    let stale = json!({ "content": "x", "version": 99 });
    let empty = json!({});
    for (method, path, address, body, status) in [
        (Method::GET, post, "/api/posts?limit=2", None, 200),
        (Method::GET, post, "/api/posts?limit=0", None, 400),
        (Method::POST, post, post, Some(&hello), 201),
        (Method::POST, post, post, Some(&empty), 422),
        (Method::GET, one, &seed, None, 200),
        (Method::GET, one, &nobody, None, 404),
        (Method::GET, "/api/posts/{id}/row", &format!("{seed}/row"), None, 200),
        (Method::GET, "/api/posts/{id}/row", &format!("{nobody}/row"), None, 404),
        (Method::PUT, one, &seed, Some(&stale), 409),
        (Method::PUT, one, &seed, Some(&json!({ "content": "Edited" })), 200),
        (Method::POST, "/api/comments", "/api/comments", Some(&comment), 201),
        (Method::POST, "/api/comments", "/api/comments", Some(&empty), 422),
        (Method::POST, like, like, Some(&liked), 201),
        (Method::POST, like, like, Some(&liked), 409),
        (Method::GET, "/api/users/{user}/posts", "/api/users/ada/posts", None, 200),
        (Method::GET, "/api/users/{user}/stats", "/api/users/ada/stats", None, 200),
        (Method::GET, "/api/demo", "/api/demo?reads=10", None, 200),
        (Method::GET, "/api/demo", "/api/demo?reads=0", None, 400),
        (Method::GET, "/api/status", "/api/status", None, 200),
        (Method::POST, operate, "/api/replicas/replica-2/drain", None, 401),
        (Method::POST, operate, "/api/replicas/replica-2/drain", None, 200),
        (Method::POST, operate, "/api/replicas/replica-2/return", None, 200),
        (Method::POST, operate, "/api/replicas/replica-2/pause", None, 409),
        (Method::POST, operate, "/api/replicas/replica-2/drain?table=public.posts", None, 422),
        (Method::POST, operate, "/api/replicas/replica-9/drain", None, 404),
        (Method::DELETE, one, &seed, None, 204),
        (Method::DELETE, one, &nobody, None, 404),
    ] {
        contract.holds(method, path, address, body, status).await?;
    }
    contract.site.leader().cut();
    contract.holds(Method::POST, post, post, Some(&hello), 503).await?;
    let left_out: Vec<&String> = operations.difference(&contract.seen).collect();
    ensure!(left_out.is_empty(), "described, and not tried: {left_out:?}");
    let page = contract.site.get("/api").await?.text;
    for operation in &operations {
        let path = operation.split_once(' ').map_or("", |(_, path)| path);
        ensure!(page.contains(&format!("<code>{path}</code>")), "{operation} is not on the page");
    }
    Ok(())
}

fn operations(description: &Value) -> anyhow::Result<BTreeSet<String>> {
    let paths = description["paths"].as_object().context("read the paths")?;
    let mut found = BTreeSet::new();
    for (path, methods) in paths {
        for method in methods.as_object().context("read the methods")?.keys() {
            found.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    Ok(found)
}

#[test]
fn no_route_of_the_api_is_left_undescribed() -> anyhow::Result<()> {
    let description: Value = serde_json::from_str(include_str!("../../static/openapi.json"))?;
    let routes = include_str!("../../src/routes.rs");
    let api = routes.split('"').filter(|text| text.starts_with("/api/"));
    let described = description["paths"].as_object().context("read the paths")?;
    let mut count = 0;
    for path in api {
        count += 1;
        if !described.contains_key(path) {
            bail!("{path} is a route, and not described");
        }
    }
    ensure!(count == described.len(), "{count} routes, {} described", described.len());
    Ok(())
}

#[test]
fn an_answer_that_is_not_as_described_is_noticed() {
    let all = json!({ "components": { "schemas": { "N": { "type": "integer" } } } });
    let schema = json!({ "type": "object", "properties": { "n": { "$ref": "#/components/schemas/N" } }, "required": ["n"] });
    assert!(check(&json!({ "n": 1 }), &schema, &all, "body").is_empty());
    assert_eq!(check(&json!({ "n": "1" }), &schema, &all, "body").len(), 1);
    assert_eq!(check(&json!({}), &schema, &all, "body").len(), 1);
    assert_eq!(check(&json!([]), &schema, &all, "body").len(), 1);
}
