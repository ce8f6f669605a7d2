//! The address that the reader used for this site, for commands to copy: behind a proxy or a published port it is another one
//! than the address that we listen on.

use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use crate::state::AppState;

/// What a proxy says of how it was reached; not standardised, but what they all send.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// This site as `curl` finds it: `host[:port]`, with `https://` in front where that is needed. It has no character that means
/// something to a shell between single quotes, and no option of `curl` looks like it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here(String);

impl Here {
    /// As the request says; `bind`, on which we listen, where it says nothing that could be a host.
    fn of(headers: &HeaderMap, bind: SocketAddr) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(host) = text(header::HOST.as_str()).filter(|host| is_host(host)) else {
            // The address "any" is none that one could ask.
            let is_any = bind.ip().is_unspecified();
            return Self(if is_any { format!("localhost:{}", bind.port()) } else { bind.to_string() });
        };
        Self(if came_by_tls(headers) { format!("https://{host}") } else { host.to_owned() })
    }
}

/// Whether the reader came by TLS. A proxy may have taken it off: then it says so, or the browser does when it comes from a
/// page of ours.
pub fn came_by_tls(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let proxy = text(FORWARDED_PROTO).and_then(|list| list.split(',').next()).map(str::trim);
    let browser = text(header::ORIGIN.as_str()).or_else(|| text(header::REFERER.as_str()));
    let browser = browser.and_then(|url| url.strip_prefix("https://")?.split('/').next());
    proxy.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
        || (browser.is_some() && browser == text(header::HOST.as_str()))
}

impl fmt::Display for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromRequestParts<AppState> for Here {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers, state.bind()))
    }
}

/// Whether this is `name`, `1.2.3.4` or `[::1]`, with or without a port. Anybody can write anything into the header, and it
/// ends up in somebody's shell.
fn is_host(text: &str) -> bool {
    let is_port = |port: &str| port.chars().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let is_address = address.parse::<Ipv6Addr>().is_ok();
        return is_address && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
    }
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    // 253 is the longest name there is in DNS; one that begins with '-' is an option.
    let is_name = (1..=253).contains(&name.len()) && !name.starts_with('-') && name.chars().all(plain);
    is_name && port.is_none_or(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &'static str)]) -> String {
        let headers = headers.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), header::HeaderValue::from_static(value))
        });
        Here::of(&headers.collect(), SocketAddr::from(([127, 0, 0, 1], 8080))).to_string()
    }

    #[test]
    fn the_host_that_was_asked_for_is_named() {
        for host in
            ["localhost:14480", "posts.example.org", "10.0.0.7:80", "[::1]:8080", "[fe80::1]", "a_b:1"]
        {
            assert_eq!(of(&[("host", host)]), host);
        }
    }

    #[test]
    fn what_is_no_host_is_never_repeated() {
        for host in [
            "",
            ":8080",
            "a b",
            "a'b",
            "a;reboot",
            "$(reboot)",
            "-o:1",
            "a:",
            "a:+1",
            "a:99999",
            "a:1:2",
            "a/b",
            "u@a",
            "[::1",
            "[x]:1",
            "[::1]8080",
        ] {
            assert_eq!(of(&[("host", host)]), "127.0.0.1:8080", "{host}");
        }
        assert_eq!(of(&[]), "127.0.0.1:8080");
        let any = Here::of(&HeaderMap::new(), SocketAddr::from(([0, 0, 0, 0], 9000)));
        assert_eq!(any.to_string(), "localhost:9000");
    }

    #[test]
    fn tls_that_a_proxy_took_off_is_named() {
        let host = ("host", "posts.example.org");
        for proof in [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-proto", "HTTPS, http"),
            ("origin", "https://posts.example.org"),
            ("referer", "https://posts.example.org/posts?page=2"),
        ] {
            assert_eq!(of(&[host, proof]), "https://posts.example.org", "{proof:?}");
        }
        for none in [
            ("x-forwarded-proto", "http"),
            ("x-forwarded-proto", "http, https"),
            ("origin", "http://posts.example.org"),
            ("referer", "https://elsewhere.example.org/posts.example.org"),
        ] {
            assert_eq!(of(&[host, none]), "posts.example.org", "{none:?}");
        }
    }
}
