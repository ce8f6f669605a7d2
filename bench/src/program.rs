//! One of our programs, as a process of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use e2e::wait;
use rustix::process::{Pid, Signal, kill_process};

/// How long it may take to finish what is open.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Program {
    /// Starts `program` with a configuration file; what it prints goes to `log`. Returns before it is ready.
    pub(crate) fn start(program: &Path, config: &Path, log: PathBuf) -> anyhow::Result<Self> {
        let name = program.file_name().unwrap_or(OsStr::new("program")).to_string_lossy().into_owned();
        let output = File::create(&log).with_context(|| format!("make the log of {name}"))?;
        let child = Command::new(program)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self { child, name, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error, with the end of its log, when it does not run any more.
    pub(crate) fn ensure_runs(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait().with_context(|| format!("ask for {}", self.name))? {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(10)..].join("\n");
            bail!("{} ended ({status}): {last}", self.name);
        }
        Ok(())
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("read the pid")?;
        kill_process(pid, Signal::TERM).with_context(|| format!("ask {} to stop", self.name))?;
        let what = format!("{} to stop", self.name);
        wait::until(&what, PATIENCE, async || match self.child.try_wait() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("still running".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // After `stop` it has ended, and these do nothing.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
