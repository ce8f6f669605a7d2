//! What one caller has written and seen, from one request to the next: for any axum application.
//!
//! A [`Session`] reads and writes for one request. It knows the caller's tokens, raises them with every read and write, and
//! puts them, and who answered, into the response; so no handler can forget it.
//!
//! | where | what |
//! |---|---|
//! | cookie `session_PORT` | the caller's last write; set by answers to writes only |
//! | cookie `seen_PORT` | the newest state that the caller was shown; set when it has moved |
//! | header `X-Consistency-Token` | both, for clients without cookies: sent back with the next request |
//! | `X-Served-By`, `X-Replica-Lag-Ms`, `Server-Timing` | who answered, how old the answer is at most, how long it took |
//!
//! The cookies are signed, `HttpOnly` and `SameSite=Lax`. They are two, because a browser sends several requests at a time:
//! the answer to a read that comes late must not undo what a write has set. Of reads at the same time the last answer counts.
//! A client that brings the header keeps the token by itself, and gets no cookies.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::cookie::{Cookie, Key, SameSite, SignedCookieJar};

use crate::db::error::DbError;
use crate::db::leader::Leader;
use crate::db::statement::{Read, Write};
use crate::db::token::{Consistency, NotAToken, Token, Tokens};
use crate::db::{Answer, Database, Served};

/// API clients get it with every answer and send it with the next request; browsers have cookies for it.
pub const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-consistency-token");
const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
const LAG: HeaderName = HeaderName::from_static("x-replica-lag-ms");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What the sessions of an application share.
#[derive(Clone)]
pub struct Sessions(Arc<Shared>);

struct Shared {
    database: Arc<Database>,
    key: Key,
    written_cookie: String,
    seen_cookie: String,
    /// What was last made of a state that somebody was shown. Callers at the same time are shown the same state, mostly, and
    /// to sign a cookie costs more than all else that a session does.
    last_seen: Mutex<Option<(Token, HeaderValue)>>,
}

impl Shared {
    fn signed(&self, name: &str, token: Token) -> Option<HeaderValue> {
        let cookie = lasting(Cookie::new(name.to_owned(), token.to_string()));
        let jar = SignedCookieJar::new(self.key.clone()).add(cookie);
        jar.into_response().headers().get(SET_COOKIE).cloned()
    }

    /// The cookie of a caller who was shown this state.
    fn seen(&self, state: Token) -> Option<HeaderValue> {
        let mut last = self.last_seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, made)) = last.as_ref().filter(|(of, _)| *of == state) {
            return Some(made.clone());
        }
        let made = self.signed(&self.seen_cookie, state)?;
        *last = Some((state, made.clone()));
        Some(made)
    }
}

impl Sessions {
    /// Sessions on these databases. `key` signs the cookies, so that nobody can make one up. `port` goes into their names,
    /// because browsers send cookies to all ports of a host, and another system there has another log.
    pub fn new(database: Arc<Database>, key: Key, port: u16) -> Self {
        Self(Arc::new(Shared {
            database,
            key,
            written_cookie: format!("session_{port}"),
            seen_cookie: format!("seen_{port}"),
            last_seen: Mutex::default(),
        }))
    }

    /// The databases.
    pub fn database(&self) -> &Arc<Database> {
        &self.0.database
    }

    /// What signs the cookies.
    pub fn key(&self) -> &Key {
        &self.0.key
    }

    /// The name of the cookie with the caller's last write.
    pub fn written_cookie(&self) -> &str {
        &self.0.written_cookie
    }

    /// The name of the cookie with the newest state that the caller was shown.
    pub fn seen_cookie(&self) -> &str {
        &self.0.seen_cookie
    }

    /// The session of a request with these headers.
    ///
    /// # Errors
    /// When the token header is not a token. A cookie that is none, or that is not signed by us, counts as missing.
    pub fn begin(&self, headers: &HeaderMap) -> Result<Session, NotAToken> {
        let jar = SignedCookieJar::from_headers(headers, self.0.key.clone());
        let of = |name: &str| jar.get(name).and_then(|cookie| cookie.value().parse().ok());
        let mut tokens = Tokens { written: of(&self.0.written_cookie), seen: of(&self.0.seen_cookie) };
        let brought = tokens;
        let header = headers.get(TOKEN_HEADER).map(token_of).transpose()?;
        if let Some(token) = header {
            tokens.wrote(token);
        }
        let log = Mutex::new(Log { tokens, ..Log::default() });
        let keeps_token = header.is_some();
        Ok(Session(Arc::new(Inner { sessions: self.clone(), brought, keeps_token, log })))
    }
}

fn token_of(value: &HeaderValue) -> Result<Token, NotAToken> {
    value.to_str().map_err(|_| NotAToken)?.parse()
}

/// One request's view of the databases.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    sessions: Sessions,
    /// What the cookies said.
    brought: Tokens,
    keeps_token: bool,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    tokens: Tokens,
    served: Vec<Served>,
}

impl Session {
    /// Answers a read with everything that the caller wrote, and nothing older than what the caller saw before.
    ///
    /// # Errors
    /// When no database can answer.
    pub async fn read<R: Read>(&self, read: &R) -> Result<R::Output, DbError> {
        self.read_with(read, Consistency::Monotonic).await
    }

