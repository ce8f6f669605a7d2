//! `replicator check`: is this set-up able to keep the promises, and if not, what mends it?
//!
//! Looks at the leader, the connector, the topics and the replicas, and reports everything at once. Each finding has the
//! statement or setting that ends it.

mod broker;
mod connector;
mod leader;
mod replicas;

use std::fmt;

use crate::config::Config;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Works, but will surprise.
    Warning,
    /// Breaks a promise.
    Error,
    /// Could not be looked at.
    Unreachable,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was found, naming the thing.
    pub what: String,
    /// The statement or setting that mends it.
    pub fix: Option<String>,
}

impl Finding {
    fn good(what: impl Into<String>) -> Self {
        Finding { severity: Severity::Good, what: what.into(), fix: None }
    }

    fn warning(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding { severity: Severity::Warning, what: what.into(), fix: Some(fix.into()) }
    }

    fn error(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding { severity: Severity::Error, what: what.into(), fix: Some(fix.into()) }
    }

    fn unreachable(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding { severity: Severity::Unreachable, what: what.into(), fix: Some(fix.into()) }
    }
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they were looked at: leader, connector, topics, replicas.
    pub findings: Vec<Finding>,
}

/// Looks at everything that is configured.
pub async fn run(config: &Config) -> Report {
    let mut findings = Vec::new();
    let leader = match &config.leader {
        Some(leader) => leader::check(leader, &mut findings).await,
        None => {
            findings.push(Finding::warning("leader: not configured, not looked at", "Set leader.url."));
            None
        }
    };
    match &config.connect {
        Some(connect) => connector::check(connect, config, leader.as_ref(), &mut findings).await,
        None => {
            findings.push(Finding::warning("connector: not configured, not looked at", "Set connect.url."));
        }
    }
    broker::check(config, &mut findings).await;
    replicas::check(config, leader.as_ref(), &mut findings).await;
    Report { findings }
}

impl Report {
    /// Whether the promises hold with this set-up.
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|f| matches!(f.severity, Severity::Good | Severity::Warning))
    }

    /// Whether something could not be looked at.
    pub fn is_incomplete(&self) -> bool {
        self.findings.iter().any(|f| f.severity == Severity::Unreachable)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let mark = match finding.severity {
                Severity::Good => "ok     ",
                Severity::Warning => "warning",
                Severity::Error => "ERROR  ",
                Severity::Unreachable => "UNKNOWN",
            };
            writeln!(f, "{mark} {}", finding.what)?;
            if let Some(fix) = &finding.fix {
                writeln!(f, "        {fix}")?;
            }
        }
        let count = |severity| self.findings.iter().filter(|f| f.severity == severity).count();
        let verdict = match (self.is_good(), self.is_incomplete()) {
            (true, _) => "guarantee: transaction-consistent replicas, exactly once",
            (false, true) => "guarantee: unknown, not everything could be looked at",
            (false, false) => "guarantee: none before the errors are mended",
        };
        writeln!(
            f,
            "\n{verdict} ({} errors, {} unknown, {} warnings)",
            count(Severity::Error),
            count(Severity::Unreachable),
            count(Severity::Warning)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_alone_keep_the_guarantee_and_an_unknown_does_not() {
        let report = |findings| Report { findings };
        assert!(report(vec![Finding::good("a"), Finding::warning("b", "c")]).is_good());
        let unknown = report(vec![Finding::good("a"), Finding::unreachable("b", "c")]);
        assert!(!unknown.is_good() && unknown.is_incomplete());
        assert!(unknown.to_string().contains("UNKNOWN b\n        c\n"), "{unknown}");
    }
}
