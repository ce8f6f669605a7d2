//! Processes of this machine.

use std::fs;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// Sends `signal`; a process that is gone already is not an error.
///
/// # Errors
/// When it is somebody else's.
pub fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("read a pid")?;
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("signal process {pid:?}")),
    }
}

/// The direct children of `parent`.
pub fn children(parent: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

/// The highest resident memory of a process since it started, in KiB (`VmHWM`, proc(5)).
///
/// # Errors
/// When the process does not exist.
pub fn peak_memory_kib(pid: u32) -> anyhow::Result<u64> {
    memory_kib(pid, "VmHWM:").context("read the peak memory")
}

/// The resident memory of a process, in KiB (`VmRSS`).
///
/// # Errors
/// When the process does not exist.
pub fn resident_memory_kib(pid: u32) -> anyhow::Result<u64> {
    memory_kib(pid, "VmRSS:").context("read the resident memory")
}

fn memory_kib(pid: u32, field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read the process's status")?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)).context("find the figure")?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

fn parent_of(pid: u32) -> Option<u32> {
    // The second field is the program's name in parentheses and may hold spaces; the parent is two fields after it.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
