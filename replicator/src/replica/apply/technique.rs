//! How the rows of a step get to the server, by how many they are.

use std::borrow::Cow;
use std::sync::Arc;

use crate::plan::{Step, StepKind};
use crate::replica::ReplicaError;
use crate::replica::sql::{self, Part, Shape, Verb, quoted, quoted_table};
use crate::vocabulary::row::{Cell, Form, Key, Row};
use crate::vocabulary::schema::{Table, TableName};

/// From how many rows on another technique is used.
///
/// The defaults follow what a throw-away prototype measured on a busy machine of two cores: microseconds of one server's CPU
/// per row of six narrow columns, by rows per statement. They differ by a fifth from run to run.
///
/// | rows | insert, arrays | insert, COPY | update, arrays | update, stage |
/// |---|---|---|---|---|
/// | 1 | 45 | | 80 (a statement of its own: 36) | |
/// | 10 | 14 | | 13 | |
/// | 100 | 6.6 | 4.5 | 7.3 | 15 |
/// | 500 (stage: 300) | 5.4 | 3.4 | 5.9 | 8.1 |
/// | 2 000 | 4.5 | 2.4 | 5.6 | 5.3 |
/// | 10 000 | 5.5 | 2.5 | 5.2 | 4.9 |
///
/// Binary values instead of text take a sixth less with COPY into a table, and a quarter less into a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutoffs {
    /// Up to so many rows have a statement each, all sent at once. It costs the server less than taking arrays apart.
    pub singly: usize,
    /// From so many rows on inserts go by COPY, which costs a round trip more and half the work per row.
    pub copy: usize,
    /// From so many rows on everything else goes by COPY into a stage and from there in one statement: a little less work
    /// than arrays, and it is streamed rather than encoded whole.
    pub stage: usize,
    /// Up to so many statements, with a table or some rows each, are one statement together with the checkpoint. Each combination
    /// of them is prepared for itself.
    pub parts: usize,
    /// When a combination has come so many times: until then its parts go one by one, which costs no further plan.
    pub worth: u32,
}

impl Cutoffs {
    /// The same where stages can't be had.
    #[must_use]
    pub(super) fn without_stages(self) -> Self {
        Cutoffs { stage: usize::MAX, ..self }
    }

    fn may_stage(self) -> bool {
        self.stage < usize::MAX
    }
}

impl Default for Cutoffs {
    fn default() -> Self {
        Cutoffs { singly: 3, copy: 200, stage: 2_000, parts: 8, worth: 8 }
    }
}

/// What is sent as one, and answered as one.
#[derive(Debug)]
pub(super) enum Request<'a> {
    /// Statements without parameters and without rows.
    Simple(Cow<'static, str>),
    /// A prepared statement.
    Prepared { table: &'a Arc<Table>, shape: Shape, rows: Rows<'a> },
    /// Makes sure that the table has a stage for the verb.
    CreateStage(&'a Arc<Table>, Verb),
    /// Makes the stage fit for other rows.
    EmptyStage(&'a Arc<Table>, Verb),
}

/// The rows of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rows<'a> {
    /// Rows of which the shape's columns are sent.
    Whole(&'a [Cow<'a, Row>]),
    /// Keys.
    Keys(&'a [&'a Key]),
    /// A row to write and how to find the one to write it to; what [`StepKind`] has for a single row.
    Of(&'a StepKind<'a>),
}

