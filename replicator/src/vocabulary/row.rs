//! Rows: the values of one table row, in PostgreSQL's text form, packed into one allocation.

use std::fmt;
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

/// The values of a table's columns in the order of [`Table::columns`], in one allocation: a row is held for each change on its
/// way, by the hundred thousand.
///
/// A mark for each column stands before the text, and tells its state and where its text ends; the text of one column begins
/// where that of the one before ends. Marks are written in bytes below 128, which makes of it all a valid `str` that no access
/// has to check again.
#[derive(Clone)]
pub struct Row {
    packed: Box<str>,
    width: usize,
}

/// Bytes of a mark: 33 bits of position and 2 of state, 7 in each.
const MARK: usize = 5;

// What a mark says of its column.
const ABSENT: u64 = 0;
const NULL: u64 = 1;
const TEXT: u64 = 2;

/// The mark of a column whose text, if it has one, ends so many bytes behind the marks.
fn mark(state: u64, end: usize) -> [u8; MARK] {
    // At most 2^33: a row's text is shorter than twice PostgreSQL's largest message.
    let packed = (end as u64) << 2 | state;
    std::array::from_fn(|i| (packed >> (7 * i) & 0x7f) as u8)
}

impl Row {
    /// The value of a column.
    ///
    /// # Panics
    /// When the column is not one of the table that the row was built for.
    pub fn cell(&self, column: usize) -> Cell<'_> {
        let (state, end) = self.read_mark(column);
        match state {
            ABSENT => Cell::Absent,
            NULL => Cell::Null,
            _ => {
                let start = column.checked_sub(1).map_or(0, |before| self.read_mark(before).1);
                let text = self.width * MARK;
                Cell::Text(&self.packed[text + start..text + end])
            }
        }
    }

    fn read_mark(&self, column: usize) -> (u64, usize) {
        assert!(column < self.width, "a column of this table");
        let bytes = &self.packed.as_bytes()[column * MARK..(column + 1) * MARK];
        let packed = bytes.iter().rev().fold(0u64, |packed, byte| packed << 7 | u64::from(*byte));
        (packed & 3, (packed >> 2) as usize)
    }

    /// How many columns the row has.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether every column of the table that can be written has a value here, or needs none.
    pub fn is_complete(&self, table: &Table) -> bool {
        let may_lack = |i| table.filler(i) == Some(&Filler::Nothing);
        let mut columns = table.columns.iter().enumerate();
        columns.all(|(i, c)| c.generated || self.cell(i) != Cell::Absent || may_lack(i))
    }

    /// This row with the values of `newer` laid over it; what `newer` does not carry stays.
    ///
    /// Coalescing field by field is what keeps a large value that an earlier update wrote when a later one, which leaves
    /// it unchanged, arrives without it.
    pub fn overlaid_with(&self, newer: &Row) -> Row {
        debug_assert_eq!(self.width(), newer.width(), "rows of one table");
        let cells = (0..self.width()).map(|column| match newer.cell(column) {
            Cell::Absent => self.cell(column),
            cell => cell,
        });
        Row::pack(cells)
    }

    /// Only the values of the given columns, in their order: the key of the row.
    pub fn project(&self, columns: &[usize]) -> Key {
        Key(Row::pack(columns.iter().map(|&column| self.cell(column))))
    }

    /// Bytes held, roughly; for limits.
    pub fn size_bytes(&self) -> usize {
        self.packed.len() + ALLOCATION + size_of::<Row>()
    }

    /// A row of these cells, in the order of the columns.
    fn pack<'c>(cells: impl ExactSizeIterator<Item = Cell<'c>> + Clone) -> Row {
        let width = cells.len();
        let text = |cell| if let Cell::Text(text) = cell { text } else { "" };
        let bytes: usize = cells.clone().map(|cell| text(cell).len()).sum();
        // Exactly: what is left over would stay held for as long as the row.
        let mut packed = String::with_capacity(width * MARK + bytes);
        let mut end = 0;
        for cell in cells.clone() {
            end += text(cell).len();
            let state = match cell {
                Cell::Absent => ABSENT,
                Cell::Null => NULL,
                Cell::Text(_) => TEXT,
            };
            mark(state, end).into_iter().for_each(|byte| packed.push(char::from(byte)));
        }
        cells.for_each(|cell| packed.push_str(text(cell)));
        Row { packed: packed.into_boxed_str(), width }
    }
}

