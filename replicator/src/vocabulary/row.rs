//! Rows: the values of one table row, in one of PostgreSQL's two forms, packed into one allocation.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::schema::{Filler, Table};

/// In which form a row has its values: one for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// As the types' input functions read them, in UTF-8.
    Text,
    /// As the types' receive functions read them.
    Binary,
}

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
    /// The value as PostgreSQL's receive function of the column's type reads it ([`Column::wire`](super::schema::Column::wire)).
    Binary(&'a [u8]),
}

impl<'a> Cell<'a> {
    /// What a statement carries of a value; none for NULL, and for a value that is absent.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Cell::Text(text) => Some(text.as_bytes()),
            Cell::Binary(bytes) => Some(bytes),
            Cell::Null | Cell::Absent => None,
        }
    }
}

/// The values of a table's columns in the order of [`Table::columns`], in one allocation: a row is held for each change on its
/// way, by the hundred thousand.
///
/// A mark for each column stands before the values, and tells its state and where its value ends; the value of one column begins
/// where that of the one before ends. Marks are written in bytes below 128, which makes of it all a valid `str` that no access
/// has to check again, where the values are text.
#[derive(Clone, PartialEq, Eq)]
pub struct Row(Packed);

// Each row has one form only, so that equal rows are equal here.
#[derive(Clone, PartialEq, Eq)]
enum Packed {
    Text { width: u32, packed: Box<str> },
    Binary { width: u32, packed: Box<[u8]> },
}

/// Bytes of a mark: 33 bits of position and 2 of state, 7 in each.
const MARK: usize = 5;

// What a mark says of its column.
const ABSENT: u64 = 0;
const NULL: u64 = 1;
const VALUE: u64 = 2;

/// The mark of a column whose value, if it has one, ends so many bytes behind the marks.
fn mark(state: u64, end: usize) -> [u8; MARK] {
    // At most 2^33: a row's values are shorter than twice PostgreSQL's largest message.
    let packed = (end as u64) << 2 | state;
    std::array::from_fn(|i| (packed >> (7 * i) & 0x7f) as u8)
}

impl Row {
    /// A row of these values, in the order of the columns.
    ///
    /// # Panics
    /// When a value has the other form.
    pub fn new(form: Form, cells: &[Cell<'_>]) -> Row {
        let width = u32::try_from(cells.len()).expect("a table has at most 1600 columns");
        let values: usize = cells.iter().filter_map(|cell| cell.bytes()).map(<[u8]>::len).sum();
        // Exactly: what is left over would stay held for as long as the row.
        let mut packed = Vec::with_capacity(cells.len() * MARK + values);
        let mut end = 0;
        for cell in cells {
            let (state, length) = match (cell, form) {
                (Cell::Absent, _) => (ABSENT, 0),
                (Cell::Null, _) => (NULL, 0),
                (Cell::Text(text), Form::Text) => (VALUE, text.len()),
                (Cell::Binary(bytes), Form::Binary) => (VALUE, bytes.len()),
                (cell, form) => panic!("{cell:?} in a row whose form is {form:?}"),
            };
            end += length;
            packed.extend_from_slice(&mark(state, end));
        }
        cells.iter().filter_map(|cell| cell.bytes()).for_each(|bytes| packed.extend_from_slice(bytes));
        Row(match form {
            Form::Text => {
                let packed = String::from_utf8(packed).expect("marks are ASCII, and the rest was text");
                Packed::Text { width, packed: packed.into_boxed_str() }
            }
            Form::Binary => Packed::Binary { width, packed: packed.into_boxed_slice() },
        })
    }

    /// In which form it has its values.
    pub fn form(&self) -> Form {
        match self.0 {
            Packed::Text { .. } => Form::Text,
            Packed::Binary { .. } => Form::Binary,
        }
    }

    /// The value of a column.
    ///
    /// # Panics
    /// When the column is not one of the table that the row was built for.
    pub fn cell(&self, column: usize) -> Cell<'_> {
        let (state, end) = self.read_mark(column);
        self.value(state, self.start(column), end)
    }

