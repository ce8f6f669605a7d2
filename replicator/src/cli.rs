//! The command line. Data goes to standard output, the log to standard error.

mod quarantine;
mod rebuild;
mod show;
mod status;
mod wishes;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::quarantine::{QuarantineCommand, in_words, the_replica};
use crate::check;
use crate::config::{self, Config, Loaded};
use crate::supervisor::{self, Ended};
use crate::telemetry;

/// Exit codes beyond 0 and 1; from sysexits.h, as its users know them. 2 is clap's, for wrong usage.
const UNAVAILABLE: u8 = 69;
const CONFIGURATION: u8 = 78;

/// Keeps PostgreSQL read replicas fed with a leader's changes: whole transactions, exactly once.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "\
Examples:
  replicator --config replicator.toml          replicate until SIGTERM
  replicator --config replicator.toml check    what must be mended before it can work
  replicator --config replicator.toml status   how far each replica is
  replicator --config replicator.toml pause replica-2    nothing more becomes visible there until it is resumed
  replicator --config replicator.toml quarantine list    changes that a replica could not take, and why

Every key of the file can be set in the environment: REPLICATOR__SOURCE__BROKERS, REPLICATOR__REPLICAS__0__URL, …
Exit codes: 0 done, 1 failed, 2 wrong usage, 69 a service can't be reached, 78 wrong configuration."
)]
struct Arguments {
    /// The TOML file with the settings.
    #[arg(long, short, global = true, env = "REPLICATOR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Replicate until SIGTERM (the default).
    Run,
    /// Look at leader, connector, topics and replicas, and print what must be mended, with the statement that mends it.
    Check,
    /// Print how far each replica is.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a replica stand still, whichever daemon applies to it.
    Pause {
        /// Its name in the configuration.
        replica: String,
    },
    /// Let a paused replica go on.
    Resume {
        /// Its name in the configuration.
        replica: String,
    },
    /// Look at changes that a replica could not take, and decide what becomes of them.
    Quarantine {
        #[command(subcommand)]
        command: QuarantineCommand,
    },
    /// Copy a replica, or some of its tables, afresh from the leader, while everything runs.
    Rebuild {
        /// The replica's name.
        replica: String,
        /// A table as schema.table; may be given several times. Without it, the whole replica.
        #[arg(long = "table", value_name = "SCHEMA.TABLE")]
        tables: Vec<String>,
        /// Return when the copy is done and the replica is live again.
        #[arg(long)]
        wait: bool,
        /// Take back what was asked and has not begun.
        #[arg(long, conflicts_with_all = ["tables", "wait"])]
        cancel: bool,
    },
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every setting, its value and where it comes from. Passwords are hidden.
    Show,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let loaded = match config::load(arguments.config.as_deref(), std::env::vars()) {
        Ok(loaded) => loaded,
        Err(error) => return complain(&error, CONFIGURATION),
    };
    if let Err(error) = telemetry::install(&loaded.config.log) {
        return complain(&error, CONFIGURATION);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, 1),
    };
    let code = runtime.block_on(dispatch(arguments.command.unwrap_or(Command::Run), &loaded));
    // A question to a broker that does not answer must not hold the process up.
    runtime.shutdown_background();
    code
}

async fn dispatch(command: Command, loaded: &Loaded) -> ExitCode {
    let config = &loaded.config;
    match command {
        Command::Run => run(config).await,
        Command::Check => {
            let report = check::run(config).await;
            out(&report.to_string());
            match (report.is_good(), report.is_incomplete()) {
                (true, _) => ExitCode::SUCCESS,
                (false, true) => ExitCode::from(UNAVAILABLE),
                (false, false) => ExitCode::FAILURE,
            }
        }
        Command::Status { json } => {
            let overview = status::collect(config).await;
            out(&if json { overview.to_json() } else { overview.to_string() });
            if overview.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Command::Pause { replica } => finish(wish(config, &replica, true).await),
        Command::Resume { replica } => finish(wish(config, &replica, false).await),
        Command::Quarantine { command } => match quarantine::run(&command, config).await {
            Ok(answer) => {
                out(&answer.text);
                answer.code
            }
            Err(error) => complain(&error, 1),
        },
        Command::Rebuild { replica, tables, wait, cancel } => {
            let answer = if cancel {
                rebuild::cancel(config, &replica).await
            } else {
                rebuild::ask(config, &replica, &tables).await
            };
            match answer {
                Ok(asked) => out(&asked),
                Err(error) => return complain(&error, 1),
            }
            if wait {
                out(&rebuild::wait(config, &replica).await);
            }
            ExitCode::SUCCESS
        }
        Command::Config { command: ConfigCommand::Show } => {
            out(&show::render(loaded));
            ExitCode::SUCCESS
        }
    }
}

async fn wish(config: &Config, name: &str, paused: bool) -> Result<String, String> {
    let replica = the_replica(config, Some(name))?;
    let done = if paused { wishes::pause(replica).await } else { wishes::resume(replica).await };
    done.map_err(|error| in_words(replica, &error))
}

fn finish(done: Result<String, String>) -> ExitCode {
    match done {
        Ok(text) => {
            out(&text);
            ExitCode::SUCCESS
        }
        Err(error) => complain(&error, 1),
    }
}

async fn run(config: &Config) -> ExitCode {
    match supervisor::run(config).await {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::Cut) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(cause = %format!("{error:#}"), "can't run");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "standard output is where the command's data goes")]
fn out(text: &str) {
    print!("{text}");
}

#[expect(clippy::print_stderr, reason = "the answer to the user's command, not a line of the log")]
fn complain(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("replicator: {error}");
    ExitCode::from(code)
}
