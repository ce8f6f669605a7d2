//! What the leader's values are in binary.

use super::error::unreadable;
use super::{PostgresSourceError, ReplicationConnection};
use crate::vocabulary::schema::WireTypes;

/// The leader's types whose binary form means the same on every server.
///
/// # Errors
/// When the leader does not answer.
pub async fn wire_types(connection: &mut ReplicationConnection) -> Result<WireTypes, PostgresSourceError> {
    let rows =
        connection.simple_query("read the types", include_str!("../../replica/wire_types.sql")).await?;
    let columns = rows.iter().map(|row| [0, 1, 2].map(|column| row.get(column).and_then(Option::as_deref)));
    WireTypes::read(columns).ok_or_else(|| unreadable("pg_type"))
}
