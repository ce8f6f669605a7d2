//! `replicator quarantine list|retry|skip`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::wishes::who;
use crate::config::{Config, ReplicaConfig};
use crate::replica::ReplicaError;
use crate::replica::quarantine::review::{self, Entry, Retried};
use crate::replica::session::Session;
use crate::text::push_fmt;

/// What to do with changes that a replica could not take.
#[derive(Debug, Subcommand)]
pub(super) enum QuarantineCommand {
    /// Print the changes that are kept, and why.
    List {
        /// As JSON, with the values of the rows.
        #[arg(long)]
        json: bool,
        /// Of this replica only.
        #[arg(long, value_name = "NAME")]
        replica: Option<String>,
    },
    /// Apply kept changes again, in the order in which they came; what goes through leaves the quarantine.
    Retry {
        #[command(flatten)]
        which: Which,
        /// The changes' numbers; without any, all.
        #[arg(value_name = "ID")]
        ids: Vec<i64>,
    },
    /// Let changes go. Their tables stay diverged until they are repaired.
    Skip {
        #[command(flatten)]
        which: Which,
        /// The changes' numbers.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<i64>,
    },
}

/// Which replica, and how to answer.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The replica; may be left out when there is only one.
    #[arg(long, value_name = "NAME")]
    replica: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What the command says, and whether it did all that was asked for.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) code: ExitCode,
}

#[derive(Debug, Serialize)]
struct OfReplica {
    replica: String,
    entries: Vec<Entry>,
}

/// Runs the command.
///
/// # Errors
/// In words: an unknown replica, or one that fails.
pub(super) async fn run(command: &QuarantineCommand, config: &Config) -> Result<Answer, String> {
    match command {
        QuarantineCommand::List { json, replica } => list(config, replica.as_deref(), *json).await,
        QuarantineCommand::Retry { which, ids } => {
            let replica = the_replica(config, which.replica.as_deref())?;
            let session = connect(replica).await?;
            let retried = review::retry(session, ids).await.map_err(|error| in_words(replica, &error))?;
            let code = if retried.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            Ok(Answer { text: if which.json { to_json(&retried) } else { in_lines(&retried) }, code })
        }
        QuarantineCommand::Skip { which, ids } => {
            let replica = the_replica(config, which.replica.as_deref())?;
            let session = connect(replica).await?;
            let skipped =
                review::skip(&session, ids, &who()).await.map_err(|error| in_words(replica, &error))?;
            let code = if skipped.len() == ids.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            let text = if which.json {
                to_json(&skipped)
            } else {
                format!(
                    "{} of {} let go; their tables stay diverged until repaired\n",
                    skipped.len(),
                    ids.len()
                )
            };
            Ok(Answer { text, code })
        }
    }
}

async fn list(config: &Config, name: Option<&str>, json: bool) -> Result<Answer, String> {
    let replicas: Vec<&ReplicaConfig> = match name {
        Some(_) => vec![the_replica(config, name)?],
        None => config.replicas.iter().collect(),
    };
    let mut found = Vec::new();
    for replica in replicas {
        let session = connect(replica).await?;
        let entries = review::list(&session).await.map_err(|error| in_words(replica, &error))?;
        found.push(OfReplica { replica: replica.name.clone(), entries });
    }
    Ok(Answer { text: if json { to_json(&found) } else { as_table(&found) }, code: ExitCode::SUCCESS })
}

/// The replica of that name; the only one when none is given.
///
/// # Errors
/// In words, with the names that there are.
pub(super) fn the_replica<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a ReplicaConfig, String> {
    let names = || config.replicas.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, config.replicas.as_slice()) {
        (Some(name), replicas) => replicas
            .iter()
            .find(|replica| replica.name == name)
            .ok_or_else(|| format!("there is no replica {name}; there are: {}", names())),
        (None, [only]) => Ok(only),
        (None, _) => Err(format!("which replica? --replica NAME, one of: {}", names())),
    }
}

async fn connect(replica: &ReplicaConfig) -> Result<Session, String> {
    Session::connect(replica.url.config()).await.map_err(|error| in_words(replica, &error))
}

pub(super) fn in_words(replica: &ReplicaConfig, error: &ReplicaError) -> String {
    format!("{}: {error}\n{}", replica.name, error.hint())
}

/// One line for each change, without the values of its row.
fn as_table(found: &[OfReplica]) -> String {
    let mut text = String::new();
    for OfReplica { replica, entries } in found {
        for entry in entries {
            push_fmt(
                &mut text,
                format_args!(
                    "{replica} {} {} on {}.{} from {}/{} at offset {}: {}\n",
                    entry.id,
                    entry.operation,
                    entry.table_schema,
                    entry.table_name,
                    entry.topic,
                    entry.partition,
                    entry.offset,
                    entry.message
                ),
            );
        }
    }
    if text.is_empty() { "nothing is in the quarantine\n".to_owned() } else { text }
}

fn in_lines(retried: &Retried) -> String {
    let mut text = format!("{} applied, {} stay\n", retried.applied.len(), retried.failed.len());
    for (id, reason) in &retried.failed {
        push_fmt(&mut text, format_args!("{id}: {reason}\n"));
    }
    text
}

fn to_json(value: &impl Serialize) -> String {
    // Strings and numbers only: it can't fail.
    format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default())
}
