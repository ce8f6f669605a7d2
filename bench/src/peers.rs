//! PostgreSQL's own logical replication, the replicator and its peers, on the same work.
//!
//! Every scenario makes the leader and its replicas anew for each run and each system, takes turns between the systems so
//! that a busy minute of the machine meets them all, and fails when a replica differs from the leader at its end.

mod backlog;
mod bulk;
mod carrier;
mod contents;
mod copy;
mod drained;
mod latency;
mod probe;
mod scenario;
mod servers;
mod sight;
mod stage;
mod subscriptions;
mod summary;
mod usage;

pub(crate) use backlog::Options as BacklogOptions;
pub(crate) use bulk::{Bulk, Operation, Options as BulkOptions};
pub(crate) use copy::Options as CopyOptions;
pub(crate) use latency::Options as LatencyOptions;
pub(crate) use scenario::run;
