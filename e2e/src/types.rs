//! Every PostgreSQL type that has a wire form of its own, with the values at its edges: what is captured from the real
//! connector, and what the type matrix compares between leader and replicas.
//!
//! Each family is one table. A column is named as its type, which makes odd names a part of every test.

mod beyond;
mod families;
mod modes;
mod published;

pub use beyond::BEYOND;
pub use families::{EXTENSIONS, FAMILIES, LARGE, TYPES};
pub use modes::{BASE, MODES, Mode};
pub use published::promised;

/// One column and the values that it is tried with, in PostgreSQL's text form.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// The type as SQL writes it; the column's name, too.
    pub sql_type: &'static str,
    /// Values, besides NULL.
    pub values: &'static [&'static str],
}

/// Columns that share a table.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// The table's name.
    pub name: &'static str,
    /// Its columns behind `id` and `n`.
    pub columns: &'static [Column],
}

/// How a value gets to a replica: each way has a range of ids of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Inserted before the connector existed.
    Snapshot,
    /// Inserted while it streams.
    Insert,
    /// NULL at first, then updated.
    Update,
    /// Overwritten with NULL.
    UpdateToNull,
    /// Left alone by an update of another column.
    Unchanged,
}

impl Path {
    /// All of them.
    pub const ALL: [Path; 5] =
        [Path::Snapshot, Path::Insert, Path::Update, Path::UpdateToNull, Path::Unchanged];

    /// The id of the first row that comes this way.
    pub fn first_id(self) -> usize {
        match self {
            Path::Snapshot => 1_000,
            Path::Insert => 2_000,
            Path::Update => 3_000,
            Path::UpdateToNull => 4_000,
            Path::Unchanged => 5_000,
        }
    }

    /// The word for tables of results.
    pub fn name(self) -> &'static str {
        match self {
            Path::Snapshot => "snapshot",
            Path::Insert => "insert",
            Path::Update => "update",
            Path::UpdateToNull => "update to NULL",
            Path::Unchanged => "unchanged",
        }
    }
}

/// A name as SQL reads it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(value: &str) -> String {
    // The large values are written as what makes them: `repeat:…:1000`.
    match value.strip_prefix("sql:") {
        Some(expression) => expression.to_owned(),
        None => format!("'{}'", value.replace('\'', "''")),
    }
}

/// What stands for a large value in a file: its length, how it begins, and a checksum (FNV-1a, 64 bits).
pub fn digest(value: &str) -> String {
    let hash = value.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let start: String = value.chars().take(20).collect();
    format!("{} bytes, {start}…, {hash:016x}", value.len())
}

impl Family {
    /// The table, in the schema that comes first in the search path.
    pub fn table_sql(&self) -> String {
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|column| format!("{} {}", quoted(column.sql_type), column.sql_type))
            .collect();
        format!("CREATE TABLE {} (id int PRIMARY KEY, n int, {});", quoted(self.name), columns.join(", "))
    }

    /// How many rows it takes to have every value once.
    pub fn rows(&self) -> usize {
        self.columns.iter().map(|column| column.values.len()).max().unwrap_or(0)
    }

    fn row(&self, id: usize, row: usize) -> String {
        let values: Vec<_> = self
            .columns
            .iter()
            .map(|column| column.values.get(row).map_or_else(|| "NULL".to_owned(), |value| literal(value)))
            .collect();
        format!("INSERT INTO {} VALUES ({id}, 0, {});\n", quoted(self.name), values.join(", "))
    }

    fn set(&self, id: usize, row: usize) -> String {
        let assignments: Vec<_> = self
            .columns
            .iter()
            .filter_map(|c| Some(format!("{} = {}", quoted(c.sql_type), literal(c.values.get(row)?))))
            .collect();
        format!("UPDATE {} SET {} WHERE id = {id};\n", quoted(self.name), assignments.join(", "))
    }

    /// The statements that have to run before the connector.
    pub fn snapshot_sql(&self) -> String {
        let rows = 0..self.rows();
        // A row of nothing but NULLs comes last.
        rows.chain([usize::MAX - 1])
            .map(|row| self.row(Path::Snapshot.first_id() + row.min(self.rows()), row))
            .collect()
    }

    /// The statements that run while it streams: what each of the scripts does is one transaction.
    pub fn stream_sql(&self) -> [String; 2] {
        let (mut first, mut second) = (String::new(), String::new());
        for row in 0..self.rows() {
            let id = |path: Path| path.first_id() + row;
            first.push_str(&self.row(id(Path::Insert), row));
            first.push_str(&self.row(id(Path::Update), usize::MAX));
            second.push_str(&self.set(id(Path::Update), row));
            // One row says what there is to say.
            if row == 0 {
                first.push_str(&self.row(id(Path::UpdateToNull), row));
                first.push_str(&self.row(id(Path::Unchanged), row));
                second.push_str(&self.set_null(id(Path::UpdateToNull)));
                let unchanged = id(Path::Unchanged);
                second.push_str(&format!(
                    "UPDATE {} SET n = n + 1 WHERE id = {unchanged};\n",
                    quoted(self.name)
                ));
            }
        }
        [first, second]
    }

    fn set_null(&self, id: usize) -> String {
        let nulls: Vec<_> = self.columns.iter().map(|c| format!("{} = NULL", quoted(c.sql_type))).collect();
        format!("UPDATE {} SET {} WHERE id = {id};\n", quoted(self.name), nulls.join(", "))
    }
}
