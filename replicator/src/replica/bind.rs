//! Rows as parameters: single values as `text`, a column of many rows as one `text[]`, both written straight from the rows'
//! buffers.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::vocabulary::row::{Cell, Key, Row};

/// The OID of `text` (`pg_type.dat`).
const TEXT_OID: u32 = 25;

/// Something that has a cell at a position.
pub trait Cells: fmt::Debug + Sync {
    /// The cell.
    fn cell(&self, position: usize) -> Cell<'_>;
}

impl Cells for Cow<'_, Row> {
    fn cell(&self, position: usize) -> Cell<'_> {
        Row::cell(self, position)
    }
}

impl Cells for &Key {
    fn cell(&self, position: usize) -> Cell<'_> {
        self.0.cell(position)
    }
}

/// One parameter of a statement. An absent cell is a mistake of the plan and is refused.
#[derive(Debug)]
pub enum Parameter<'a> {
    /// One cell as `text`.
    One(Cell<'a>),
    /// A column of many rows as `text[]`.
    OfRows(&'a [Cow<'a, Row>], usize),
    /// A column of many keys as `text[]`.
    OfKeys(&'a [&'a Key], usize),
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Parameter::One(Cell::Text(text)) => out.put_slice(text.as_bytes()),
            Parameter::One(Cell::Null) => return Ok(IsNull::Yes),
            Parameter::One(Cell::Absent) => return Err(ABSENT.into()),
            Parameter::OfRows(rows, position) => array(rows, *position, out)?,
            Parameter::OfKeys(keys, position) => array(keys, *position, out)?,
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::TEXT | Type::TEXT_ARRAY)
    }

    to_sql_checked!();
}

const ABSENT: &str = "a value that the event does not carry was about to be written";

/// PostgreSQL's binary array: dimensions, has-nulls, element type, then length and lower bound of the dimension, then each
/// element as length and bytes (`array_recv` in its source).
fn array<T: Cells>(
    rows: &[T],
    position: usize,
    out: &mut BytesMut,
) -> Result<(), Box<dyn Error + Sync + Send>> {
    out.put_i32(1);
    out.put_i32(1);
    out.put_u32(TEXT_OID);
    out.put_i32(i32::try_from(rows.len())?);
    out.put_i32(1);
    for row in rows {
        match row.cell(position) {
            Cell::Text(text) => {
                out.put_i32(i32::try_from(text.len())?);
                out.put_slice(text.as_bytes());
            }
            Cell::Null => out.put_i32(-1),
            Cell::Absent => return Err(ABSENT.into()),
        }
    }
    Ok(())
}
