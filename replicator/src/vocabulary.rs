//! The words that the rest of the crate speaks: positions, schemas, rows, changes, transactions.
//!
//! Pure values. Nothing here does I/O, reads a clock or knows a driver, so everything here can be built in a test.

pub mod change;
pub mod fence;
pub mod leader;
pub mod lsn;
pub mod offset;
pub mod parcel;
pub mod row;
pub mod schema;
