//! Keys as they lie in their rows: compared and hashed there, never copied.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::vocabulary::row::{Cell, Key, Row};

/// The key of a row, borrowed from the change that carries it.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyOf<'a> {
    row: &'a Row,
    /// Where the key's columns are in the row; none when the row is the key and nothing else.
    columns: Option<&'a [usize]>,
}

impl<'a> KeyOf<'a> {
    /// The key of a whole row. `columns` are the table's key columns.
    pub(super) fn of_row(row: &'a Row, columns: &'a [usize]) -> Self {
        KeyOf { row, columns: Some(columns) }
    }

    /// A key that came alone.
    pub(super) fn alone(key: &'a Key) -> Self {
        KeyOf { row: &key.0, columns: None }
    }

    fn cells(&self) -> impl Iterator<Item = Cell<'a>> + use<'a> {
        let KeyOf { row, columns } = *self;
        let width = columns.map_or(row.width(), <[usize]>::len);
        (0..width).map(move |position| row.cell(columns.map_or(position, |c| c[position])))
    }

    /// Whether this key comes behind the other in some total order, and thus differs from it and from all that the other
    /// is behind of. Shorter values come first: with text that is the order of the numbers that keys mostly are, and binary
    /// ones are as long as each other.
    pub(super) fn is_behind(&self, other: &Self) -> bool {
        let pairs = self.cells().zip(other.cells());
        let mut orders = pairs.map(|(one, other)| match (one.bytes(), other.bytes()) {
            (Some(a), Some(b)) => (a.len(), a).cmp(&(b.len(), b)),
            _ => Ordering::Less,
        });
        orders.find(|order| order.is_ne()) == Some(Ordering::Greater)
    }
}

impl PartialEq for KeyOf<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cells().eq(other.cells())
    }
}

impl Eq for KeyOf<'_> {}

impl Hash for KeyOf<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.cells().for_each(|cell| cell.hash(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::row::RowBuilder;

    fn key(cells: &[&str]) -> Key {
        let mut row = RowBuilder::new(cells.len());
        cells.iter().enumerate().for_each(|(i, text)| row.set(i, Cell::Text(text)));
        Key(row.finish())
    }

    fn is_behind(a: &[&str], b: &[&str]) -> bool {
        KeyOf::alone(&key(a)).is_behind(&KeyOf::alone(&key(b)))
    }

    #[test]
    fn counting_up_is_recognised_across_a_further_digit() {
        assert!(is_behind(&["10"], &["9"]));
        assert!(is_behind(&["7", "1"], &["6", "999"]));
        assert!(is_behind(&["7", "2"], &["7", "1"]));
        assert!(!is_behind(&["9"], &["10"]));
        assert!(!is_behind(&["9"], &["9"]));
        assert!(!is_behind(&["6", "999"], &["7", "1"]));
    }

    #[test]
    fn a_key_in_its_row_equals_the_key_alone() {
        let row = key(&["a", "1", "b"]).0;
        let (within, alone) = (KeyOf::of_row(&row, &[1]), key(&["1"]));
        assert_eq!(within, KeyOf::alone(&alone));
    }
}