impl<'a> Request<'a> {
    /// The table whose rows it touches.
    pub(super) fn table(&self) -> Option<&'a Arc<Table>> {
        match self {
            Request::Simple(_) => None,
            Request::Prepared { table, .. }
            | Request::CreateStage(table, _)
            | Request::EmptyStage(table, _) => Some(*table),
        }
    }

    /// The name of that table.
    pub(super) fn table_name(&self) -> Option<TableName> {
        self.table().map(|table| table.name.clone())
    }

    /// How many rows it must touch, where the server does not check that itself.
    pub(super) fn must_touch(&self) -> Option<u64> {
        match self {
            Request::Prepared { shape: Shape::Staged(Verb::Update(_)), rows: Rows::Whole(rows), .. } => {
                Some(rows.len() as u64)
            }
            _ => None,
        }
    }

    /// The same as a part of a statement for a whole transaction; none for what goes by COPY or through a stage, or empties
    /// tables.
    pub(super) fn part(&self) -> Option<Part<'_>> {
        match self {
            Request::Prepared { table, shape, rows } => Part::of(table, shape, rows.form()),
            Request::Simple(_) | Request::CreateStage(..) | Request::EmptyStage(..) => None,
        }
    }

    /// That the replica can't do this, where it would otherwise leave a column as it is without a word: only DEFAULT may update
    /// one that is `GENERATED ALWAYS AS IDENTITY`, and on the leader it was (`UPDATE … SET id = DEFAULT`). Seen where the event
    /// tells what it was: in a key, and in a row without one. Of other columns `replicator check` tells.
    ///
    /// # Errors
    /// With the SQL that lets the replica follow.
    pub(super) fn writable(&self) -> Result<(), ReplicaError> {
        let Request::Prepared { table, rows: Rows::Of(kind), .. } = self else { return Ok(()) };
        let is_always = |column: usize| table.columns[column].identity_always;
        let differ = |was: Cell<'_>, is: Cell<'_>| is != Cell::Absent && was != is;
        let changed = match kind {
            StepKind::Rekey(_, old, row) => {
                let mut key = table.key.iter().copied().enumerate();
                key.find(|(at, column)| is_always(*column) && differ(old.0.cell(*at), row.cell(*column)))
                    .map(|(_, column)| column)
            }
            StepKind::UpdateKeyless(_, old, new) => (0..table.columns.len())
                .find(|column| is_always(*column) && differ(old.cell(*column), new.cell(*column))),
            _ => None,
        };
        let Some(column) = changed.map(|column| &table.columns[column].name) else { return Ok(()) };
        Err(ReplicaError::Schema {
            what: format!(
                "the leader has given a row of {} another \"{column}\", which is GENERATED ALWAYS on the replica",
                table.name
            ),
            sql: vec![format!(
                "ALTER TABLE {} ALTER COLUMN {} SET GENERATED BY DEFAULT",
                quoted_table(&table.name),
                quoted(column)
            )],
        })
    }

    /// Whether it goes by COPY.
    pub(super) fn is_copy(&self) -> bool {
        matches!(self, Request::Prepared { shape: Shape::Copy(_) | Shape::FillStage(_), .. })
    }

    /// Whether rows, rather than the state of the server, decide if it succeeds.
    pub(super) fn writes_rows(&self) -> bool {
        match self {
            Request::Prepared { shape, .. } => !matches!(shape, Shape::FillStage(_)),
            Request::Simple(_) | Request::CreateStage(..) | Request::EmptyStage(..) => false,
        }
    }
}

/// The requests that carry a step out.
pub(super) fn requests<'a>(step: &'a Step<'a>, cutoffs: Cutoffs, out: &mut Vec<Request<'a>>) {
    let table = &step.table;
    let Some(verb) = Verb::of(&step.kind) else {
        out.push(Request::Simple(emptying(step).into()));
        return;
    };
    let rows = Rows::of(step);
    let arrays = fit_arrays(table, &verb, rows.form());
    let is_alone = rows.len() <= cutoffs.singly || matches!(rows, Rows::Of(_));
    let mut send = |shape, rows| out.push(Request::Prepared { table, shape, rows });
    match verb {
        Verb::Insert(columns) if rows.len() >= cutoffs.copy || !(arrays || is_alone) => {
            send(Shape::Copy(columns), rows);
        }
        verb if is_alone || !(arrays || cutoffs.may_stage()) => {
            let shape = if step.must_find().is_some() { Shape::OneChecked(verb) } else { Shape::One(verb) };
            (0..rows.len()).for_each(|position| send(shape.clone(), rows.only(position)));
        }
        verb if arrays && (rows.len() < cutoffs.stage || matches!(verb, Verb::Insert(_))) => {
            let checked = step.must_find().is_some();
            send(if checked { Shape::ArraysChecked(verb) } else { Shape::Arrays(verb) }, rows);
        }
        verb => {
            out.push(Request::CreateStage(table, verb.clone()));
            out.push(Request::Prepared { table, shape: Shape::FillStage(verb.clone()), rows });
            out.push(Request::Prepared { table, shape: Shape::Staged(verb.clone()), rows });
            out.push(Request::EmptyStage(table, verb));
        }
    }
}

