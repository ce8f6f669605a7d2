//! A fuzz target for each decoder: mutations of what the real connector and a real leader wrote.
//!
//! `PROPTEST_CASES` sets how many cases a target tries. Each follows from a seed of its own; a failure prints it with its input,
//! and `FUZZ_SEED=SEED PROPTEST_CASES=1` repeats that case alone.

mod debezium;
mod mutate;
mod pgoutput;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use e2e::process::peak_memory_kib;
use e2e::random::Random;
use replicator::decode::DecodeError;

/// What a message may have in bytes: a log line, not a record.
const LONGEST_ERROR: usize = 4000;

/// The hint names columns, each with what is to be set.
const LONGEST_HINT: usize = 4000;

/// How much the process may grow while a target runs; other tests run meanwhile.
const MOST_MEMORY_KIB: u64 = 512 << 10;

/// Inputs are some kilobytes: what takes this long is not linear.
const LONGEST_CASE: Duration = Duration::from_secs(10);

/// Bytes that are printed so that they can be read and copied.
#[derive(Clone, PartialEq, Eq)]
struct Bytes(Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

fn number(name: &str) -> anyhow::Result<Option<u64>> {
    let text = std::env::var(name).ok();
    text.map(|text| text.parse().with_context(|| format!("{name}={text} is no number"))).transpose()
}

/// Tries the cases of a target. `check` says how many decoded; an error or a panic of it is a failure.
#[expect(clippy::print_stdout, reason = "the seed of a run that hangs or is killed is wanted, too")]
fn fuzz<I: fmt::Debug>(
    target: &str,
    cases: u64,
    draw: impl Fn(&mut Random) -> I,
    check: impl Fn(&I) -> anyhow::Result<Tally>,
) -> anyhow::Result<()> {
    let cases = number("PROPTEST_CASES")?.unwrap_or(cases);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    // Room for cases above it that can be typed.
    let seed = number("FUZZ_SEED")?.unwrap_or(now.as_secs() << 20);
    println!("{target}: {cases} cases from FUZZ_SEED={seed}");
    let (mut all, before) = (Tally::default(), peak_memory_kib(std::process::id())?);
    for seed in (seed..).take(usize::try_from(cases)?) {
        let input = draw(&mut Random::new(seed));
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&input)))
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the decoder panicked")));
        let took = began.elapsed();
        let outcome = outcome.and_then(|tally| {
            ensure!(took < LONGEST_CASE, "it took {took:?}");
            Ok(tally)
        });
        let repeat = || {
            format!(
                "FUZZ_SEED={seed} PROPTEST_CASES=1 cargo test -p replicator --test it -- fuzz::{target}\n{input:?}"
            )
        };
        all.add(outcome.with_context(repeat)?);
    }
    let after = peak_memory_kib(std::process::id())?;
    ensure!(after - before < MOST_MEMORY_KIB, "{target}: memory grew from {before} to {after} KiB");
    println!("{target}: {} decoded, {} refused", all.decoded, all.refused);
    // Mutations that leave nothing right, or nothing wrong, try nothing.
    if cases >= 1000 {
        let share = (all.decoded + all.refused) / 20;
        ensure!(all.decoded > share && all.refused > share, "{target}: nearly all cases end alike");
    }
    Ok(())
}

/// What became of the records of a case.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    decoded: u64,
    refused: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.decoded += other.decoded;
        self.refused += other.refused;
    }

    fn note<T>(&mut self, result: Result<T, DecodeError>) -> anyhow::Result<Option<T>> {
        match result {
            Ok(found) => {
                self.decoded += 1;
                Ok(Some(found))
            }
            Err(error) => {
                self.refused += 1;
                check_error(&error)?;
                Ok(None)
            }
        }
    }
}

/// A message that can be shown, and a way out.
fn check_error(error: &DecodeError) -> anyhow::Result<()> {
    let (text, hint) = (error.to_string(), error.hint());
    ensure!(!text.is_empty() && !hint.is_empty(), "{error:?} says nothing");
    ensure!(text.len() <= LONGEST_ERROR, "a message of {} bytes: {text:.300}", text.len());
    ensure!(hint.len() <= LONGEST_HINT, "a hint of {} bytes: {hint:.300}", hint.len());
    if let DecodeError::Value { table, column, .. } = error {
        let named = text.contains(&table.to_string()) && text.contains(column.as_str());
        ensure!(named, "{text}: it does not say where");
    }
    Ok(())
}