    /// Answers a read that demands this much.
    ///
    /// # Errors
    /// When no database can answer.
    pub async fn read_with<R: Read>(&self, read: &R, consistency: Consistency) -> Result<R::Output, DbError> {
        let demand = self.log().tokens.demand(consistency);
        let answer = self.0.sessions.database().read(read, demand.into()).await?;
        Ok(self.note(answer))
    }

    /// Answers a read from the leader, where the answer must be the newest there is.
    ///
    /// # Errors
    /// When the leader can't answer.
    pub async fn read_newest<R: Read>(&self, read: &R) -> Result<R::Output, DbError> {
        let started = Instant::now();
        let (value, seen) = self.0.sessions.database().leader().read_with_position(read).await?;
        Ok(self.note(Answer { value, served: by_leader(started.elapsed()), seen, token_void: false }))
    }

    /// Makes a change; from now on the caller's reads show it.
    ///
    /// # Errors
    /// When the leader can't be reached or refuses the change.
    pub async fn write<W: Write>(&self, write: &W) -> Result<W::Output, DbError> {
        let started = Instant::now();
        let committed = self.0.sessions.database().write(write).await?;
        let mut log = self.log();
        log.tokens.wrote(committed.token);
        log.served.push(by_leader(started.elapsed()));
        Ok(committed.value)
    }

    /// Who answered last.
    pub fn served(&self) -> Option<Served> {
        self.log().served.last().cloned()
    }

    /// What the caller has written and seen so far.
    pub fn tokens(&self) -> Tokens {
        self.log().tokens
    }

    fn note<T>(&self, answer: Answer<T>) -> T {
        let mut log = self.log();
        if answer.token_void {
            log.tokens = Tokens::default();
        }
        log.tokens.saw(answer.seen);
        log.served.push(answer.served);
        answer.value
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts into the response's headers who answered, and what the next request has to bring.
    pub fn finish(&self, headers: &mut HeaderMap) {
        let log = self.log();
        let mut put = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.append(name, value);
            }
        };
        let Some(last) = log.served.last() else { return };
        put(SERVED_BY, last.by.clone());
        if let Some(lag) = last.lag {
            put(LAG, lag.as_millis().to_string());
        }
        let timings = log.served.iter().map(|served| {
            let millis = served.duration.as_secs_f64() * 1000.0;
            format!("db;dur={millis:.2};desc=\"{}\"", served.by)
        });
        let mut timings: Vec<String> = timings.collect();
        let waited: Duration = log.served.iter().map(|served| served.waited).sum();
        if !waited.is_zero() {
            timings.push(format!("wait;dur={:.2}", waited.as_secs_f64() * 1000.0));
        }
        put(SERVER_TIMING, timings.join(", "));
        if let Some(token) = log.tokens.demand(Consistency::Monotonic) {
            put(TOKEN_HEADER, token.to_string());
        }
        if !self.0.keeps_token {
            self.set_cookies(&log.tokens, headers);
        }
    }

    /// Only those that have changed.
    fn set_cookies(&self, tokens: &Tokens, headers: &mut HeaderMap) {
        let (shared, brought) = (&self.0.sessions.0, &self.0.brought);
        let mut set = |cookie: Option<HeaderValue>| headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
        // One that stands for nothing would cost every following request a question to the leader, so it goes.
        if brought.written != tokens.written {
            let name = &shared.written_cookie;
            set(tokens.written.map_or_else(|| removal(name), |token| shared.signed(name, token)));
        }
        if brought.seen != tokens.seen {
            set(tokens.seen.map_or_else(|| removal(&shared.seen_cookie), |token| shared.seen(token)));
        }
    }
}

/// What makes a browser forget this cookie.
fn removal(name: &str) -> Option<HeaderValue> {
    let mut cookie = lasting(Cookie::new(name.to_owned(), ""));
    cookie.make_removal();
    HeaderValue::from_str(&cookie.encoded().to_string()).ok()
}

/// A cookie for the whole site, that scripts can't read and other sites' forms don't bring.
pub fn lasting(mut cookie: Cookie<'static>) -> Cookie<'static> {
    cookie.set_http_only(true);
    cookie.set_same_site(SameSite::Lax);
    cookie.set_path("/");
    cookie
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

/// A request without a session, or with a token that is none.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The route lacks the layer [`attach`].
    #[error("this route has no session")]
    Missing,
    /// The client sent something else than it was given.
    #[error("X-Consistency-Token: {0}")]
    Token(#[from] NotAToken),
}

impl IntoResponse for SessionError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Missing => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Token(_) => StatusCode::BAD_REQUEST,
        };
        (status, format!("{self}\n")).into_response()
    }
}

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionError> {
        parts.extensions.get::<Self>().cloned().ok_or(SessionError::Missing)
    }
}

/// Gives each request its [`Session`], and each response what came of it; for `axum::middleware::from_fn_with_state`.
///
/// # Errors
/// 400 when the token header is not a token.
pub async fn attach(
    State(sessions): State<Sessions>,
    mut request: Request,
    next: Next,
) -> Result<Response, SessionError> {
    let session = sessions.begin(request.headers())?;
    request.extensions_mut().insert(session.clone());
    let mut response = next.run(request).await;
    session.finish(response.headers_mut());
    Ok(response)
}
