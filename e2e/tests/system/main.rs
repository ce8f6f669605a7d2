//! The whole system, as a user starts it: `scripts/start-system.sh`, real Kafka and Debezium or the leader's own stream, both
//! programs, a browser.
//!
//! ```text
//! cargo test --release -p e2e --test system [-- NAME...]      all checks, or those whose name contains one of NAME
//! ```
//!
//! | variable | default | |
//! |---|---|---|
//! | `E2E_SOURCE` | kafka | `direct` runs without broker and Connect, and leaves out the checks that need them |
//! | `E2E_PORT_OFFSET` | 3000 | `--port-offset` of the system; its data is deleted at the start and at the end |
//! | `E2E_TRANSACTIONS` | 4000 | transactions of each load |
//! | `E2E_OUTAGE_SECONDS` | 8 | how long a replica is stopped under load |
//! | `E2E_BULK_ROWS` | 150000 | rows of the transaction that must appear whole |
//! | `E2E_CONNECT_KILLS` | 1 | how often Connect is killed within large transactions |
//! | `E2E_CONNECT_KILL_ROWS` | 20000 | rows of each of these transactions |
//! | `E2E_CONSISTENCY_SECONDS` | 20 | how long 8 writers and 8 readers with tokens are checked while replicas are stopped, killed and rebuilt |
//! | `E2E_WATCH_SECONDS` | 20 | how long a status page stays open whose costs are looked at |
//! | `E2E_PICTURES` | | `all` keeps pictures of each page in each outage in light and dark at both widths, instead of one of these |
//! | `E2E_CHAOS_MINUTES` | 2 | how long faults are injected |
//! | `E2E_CHAOS_RATE` | 60 | transactions per second of the load beside them |
//! | `E2E_SEED` | the time | seed of the load and of the moments of the kills; printed, so that a run can be repeated |
//! | `E2E_KEEP` | | `1` leaves the system running |
//! | `E2E_ATTACH` | | `1` uses a system that runs already, and leaves it running |

#![expect(clippy::print_stdout, reason = "what a run measured is told on standard output")]

mod checks;
mod settings;
mod system;
mod tables;
mod topic;
mod webdriver;

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Context;
use tokio::task::{LocalSet, spawn_local};

use checks::Check;
use settings::Source;
use system::System;

/// How much of a failure's cause the last lines repeat.
const CAUSE_CHARACTERS: usize = 1200;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // What cargo's own harness would print, for tools that ask.
    if arguments.iter().any(|argument| argument == "--list") {
        checks::ALL.iter().for_each(|check| println!("{}: test", check.name));
        return ExitCode::SUCCESS;
    }
    let source = match Source::from_environment() {
        Ok(source) => source,
        Err(error) => {
            println!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let is_chosen = |check: &&Check| {
        let mut names = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
        check.needs.are_met_by(source)
            && (names.peek().is_none() || names.any(|name| check.name.contains(name.as_str())))
    };
    let chosen: Vec<_> = checks::ALL.iter().filter(is_chosen).collect();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("failed to start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Local: the checks run one after the other, and their futures need not move between threads.
    match runtime.block_on(LocalSet::new().run_until(run(&chosen))) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the system, runs the checks and stops it; returns how many failed.
async fn run(chosen: &[&Check]) -> anyhow::Result<usize> {
    // Another test binary of the same `cargo test` was given a name that is none of ours.
    if chosen.is_empty() {
        return Ok(0);
    }
    let started = Instant::now();
    let is_attached = std::env::var_os("E2E_ATTACH").is_some();
    let system = Rc::new(System::from_settings()?);
    if !is_attached {
        system.start().await.context("start the system")?;
        println!("\nthe system was started in {:.1?}; {} checks\n", started.elapsed(), chosen.len());
    }
    let failed = tokio::select! {
        failed = run_checks(&system, chosen) => failed,
        _ = tokio::signal::ctrl_c() => vec!["interrupted".to_owned()],
    };
    if !failed.is_empty() {
        println!("{}", system.describe().await);
    }
    if !is_attached && std::env::var_os("E2E_KEEP").is_none() {
        system.stop().await.context("stop the system")?;
    }
    println!(
        "\n{} of {} checks passed in {:.1?}",
        chosen.len() - failed.len().min(chosen.len()),
        chosen.len(),
        started.elapsed()
    );
    failed.iter().for_each(|failure| println!("  FAILED: {failure}"));
    Ok(failed.len())
}

/// Runs the checks one after the other. Returns a line for each that failed, with its cause: whoever has the end of the
/// output only must not have to guess.
async fn run_checks(system: &Rc<System>, chosen: &[&Check]) -> Vec<String> {
    let mut failed = Vec::new();
    for check in chosen {
        println!("check {} ...", check.name);
        let started = Instant::now();
        // In a task of its own: a panic ends the check and not the run.
        let outcome = spawn_local((check.run)(Rc::clone(system))).await.context("run to the end").flatten();
        match outcome {
            Ok(()) => println!("check {} ... ok ({:.1?})\n", check.name, started.elapsed()),
            Err(error) => {
                println!("check {} ... FAILED ({:.1?}): {error:#}\n", check.name, started.elapsed());
                let cause: String =
                    format!("{error:#}").replace('\n', " ").chars().take(CAUSE_CHARACTERS).collect();
                failed.push(format!("{}: {cause}", check.name));
            }
        }
    }
    failed
}
