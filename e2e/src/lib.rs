//! The test harness of the workspace: real servers, faults on demand, and waits that say what they waited for.
//!
//! The programs use it as a dev-dependency, so it depends on neither of them.
//!
//! - [`load`]: mixed transactions on a leader, by pgbench.
//! - [`lab`]: tables of a random shape, and transactions on them that are awkward to replicate.
//! - [`compare`]: are two databases equal?
//! - [`observe`]: what a replica shows while the load runs: whole transactions only, and how late.
//! - [`postgres`]: a real PostgreSQL server per test, made from the repository's own `postgres/` folder.
//! - [`proxy`]: a TCP proxy inside the test that can cut, freeze and restore the connections through it.
//! - [`random`]: choices that a seed repeats.
//! - [`types`]: every type with its edge values.
//! - [`wait`]: level-triggered waiting with a deadline and the last status seen.

pub mod compare;
pub mod lab;
pub mod load;
pub mod observe;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod random;
pub mod types;
pub mod wait;

use std::path::{Path, PathBuf};

/// The root of the repository that this crate was built from.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
