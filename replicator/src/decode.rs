//! Bytes of a source into changes. Pure: bytes and a catalog in, values or an error out.

pub mod debezium;
mod error;
pub mod pgoutput;

pub use error::{DecodeError, ValueError};