/// Whether a parameter can hold the values that many rows have for a column: in binary it is an array of the column's type, and
/// arrays have no arrays of their own.
fn fit_arrays(table: &Table, verb: &Verb, form: Form) -> bool {
    let is_array = |column: usize| table.columns[column].wire.is_some_and(|wire| wire.is_array);
    form == Form::Text || !verb.columns(table).into_iter().any(is_array)
}

/// The parts, `most` at most, of one statement that does what these requests do; none when they have to go one by one.
pub(super) fn parts<'r>(requests: &'r [Request<'_>], most: usize) -> Option<Vec<Part<'r>>> {
    if requests.is_empty() || requests.len() > most {
        return None;
    }
    let parts: Vec<Part<'_>> = requests.iter().map(Request::part).collect::<Option<_>>()?;
    let fit = |(n, part): (usize, &Part<'_>)| parts[..n].iter().all(|earlier| part.goes_with(earlier));
    parts.iter().enumerate().all(fit).then_some(parts)
}

/// The request of a step with a single row, which answers how many rows it touched.
pub(super) fn alone<'a>(step: &'a Step<'a>) -> Request<'a> {
    match Verb::of(&step.kind) {
        Some(verb) => Request::Prepared { table: &step.table, shape: Shape::One(verb), rows: Rows::of(step) },
        None => Request::Simple(emptying(step).into()),
    }
}

/// The statement of a step that empties tables.
fn emptying(step: &Step<'_>) -> String {
    match &step.kind {
        StepKind::Truncate(tables) => sql::truncate(tables.iter().map(|table| &**table)),
        _ => sql::clear(&step.table),
    }
}

impl<'a> Rows<'a> {
    fn of(step: &'a Step<'a>) -> Self {
        match &step.kind {
            StepKind::Insert(_, rows)
            | StepKind::Upsert(_, rows)
            | StepKind::Fill(_, rows)
            | StepKind::Update(_, rows) => Rows::Whole(rows),
            StepKind::Delete(keys) => Rows::Keys(keys),
            kind => Rows::Of(kind),
        }
    }

    /// In which form the values are, all of them.
    pub(super) fn form(&self) -> Form {
        match self {
            Rows::Whole([row, ..]) => row.form(),
            Rows::Keys([key, ..]) => key.0.form(),
            Rows::Of(
                StepKind::Rekey(.., row) | StepKind::UpdateKeyless(.., row) | StepKind::DeleteKeyless(row),
            ) => row.form(),
            Rows::Whole([]) | Rows::Keys([]) | Rows::Of(_) => Form::Text,
        }
    }

    fn len(&self) -> usize {
        match self {
            Rows::Whole(rows) => rows.len(),
            Rows::Keys(keys) => keys.len(),
            Rows::Of(_) => 1,
        }
    }

    fn only(self, position: usize) -> Self {
        match self {
            Rows::Whole(rows) => Rows::Whole(&rows[position..=position]),
            Rows::Keys(keys) => Rows::Keys(&keys[position..=position]),
            Rows::Of(_) => self,
        }
    }
}