/// What an allocator takes for one allocation beside its bytes: glibc's header, and half of its step of 16.
const ALLOCATION: usize = 16;

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.width()).map(|column| self.cell(column))).finish()
    }
}

// Each row has one form only.
impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.width == other.width && self.packed == other.packed
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

/// A column of a [`RowBuilder`]; a text by its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Absent,
    Null,
    Text { start: usize, end: usize },
}

/// Builds a [`Row`]; columns may come in any order, those never set are [`Cell::Absent`].
#[derive(Debug)]
pub struct RowBuilder {
    text: String,
    cells: Box<[Slot]>,
}

impl RowBuilder {
    /// A row of so many columns, all absent.
    pub fn new(width: usize) -> Self {
        RowBuilder { text: String::new(), cells: vec![Slot::Absent; width].into_boxed_slice() }
    }

    /// The same with room for the text, so that it is allocated once.
    pub fn with_capacity(width: usize, text_bytes: usize) -> Self {
        RowBuilder { text: String::with_capacity(text_bytes), ..Self::new(width) }
    }

    /// Sets a column to a value that already exists as text.
    pub fn set(&mut self, column: usize, cell: Cell<'_>) {
        match cell {
            Cell::Absent => self.cells[column] = Slot::Absent,
            Cell::Null => self.cells[column] = Slot::Null,
            Cell::Text(text) => {
                let start = self.text.len();
                self.text.push_str(text);
                self.cells[column] = Slot::Text { start, end: self.text.len() };
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
            Ok(_) => self.cells[column] = Slot::Text { start, end: self.text.len() },
            Err(_) => self.text.truncate(start),
        }
        result
    }

    /// Whether a column has been given a value or NULL.
    pub fn is_set(&self, column: usize) -> bool {
        self.cells[column] != Slot::Absent
    }

    /// The row.
    pub fn finish(self) -> Row {
        let text = &self.text;
        Row::pack(self.cells.iter().map(|&cell| match cell {
            Slot::Absent => Cell::Absent,
            Slot::Null => Cell::Null,
            Slot::Text { start, end } => Cell::Text(&text[start..end]),
        }))
    }
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

    #[test]
    fn a_value_set_again_leaves_nothing_of_the_one_before() {
        let mut builder = RowBuilder::new(2);
        builder.set(0, Cell::Text("longer"));
        builder.set(1, Cell::Text("b"));
        builder.set(0, Cell::Text("a"));
        assert_eq!(builder.finish(), row(&[Cell::Text("a"), Cell::Text("b")]));
    }

    #[test]
    fn values_of_any_length_are_found_again() {
        // Around each border between the bytes of a mark, and past the widths that one word of columns has.
        for length in [0, 1, 31, 32, 33, 4_095, 4_096, 4_097, 524_288, 70_000_000] {
            let long = "ü".repeat(length / 2) + &"x".repeat(length % 2);
            let row = row(&[Cell::Null, Cell::Text(&long), Cell::Absent, Cell::Text("end"), Cell::Text("")]);
            assert!(row.cell(1) == Cell::Text(&long), "{length}");
            assert_eq!((row.cell(0), row.cell(2)), (Cell::Null, Cell::Absent));
            assert_eq!((row.cell(3), row.cell(4)), (Cell::Text("end"), Cell::Text("")));
        }
        let many: Vec<String> = (0..1600).map(|i| i.to_string()).collect();
        let row = row(&many.iter().map(|text| Cell::Text(text)).collect::<Vec<_>>());
        assert!(many.iter().enumerate().all(|(i, text)| row.cell(i) == Cell::Text(text)));
    }
}
