//! PostgreSQL's own logical replication, the replicator and its peers, on the same work.
//!
//! Every scenario makes the leader and its replicas anew for each run and each system, takes turns between the systems so
//! that a busy minute of the machine meets them all, and fails when a replica differs from the leader at its end.

mod backlog;
mod bulk;
pub(crate) mod carrier;
mod contents;
mod copy;
mod drained;
mod latency;
mod marks;
mod orders;
mod probe;
mod scaling;
mod scenario;
pub(crate) mod servers;
mod sight;
mod sizes;
pub(crate) mod stage;
pub(crate) mod subscriptions;
mod summary;
mod tpcb;
pub(crate) mod usage;
mod wide;

pub(crate) use backlog::Options as BacklogOptions;
pub(crate) use bulk::{Bulk, Operation, Options as BulkOptions};
pub(crate) use copy::Options as CopyOptions;
pub(crate) use latency::Options as LatencyOptions;
pub(crate) use orders::Options as OrdersOptions;
pub(crate) use scaling::Options as ScalingOptions;
pub(crate) use scenario::run;
pub(crate) use sizes::Options as SizesOptions;
pub(crate) use tpcb::Options as TpcbOptions;
pub(crate) use wide::Options as WideOptions;
