//! Rows as parameters: single values as `text` or as their column's type, a column of many rows as one array of those, all written
//! straight from the rows' buffers.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};

use crate::vocabulary::row::{Cell, Key, Row};

/// Something that is sent as a row.
pub trait Cells: fmt::Debug + Sync {
    /// Its values.
    fn row(&self) -> &Row;
}

impl Cells for Cow<'_, Row> {
    fn row(&self) -> &Row {
        self
    }
}

impl Cells for &Key {
    fn row(&self) -> &Row {
        &self.0
    }
}

/// One parameter of a statement. An absent cell is a mistake of the plan and is refused, as is text where the server expects
/// anything else.
#[derive(Debug)]
pub enum Parameter<'a> {
    /// One cell.
    One(Cell<'a>),
    /// A column of many rows as an array.
    OfRows(&'a [Cow<'a, Row>], usize),
    /// A column of many keys as an array.
    OfKeys(&'a [&'a Key], usize),
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Parameter::One(cell) => match value(*cell, ty)? {
                Some(bytes) => out.put_slice(bytes),
                None => return Ok(IsNull::Yes),
            },
            Parameter::OfRows(rows, position) => array(rows, *position, ty, out)?,
            Parameter::OfKeys(keys, position) => array(keys, *position, ty, out)?,
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        // A binary value has the type that its column has on the leader, which is the replica's as well.
        true
    }

    to_sql_checked!();
}

/// What is sent of a cell whose parameter, or element of one, has this type; none for NULL.
fn value<'c>(cell: Cell<'c>, ty: &Type) -> Result<Option<&'c [u8]>, &'static str> {
    match cell {
        Cell::Absent => Err(ABSENT),
        Cell::Text(_) if *ty != Type::TEXT => Err("a value's text was about to be taken for its binary form"),
        cell => Ok(cell.bytes()),
    }
}

const ABSENT: &str = "a value that the event does not carry was about to be written";

/// PostgreSQL's binary array: dimensions, has-nulls, element type, then length and lower bound of the dimension, then each
/// element as length and bytes (`array_recv` in its source).
fn array<T: Cells>(
    rows: &[T],
    position: usize,
    ty: &Type,
    out: &mut BytesMut,
) -> Result<(), Box<dyn Error + Sync + Send>> {
    let Kind::Array(element) = ty.kind() else {
        return Err(format!("values of many rows for a parameter of type {ty}").into());
    };
    out.put_i32(1);
    out.put_i32(1);
    out.put_u32(element.oid());
    out.put_i32(i32::try_from(rows.len())?);
    out.put_i32(1);
    for row in rows {
        match value(row.row().cell(position), element)? {
            Some(bytes) => {
                out.put_i32(i32::try_from(bytes.len())?);
                out.put_slice(bytes);
            }
            None => out.put_i32(-1),
        }
    }
    Ok(())
}

/// A value as the server sends it, whatever its type.
#[derive(Debug)]
pub struct Raw<'a>(pub &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
