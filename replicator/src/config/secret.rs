//! What must not be printed: addresses that hold a password, and tokens.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A `postgres://` address. Printed, it hides its password.
#[derive(Clone, PartialEq)]
pub struct DatabaseUrl {
    text: String,
    config: tokio_postgres::Config,
}

impl DatabaseUrl {
    /// For the driver.
    pub fn config(&self) -> &tokio_postgres::Config {
        &self.config
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.text.split_once("://") else { return f.write_str("***") };
        // A password may also stand behind the question mark; nothing of what stands there is needed to know the server.
        let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
        // The last @: a password may hold one.
        match rest.rsplit_once('@') {
            Some((login, host)) => {
                let user = login.split_once(':').map_or(login, |(user, _)| user);
                write!(f, "{scheme}://{user}:***@{host}")
            }
            None => write!(f, "{scheme}://{rest}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The driver's message may quote the text, and the text holds the password.
        let refused =
            || D::Error::custom("not an address such as postgres://user:password@host:5432/database");
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(refused());
        }
        let config = text.parse().map_err(|_| refused())?;
        Ok(DatabaseUrl { text, config })
    }
}

/// A token. Printed, it hides itself.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The token itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"***\"")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_printed() {
        for text in ["postgres://ada:s3cr3t@db:5433/app", "postgres://ada@db:5433/app?password=s3cr3t"] {
            let url: DatabaseUrl = serde_json::from_value(text.into()).unwrap();
            for printed in [url.to_string(), format!("{url:?}"), serde_json::to_string(&url).unwrap()] {
                assert!(!printed.contains("s3cr3t"), "{printed}");
                assert!(printed.contains("postgres://ada:***@db:5433/app"), "{printed}");
            }
        }
        let error = serde_json::from_str::<DatabaseUrl>("\"mysql://ada:s3cr3t@db\"").unwrap_err().to_string();
        assert!(!error.contains("s3cr3t"), "{error}");
    }

    #[test]
    fn a_token_is_never_printed() {
        let token: Secret = serde_json::from_value("s3cr3t".into()).unwrap();
        assert_eq!(format!("{token:?} {}", serde_json::to_string(&token).unwrap()), "\"***\" \"***\"");
    }
}
