//! What a request carries, taken out with the right error when it is not as it should be.

mod here;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Form;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FormRejection};
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::AppError;
use crate::model::input::FieldError;
use crate::state::AppState;

pub use here::{Here, came_by_tls};

/// The fields of a form, as typed. A field that is missing is empty: the checks of the model say what that means.
#[derive(Debug, Default)]
pub struct FormFields(HashMap<String, String>);

impl FormFields {
    /// One field. Browsers send line ends as CR LF; they are stored as LF.
    pub fn text(&self, field: &str) -> String {
        self.0.get(field).map(|text| text.replace("\r\n", "\n")).unwrap_or_default()
    }
}

impl FromRequest<AppState> for FormFields {
    type Rejection = AppError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, AppError> {
        match Form::from_request(request, state).await {
            Ok(Form(fields)) => Ok(Self(fields)),
            Err(FormRejection::InvalidFormContentType(_)) => {
                Err(AppError::MediaType("application/x-www-form-urlencoded"))
            }
            Err(FormRejection::BytesRejection(error)) => Err(body_error(error)),
            Err(_) => Err(AppError::BadRequest(FieldError::new("body", "The form can't be understood."))),
        }
    }
}

/// The fields of a JSON object.
#[derive(Debug)]
pub struct JsonFields(Map<String, Value>);

impl JsonFields {
    /// A field that must be text.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn text(&self, field: &'static str) -> Result<&str, FieldError> {
        match self.0.get(field) {
            Some(Value::String(text)) => Ok(text),
            other => Err(wrong(field, "text", other)),
        }
    }

    /// A field that is text, or a number, which is taken as text.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn text_or_number(&self, field: &'static str) -> Result<String, FieldError> {
        match self.0.get(field) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            other => Err(wrong(field, "text or a number", other)),
        }
    }

    /// A field that must be a UUID.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn uuid(&self, field: &'static str) -> Result<Uuid, FieldError> {
        let id = Uuid::parse_str(self.text(field)?);
        id.map_err(|_| FieldError::new(field, format!("{field} is not a UUID.")))
    }

    /// A field that may be missing, and otherwise is a number from 1.
    ///
    /// # Errors
    /// When it is something else.
    pub fn version(&self, field: &'static str) -> Result<Option<i64>, FieldError> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64() {
                Some(version @ 1..) => Ok(Some(version)),
                _ => Err(wrong(field, "a whole number from 1", Some(value))),
            },
        }
    }
}

fn wrong(field: &'static str, wanted: &str, found: Option<&Value>) -> FieldError {
    let message = match found {
        None | Some(Value::Null) => format!("{field} is missing."),
        Some(_) => format!("{field} must be {wanted}."),
    };
    FieldError::new(field, message)
}

impl FromRequest<AppState> for JsonFields {
    type Rejection = AppError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, AppError> {
        if !is_json(request.headers()) {
            return Err(AppError::MediaType("application/json"));
        }
        let body = Bytes::from_request(request, state).await.map_err(body_error)?;
        match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(AppError::NotJson("The body must be a JSON object.".to_owned())),
            // The parser's message names the line and the column, and nothing of ours.
            Err(error) => Err(AppError::NotJson(format!("The body is not JSON: {error}."))),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

fn body_error(error: BytesRejection) -> AppError {
    if error.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE {
        AppError::TooLarge
    } else {
        AppError::BadRequest(FieldError::new("body", "The body did not arrive whole."))
    }
}

/// The part of the address after the question mark.
#[derive(Debug, Default)]
pub struct QueryFields(HashMap<String, String>);

impl QueryFields {
    /// One field, if it is there and not empty.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str).filter(|text| !text.is_empty())
    }
}

impl FromRequestParts<AppState> for QueryFields {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, AppError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(fields)) => Ok(Self(fields)),
            Err(_) => Err(AppError::BadRequest(FieldError::new("query", "The query can't be understood."))),
        }
    }
}

/// The one variable part of an address, as text.
#[derive(Debug)]
pub struct PathText(pub String);

impl FromRequestParts<AppState> for PathText {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, AppError> {
        // Bytes that are no UTF-8 name nothing that there could be.
        let text = Path::<String>::from_request_parts(parts, state).await;
        text.map(|Path(text)| Self(text))
            .map_err(|_| AppError::NotFound("There is no page at this address.".to_owned()))
    }
}

/// The address that a request came from; behind a proxy the proxy's. Where it is not known all share one.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let known = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(known.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| address.ip())))
    }
}

/// An address of this site from a form, to go back to. Only a page of ours: "//elsewhere" would be another site's.
pub fn way_back<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    let is_ours = text.starts_with('/') && !text.starts_with("//") && !text.contains('\\');
    if is_ours { text } else { otherwise }
}

/// The id of a post in an address. One that is no UUID names no post, so the answer is the same as for an unknown one.
///
/// # Errors
/// 404 when the text is no UUID.
pub fn post_id(text: &str) -> Result<Uuid, AppError> {
    Uuid::parse_str(text).map_err(|_| AppError::no_such_post())
}

/// Collects the errors of several fields, so that all are told at once.
///
/// # Errors
/// When either has one.
pub fn both<A, B>(first: Result<A, FieldError>, second: Result<B, FieldError>) -> Result<(A, B), AppError> {
    match (first, second) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        (first, second) => {
            let errors = first.err().into_iter().chain(second.err());
            Err(AppError::Invalid(errors.collect()))
        }
    }
}
