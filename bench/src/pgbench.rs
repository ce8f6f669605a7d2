//! PostgreSQL's own load generator: what it prints, and what it logs of each transaction.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::process;
use crate::stats::Percentiles;

/// What a run of pgbench came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) transactions: f64,
    /// Per second, without the time of connecting.
    pub(crate) tps: f64,
}

/// Transactions, and transactions per second, from what pgbench prints at its end.
pub(crate) fn read(told: &str) -> anyhow::Result<Figures> {
    let after = |start: &str| {
        let value = told.lines().find_map(|line| line.strip_prefix(start));
        value.and_then(|rest| rest.split([' ', '/']).next()?.parse::<f64>().ok())
    };
    let found = after("number of transactions actually processed: ").zip(after("tps = "));
    found
        .filter(|(transactions, _)| *transactions > 0.0)
        .map(|(transactions, tps)| Figures { transactions, tps })
        .with_context(|| format!("read pgbench's figures: {told}"))
}

/// Runs it with a log of each transaction, or of a share of them: its figures, and latencies in milliseconds. `folder` is
/// made for the log, and is gone afterwards.
pub(crate) async fn logged(
    mut pgbench: Command,
    folder: &Path,
    share: f64,
) -> anyhow::Result<(Figures, Percentiles)> {
    fs::create_dir_all(folder).context("make the folder of pgbench's log")?;
    pgbench.current_dir(folder).arg("--log");
    if share < 1.0 {
        pgbench.arg(format!("--sampling-rate={share}"));
    }
    let told = process::output(pgbench).await;
    let mut took = Vec::new();
    for file in fs::read_dir(folder).context("find pgbench's log")? {
        let text = fs::read_to_string(file?.path()).context("read pgbench's log")?;
        took.extend(text.lines().filter_map(milliseconds));
    }
    fs::remove_dir_all(folder).context("remove pgbench's log")?;
    Ok((read(&told?)?, Percentiles::of(took).context("find a transaction in pgbench's log")?))
}

/// The third field of a line is the transaction's time in microseconds.
fn milliseconds(line: &str) -> Option<f64> {
    Some(line.split(' ').nth(2)?.parse::<f64>().ok()? / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_pgbench_prints() {
        let of = |told| read(told).map(|found| (found.transactions, found.tps));
        let told = "transaction type: <builtin: TPC-B (sort of)>\nnumber of transactions actually processed: 1500\n\
                    latency average = 2.663 ms\ntps = 1502.1 (without initial connection time)\n";
        assert_eq!(of(told).unwrap(), (1500.0, 1502.1));
        // With a limited number, pgbench prints `done/wanted`.
        assert_eq!(of("number of transactions actually processed: 8/8\ntps = 2.0 (x)").unwrap(), (8.0, 2.0));
        assert!(of("number of transactions actually processed: 0\ntps = 0.0").is_err());
        assert!(of("pgbench: error").is_err());
    }

    #[test]
    fn a_line_of_the_log_has_the_time_in_microseconds() {
        assert_eq!(milliseconds("0 199 2241 0 1175850568 995598"), Some(2.241));
        assert_eq!(milliseconds("0 200 skipped 0 1175850568 995598"), None);
        assert_eq!(milliseconds(""), None);
    }
}
