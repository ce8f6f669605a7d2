//! One request's view of the databases. It knows the caller's last write, and remembers who answered; what the response
//! must carry (who served it, how fresh it is, the token) follows from that, so no handler can forget it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite, SignedCookieJar};

use crate::db::leader::Leader;
use crate::db::route::Preference;
use crate::db::statement::{Read, Write};
use crate::db::{Answer, Served};
use crate::error::AppError;
use crate::model::input::{FieldError, UserId};
use crate::model::lsn::Lsn;
use crate::model::status::Sample;
use crate::page::theme::{THEME_COOKIE, Theme};
use crate::state::AppState;

/// API clients get it with a write and send it with reads; browsers have a cookie for it.
pub const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-consistency-token");
const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
const LAG: HeaderName = HeaderName::from_static("x-replica-lag-ms");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The name last written in a form, to fill in the next one. It is no proof of anything.
const NAME_COOKIE: &str = "name";

/// One request's view of the databases.
#[derive(Clone)]
pub struct Visit(Arc<Inner>);

struct Inner {
    state: AppState,
    name: Option<String>,
    theme: Theme,
    path: String,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    token: Option<Lsn>,
    wrote: Option<Lsn>,
    token_void: bool,
    served: Vec<Served>,
    remember: Option<UserId>,
}

impl Visit {
    /// Answers a read with everything that the caller wrote.
    ///
    /// # Errors
    /// When no database can answer.
    pub async fn read<R: Read>(&self, read: &R) -> Result<R::Output, AppError> {
        let token = self.log().token;
        let preference = token.map_or(Preference::Any, Preference::AtLeast);
        let answer = self.0.state.database().read(read, preference).await.map_err(AppError::from_read)?;
        Ok(self.note(answer))
    }

    /// Answers a read from the leader, where the answer must be the newest there is.
    ///
    /// # Errors
    /// When the leader can't answer.
    pub async fn read_newest<R: Read>(&self, read: &R) -> Result<R::Output, AppError> {
        let started = Instant::now();
        let value = self.0.state.database().leader().read(read).await.map_err(AppError::from_read)?;
        Ok(self.note(Answer { value, served: by_leader(started.elapsed()), token_void: false }))
    }

    /// Makes a change; from now on the caller's reads show it.
    ///
    /// # Errors
    /// When the leader can't be reached or refuses the change.
    pub async fn write<W: Write>(&self, write: &W) -> Result<W::Output, AppError> {
        let started = Instant::now();
        let committed = self.0.state.database().write(write).await.map_err(AppError::from_write)?;
        let mut log = self.log();
        log.token = log.token.max(Some(committed.token));
        log.wrote = Some(committed.token);
        log.served.push(by_leader(started.elapsed()));
        Ok(committed.value)
    }

    /// Who answered last.
    pub fn served(&self) -> Option<Served> {
        self.log().served.last().cloned()
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
        self.log().remember = Some(user.clone());
    }

    fn note<T>(&self, answer: Answer<T>) -> T {
        let mut log = self.log();
        if answer.token_void {
            log.token = None;
            log.token_void = true;
        }
        log.served.push(answer.served);
        answer.value
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn by_leader(duration: Duration) -> Served {
    Served {
        by: Leader::NAME.to_owned(),
        fallback: None,
        duration,
        waited: Duration::ZERO,
        lag: Some(Duration::ZERO),
        retried: false,
    }
}

impl FromRequestParts<AppState> for Visit {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, AppError> {
        let visit = parts.extensions.get::<Self>().cloned();
        visit.ok_or_else(|| AppError::Internal(anyhow::anyhow!("a route without the visit middleware")))
    }
}

/// Gives each request its [`Visit`], and each response what came of it.
///
/// # Errors
/// When the token header is not a position.
pub async fn attach(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Result<Response, AppError> {
    let headers = request.headers();
    let signed = SignedCookieJar::from_headers(headers, state.cookie_key().clone());
    let from_cookie = signed.get(state.session_cookie()).and_then(|cookie| cookie.value().parse().ok());
    let token = from_cookie.max(token_of(headers)?);
    let plain = CookieJar::from_headers(headers);
    let name = plain.get(NAME_COOKIE).map(|cookie| cookie.value().to_owned());
    let theme = plain.get(THEME_COOKIE).map(|cookie| Theme::parse(cookie.value())).unwrap_or_default();
    // The page of a form's problem has no address that can be asked for again.
    let path = if request.method() == Method::GET { request.uri().path_and_query() } else { None };
    let path = path.map_or_else(|| "/".to_owned(), ToString::to_string);
    let log = Mutex::new(Log { token, ..Log::default() });
    let visit = Visit(Arc::new(Inner { state, name, theme, path, log }));
    request.extensions_mut().insert(visit.clone());
    let mut response = next.run(request).await;
    visit.describe(response.headers_mut(), signed);
    // For the error page, which is made further out.
    response.extensions_mut().insert(visit);
    Ok(response)
}

fn token_of(headers: &HeaderMap) -> Result<Option<Lsn>, AppError> {
    let Some(value) = headers.get(TOKEN_HEADER) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| text.parse().ok());
    let wrong = || FieldError::new("X-Consistency-Token", "The token is not one that a write returned.");
    token.map(Some).ok_or_else(|| AppError::BadRequest(wrong()))
}

impl Visit {
    fn describe(&self, headers: &mut HeaderMap, signed: SignedCookieJar) {
        let log = self.log();
        let mut put = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.append(name, value);
            }
        };
        if let Some(last) = log.served.last() {
            put(SERVED_BY, last.by.clone());
            if let Some(lag) = last.lag {
                put(LAG, lag.as_millis().to_string());
            }
            let timings = log.served.iter().map(|served| {
                let millis = served.duration.as_secs_f64() * 1000.0;
                format!("db;dur={millis:.2};desc=\"{}\"", served.by)
            });
            put(SERVER_TIMING, timings.collect::<Vec<_>>().join(", "));
        }
        let mut cookies = Vec::new();
        if let (Some(wrote), Some(token)) = (log.wrote, log.token) {
            put(TOKEN_HEADER, wrote.to_string());
            let session = lasting(Cookie::new(self.0.state.session_cookie().to_owned(), token.to_string()));
            cookies.push(signed.add(session).into_response());
        } else if log.token_void {
            // It would cost every following request a question to the leader.
            let session = lasting(Cookie::new(self.0.state.session_cookie().to_owned(), ""));
            cookies.push(signed.remove(session).into_response());
        }
        if let Some(name) = &log.remember {
            let name = lasting(Cookie::new(NAME_COOKIE, name.to_string()));
            cookies.push(CookieJar::new().add(name).into_response());
        }
        for jar in &cookies {
            headers
                .extend(jar.headers().get_all(SET_COOKIE).iter().map(|cookie| (SET_COOKIE, cookie.clone())));
        }
    }
}

/// A cookie for the whole site that no script sees and no other site sends.
pub fn lasting(mut cookie: Cookie<'static>) -> Cookie<'static> {
    cookie.set_http_only(true);
    cookie.set_same_site(SameSite::Lax);
    cookie.set_path("/");
    cookie
}
