//! Messages into changes of a replica's tables.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Column, OldRow, Relation, RelationId, Tuple};
use crate::decode::{DecodeError, ValueError};
use crate::vocabulary::change::Operation;
use crate::vocabulary::row::{Cell, Key, Row, RowBuilder};
use crate::vocabulary::schema::{Catalog, Filler, Table, TableName};

/// The leader's tables as its stream has described them, against those of a replica.
#[derive(Debug)]
pub struct Tables {
    catalog: Arc<Catalog>,
    excluded: Arc<HashSet<String>>,
    relations: HashMap<RelationId, Known>,
}

/// What a relation is to the replica.
#[derive(Debug)]
enum Known {
    /// The replica does not get it.
    Excluded,
    /// It can't have its changes. Said when one comes: a table that never changes needs nothing.
    Refused(DecodeError),
    /// One of its tables.
    Table(Mapping),
}

/// How a relation's values become a row.
#[derive(Debug)]
struct Mapping {
    table: Arc<Table>,
    /// For each value the replica's column; none for one that the replica computes itself.
    columns: Box<[Option<usize>]>,
    /// What new rows get in columns that the leader does not send.
    fillers: Vec<(usize, Option<String>)>,
    /// A column of the replica's key that the leader's replica identity does not tell.
    untold: Option<usize>,
}

impl Tables {
    /// No relation is known yet. `excluded`: tables, as `schema.table`, that the replica does not get.
    pub fn new(catalog: Arc<Catalog>, excluded: impl IntoIterator<Item = String>) -> Self {
        Tables { catalog, excluded: Arc::new(excluded.into_iter().collect()), relations: HashMap::new() }
    }

    /// The same replica's, with no relation known yet. A streamed transaction describes its own, and sees changes of their
    /// definitions that nobody else sees.
    pub fn undescribed(&self) -> Self {
        Tables {
            catalog: Arc::clone(&self.catalog),
            excluded: Arc::clone(&self.excluded),
            relations: HashMap::new(),
        }
    }

    /// Learns what another one has learned: the leader does not say again what it has said in a transaction that committed.
    pub fn learn(&mut self, other: Tables) {
        self.relations.extend(other.relations);
    }

    /// Learns what a table is like from now on.
    pub fn describe(&mut self, relation: &Relation<'_>) {
        let known = self.known(relation);
        self.relations.insert(relation.id, known);
    }

    fn known(&self, relation: &Relation<'_>) -> Known {
        // Asked once per relation, so the name may be built.
        if self.excluded.contains(&format!("{}.{}", relation.schema, relation.name)) {
            return Known::Excluded;
        }
        match self.catalog.table(relation.schema, relation.name) {
            None => {
                let name = TableName::new(relation.schema, relation.name);
                Known::Refused(DecodeError::UnknownTable(name))
            }
            Some(table) => match Mapping::new(table, relation) {
                Ok(mapping) => Known::Table(mapping),
                Err(error) => Known::Refused(error),
            },
        }
    }

    /// The mapping of a relation; none when the replica does not get the table.
    fn mapping(&self, id: RelationId) -> Result<Option<&Mapping>, DecodeError> {
        match self.relations.get(&id) {
            Some(Known::Table(mapping)) => Ok(Some(mapping)),
            Some(Known::Excluded) => Ok(None),
            Some(Known::Refused(error)) => Err(error.clone()),
            None => Err(DecodeError::UndescribedRelation(id.0)),
        }
    }

    /// A new row; none when the replica does not get the table.
    ///
    /// # Errors
    /// When the replica's table can't have it; so for all of them.
    pub fn insert(
        &self,
        relation: RelationId,
        new: Tuple<'_>,
    ) -> Result<Option<(Arc<Table>, Operation)>, DecodeError> {
        let Some(mapping) = self.mapping(relation)? else { return Ok(None) };
        let mut row = mapping.row(new)?;
        for (column, filler) in &mapping.fillers {
            row.set(*column, filler.as_deref().map_or(Cell::Null, Cell::Text));
        }
        Ok(Some((Arc::clone(&mapping.table), Operation::Insert(row.finish()))))
    }

