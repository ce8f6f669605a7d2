//! The `webapp` program: configuration, logging, pools, listener, and an orderly end.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use webapp::config::Config;
use webapp::{AppState, serve, telemetry};

/// sysexits(3): something is wrong with the configuration.
const EX_CONFIG: u8 = 78;

/// Requests that are still open this long after the signal are cut off.
const GRACE: Duration = Duration::from_secs(10);

/// Posts, comments and likes: writes go to the leader, reads to the replicas in turn.
#[derive(Parser)]
#[command(
    version,
    after_help = "Every key of the file can be set in the environment: WEBAPP__BIND, WEBAPP__LEADER__URL, \
    WEBAPP__REPLICAS__0__NAME, WEBAPP__REPLICAS__0__URL, WEBAPP__LOG__LEVEL.\n\
    SIGHUP reads the configuration again and takes over its replicas.\n\
    Exit codes: 0 stopped by a signal, 1 failed, 2 wrong usage, 78 wrong configuration."
)]
struct Arguments {
    /// A TOML file; the environment wins over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let prepared = Config::load(arguments.config.as_deref()).and_then(|config| {
        telemetry::start_logging(&config.log)?;
        let state = AppState::new(&config, CancellationToken::new())
            .map_err(|error| webapp::config::ConfigError::one(error.to_string()))?;
        Ok((config, state))
    });
    let (config, state) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            complain(&format!("configuration: {error}"));
            return ExitCode::from(EX_CONFIG);
        }
    };
    match run(&config, arguments.config.as_deref(), &state) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "logging may not have started; this is for the person at the terminal"
)]
fn complain(what: &str) {
    for line in what.lines() {
        eprintln!("webapp: {line}");
    }
}

#[tokio::main]
async fn run(config: &Config, file: Option<&Path>, state: &AppState) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let listener =
        TcpListener::bind(config.bind).await.with_context(|| format!("listen on {}", config.bind))?;
    let address = listener.local_addr().context("ask for the address")?;
    let shutdown = state.shutdown().clone();
    state.start(config).await;
    let replicas: Vec<&str> = config.replicas.iter().map(|r| r.name.as_str()).collect();
    tracing::info!(
        url = format!("http://{address}/"),
        reads = replicas.join(","),
        writes = "leader",
        "ready"
    );

    let server = tokio::spawn(serve(listener, state.clone(), shutdown.clone()));
    loop {
        tokio::select! {
            () = either(&mut interrupt, &mut terminate) => break,
            _ = hangup.recv() => reload(state, file).await,
        }
    }
    tracing::info!("stopping: no new requests, open ones may finish");
    shutdown.cancel();
    tokio::select! {
        ended = server => ended.context("join the server")?.context("serve")?,
        () = either(&mut interrupt, &mut terminate) => tracing::warn!("second signal, stopping now"),
        () = tokio::time::sleep(GRACE) => tracing::warn!(grace_s = GRACE.as_secs(), "requests cut off"),
    }
    Ok(())
}

/// Reads the configuration again. One that is wrong changes nothing.
async fn reload(state: &AppState, file: Option<&Path>) {
    let reloaded = match Config::load(file) {
        Ok(config) => state.reload(&config).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = reloaded {
        tracing::error!(error, "not reloaded: the configuration is wrong; everything stays as it was");
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
