//! The domain: validated values and the shapes that pages and the API show. No SQL, no HTTP, no I/O.

pub mod action;
pub mod changes;
pub mod demo;
pub mod input;
pub mod listing;
pub mod post;
pub mod status;

pub use crate::db::lsn;