    /// New values for a row.
    ///
    /// # Errors
    /// As [`Tables::insert`]; also when the old row can't be found with what the leader sends.
    pub fn update(
        &self,
        relation: RelationId,
        old: Option<OldRow<'_>>,
        new: Tuple<'_>,
    ) -> Result<Option<(Arc<Table>, Operation)>, DecodeError> {
        let Some(mapping) = self.mapping(relation)? else { return Ok(None) };
        let table = &mapping.table;
        let mut row = mapping.row(new)?;
        let operation = match old {
            old if !table.has_key() => {
                let Some(OldRow::Full(old)) = old else {
                    return Err(DecodeError::NoOldRow(table.name.clone()));
                };
                Operation::UpdateKeyless { old: mapping.row(old)?.finish(), new: row.finish() }
            }
            None => {
                mapping.check_identity()?;
                let row = row.finish();
                mapping.check_key(&row)?;
                Operation::Update(row)
            }
            Some(old) => {
                mapping.check_identity()?;
                let (tuple, is_full) = match old {
                    OldRow::Key(tuple) => (tuple, false),
                    OldRow::Full(tuple) => (tuple, true),
                };
                let before = mapping.row(tuple)?.finish();
                // What is left out of the new row has not changed. A key alone has NULL for everything else.
                for column in 0..before.width() {
                    if !row.is_set(column) && (is_full || table.key.contains(&column)) {
                        row.set(column, before.cell(column));
                    }
                }
                let old = mapping.key(&before)?;
                let row = row.finish();
                if mapping.key(&row)? == old { Operation::Update(row) } else { Operation::Rekey { old, row } }
            }
        };
        Ok(Some((Arc::clone(table), operation)))
    }

    /// A row is gone.
    ///
    /// # Errors
    /// As [`Tables::update`].
    pub fn delete(
        &self,
        relation: RelationId,
        old: OldRow<'_>,
    ) -> Result<Option<(Arc<Table>, Operation)>, DecodeError> {
        let Some(mapping) = self.mapping(relation)? else { return Ok(None) };
        let table = &mapping.table;
        let operation = match old {
            OldRow::Key(tuple) | OldRow::Full(tuple) if table.has_key() => {
                mapping.check_identity()?;
                Operation::Delete(mapping.key(&mapping.row(tuple)?.finish())?)
            }
            OldRow::Full(tuple) => Operation::DeleteKeyless(mapping.row(tuple)?.finish()),
            OldRow::Key(_) => return Err(DecodeError::NoOldRow(table.name.clone())),
        };
        Ok(Some((Arc::clone(table), operation)))
    }

    /// A table that is emptied; none when the replica does not get it.
    ///
    /// # Errors
    /// As [`Tables::insert`].
    pub fn truncate(&self, relation: RelationId) -> Result<Option<Arc<Table>>, DecodeError> {
        Ok(self.mapping(relation)?.map(|mapping| Arc::clone(&mapping.table)))
    }
}

impl Mapping {
    fn new(table: &Arc<Table>, relation: &Relation<'_>) -> Result<Self, DecodeError> {
        let mut sent = vec![false; table.columns.len()];
        let mut told = vec![false; table.columns.len()];
        let mut columns = Vec::with_capacity(relation.columns().len());
        let mut unknown = Vec::new();
        for theirs in relation.columns() {
            let Some(column) = table.column(theirs.name) else {
                unknown.push(theirs.name.to_owned());
                continue;
            };
            sent[column] = true;
            told[column] = theirs.is_key;
            // Since PostgreSQL 18 a publication may send them; the replica computes them itself.
            columns.push((!table.columns[column].generated).then_some(column));
        }
        let mut missing = Vec::new();
        let mut fillers = Vec::new();
        for (column, _) in sent.iter().enumerate().filter(|(_, sent)| !**sent) {
            match table.filler(column) {
                _ if table.columns[column].generated => {}
                Some(Filler::Nothing) => {}
                Some(Filler::Value(value)) => fillers.push((column, value.clone())),
                None => missing.push(table.columns[column].name.clone()),
            }
        }
        if !unknown.is_empty() || !missing.is_empty() {
            return Err(DecodeError::Shape { table: table.name.clone(), unknown, missing });
        }
        let untold = table.key.iter().copied().find(|&column| !told[column]);
        Ok(Mapping { table: Arc::clone(table), columns: columns.into(), fillers, untold })
    }

