//! A replica's database: the session that applies, its catalog, its checkpoint.
//!
//! All SQL of the replicating path stands below this module.

pub mod apply;
pub mod bind;
pub mod catalog;
pub mod checkpoint;
pub(crate) mod connection;
pub mod control;
pub mod copy;
pub mod definition;
pub mod error;
pub mod fetch;
mod form;
pub mod leader;
pub mod lease;
pub mod progress;
pub mod quarantine;
pub mod schema_change;
pub mod session;
pub mod side;
pub(crate) mod sql;

pub use error::{Disposition, ReplicaError};
