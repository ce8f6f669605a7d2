//! Rows as parameters: a column of many rows as one `text[]`, written straight from the rows' buffers.

use std::borrow::Cow;
use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::vocabulary::row::{Cell, Key, Row};

/// The OID of `text` (`pg_type.dat`).
const TEXT_OID: u32 = 25;

/// Something that has a cell at a position.
pub trait Cells: std::fmt::Debug {
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

/// One column of many rows as `text[]`. An absent cell is a mistake of the plan and is refused.
#[derive(Debug)]
pub struct TextArray<'a, T> {
    /// The rows.
    pub rows: &'a [T],
    /// The column.
    pub position: usize,
}

impl<T: Cells> ToSql for TextArray<'_, T> {
    /// PostgreSQL's binary array: dimensions, has-nulls, element type, then length and lower bound of the dimension, then
    /// each element as length and bytes (`array_recv` in its source).
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i32(1);
        out.put_i32(1);
        out.put_u32(TEXT_OID);
        out.put_i32(i32::try_from(self.rows.len())?);
        out.put_i32(1);
        for row in self.rows {
            match row.cell(self.position) {
                Cell::Text(text) => {
                    out.put_i32(i32::try_from(text.len())?);
                    out.put_slice(text.as_bytes());
                }
                Cell::Null => out.put_i32(-1),
                Cell::Absent => {
                    return Err("a value that the event does not carry was about to be written".into());
                }
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TEXT_ARRAY
    }

    to_sql_checked!();
}

/// One cell as `text`.
#[derive(Debug)]
pub struct Text<'a>(pub Cell<'a>);

impl ToSql for Text<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            Cell::Text(text) => {
                out.put_slice(text.as_bytes());
                Ok(IsNull::No)
            }
            Cell::Null => Ok(IsNull::Yes),
            Cell::Absent => Err("a value that the event does not carry was about to be written".into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TEXT
    }

    to_sql_checked!();
}
