//! Keeps PostgreSQL read replicas fed with a leader's committed changes.
//!
//! ```text
//! topics ──▶ source ──▶ decode ──▶ assemble ──▶ parcels ──▶ plan ──▶ replica
//!            (rdkafka)  (pure)     (pure)       (bounded)  (pure)   (tokio-postgres: rows + checkpoint, one commit)
//! ```
//!
//! Replicas that stand at the same place share one lane, which reads, decodes and assembles once. Each has a worker of its
//! own that owns its position: the checkpoint in the replica's database, committed with the rows it covers. Nothing else
//! is a truth about progress, so killing the process at any instant loses nothing and repeats nothing.
//!
//! # Invariants
//! - A target transaction holds whole source transactions, never a part of one.
//! - The checkpoint is its last statement; the replica refuses it from a daemon that no longer owns the replica.
//! - `vocabulary`, `decode`, `assemble` and `plan` are pure: no driver, no clock, no environment, no `async`.
//! - `source` does not know `replica`, nor the other way round; SQL text stands in `replica`, `snapshot`, `check` and
//!   `source/postgres` only.

pub mod admin;
pub mod assemble;
pub mod backoff;
pub mod check;
pub mod cli;
pub mod config;
pub mod decode;
pub mod events;
pub mod lane;
pub mod metrics;
pub mod plan;
pub mod rebuild;
pub mod replica;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod supervisor;
pub mod telemetry;
mod text;
pub mod vocabulary;
pub mod worker;
