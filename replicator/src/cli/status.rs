//! `replicator status`: what each replica says of itself, and what the daemon says of it.
//!
//! The replica is asked first: the answer must not go blank because the daemon is down.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::replica::progress::{self, Progress};
use crate::snapshot::CopyProgress;

/// All replicas.
#[derive(Debug, Serialize)]
pub(super) struct Overview {
    replicas: Vec<Line>,
    /// Why the daemon's own view is missing.
    daemon: Option<String>,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    /// The worker's state when the daemon answers, else the replica's own.
    state: String,
    cause: Option<String>,
    hint: Option<String>,
    waiting_for: Option<String>,
    /// How far a copy from the leader is, while one is made.
    copy: Option<CopyProgress>,
    #[serde(flatten)]
    progress: Option<Progress>,
    /// Why the replica's own answer is missing.
    unreachable: Option<String>,
}

/// What the daemon says, as far as it is needed here.
#[derive(Debug, Clone, Deserialize)]
struct Worker {
    name: String,
    state: String,
    cause: Option<String>,
    hint: Option<String>,
    waiting_for: Option<String>,
    copy: Option<CopyProgress>,
}

#[derive(Debug, Deserialize)]
struct Workers {
    replicas: Vec<Worker>,
}

pub(super) async fn collect(config: &Config) -> Overview {
    let (workers, daemon) = match ask_daemon(config).await {
        Ok(workers) => (workers, None),
        Err(error) => (HashMap::new(), Some(format!("no daemon answers on {}: {error}", config.http.bind))),
    };
    let lines = config.replicas.iter().map(async |replica| {
        let answer = progress::read(replica.url.config()).await;
        let worker = workers.get(&replica.name);
        let paused = answer.as_ref().ok().and_then(|p| p.paused.clone());
        let own = match &answer {
            Err(_) => "unreachable",
            Ok(_) if paused.is_some() => "paused",
            Ok(progress) => progress.phase.as_str(),
        };
        Line {
            name: replica.name.clone(),
            state: worker.map_or(own, |w| w.state.as_str()).to_owned(),
            hint: worker
                .and_then(|w| w.hint.clone())
                .or_else(|| paused.is_some().then(|| format!("replicator resume {}", replica.name))),
            cause: worker.and_then(|w| w.cause.clone()).or(paused),
            waiting_for: worker.and_then(|w| w.waiting_for.clone()),
            copy: worker.and_then(|w| w.copy.clone()),
            unreachable: answer.as_ref().err().map(ToString::to_string),
            progress: answer.ok(),
        }
    });
    Overview { replicas: futures_util::future::join_all(lines).await, daemon }
}

/// How far the daemon is with a copy of this replica; none when it makes none, or does not answer.
pub(super) async fn copy_progress(config: &Config, replica: &str) -> Option<CopyProgress> {
    ask_daemon(config).await.ok()?.remove(replica)?.copy
}

async fn ask_daemon(config: &Config) -> Result<HashMap<String, Worker>, reqwest::Error> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
    let url = format!("http://{}/v1/replicas", config.http.bind);
    let workers: Workers = client.get(url).send().await?.error_for_status()?.json().await?;
    Ok(workers.replicas.into_iter().map(|w| (w.name.clone(), w)).collect())
}

impl Overview {
    /// Whether every replica answers, is live, has all of the leader's rows, and somebody applies to it.
    pub(super) fn is_good(&self) -> bool {
        let is_whole = |progress: &Progress| progress.diverged.is_empty();
        self.daemon.is_none()
            && self.replicas.iter().all(|r| r.state == "live" && r.progress.as_ref().is_some_and(is_whole))
    }

    pub(super) fn to_json(&self) -> String {
        // Strings and numbers only: it can't fail.
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        format!("{json}\n")
    }
}

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12} {:<10} {:<16} {:>14} {:>14} {:>14}",
            "REPLICA", "STATE", "WATERMARK", "NEWEST CHANGE", "TRANSACTIONS", "CHANGES"
        )?;
        for line in &self.replicas {
            let (watermark, age, transactions, changes) = match &line.progress {
                Some(p) => {
                    let age = p.lag_ms.map_or_else(|| "none yet".to_owned(), ago);
                    (p.watermark.as_str(), age, p.transactions.to_string(), p.changes.to_string())
                }
                None => ("-", "-".to_owned(), "-".to_owned(), "-".to_owned()),
            };
            writeln!(
                f,
                "{:<12} {:<10} {watermark:<16} {age:>14} {transactions:>14} {changes:>14}",
                line.name, line.state
            )?;
        }
        for line in &self.replicas {
            let facts = [("cause", &line.cause), ("way out", &line.hint), ("waits", &line.waiting_for)];
            for (what, fact) in facts {
                if let Some(fact) = fact {
                    writeln!(f, "{} {what}: {fact}", line.name)?;
                }
            }
            if let Some(copy) = &line.copy {
                writeln!(f, "{} copy: {copy}", line.name)?;
            }
            if let Some(progress) = line.progress.as_ref().filter(|p| !p.diverged.is_empty()) {
                let (changes, tables) = (progress.quarantined, progress.diverged.join(", "));
                writeln!(f, "{} diverged: {tables}; {changes} changes are in the quarantine", line.name)?;
                writeln!(f, "{} way out: replicator quarantine list", line.name)?;
            }
            if let (Some(error), None) = (&line.unreachable, &line.cause) {
                writeln!(f, "{} cause: {error}", line.name)?;
            }
        }
        self.daemon.as_ref().map_or(Ok(()), |daemon| writeln!(f, "{daemon}"))
    }
}

fn ago(ms: i64) -> String {
    match ms {
        ..10_000 => format!("{ms} ms ago"),
        10_000..600_000 => format!("{} s ago", ms / 1000),
        _ => format!("{} min ago", ms / 60_000),
    }
}
