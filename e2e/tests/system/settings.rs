//! The system's settings, read as the scripts read them: environment before `.env` before `.env.example`.

use std::collections::HashMap;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};

pub(crate) struct Settings {
    values: HashMap<String, String>,
    offset: u16,
}

impl Settings {
    pub(crate) fn load(offset: u16) -> Self {
        let mut values = HashMap::new();
        for file in [".env.example", ".env"] {
            let text = fs::read_to_string(e2e::repository().join(file)).unwrap_or_default();
            values.extend(parse(&text));
        }
        let names: Vec<_> = values.keys().cloned().collect();
        values.extend(
            names.into_iter().filter_map(|name| std::env::var(&name).ok().map(|value| (name, value))),
        );
        Self { values, offset }
    }

    pub(crate) fn offset(&self) -> u16 {
        self.offset
    }

    pub(crate) fn get(&self, name: &str) -> anyhow::Result<&str> {
        self.values.get(name).map(String::as_str).with_context(|| format!("find the setting {name}"))
    }

    /// The port of a service, which the settings name with `_` for `-`.
    pub(crate) fn port(&self, service: &str) -> anyhow::Result<u16> {
        let service = if service == "webapp" { "web" } else { service };
        let name = format!("{}_PORT", service.replace('-', "_").to_uppercase());
        let base: u16 = self.get(&name)?.parse().with_context(|| format!("read the setting {name}"))?;
        base.checked_add(self.offset).context("add the port offset")
    }
}

fn parse(text: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
}

/// Where the system's changes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Debezium, through a broker's topics.
    Kafka,
    /// The leader's own stream, without a broker.
    Direct,
}

impl Source {
    /// The choice of `E2E_SOURCE`.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        match std::env::var("E2E_SOURCE").as_deref() {
            Err(_) | Ok("kafka") => Ok(Self::Kafka),
            Ok("direct") => Ok(Self::Direct),
            Ok(other) => bail!("E2E_SOURCE must be kafka or direct, not '{other}'"),
        }
    }

    /// The `--mode` of `scripts/start-system.sh`.
    pub(crate) fn mode(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Direct => "direct",
        }
    }
}

/// A number from the environment, or its default.
pub(crate) fn number<T: std::str::FromStr>(name: &str, default: T) -> anyhow::Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("read {name}: '{text}' is no number")),
        Err(_) => Ok(default),
    }
}

/// The seed of a check's choices, printed so that a run can be repeated.
pub(crate) fn seed() -> anyhow::Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
    let seed = number("E2E_SEED", now.as_secs())?;
    println!("  seed: E2E_SEED={seed}");
    Ok(seed)
}
