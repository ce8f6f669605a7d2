//! Who may operate: who brings the token, or a cookie that was given for it.
//!
//! The cookie holds when it ends and a secret of its own, signed with a key that only this token gives: another token ends
//! all sessions. It is `HttpOnly` and `SameSite=Strict`. Signing out takes it from the browser; a copy of it would be good
//! until its hour is over.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum_extra::extract::cookie::{Cookie, Key, SameSite, SignedCookieJar};
use jiff::Timestamp;
use sha2::{Digest, Sha256, Sha512};

use super::attempts::{Attempt, Attempts};

/// How long somebody stays signed in.
pub const SESSION: Duration = Duration::from_secs(3600);

/// Bytes of a session's secret.
const SECRET: usize = 16;

/// Lets those in who know the token.
pub struct Gate {
    /// Of the token: what is compared has always the same length.
    digest: [u8; 32],
    key: Key,
    cookie: String,
    attempts: Mutex<Attempts>,
}

/// Somebody who is signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    secret: [u8; SECRET],
    /// When it ends, in seconds since 1970.
    until: i64,
}

impl Gate {
    /// For who knows `token`. `key` signs the application's other cookies; `port` goes into the cookie's name, because
    /// browsers send cookies to all ports of a host.
    pub fn new(token: &str, key: &Key, port: u16) -> Self {
        let derived = Sha512::new().chain_update("admin").chain_update(key.master()).chain_update(token);
        Self {
            digest: Sha256::digest(token).into(),
            key: Key::from(&derived.finalize()),
            cookie: format!("admin_{port}"),
            attempts: Mutex::default(),
        }
    }

    /// Looks at a token that came from this address.
    pub fn attempt(&self, brought: &str, from: IpAddr) -> Attempt {
        let is_right = is_equal(&self.digest, &Sha256::digest(brought));
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = attempts.note(from, is_right, Instant::now());
        match attempt {
            Attempt::Right => {}
            Attempt::Wrong => tracing::warn!(%from, "a wrong admin token"),
            Attempt::TooMany(_) => tracing::warn!(%from, "an admin token after too many wrong ones"),
        }
        attempt
    }

    /// The cookie of a new session. `is_https`: the browser came that way, so the cookie never leaves it.
    pub fn open(&self, now: Timestamp, is_https: bool) -> SignedCookieJar {
        let mut secret = [0; SECRET];
        random(&mut secret);
        let pass = Pass { secret, until: now.as_second() + i64::try_from(SESSION.as_secs()).unwrap_or(0) };
        let mut cookie = self.cookie(pass.text());
        cookie.set_secure(is_https);
        SignedCookieJar::new(self.key.clone()).add(cookie)
    }

    /// The cookie that takes a session from the browser.
    pub fn close(&self, headers: &HeaderMap) -> SignedCookieJar {
        SignedCookieJar::from_headers(headers, self.key.clone()).remove(self.cookie(String::new()))
    }

    /// The session that a request belongs to, if it has not ended.
    pub fn pass(&self, headers: &HeaderMap, now: Timestamp) -> Option<Pass> {
        let jar = SignedCookieJar::from_headers(headers, self.key.clone());
        Pass::parse(jar.get(&self.cookie)?.value()).filter(|pass| now.as_second() < pass.until)
    }

    fn cookie(&self, value: String) -> Cookie<'static> {
        let mut cookie = Cookie::new(self.cookie.clone(), value);
        cookie.set_http_only(true);
        cookie.set_same_site(SameSite::Strict);
        cookie.set_path("/");
        cookie
    }
}

impl Pass {
    fn text(&self) -> String {
        format!("{}.{}", self.until, hex(&self.secret))
    }

    fn parse(text: &str) -> Option<Self> {
        let (until, secret) = text.split_once('.')?;
        Some(Self { until: until.parse().ok()?, secret: unhex(secret)? })
    }

