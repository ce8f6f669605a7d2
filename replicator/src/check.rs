//! `replicator check`: is this set-up able to keep the promises, and if not, what mends it?
//!
//! Looks at the leader, the source (connector and topics, or the leader's slot) and the replicas, and reports everything at once. Each finding has the
//! statement or setting that ends it.

mod altered;
mod broker;
mod connector;
mod leader;
mod replicas;
mod stream;
mod values;

use std::fmt;

pub use self::connector::check_registration;
pub use self::leader::Published;
use crate::config::{Config, SourceKind};
use crate::decode::debezium::Transactions;

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

/// What readers of a replica may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// Each target transaction holds whole transactions of the leader.
    TransactionConsistent,
    /// Each table goes through the leader's states in their order, but not together with the others.
    PerTableOrder,
}

impl Guarantee {
    /// What is put together by numbers is whole, whatever partitions it comes from. Without transactions, topics of several
    /// partitions would leave each row on its own, and are refused.
    fn of(transactions: Transactions) -> Self {
        match transactions {
            Transactions::Required => Guarantee::TransactionConsistent,
            Transactions::Absent => Guarantee::PerTableOrder,
        }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Guarantee::TransactionConsistent => "transaction-consistent replicas, exactly once",
            Guarantee::PerTableOrder => {
                "per-table order: no transactions over tables, no tokens; rows with a key exactly once, a row without one may come \
                 twice when the connector restarts"
            }
        })
    }
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they were looked at: leader, connector, topics, replicas.
    pub findings: Vec<Finding>,
    /// What the set-up gives when nothing is wrong with it.
    pub guarantee: Guarantee,
}

/// Looks at everything that is configured.
pub async fn run(config: &Config) -> Report {
    let mut findings = Vec::new();
    let mut leader = match &config.leader {
        Some(leader) => leader::check(leader, &mut findings).await,
        None => {
            findings.push(Finding::unreachable("leader: not configured, not looked at", "Set leader.url."));
            None
        }
    };
    if config.source.kind == SourceKind::Postgres {
        if let Some(leader) = &mut leader {
            stream::check(config, leader, &mut findings).await;
        }
        replicas::check(config, leader.as_ref(), None, &mut findings).await;
        return Report { findings, guarantee: Guarantee::TransactionConsistent };
    }
    match &config.connect {
        Some(connect) => connector::check(connect, config, leader.as_mut(), &mut findings).await,
        None => {
            findings
                .push(Finding::unreachable("connector: not configured, not looked at", "Set connect.url."));
        }
    }
    let topics = broker::check(config, &mut findings).await;
    replicas::check(config, leader.as_ref(), topics.as_ref(), &mut findings).await;
    Report { findings, guarantee: Guarantee::of(config.source.transactions) }
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
            (true, _) => format!("guarantee: {}", self.guarantee),
            (false, true) => "guarantee: unknown, not everything could be looked at".to_owned(),
            (false, false) => "guarantee: none before the errors are mended".to_owned(),
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
        let report = |findings| Report { findings, guarantee: Guarantee::TransactionConsistent };
        assert!(report(vec![Finding::good("a"), Finding::warning("b", "c")]).is_good());
        let unknown = report(vec![Finding::good("a"), Finding::unreachable("b", "c")]);
        assert!(!unknown.is_good() && unknown.is_incomplete());
        assert!(unknown.to_string().contains("UNKNOWN b\n        c\n"), "{unknown}");
    }
}
