//! The values of a row.

use super::error::PgOutputError;
use super::reader::Reader;

/// One value of a [`Tuple`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column<'a> {
    /// SQL NULL. In a key it also stands for every column that is not part of it.
    Null,
    /// A TOASTed value that an update left as it was, and that is not sent for that reason. It must never be written.
    Unchanged,
    /// What the type's output function prints, in the session's `client_encoding`. Not checked to be UTF-8.
    Text(&'a [u8]),
    /// What the type's send function gives.
    Binary(&'a [u8]),
}

/// The values of a row, in the order of its relation's columns. They have been read once, so nothing is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    count: u16,
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, PgOutputError> {
        let count = reader.column_count()?;
        let before = reader.rest();
        for _ in 0..count {
            column(reader)?;
        }
        let length = before.len() - reader.rest().len();
        Ok(Tuple { count, bytes: before.split_at(length).0 })
    }

    /// How many columns there are.
    pub fn width(&self) -> usize {
        usize::from(self.count)
    }

    /// How many bytes the values have on the wire; for limits.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The values, one after the other.
    pub fn columns(&self) -> Columns<'a> {
        Columns { left: self.count, reader: Reader::new("TupleData", self.bytes) }
    }
}

/// Goes over the values of a [`Tuple`].
#[derive(Debug, Clone)]
pub struct Columns<'a> {
    left: u16,
    reader: Reader<'a>,
}

impl<'a> Iterator for Columns<'a> {
    type Item = Column<'a>;

    fn next(&mut self) -> Option<Column<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Read successfully before, or there would be no tuple.
        column(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Columns<'_> {}

fn column<'a>(reader: &mut Reader<'a>) -> Result<Column<'a>, PgOutputError> {
    const KIND: &str = "a column's 'n', 'u', 't' or 'b'";
    match reader.u8(KIND)? {
        b't' => reader.counted("a column's text").map(Column::Text),
        b'b' => reader.counted("a column's bytes").map(Column::Binary),
        b'n' => Ok(Column::Null),
        b'u' => Ok(Column::Unchanged),
        found => Err(reader.unexpected(KIND, found)),
    }
}