    /// What the session's forms carry to show that they are of this session: the secret under a mask that is new each time.
    /// Pages are sent compressed, and beside what somebody else may have chosen; a secret that stood there twice in the same
    /// letters could be guessed from the length of the answers (BREACH).
    pub fn form_token(&self) -> String {
        let mut mask = [0; SECRET];
        random(&mut mask);
        format!("{}{}", hex(&mask), hex(&xor(mask, self.secret)))
    }

    /// Whether a form is of this session.
    pub fn accepts(&self, form_token: &str) -> bool {
        let halves = form_token.split_at_checked(2 * SECRET);
        let secret = halves.and_then(|(mask, masked)| Some(xor(unhex(mask)?, unhex(masked)?)));
        secret.is_some_and(|secret| is_equal(&secret, &self.secret))
    }
}

/// Compares in a time that says nothing about where the two differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

/// From the system's generator, which is what makes the keys of cookies.
fn random(bytes: &mut [u8; SECRET]) {
    bytes.copy_from_slice(&Key::generate().master()[..SECRET]);
}

fn xor(a: [u8; SECRET], b: [u8; SECRET]) -> [u8; SECRET] {
    std::array::from_fn(|index| a[index] ^ b[index])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; SECRET]> {
    let mut bytes = [0; SECRET];
    if text.len() != 2 * SECRET || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use axum::http::header::{COOKIE, SET_COOKIE};
    use axum::response::IntoResponse;

    use super::*;

    const TOKEN: &str = "sixteen-letters-at-least";
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn set_cookie(jar: SignedCookieJar) -> String {
        jar.into_response().headers()[SET_COOKIE].to_str().unwrap().to_owned()
    }

    fn sent_back(set_cookie: &str) -> HeaderMap {
        let pair = set_cookie.split(';').next().unwrap();
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(pair).unwrap())])
    }

    #[test]
    fn only_the_whole_token_is_right() {
        let gate = Gate::new(TOKEN, &Key::generate(), 80);
        assert_eq!(gate.attempt(TOKEN, HERE), Attempt::Right);
        for wrong in ["", "sixteen-letters-at-leas", "sixteen-letters-at-leasT", "sixteen-letters-at-least "]
        {
            assert_eq!(gate.attempt(wrong, HERE), Attempt::Wrong, "{wrong}");
        }
    }

    #[test]
    fn a_session_ends_after_its_hour_and_is_no_other_tokens() {
        let (key, now) = (Key::generate(), Timestamp::now());
        let gate = Gate::new(TOKEN, &key, 80);
        let given = set_cookie(gate.open(now, false));
        for part in ["admin_80=", "HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(given.contains(part), "{part} is not in {given}");
        }
        assert!(!given.contains("Secure") && set_cookie(gate.open(now, true)).contains("Secure"));
        let headers = sent_back(&given);
        assert!(gate.pass(&headers, now).is_some());
        assert_eq!(gate.pass(&headers, now + SESSION), None);
        assert_eq!(gate.pass(&HeaderMap::new(), now), None);
        let another = Gate::new("another-token-of-that-length", &key, 80);
        assert_eq!(another.pass(&headers, now), None, "the token was changed");
        let forged = given.replacen("admin_80=", "admin_80=x", 1);
        assert_eq!(gate.pass(&sent_back(&forged), now), None);
    }

    #[test]
    fn a_form_is_of_its_session_and_never_looks_the_same() {
        let gate = Gate::new(TOKEN, &Key::generate(), 80);
        let now = Timestamp::now();
        let pass = || gate.pass(&sent_back(&set_cookie(gate.open(now, false))), now).unwrap();
        let (mine, other) = (pass(), pass());
        let (first, second) = (mine.form_token(), mine.form_token());
        assert!(mine.accepts(&first) && mine.accepts(&second) && first != second);
        let secret = hex(&mine.secret);
        assert!(!first.contains(&secret) && !second.contains(&secret));
        for wrong in [other.form_token().as_str(), "", &first[2..], &format!("{first}0"), &"ü".repeat(32)] {
            assert!(!mine.accepts(wrong), "{wrong}");
        }
    }
}
