//! Steps as SQL text. Every name is quoted, every value is a parameter or comes by COPY.
//!
//! Values travel as text and become the column's type on the server, or in binary as that type: so PostgreSQL's own input or
//! receive functions read them, and what the leader gave out and what the replica stores can't differ by a conversion of ours.

mod whole;

pub(super) use self::whole::{Part, whole};
use crate::plan::{ColumnSet, StepKind};
use crate::vocabulary::row::Form;
use crate::vocabulary::schema::{Table, TableName};

/// What a statement does to its rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Verb {
    Insert(ColumnSet),
    Upsert(ColumnSet),
    Fill(ColumnSet),
    Update(ColumnSet),
    Delete,
    Rekey(ColumnSet),
    UpdateKeyless(ColumnSet),
    DeleteKeyless,
}

/// What a statement is cached under, within one table: what it does, and how its rows get to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// The values of one row are its parameters; answers how many rows it touched.
    One(Verb),
    /// The same, but fails unless it touched one row: what is sent behind it need not wait for its answer.
    OneChecked(Verb),
    /// Each parameter is a column, with an element per row.
    Arrays(Verb),
    /// The same, but fails unless it touched as many rows as it was given.
    ArraysChecked(Verb),
    /// The rows come by COPY into the table.
    Copy(ColumnSet),
    /// The rows come by COPY into the table's stage for this verb.
    FillStage(Verb),
    /// The rows are in the stage; answers how many rows it touched.
    Staged(Verb),
}

/// A temporary table of the session, by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stage(pub(super) usize);

