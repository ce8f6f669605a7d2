//! The description of the JSON API, for programs (OpenAPI 3.1) and, made from the same file, for people.

use std::sync::LazyLock;

use askama::Template;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::extract::Here;
use crate::page::{Chrome, page};
use crate::visit::Visit;

/// Kept by hand; `tests/it/contract.rs` holds it against what the server does.
const DESCRIPTION: &str = include_str!("../../static/openapi.json");

#[derive(Template)]
#[template(path = "api.html")]
struct ApiPage {
    chrome: Chrome,
    operations: &'static [Operation],
    here: Here,
}

struct Operation {
    method: String,
    path: String,
    summary: String,
    /// Name, place and meaning.
    parameters: Vec<(String, String, String)>,
    /// An example of the body.
    body: Option<String>,
    /// Status and meaning.
    answers: Vec<(String, String)>,
    /// Between `curl` and the address in a call for copying: method and token.
    options: String,
    /// The address without the host, with examples for its variable parts.
    address: String,
}

static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    let description: Value = serde_json::from_str(DESCRIPTION).unwrap_or_default();
    let paths = description["paths"].as_object().into_iter().flatten();
    let operations = paths.flat_map(|(path, methods)| {
        methods
            .as_object()
            .into_iter()
            .flatten()
            .map(|(method, operation)| Operation::of(path, method, operation))
    });
    operations.collect()
});

impl Operation {
    fn of(path: &str, method: &str, operation: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let mut address = path.to_owned();
        let secured = !operation["security"].is_null();
        let parameters = parameters.map(|parameter| {
            let name = text(&parameter["name"]);
            address = address.replace(&format!("{{{name}}}"), &text(&parameter["example"]));
            (name, text(&parameter["in"]), text(&parameter["description"]))
        });
        let parameters = parameters.collect();
        let example = &operation["requestBody"]["content"]["application/json"]["example"];
        let body = (!example.is_null()).then(|| example.to_string());
        let answers = operation["responses"].as_object().into_iter().flatten();
        let method = method.to_uppercase();
        let verb = if method == "GET" { String::new() } else { format!("-X {method} ") };
        let token = if secured { "-H 'Authorization: Bearer TOKEN' " } else { "" };
        Self {
            options: format!("{verb}{token}"),
            address,
            path: path.to_owned(),
            summary: text(&operation["summary"]),
            answers: answers.map(|(status, answer)| (status.clone(), text(&answer["description"]))).collect(),
            method,
            parameters,
            body,
        }
    }

    /// The call, for copying, at the address by which the reader came.
    fn curl(&self, here: &Here) -> String {
        let data = self.body.as_ref().map(|body| format!(" -H 'Content-Type: application/json' -d '{body}'"));
        format!("curl {}'{here}{}'{}", self.options, self.address, data.unwrap_or_default())
    }
}

/// `GET /openapi.json`
pub async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], DESCRIPTION).into_response()
}

/// `GET /api`
pub async fn show(visit: Visit, here: Here) -> Response {
    page(StatusCode::OK, &ApiPage { chrome: Chrome::new("api", &visit), operations: &OPERATIONS, here })
}
