//! Starting, signalling and ending server processes, all of them by pid.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, bail, ensure};
use rustix::process::geteuid;

/// The account that owns the servers' files: PostgreSQL refuses to run as root.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

/// `None` when this process is not root: then the servers run as itself.
fn account() -> anyhow::Result<Option<Account>> {
    static ACCOUNT: OnceLock<Option<Account>> = OnceLock::new();
    if let Some(account) = ACCOUNT.get() {
        return Ok(*account);
    }
    let account =
        if geteuid().is_root() { Some(Account { uid: identity("-u")?, gid: identity("-g")? }) } else { None };
    Ok(*ACCOUNT.get_or_init(|| account))
}

fn identity(flag: &str) -> anyhow::Result<u32> {
    let output = Command::new("id").args([flag, "postgres"]).output().context("run id")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .context("find the account 'postgres', which runs the servers when the tests run as root")
}

/// Makes `path` belong to the account that runs the servers.
pub(super) fn give(path: &Path) -> anyhow::Result<()> {
    if let Some(account) = account()? {
        chown(path, Some(account.uid), Some(account.gid))
            .with_context(|| format!("chown {}", path.display()))?;
    }
    Ok(())
}

/// A command that will run as the servers' account.
pub(super) fn command(program: impl AsRef<Path>) -> anyhow::Result<Command> {
    let mut command = Command::new(program.as_ref());
    if let Some(account) = account()? {
        // std drops root's supplementary groups when it sets the uid.
        command.uid(account.uid).gid(account.gid);
    }
    // The working directory of the test may be closed to that account.
    command.current_dir("/").stdin(Stdio::null());
    Ok(command)
}

/// Runs a command to its end; its output becomes part of the error when it fails.
pub(super) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("run {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{:?} failed ({}): {}{}",
        command.get_program(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The folder of the server programs: `PG_BIN`, or Debian's newest version, or the folder that holds `postgres` on PATH.
pub(super) fn binaries() -> anyhow::Result<&'static Path> {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = BINARIES.get() {
        return Ok(path);
    }
    let found = std::env::var_os("PG_BIN").map(PathBuf::from).or_else(newest_of_debian).or_else(on_path);
    let Some(found) = found else {
        bail!(
            "no PostgreSQL server programs found: install the package postgresql, or set PG_BIN to their folder"
        )
    };
    ensure!(found.join("initdb").exists(), "{} holds no initdb", found.display());
    Ok(BINARIES.get_or_init(|| found))
}

fn newest_of_debian() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.flatten().map(|entry| entry.path()).max_by_key(number)?;
    Some(newest.join("bin"))
}

fn on_path() -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).find(|folder| folder.join("initdb").exists())
}