/// How the values of a row are written in a statement.
#[derive(Debug, Clone, Copy)]
enum Values<'a> {
    /// The last number is that of the parameters before them.
    One(&'a [usize], Form, usize),
    /// Likewise.
    Arrays(&'a [usize], Form, usize),
    Stage(&'a [usize], Stage),
}

impl Verb {
    /// The verb of a step; none for emptying tables.
    pub(super) fn of(kind: &StepKind<'_>) -> Option<Self> {
        Some(match kind {
            StepKind::Insert(columns, _) => Verb::Insert(columns.clone()),
            StepKind::Upsert(columns, _) => Verb::Upsert(columns.clone()),
            StepKind::Fill(columns, _) => Verb::Fill(columns.clone()),
            StepKind::Update(columns, _) => Verb::Update(columns.clone()),
            StepKind::Delete(_) => Verb::Delete,
            StepKind::Rekey(columns, ..) => Verb::Rekey(columns.clone()),
            StepKind::UpdateKeyless(columns, ..) => Verb::UpdateKeyless(columns.clone()),
            StepKind::DeleteKeyless(_) => Verb::DeleteKeyless,
            StepKind::Truncate(_) | StepKind::Clear => return None,
        })
    }

    /// The table's columns that each row brings, in the order of the parameters: only those that the statement uses. What only
    /// DEFAULT may update it can but look for.
    pub(super) fn columns(&self, table: &Table) -> Vec<usize> {
        let may_be_set = |column: &usize| !table.columns[*column].identity_always;
        match self {
            Verb::Insert(columns) | Verb::Upsert(columns) | Verb::Fill(columns) => columns.iter().collect(),
            Verb::Update(columns) => {
                columns.iter().filter(|column| may_be_set(column) || table.key.contains(column)).collect()
            }
            Verb::Rekey(columns) | Verb::UpdateKeyless(columns) => {
                columns.iter().filter(may_be_set).collect()
            }
            Verb::Delete => table.key.clone(),
            Verb::DeleteKeyless => vec![],
        }
    }

    /// How many parameters the statement has whose values come alone or as arrays.
    fn parameters(&self, table: &Table) -> usize {
        let behind = match self {
            Verb::Insert(_) | Verb::Upsert(_) | Verb::Fill(_) | Verb::Update(_) | Verb::Delete => 0,
            Verb::Rekey(_) => table.key.len(),
            Verb::UpdateKeyless(_) | Verb::DeleteKeyless => table.stored().count(),
        };
        self.columns(table).len() + behind
    }

    /// The statement.
    fn sql(&self, table: &Table, values: Values<'_>) -> String {
        match self {
            Verb::Insert(_) => insert(table, values, ""),
            Verb::Upsert(_) => insert(table, values, &on_conflict(table, values)),
            Verb::Fill(_) => insert(table, values, &format!("{} NOTHING", on_key(table))),
            Verb::Update(_) => update(table, values),
            Verb::Delete => delete(table, values),
            Verb::Rekey(_) => rekey(table, values),
            Verb::UpdateKeyless(_) => update_keyless(table, values),
            Verb::DeleteKeyless => delete_keyless(table, values),
        }
    }
}

impl Shape {
    /// Whether its parameters are arrays with an element per row, rather than single values.
    pub(super) fn takes_arrays(&self) -> bool {
        matches!(self, Shape::Arrays(_) | Shape::ArraysChecked(_))
    }

    /// The table's columns that each row brings, in the order of the parameters.
    pub(super) fn columns(&self, table: &Table) -> Vec<usize> {
        match self {
            Shape::Copy(columns) => columns.iter().collect(),
            Shape::One(verb)
            | Shape::OneChecked(verb)
            | Shape::Arrays(verb)
            | Shape::ArraysChecked(verb)
            | Shape::FillStage(verb)
            | Shape::Staged(verb) => verb.columns(table),
        }
    }

    /// The verb whose rows pass through a stage.
    pub(super) fn staged(&self) -> Option<&Verb> {
        match self {
            Shape::FillStage(verb) | Shape::Staged(verb) => Some(verb),
            _ => None,
        }
    }

    /// The statement. `stage` is the one that [`stage`] creates for the verb, `form` that of the values.
    pub(super) fn sql(&self, table: &Table, stage: Stage, form: Form) -> String {
        if let Some(part) = Part::of(table, self, form) {
            let sql = part.sql(0);
            return match part.must_touch(0) {
                Some(rows) => checked(&sql, &rows),
                None => sql,
            };
        }
        let columns = &self.columns(table);
        match self {
            Shape::FillStage(_) => format!("COPY {stage} FROM STDIN{}", copy_format(form)),
            Shape::Staged(verb) => verb.sql(table, Values::Stage(columns, stage)),
            _ => copy(table, columns, form),
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pg_temp.stage_{}", self.0)
    }
}

impl Values<'_> {
    fn columns(&self) -> &[usize] {
        match self {
            Values::One(columns, ..) | Values::Arrays(columns, ..) | Values::Stage(columns, _) => columns,
        }
    }

    /// How many parameters come before them, and in which form they come. A stage has neither.
    fn parameters(&self) -> (usize, Form) {
        match self {
            Values::One(_, form, before) | Values::Arrays(_, form, before) => (*before, *form),
            Values::Stage(..) => (0, Form::Text),
        }
    }

    /// The value that a row brings for a column of the table, as that column's type; none if it brings none.
    fn of(&self, table: &Table, column: usize) -> Option<String> {
        let position = self.columns().iter().position(|c| *c == column)?;
        Some(match self {
            Values::One(_, form, before) => single(table, column, before + position + 1, *form),
            Values::Arrays(_, Form::Text, _) => format!("u.c{position}::{}", table.columns[column].cast),
            // The stage has the column's type, and so has an array of binary values.
            Values::Arrays(_, Form::Binary, _) | Values::Stage(..) => format!("u.c{position}"),
        })
    }

    /// Where the rows come from, behind the keyword: FROM or USING.
    fn from(&self, table: &Table, keyword: &str) -> String {
        match self {
            Values::One(..) => String::new(),
            Values::Arrays(columns, form, before) => {
                let array = |(&column, p): (&usize, usize)| match form {
                    Form::Text => format!("${p}::text[]"),
                    Form::Binary => format!("${p}::{}[]", table.columns[column].cast),
                };
                let values: Vec<_> = columns.iter().zip(before + 1..).map(array).collect();
                let names: Vec<_> = (0..columns.len()).map(|p| format!("c{p}")).collect();
                format!(" {keyword} unnest({}) AS u ({})", values.join(", "), names.join(", "))
            }
            Values::Stage(_, stage) => format!(" {keyword} {stage} AS u"),
        }
    }
}

/// The statement, with an error of the contract's when it does not touch the expected number of rows. Only then what is
/// sent behind it, the commit above all, may be sent without knowing its answer.
fn checked(sql: &str, expected: &str) -> String {
    format!("WITH touched AS ({sql} RETURNING 1) SELECT replicator.expect({expected}, count(*)) FROM touched")
}

/// The types that the parameters of the checkpoint are converted to, from text.
const ADVANCE: [&str; 10] =
    ["bigint", "text", "pg_lsn", "bigint", MILLISECONDS, "jsonb", "bigint", "bigint", "pg_lsn", MILLISECONDS];

/// A moment, from the milliseconds since 1970.
const MILLISECONDS: &str = "bigint * interval '1 millisecond' + timestamptz 'epoch'";

/// How many parameters the checkpoint has.
pub(super) const ADVANCE_PARAMETERS: usize = ADVANCE.len();

/// The call that moves the checkpoint; its parameters, all of them text, are numbered from `first` on.
pub(super) fn advance(first: usize) -> String {
    let parameters = ADVANCE.iter().zip(first..).map(|(to, number)| format!("${number}::text::{to}"));
    format!("replicator.advance({})", parameters.collect::<Vec<_>>().join(", "))
}

/// Creates a stage for a verb: a temporary table with the columns and types that the verb's rows bring, empty at each
/// commit. It is asked for each time: what created it may have been rolled back.
pub(super) fn stage(table: &Table, verb: &Verb, stage: Stage) -> String {
    let columns = verb.columns(table);
    let names: Vec<_> =
        columns.iter().enumerate().map(|(p, &c)| format!("{} AS c{p}", column(table, c))).collect();
    format!(
        "CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA",
        names.join(", "),
        quoted_table(&table.name),
    )
}

/// Empties a stage, for the next rows of the same transaction.
pub(super) fn empty(stage: Stage) -> String {
    format!("TRUNCATE {stage}")
}

/// An identifier, quoted.
pub(crate) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A table's name, quoted.
pub(crate) fn quoted_table(name: &TableName) -> String {
    format!("{}.{}", quoted(&name.schema), quoted(&name.name))
}

/// A table's own rows ([`Table::inherited`]), or its partitions'.
pub(super) fn own_rows(table: &Table) -> String {
    let only = if table.inherited { "ONLY " } else { "" };
    format!("{only}{}", quoted_table(&table.name))
}

/// `TRUNCATE` of tables that may refer to each other.
pub(super) fn truncate<'a>(tables: impl Iterator<Item = &'a Table>) -> String {
    format!("TRUNCATE {}", tables.map(own_rows).collect::<Vec<_>>().join(", "))
}

/// All rows of one table go. `TRUNCATE` would refuse a table that another one refers to.
pub(super) fn clear(table: &Table) -> String {
    format!("DELETE FROM {}", own_rows(table))
}

/// The single parameter `$n` as the type of the table's column.
fn single(table: &Table, column: usize, parameter: usize, form: Form) -> String {
    let cast = &table.columns[column].cast;
    match form {
        Form::Text => format!("${parameter}::text::{cast}"),
        Form::Binary => format!("${parameter}::{cast}"),
    }
}

/// What COPY has to be told of the rows.
fn copy_format(form: Form) -> &'static str {
    match form {
        Form::Text => "",
        Form::Binary => " (FORMAT binary)",
    }
}

