//! Rows: the values of one table row, in PostgreSQL's text form, packed into two allocations.

use std::hash::{Hash, Hasher};

use super::schema::{Filler, Table};

/// One column's value in a [`Row`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// The event does not carry this column: an unchanged TOAST value in an update, a generated column in an insert.
    /// It must never be written, least of all as NULL.
    Absent,
    /// SQL NULL.
    Null,
    /// The value as PostgreSQL's input function of the column's type reads it.
    Text(&'a str),
}

/// Bounds of one cell within the row's text. `start` above `end` marks the two states that have no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Bounds {
    start: u32,
    end: u32,
}

const NULL: Bounds = Bounds { start: 1, end: 0 };
const ABSENT: Bounds = Bounds { start: 2, end: 0 };

/// The values of a table's columns in the order of [`Table::columns`].
#[derive(Debug, Clone)]
pub struct Row {
    text: Box<str>,
    cells: Box<[Bounds]>,
}

impl Row {
    /// The value of a column.
    ///
    /// # Panics
    /// When the column is not one of the table that the row was built for.
    pub fn cell(&self, column: usize) -> Cell<'_> {
        match self.cells[column] {
            NULL => Cell::Null,
            ABSENT => Cell::Absent,
            Bounds { start, end } => Cell::Text(&self.text[start as usize..end as usize]),
        }
    }

    /// How many columns the row has.
    pub fn width(&self) -> usize {
        self.cells.len()
    }

    /// Whether every column of the table that can be written has a value here, or needs none.
    pub fn is_complete(&self, table: &Table) -> bool {
        let may_lack = |i| table.filler(i) == Some(&Filler::Nothing);
        table.columns.iter().enumerate().all(|(i, c)| c.generated || self.cells[i] != ABSENT || may_lack(i))
    }

    /// This row with the values of `newer` laid over it; what `newer` does not carry stays.
    ///
    /// Coalescing field by field is what keeps a large value that an earlier update wrote when a later one, which leaves
    /// it unchanged, arrives without it.
    pub fn overlaid_with(&self, newer: &Row) -> Row {
        debug_assert_eq!(self.width(), newer.width(), "rows of one table");
        let mut merged = RowBuilder::new(self.width());
        for column in 0..self.width() {
            match newer.cell(column) {
                Cell::Absent => merged.set(column, self.cell(column)),
                cell => merged.set(column, cell),
            }
        }
        merged.finish()
    }

    /// Only the values of the given columns, in their order: the key of the row.
    pub fn project(&self, columns: &[usize]) -> Key {
        let mut key = RowBuilder::new(columns.len());
        for (position, &column) in columns.iter().enumerate() {
            key.set(position, self.cell(column));
        }
        Key(key.finish())
    }

    /// Bytes held, roughly; for limits.
    pub fn size_bytes(&self) -> usize {
        self.text.len() + self.cells.len() * size_of::<Bounds>() + size_of::<Row>()
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.width() == other.width() && (0..self.width()).all(|i| self.cell(i) == other.cell(i))
    }
}

impl Eq for Row {}

/// The values of a table's key columns, in the order of [`Table::key`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(pub Row);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for column in 0..self.0.width() {
            match self.0.cell(column) {
                Cell::Text(text) => text.hash(state),
                Cell::Null => state.write_u8(1),
                Cell::Absent => state.write_u8(2),
            }
        }
    }
}

/// Builds a [`Row`]; columns may come in any order, those never set are [`Cell::Absent`].
#[derive(Debug)]
pub struct RowBuilder {
    text: String,
    cells: Box<[Bounds]>,
}

impl RowBuilder {
    /// A row of so many columns, all absent.
    pub fn new(width: usize) -> Self {
        RowBuilder { text: String::new(), cells: vec![ABSENT; width].into_boxed_slice() }
    }

    /// The same with room for the text, so that it is allocated once.
    pub fn with_capacity(width: usize, text_bytes: usize) -> Self {
        RowBuilder { text: String::with_capacity(text_bytes), ..Self::new(width) }
    }

    /// Sets a column to a value that already exists as text.
    pub fn set(&mut self, column: usize, cell: Cell<'_>) {
        match cell {
            Cell::Absent => self.cells[column] = ABSENT,
            Cell::Null => self.cells[column] = NULL,
            Cell::Text(text) => {
                let start = self.text.len();
                self.text.push_str(text);
                self.cells[column] = Bounds { start: bound(start), end: bound(self.text.len()) };
            }
        }
    }

    /// Sets a column to what the closure appends; it stays as it was when that fails.
    pub fn write<T, E>(
        &mut self,
        column: usize,
        append: impl FnOnce(&mut String) -> Result<T, E>,
    ) -> Result<T, E> {
        let start = self.text.len();
        let result = append(&mut self.text);
        match &result {
            Ok(_) => self.cells[column] = Bounds { start: bound(start), end: bound(self.text.len()) },
            Err(_) => self.text.truncate(start),
        }
        result
    }

    /// Whether a column has been given a value or NULL.
    pub fn is_set(&self, column: usize) -> bool {
        self.cells[column] != ABSENT
    }

    /// The row.
    pub fn finish(self) -> Row {
        // An exact copy. Giving back the rest of a builder that was made for a whole record leaves a hole behind each row, too
        // small for the next one: rows then hold as much memory as the records that they came from.
        Row { text: self.text.as_str().into(), cells: self.cells }
    }
}

/// Kafka refuses records above `message.max.bytes`, an `i32`, and text grows at most twofold in decoding.
fn bound(position: usize) -> u32 {
    u32::try_from(position).expect("a decoded record is smaller than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[Cell<'_>]) -> Row {
        let mut builder = RowBuilder::new(cells.len());
        for (i, cell) in cells.iter().enumerate() {
            builder.set(i, *cell);
        }
        builder.finish()
    }

    #[test]
    fn empty_text_null_and_absent_stay_three_different_things() {
        let row = row(&[Cell::Text(""), Cell::Null, Cell::Absent, Cell::Text("x")]);
        assert_eq!(row.cell(0), Cell::Text(""));
        assert_eq!(row.cell(1), Cell::Null);
        assert_eq!(row.cell(2), Cell::Absent);
        assert_eq!(row.cell(3), Cell::Text("x"));
    }

    #[test]
    fn an_absent_column_never_covers_a_known_one() {
        let old = row(&[Cell::Text("1"), Cell::Text("big"), Cell::Text("a")]);
        let new = row(&[Cell::Text("1"), Cell::Absent, Cell::Null]);
        assert_eq!(old.overlaid_with(&new), row(&[Cell::Text("1"), Cell::Text("big"), Cell::Null]));
    }

    #[test]
    fn columns_set_out_of_order_make_the_same_row() {
        let mut builder = RowBuilder::new(2);
        builder.set(1, Cell::Text("b"));
        builder.set(0, Cell::Text("a"));
        assert_eq!(builder.finish(), row(&[Cell::Text("a"), Cell::Text("b")]));
    }
}
