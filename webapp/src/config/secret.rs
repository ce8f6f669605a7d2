//! Settings that can't be printed.

use std::fmt;

use serde::Deserialize;

/// A connection URL. It holds a password.
#[derive(Clone, Deserialize)]
pub struct ConnectionUrl(String);

/// A signing key.
#[derive(Clone, Deserialize)]
pub struct SessionKey(String);

/// What somebody has to know to operate.
#[derive(Clone, Deserialize)]
pub struct AdminToken(String);

impl ConnectionUrl {
    /// The URL, password included, for the connection only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for ConnectionUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl SessionKey {
    /// The key, for the signature only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl AdminToken {
    /// The token, to compare it or to send it where it belongs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}