fn column(table: &Table, column: usize) -> String {
    quoted(&table.columns[column].name)
}

/// Rows go straight into the table, identity columns as they come ("COPY FROM" in PostgreSQL's documentation).
fn copy(table: &Table, columns: &[usize], form: Form) -> String {
    let names: Vec<_> = columns.iter().map(|&c| column(table, c)).collect();
    format!("COPY {} ({}) FROM STDIN{}", quoted_table(&table.name), names.join(", "), copy_format(form))
}

fn insert(table: &Table, values: Values<'_>, suffix: &str) -> String {
    let names: Vec<_> = values.columns().iter().map(|&c| column(table, c)).collect();
    let row: Vec<_> = values.columns().iter().filter_map(|&c| values.of(table, c)).collect();
    let overriding =
        if table.columns.iter().any(|c| c.identity_always) { " OVERRIDING SYSTEM VALUE" } else { "" };
    format!(
        "INSERT INTO {} ({}){overriding} SELECT {}{}{suffix}",
        quoted_table(&table.name),
        names.join(", "),
        row.join(", "),
        values.from(table, "FROM"),
    )
}

fn on_conflict(table: &Table, values: Values<'_>) -> String {
    let set: Vec<_> = settable(table, values)
        .map(|c| {
            let name = column(table, c);
            format!("{name} = excluded.{name}")
        })
        .collect();
    let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", set.join(", ")) };
    format!("{} {action}", on_key(table))
}

