//! One request's view of the databases, with what only this application knows: its errors, and the name that the forms are
//! filled in with. Everything else is the session's.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{FromRequestParts, Request};
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum_extra::extract::cookie::{Cookie, CookieJar};
use uuid::Uuid;

use crate::arrivals::Arrival;
use crate::db::Served;
use crate::db::route::strategy::Strategy;
use crate::db::statement::{Read, Write};
use crate::error::AppError;
use crate::extract::QueryFields;
use crate::model::input::{FieldError, UserId};
use crate::model::status::Sample;
use crate::page::theme::{THEME_COOKIE, Theme};
use crate::session::Session;
use crate::state::AppState;

pub use crate::session::{TOKEN_HEADER, lasting};

/// The name last written in a form, to fill in the next one. It is no proof of anything.
const NAME_COOKIE: &str = "name";

/// One request's view of the databases.
#[derive(Clone)]
pub struct Visit(Arc<Inner>);

struct Inner {
    state: AppState,
    session: Session,
    name: Option<String>,
    theme: Theme,
    path: String,
    remember: Mutex<Option<UserId>>,
}

impl Visit {
    /// The view of a request that came like this.
    ///
    /// # Errors
    /// When the token header is not a token.
    pub(crate) fn begin(state: AppState, request: &Request) -> Result<Self, AppError> {
        let wrong =
            || FieldError::new("X-Consistency-Token", "The token is not one that an answer returned.");
        let session = state.sessions().begin(request.headers()).map_err(|_| AppError::BadRequest(wrong()))?;
        let plain = CookieJar::from_headers(request.headers());
        let name = plain.get(NAME_COOKIE).map(|cookie| cookie.value().to_owned());
        let theme = plain.get(THEME_COOKIE).map(|cookie| Theme::parse(cookie.value())).unwrap_or_default();
        // The page of a form's problem has no address that can be asked for again.
        let path = if request.method() == Method::GET { request.uri().path_and_query() } else { None };
        let path = path.map_or_else(|| "/".to_owned(), ToString::to_string);
        Ok(Self(Arc::new(Inner { state, session, name, theme, path, remember: Mutex::default() })))
    }

    /// Answers a read with everything that the caller wrote, and nothing older than what the caller saw before.
    ///
    /// # Errors
    /// When no database can answer.
    pub async fn read<R: Read>(&self, read: &R) -> Result<R::Output, AppError> {
        self.0.session.read(read).await.map_err(AppError::from_read)
    }

    /// Answers a read from the leader, where the answer must be the newest there is.
    ///
    /// # Errors
    /// When the leader can't answer.
    pub async fn read_newest<R: Read>(&self, read: &R) -> Result<R::Output, AppError> {
        self.0.session.read_newest(read).await.map_err(AppError::from_read)
    }

    /// Answers a read from the leader when the caller wants that, and otherwise as [`Self::read`] does.
    ///
    /// # Errors
    /// As for the two.
    pub async fn read_from<R: Read>(&self, leader: bool, read: &R) -> Result<R::Output, AppError> {
        if leader { self.read_newest(read).await } else { self.read(read).await }
    }

    /// Makes a change; from now on the caller's reads show it.
    ///
    /// # Errors
    /// When the leader can't be reached or refuses the change.
    pub async fn write<W: Write>(&self, write: &W) -> Result<W::Output, AppError> {
        self.0.session.write(write).await.map_err(AppError::from_write)
    }

    /// The query that makes the next page show how this request's write arrives: `done` says what was written.
    pub fn wrote(&self, done: &str) -> String {
        let token = self.0.session.tokens().written;
        let state = &self.0.state;
        let write = token.map(|token| format!("&write={}", state.arrivals().follow(state, token)));
        format!("done={done}{}", write.unwrap_or_default())
    }

    /// The write that an address names, if it is remembered.
    pub fn arrival(&self, query: &QueryFields) -> Option<Arc<Arrival>> {
        self.0.state.arrivals().find(Uuid::parse_str(query.get("write")?).ok()?)
    }

    /// Who answered last.
    pub fn served(&self) -> Option<Served> {
        self.0.session.served()
    }

    /// How replicas are chosen for ordinary reads.
    pub fn strategy(&self) -> Strategy {
        self.0.state.database().replicas().rotation().strategy()
    }

    /// The caller's session, for reads that demand less.
    pub fn session(&self) -> &Session {
        &self.0.session
    }

    /// The name last written in a form by this browser.
    pub fn name(&self) -> &str {
        self.0.name.as_deref().unwrap_or_default()
    }

    /// The colours that this browser's reader chose.
    pub fn theme(&self) -> Theme {
        self.0.theme
    }

    /// The address that was asked for, without its host.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// How everything is.
    pub fn sample(&self) -> Arc<Sample> {
        self.0.state.sampler().latest()
    }

    /// Remembers the name for the next form.
    pub fn remember(&self, user: &UserId) {
        *self.0.remember.lock().unwrap_or_else(PoisonError::into_inner) = Some(user.clone());
    }

    /// Puts what came of it into the response's headers.
    pub(crate) fn finish(&self, headers: &mut HeaderMap) {
        self.0.session.finish(headers);
        let remember = self.0.remember.lock().unwrap_or_else(PoisonError::into_inner);
        let cookie = remember.as_ref().map(|name| lasting(Cookie::new(NAME_COOKIE, name.to_string())));
        if let Some(Ok(cookie)) = cookie.map(|cookie| HeaderValue::from_str(&cookie.encoded().to_string())) {
            headers.append(SET_COOKIE, cookie);
        }
    }
}

impl FromRequestParts<AppState> for Visit {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, AppError> {
        let visit = parts.extensions.get::<Self>().cloned();
        visit.ok_or_else(|| AppError::Internal(anyhow::anyhow!("a route without the visit middleware")))
    }
}
