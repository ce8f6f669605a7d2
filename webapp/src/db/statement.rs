//! One statement as a value: its SQL, its parameters, how its rows become an answer.
//!
//! A read is one statement so that all of its rows are of one snapshot, and so that it can be asked again elsewhere. A
//! write is one statement so that it is one transaction, whose end the token can follow in the same round trip.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// The parameters of a statement, borrowed from it.
pub type Params<'a> = Vec<&'a (dyn ToSql + Sync)>;

/// A question that any replica, and the leader, can answer.
pub trait Read: Send + Sync {
    /// What the rows become.
    type Output: Send;
    /// The statement; prepared once per connection.
    const SQL: &'static str;
    /// It touches few rows, by a key, whatever the parameters are: it may share a session with others that do.
    const IS_BRIEF: bool = false;

    /// The values of `$1`, `$2`, ...
    fn params(&self) -> Params<'_>;

    /// Makes the answer from the rows.
    ///
    /// # Errors
    /// When a column is missing or of another type: a fault of the statement, not of the caller.
    fn decode(&self, rows: &[Row]) -> Result<Self::Output, tokio_postgres::Error>;
}

/// A change that the leader makes in a transaction of its own.
pub trait Write: Send + Sync {
    /// What the rows become.
    type Output: Send;
    /// The statement; prepared once per connection.
    const SQL: &'static str;

    /// The values of `$1`, `$2`, ...
    fn params(&self) -> Params<'_>;

    /// Makes the answer from the rows.
    ///
    /// # Errors
    /// As for [`Read::decode`].
    fn decode(&self, rows: &[Row]) -> Result<Self::Output, tokio_postgres::Error>;
}