fn on_key(table: &Table) -> String {
    let key: Vec<_> = table.key.iter().map(|&c| column(table, c)).collect();
    format!(" ON CONFLICT ({}) DO", key.join(", "))
}

/// The columns that an update of an existing row writes: not its key, nor what only DEFAULT may update.
fn settable<'a>(table: &'a Table, values: Values<'a>) -> impl Iterator<Item = usize> + 'a {
    let all = (0..table.columns.len()).filter(move |c| values.columns().contains(c));
    all.filter(|c| !table.key.contains(c) && !table.columns[*c].identity_always)
}

/// The condition that finds the table's row `t` by the key that the values bring.
fn by_key(table: &Table, values: Values<'_>) -> String {
    let key = table.key.iter();
    let matching: Vec<_> =
        key.filter_map(|&c| Some(format!("t.{} = {}", column(table, c), values.of(table, c)?))).collect();
    matching.join(" AND ")
}

fn update(table: &Table, values: Values<'_>) -> String {
    let assigned = settable(table, values);
    let mut set: Vec<_> =
        assigned.filter_map(|c| Some(format!("{} = {}", column(table, c), values.of(table, c)?))).collect();
    if set.is_empty() {
        set.extend(itself(table, "t."));
    }
    format!(
        "UPDATE {} AS t SET {}{} WHERE {}",
        own_rows(table),
        set.join(", "),
        values.from(table, "FROM"),
        by_key(table, values),
    )
}

fn delete(table: &Table, values: Values<'_>) -> String {
    format!(
        "DELETE FROM {} AS t{} WHERE {}",
        own_rows(table),
        values.from(table, "USING"),
        by_key(table, values),
    )
}

/// A column set to what it is: where an event brings nothing to set, the row still counts, and fires what an update on the leader
/// fires that changes nothing. None where no column may be set.
fn itself(table: &Table, alias: &str) -> Option<String> {
    let may_be_set = |c: &usize| !table.columns[*c].identity_always && !table.columns[*c].generated;
    let name = column(table, (0..table.columns.len()).find(may_be_set)?);
    Some(format!("{name} = {alias}{name}"))
}

/// The columns of one row, each set to a single parameter, and the number of the first parameter behind them.
fn assignments(table: &Table, values: Values<'_>) -> (String, usize) {
    let (before, form) = values.parameters();
    let columns = values.columns().iter();
    let mut set: Vec<_> = columns
        .zip(before + 1..)
        .map(|(&c, parameter)| format!("{} = {}", column(table, c), single(table, c, parameter, form)))
        .collect();
    if set.is_empty() {
        set.extend(itself(table, ""));
    }
    (set.join(", "), before + values.columns().len() + 1)
}

/// The new values first, then the old key.
fn rekey(table: &Table, values: Values<'_>) -> String {
    let (set, first) = assignments(table, values);
    let (_, form) = values.parameters();
    let key = table.key.iter().zip(first..);
    let matching: Vec<_> =
        key.map(|(&c, p)| format!("{} = {}", column(table, c), single(table, c, p, form))).collect();
    format!("UPDATE {} SET {set} WHERE {}", own_rows(table), matching.join(" AND "))
}

/// Finds one row with exactly these values, among equals any. Compared as text: some types have no equality, and the
/// cast there and back gives both sides the same spelling. Parameters from `first`, one per column that is written.
fn one_row(table: &Table, first: usize, form: Form) -> String {
    let matching: Vec<_> = table
        .stored()
        .zip(first..)
        .map(|(c, parameter)| {
            let value = single(table, c, parameter, form);
            format!("{}::text IS NOT DISTINCT FROM ({value})::text", column(table, c))
        })
        .collect();
    // tableoid: the ctid alone is ambiguous in a partitioned table.
    format!(
        "(tableoid, ctid) = (SELECT tableoid, ctid FROM {} WHERE {} LIMIT 1)",
        own_rows(table),
        matching.join(" AND ")
    )
}

/// The new values first, then all old values.
fn update_keyless(table: &Table, values: Values<'_>) -> String {
    let (set, first) = assignments(table, values);
    let (_, form) = values.parameters();
    format!("UPDATE {} SET {set} WHERE {}", own_rows(table), one_row(table, first, form))
}

fn delete_keyless(table: &Table, values: Values<'_>) -> String {
    let (before, form) = values.parameters();
    format!("DELETE FROM {} WHERE {}", own_rows(table), one_row(table, before + 1, form))
}

#[cfg(test)]
mod tests;
