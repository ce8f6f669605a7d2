//! Bytes of a source into changes. Pure: bytes and a catalog in, values or an error out.

pub mod debezium;
pub mod pgoutput;