    /// The values of these columns, in their order. Cheaper than [`cell`](Self::cell) for each where one column follows another:
    /// its value begins where the last one ended.
    ///
    /// # Panics
    /// As [`cell`](Self::cell).
    pub fn select<'a>(
        &'a self,
        columns: impl IntoIterator<Item = usize> + 'a,
    ) -> impl Iterator<Item = Cell<'a>> {
        let mut next = (0, 0);
        columns.into_iter().map(move |column| {
            let start = if column == next.0 { next.1 } else { self.start(column) };
            let (state, end) = self.read_mark(column);
            next = (column + 1, end);
            self.value(state, start, end)
        })
    }

    /// All values in the order of the columns.
    fn cells(&self) -> Vec<Cell<'_>> {
        self.select(0..self.width()).collect()
    }

    /// Where a column's value begins, behind the marks.
    fn start(&self, column: usize) -> usize {
        column.checked_sub(1).map_or(0, |before| self.read_mark(before).1)
    }

    fn value(&self, state: u64, start: usize, end: usize) -> Cell<'_> {
        let values = self.width() * MARK;
        match (state, &self.0) {
            (ABSENT, _) => Cell::Absent,
            (NULL, _) => Cell::Null,
            (_, Packed::Text { packed, .. }) => Cell::Text(&packed[values + start..values + end]),
            (_, Packed::Binary { packed, .. }) => Cell::Binary(&packed[values + start..values + end]),
        }
    }

    fn packed(&self) -> &[u8] {
        match &self.0 {
            Packed::Text { packed, .. } => packed.as_bytes(),
            Packed::Binary { packed, .. } => packed,
        }
    }

    fn read_mark(&self, column: usize) -> (u64, usize) {
        assert!(column < self.width(), "a column of this table");
        let bytes: &[u8; MARK] =
            self.packed()[column * MARK..].first_chunk().expect("a mark for each column");
        let [a, b, c, d, e] = bytes.map(u64::from);
        let packed = a | b << 7 | c << 14 | d << 21 | e << 28;
        (packed & 3, (packed >> 2) as usize)
    }

    /// How many columns the row has.
    pub fn width(&self) -> usize {
        match self.0 {
            Packed::Text { width, .. } | Packed::Binary { width, .. } => width as usize,
        }
    }

    /// Whether every column of the table that can be written has a value here, or needs none.
    pub fn is_complete(&self, table: &Table) -> bool {
        let may_lack = |i| table.filler(i) == Some(&Filler::Nothing);
        let mut columns = table.columns.iter().enumerate();
        columns.all(|(i, c)| c.generated || self.cell(i) != Cell::Absent || may_lack(i))
    }

    /// This row with the values of `newer`, which has the same form, laid over it; what `newer` does not carry stays.
    ///
    /// Coalescing field by field is what keeps a large value that an earlier update wrote when a later one, which leaves
    /// it unchanged, arrives without it.
    pub fn overlaid_with(&self, newer: &Row) -> Row {
        debug_assert_eq!(self.width(), newer.width(), "rows of one table");
        let mut cells = newer.cells();
        for (column, cell) in cells.iter_mut().enumerate().filter(|(_, cell)| **cell == Cell::Absent) {
            *cell = self.cell(column);
        }
        Row::new(self.form(), &cells)
    }

    /// Only the values of the given columns, in their order: the key of the row.
    pub fn project(&self, columns: &[usize]) -> Key {
        let cells: Vec<_> = self.select(columns.iter().copied()).collect();
        Key(Row::new(self.form(), &cells))
    }

    /// Bytes held, roughly; for limits.
    pub fn size_bytes(&self) -> usize {
        let bytes = self.packed().len();
        bytes + bytes / 10 + ALLOCATION + size_of::<Row>()
    }
}

/// What the allocator takes for a small allocation beside its bytes: half of jemalloc's step of 16. Of larger ones, which have four
/// sizes to each doubling, a tenth is unused.
const ALLOCATION: usize = 8;

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.cells()).finish()
    }
}

/// The values of a table's key columns, in the order of [`Table::key`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(pub Row);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (0..self.0.width()).for_each(|column| self.0.cell(column).hash(state));
    }
}

impl Hash for Cell<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Cell::Text(text) => text.hash(state),
            Cell::Binary(bytes) => bytes.hash(state),
            Cell::Null => state.write_u8(1),
            Cell::Absent => state.write_u8(2),
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

/// Builds a [`Row`] of text; columns may come in any order, those never set are [`Cell::Absent`].
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
    ///
    /// # Panics
    /// When the value is binary: rows of such values need no builder ([`Row::new`]).
    pub fn set(&mut self, column: usize, cell: Cell<'_>) {
        self.cells[column] = match cell {
            Cell::Absent => Slot::Absent,
            Cell::Null => Slot::Null,
            Cell::Text(text) => {
                let start = self.text.len();
                self.text.push_str(text);
                Slot::Text { start, end: self.text.len() }
            }
            Cell::Binary(_) => panic!("a binary value in a row of text"),
        };
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
        let cells = self.cells.iter().map(|&cell| match cell {
            Slot::Absent => Cell::Absent,
            Slot::Null => Cell::Null,
            Slot::Text { start, end } => Cell::Text(&text[start..end]),
        });
        Row::new(Form::Text, &cells.collect::<Vec<_>>())
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
    fn binary_values_are_kept_as_they_are_whatever_their_bytes() {
        let cells = [Cell::Binary(&[0, 255, 0x80]), Cell::Null, Cell::Absent, Cell::Binary(&[])];
        let row = Row::new(Form::Binary, &cells);
        assert_eq!((row.form(), row.cells()), (Form::Binary, cells.to_vec()));
        assert_eq!(row.project(&[3, 0]).0, Row::new(Form::Binary, &[cells[3], cells[0]]));
        let newer = [Cell::Absent, Cell::Binary(b"x"), Cell::Absent, Cell::Null];
        let newest = [cells[0], newer[1], Cell::Absent, Cell::Null];
        assert_eq!(row.overlaid_with(&Row::new(Form::Binary, &newer)), Row::new(Form::Binary, &newest));
        // The same bytes as text are another value, as a row and as a key.
        let text = self::row(&[Cell::Text("x")]);
        assert_ne!(text, Row::new(Form::Binary, &[Cell::Binary(b"x")]));
    }

    #[test]
    #[should_panic = "in a row whose form is"]
    fn a_row_has_one_form() {
        Row::new(Form::Binary, &[Cell::Binary(b"x"), Cell::Text("x")]);
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
        assert_eq!(row.cells(), many.iter().map(|text| Cell::Text(text)).collect::<Vec<_>>());
    }

    #[test]
    fn columns_are_selected_in_any_order_and_more_than_once() {
        let cells = [Cell::Text("ab"), Cell::Absent, Cell::Null, Cell::Text(""), Cell::Text("cde")];
        let row = row(&cells);
        for columns in [&[0, 1, 2, 3, 4][..], &[4, 3, 2, 1, 0], &[3, 4, 0, 0, 1, 4], &[2], &[]] {
            let selected: Vec<_> = row.select(columns.iter().copied()).collect();
            assert_eq!(selected, columns.iter().map(|&c| cells[c]).collect::<Vec<_>>(), "{columns:?}");
        }
    }
}
