//! Other programs: what processes used, as the kernel counts it in `/proc`, and what commands print.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use e2e::process;

/// Runs a command to its end: what it printed, without white space around it. An error when it fails, with what it said.
pub(crate) async fn output(mut command: Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null());
    let run = tokio::task::spawn_blocking(move || command.output()).await?;
    let output = run.with_context(|| format!("run {name}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed ({}): {}", output.status, errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// CPU seconds of a process and of all its descendants, ended ones included as soon as their parent has waited for them:
/// a PostgreSQL server with its backends, or a JVM.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let mut ticks = 0;
    let mut family = vec![pid];
    while let Some(pid) = family.pop() {
        // A backend may end between the listing and the reading: its time is its parent's by then.
        if let Some(used) = ticks_of(pid) {
            ticks += used;
            family.extend(children(pid));
        }
    }
    ensure!(ticks > 0 || ticks_of(pid).is_some(), "process {pid} does not exist");
    Ok(seconds(ticks))
}

/// CPU seconds of a process alone, with children that it has waited for: those that still run are not its own doing.
pub(crate) fn own_cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    ticks_of(pid).map(seconds).with_context(|| format!("process {pid} does not exist"))
}

/// What one process has used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Share {
    pub(crate) pid: u32,
    /// Its command line, which PostgreSQL's processes change to say what they do.
    pub(crate) title: String,
    pub(crate) seconds: f64,
}

/// The same as [`cpu_seconds`] piece by piece: the process itself with its ended children, and each running child.
pub(crate) fn shares(pid: u32) -> anyhow::Result<Vec<Share>> {
    ensure!(ticks_of(pid).is_some(), "process {pid} does not exist");
    let family = std::iter::once(pid).chain(children(pid));
    // As above, a child that has ended meanwhile is its parent's.
    Ok(family
        .filter_map(|pid| Some(Share { pid, title: title(pid), seconds: seconds(ticks_of(pid)?) }))
        .collect())
}

fn title(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

#[expect(clippy::cast_precision_loss, reason = "ticks of a benchmark stay far below 2^53")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// User and system time, the process's own and that of children it has waited for: fields 14 to 17 of its `stat`.
fn ticks_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold spaces; what follows begins with field 3.
    let fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(4);
    fields.map(|field| field.parse::<u64>().ok()).sum()
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The highest resident memory of a process since it started, in MiB.
pub(crate) fn peak_memory_mib(pid: u32) -> anyhow::Result<f64> {
    process::peak_memory_kib(pid).map(mib)
}

/// The resident memory of a process, in MiB.
pub(crate) fn resident_memory_mib(pid: u32) -> anyhow::Result<f64> {
    process::resident_memory_kib(pid).map(mib)
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Lets the peak of a process's memory begin again at what it holds now.
pub(crate) fn forget_peak_memory(pid: u32) -> anyhow::Result<()> {
    // 5 is the kernel's number for it (proc(5)).
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("reset the peak memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_cpu_and_memory() {
        let own = std::process::id();
        assert!(cpu_seconds(own).is_ok());
        assert!(own_cpu_seconds(own).is_ok());
        assert!(peak_memory_mib(own).unwrap() > 1.0);
        assert!(resident_memory_mib(own).unwrap() > 1.0);
        assert_eq!(shares(own).unwrap()[0].pid, own);
        forget_peak_memory(own).unwrap();
        assert!(peak_memory_mib(own).unwrap() > 1.0);
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        assert!(cpu_seconds(u32::MAX).is_err());
        assert!(own_cpu_seconds(u32::MAX).is_err());
        assert!(peak_memory_mib(u32::MAX).is_err());
        assert!(shares(u32::MAX).is_err());
    }
}