    fn row(&self, tuple: Tuple<'_>) -> Result<RowBuilder, DecodeError> {
        if tuple.width() != self.columns.len() {
            return Err(DecodeError::OutOfOrder("a row has another number of columns than its relation"));
        }
        let mut row = RowBuilder::with_capacity(self.table.columns.len(), tuple.size_bytes());
        for (target, value) in self.columns.iter().zip(tuple.columns()) {
            let Some(column) = *target else { continue };
            match value {
                Column::Null => row.set(column, Cell::Null),
                Column::Unchanged => {}
                Column::Text(bytes) => row.set(column, Cell::Text(self.text(column, bytes)?)),
                Column::Binary(_) => {
                    return Err(DecodeError::OutOfOrder("a value is binary, although text was asked for"));
                }
            }
        }
        Ok(row)
    }

    fn text<'a>(&self, column: usize, bytes: &'a [u8]) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(bytes).map_err(|_| DecodeError::Value {
            table: self.table.name.clone(),
            column: self.table.columns[column].name.clone(),
            error: ValueError::Unexpected { expected: "UTF-8", found: "other bytes" },
        })
    }

    fn key(&self, row: &Row) -> Result<Key, DecodeError> {
        self.check_key(row)?;
        Ok(row.project(&self.table.key))
    }

    /// Whether the row has a value in every column of the key.
    fn check_key(&self, row: &Row) -> Result<(), DecodeError> {
        match self.table.key.iter().find(|&&column| !matches!(row.cell(column), Cell::Text(_))) {
            Some(&column) => Err(DecodeError::IncompleteKey {
                table: self.table.name.clone(),
                column: self.table.columns[column].name.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Whether the leader tells when the replica's key changes.
    fn check_identity(&self) -> Result<(), DecodeError> {
        match self.untold {
            Some(column) => Err(DecodeError::OtherIdentity {
                table: self.table.name.clone(),
                column: self.table.columns[column].name.clone(),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::pgoutput::model::{Model, Old, Value, relation};
    use crate::decode::pgoutput::{Message, decode};
    use crate::vocabulary::schema::{Column as TableColumn, TableName};

    const POSTS: u32 = 7;

    fn text(value: &str) -> Value {
        Value::Text(value.as_bytes().to_vec())
    }

    /// The replica's posts: `id` is the key, `twice` is generated, `added` is younger than the oldest changes.
    fn catalog(key: Vec<usize>) -> Arc<Catalog> {
        let mut columns = ["id", "body", "twice", "added"].map(TableColumn::text).to_vec();
        columns[2].generated = true;
        let posts = Table::new(TableName::new("public", "posts"), columns, key);
        Arc::new(Catalog::new([posts.with_filler("added", Filler::Value(Some("old".to_owned())))]))
    }

    fn described(key: Vec<usize>, columns: &[(bool, &str)], excluded: &[&str]) -> Tables {
        let mut tables = Tables::new(catalog(key), excluded.iter().map(|&name| name.to_owned()));
        let bytes = relation(POSTS, "posts", columns).encode(None);
        let Ok(Message::Relation { relation, .. }) = decode(&bytes, false) else { panic!("a relation") };
        tables.describe(&relation);
        tables
    }

    /// What a message does to the replica's table.
    fn operation(tables: &Tables, model: &Model) -> Result<Option<Operation>, DecodeError> {
        let bytes = model.encode(None);
        let change = match decode(&bytes, false).unwrap() {
            Message::Insert { relation, new, .. } => tables.insert(relation, new),
            Message::Update { relation, old, new, .. } => tables.update(relation, old, new),
            Message::Delete { relation, old, .. } => tables.delete(relation, old),
            other => panic!("no change: {other:?}"),
        };
        Ok(change?.map(|(_, operation)| operation))
    }

    fn row(cells: [Cell<'_>; 4]) -> Row {
        let mut row = RowBuilder::new(4);
        cells.into_iter().enumerate().for_each(|(i, cell)| row.set(i, cell));
        row.finish()
    }

    fn key(id: &str) -> Key {
        row([Cell::Text(id), Cell::Absent, Cell::Absent, Cell::Absent]).project(&[0])
    }

    const IN_ORDER: &[(bool, &str)] = &[(true, "id"), (false, "body")];

    #[test]
    fn columns_are_found_by_name_and_what_is_not_sent_gets_what_stands_in_for_it() {
        let tables = described(vec![0], &[(false, "body"), (true, "id")], &[]);
        let inserted = operation(&tables, &Model::Insert(POSTS, vec![Value::Null, text("1")])).unwrap();
        let expected = row([Cell::Text("1"), Cell::Null, Cell::Absent, Cell::Text("old")]);
        assert_eq!(inserted, Some(Operation::Insert(expected)));
        // A row that exists keeps what it has.
        let updated = operation(&tables, &Model::Update(POSTS, None, vec![text(""), text("1")])).unwrap();
        let expected = row([Cell::Text("1"), Cell::Text(""), Cell::Absent, Cell::Absent]);
        assert_eq!(updated, Some(Operation::Update(expected)));
    }

    #[test]
    fn an_old_key_that_differs_changes_the_key_and_an_unchanged_value_is_left_alone() {
        let tables = described(vec![0], IN_ORDER, &[]);
        let update = |old, new| operation(&tables, &Model::Update(POSTS, Some(old), new)).unwrap().unwrap();
        let old_key = Old::Key(vec![text("1"), Value::Null]);
        let rekeyed = update(old_key.clone(), vec![text("2"), Value::Unchanged]);
        let expected = row([Cell::Text("2"), Cell::Absent, Cell::Absent, Cell::Absent]);
        assert_eq!(rekeyed, Operation::Rekey { old: key("1"), row: expected });
        // A key that is itself too large to be sent twice stands in the old one only.
        let kept = update(old_key, vec![Value::Unchanged, text("b")]);
        assert_eq!(
            kept,
            Operation::Update(row([Cell::Text("1"), Cell::Text("b"), Cell::Absent, Cell::Absent]))
        );
        let full = Old::Full(vec![text("1"), text("large")]);
        let completed = update(full, vec![text("1"), Value::Unchanged]);
        let expected = row([Cell::Text("1"), Cell::Text("large"), Cell::Absent, Cell::Absent]);
        assert_eq!(completed, Operation::Update(expected));
    }

    #[test]
    fn rows_without_a_key_need_all_their_old_values() {
        let tables = described(vec![], IN_ORDER, &[]);
        let (values, old) = (vec![text("1"), text("a")], vec![text("1"), text("b")]);
        let update = |old| operation(&tables, &Model::Update(POSTS, old, values.clone()));
        let expected = Operation::UpdateKeyless {
            old: row([Cell::Text("1"), Cell::Text("b"), Cell::Absent, Cell::Absent]),
            new: row([Cell::Text("1"), Cell::Text("a"), Cell::Absent, Cell::Absent]),
        };
        assert_eq!(update(Some(Old::Full(old.clone()))).unwrap(), Some(expected));
        assert!(matches!(update(None), Err(DecodeError::NoOldRow(_))));
        let deleted = operation(&tables, &Model::Delete(POSTS, Old::Key(old))).unwrap_err();
        assert!(deleted.hint().contains("REPLICA IDENTITY FULL"), "{}", deleted.hint());
    }

    #[test]
    fn a_key_that_the_leader_does_not_tell_refuses_what_would_need_it() {
        let tables = described(vec![0], &[(false, "id"), (true, "body")], &[]);
        let values = vec![text("1"), text("a")];
        assert!(operation(&tables, &Model::Insert(POSTS, values.clone())).is_ok());
        let error = operation(&tables, &Model::Update(POSTS, None, values)).unwrap_err();
        assert!(error.to_string().contains("\"id\" is part of the key of public.posts"), "{error}");
        let delete = Model::Delete(POSTS, Old::Key(vec![Value::Null, text("a")]));
        assert!(matches!(operation(&tables, &delete), Err(DecodeError::OtherIdentity { .. })));
    }

    #[test]
    fn a_table_of_another_shape_is_refused_when_a_change_comes_and_an_excluded_one_never() {
        let columns = &[(true, "id"), (false, "body"), (false, "new")];
        let insert = Model::Insert(POSTS, vec![text("1"), Value::Null, Value::Null]);
        let error = operation(&described(vec![0], columns, &[]), &insert).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the event of public.posts carries \"new\", which the replica's table lacks"
        );
        assert_eq!(operation(&described(vec![0], columns, &["public.posts"]), &insert), Ok(None));
        let missing = operation(&described(vec![0], &[(true, "id")], &[]), &insert).unwrap_err();
        assert!(missing.to_string().contains("no value for \"body\""), "{missing}");
        let nowhere = operation(&Tables::new(catalog(vec![0]), []), &insert).unwrap_err();
        assert_eq!(nowhere, DecodeError::UndescribedRelation(POSTS));
    }
}
