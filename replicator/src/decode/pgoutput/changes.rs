//! Messages into changes of a replica's tables.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Column, OldRow, Relation, RelationId, Tuple};
use crate::decode::{DecodeError, ValueError};
use crate::vocabulary::change::Operation;
use crate::vocabulary::row::{Cell, Form, Key, Row};
use crate::vocabulary::schema::{Catalog, Filler, Table, TableName, WireTypes};

/// How the stream's values come.
#[derive(Debug, Clone)]
pub enum Values {
    /// As text.
    Text,
    /// In binary. Of these types of the leader's, that form means the same on every server.
    Binary(Arc<WireTypes>),
}

/// The leader's tables as its stream has described them, against those of a replica.
#[derive(Debug)]
pub struct Tables {
    catalog: Arc<Catalog>,
    excluded: Arc<HashSet<String>>,
    values: Values,
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
    form: Form,
    /// For each value the replica's column; none for one that the replica computes itself.
    columns: Box<[Option<usize>]>,
    /// What new rows get in columns that the leader does not send.
    fillers: Vec<(usize, Option<String>)>,
    /// A column of the replica's key that the leader's replica identity does not tell.
    untold: Option<usize>,
}

impl Tables {
    /// No relation is known yet. `excluded`: tables, as `schema.table`, that the replica does not get.
    pub fn new(catalog: Arc<Catalog>, excluded: impl IntoIterator<Item = String>, values: Values) -> Self {
        let excluded = Arc::new(excluded.into_iter().collect());
        Tables { catalog, excluded, values, relations: HashMap::new() }
    }

    /// From now on values come so, and every table is described again before its next change.
    pub fn reconnected(&mut self, values: Values) {
        self.values = values;
        self.relations.clear();
    }

    /// The same replica's, with no relation known yet. A streamed transaction describes its own, and sees changes of their
    /// definitions that nobody else sees.
    pub fn undescribed(&self) -> Self {
        Tables {
            catalog: Arc::clone(&self.catalog),
            excluded: Arc::clone(&self.excluded),
            values: self.values.clone(),
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
            Some(table) => match Mapping::new(table, relation, &self.values) {
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
        let mut cells = mapping.cells(new)?;
        for (column, filler) in &mapping.fillers {
            cells[*column] = filler.as_deref().map_or(Cell::Null, Cell::Text);
        }
        Ok(Some((Arc::clone(&mapping.table), Operation::Insert(Row::new(mapping.form, &cells)))))
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
        let mut cells = mapping.cells(new)?;
        let operation = match old {
            old if !table.has_key() => {
                let Some(OldRow::Full(old)) = old else {
                    return Err(DecodeError::NoOldRow(table.name.clone()));
                };
                let new = Row::new(mapping.form, &cells);
                Operation::UpdateKeyless { old: mapping.row(old)?, new }
            }
            None => {
                mapping.check_identity()?;
                let row = Row::new(mapping.form, &cells);
                mapping.check_key(&row)?;
                Operation::Update(row)
            }
            Some(old) => {
                mapping.check_identity()?;
                let (tuple, is_full) = match old {
                    OldRow::Key(tuple) => (tuple, false),
                    OldRow::Full(tuple) => (tuple, true),
                };
                let before = mapping.cells(tuple)?;
                // What is left out of the new row has not changed. A key alone has NULL for everything else.
                for (column, cell) in cells.iter_mut().enumerate() {
                    if *cell == Cell::Absent && (is_full || table.key.contains(&column)) {
                        *cell = before[column];
                    }
                }
                let old = mapping.key(&Row::new(mapping.form, &before))?;
                let row = Row::new(mapping.form, &cells);
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
                Operation::Delete(mapping.key(&mapping.row(tuple)?)?)
            }
            OldRow::Full(tuple) => Operation::DeleteKeyless(mapping.row(tuple)?),
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
    fn new(table: &Arc<Table>, relation: &Relation<'_>, values: &Values) -> Result<Self, DecodeError> {
        let mut sent = vec![false; table.columns.len()];
        let mut told = vec![false; table.columns.len()];
        let mut columns = Vec::with_capacity(relation.columns().len());
        let mut unknown = Vec::new();
        // The first column whose values can't be taken in binary.
        let mut unportable = None;
        for theirs in relation.columns() {
            let Some(column) = table.column(theirs.name) else {
                unknown.push(theirs.name.to_owned());
                continue;
            };
            sent[column] = true;
            told[column] = theirs.is_key;
            // Since PostgreSQL 18 a publication may send them; the replica computes them itself.
            let own = Some(&table.columns[column]).filter(|own| !own.generated);
            columns.push(own.map(|_| column));
            if let (Values::Binary(types), Some(own)) = (values, own)
                && (own.wire.is_none() || types.of(theirs.type_oid) != own.wire)
            {
                unportable.get_or_insert(column);
            }
        }
        let mut missing = Vec::new();
        let mut fillers = Vec::new();
        for (column, _) in sent.iter().enumerate().filter(|(_, sent)| !**sent) {
            match table.filler(column) {
                _ if table.columns[column].generated => {}
                Some(Filler::Nothing) => {}
                Some(Filler::Value(value)) => {
                    if matches!(values, Values::Binary(_)) && value.is_some() {
                        // What stands in for it is text.
                        unportable.get_or_insert(column);
                    }
                    fillers.push((column, value.clone()));
                }
                None => missing.push(table.columns[column].name.clone()),
            }
        }
        if !unknown.is_empty() || !missing.is_empty() {
            return Err(DecodeError::Shape { table: table.name.clone(), unknown, missing });
        }
        if let Some(column) = unportable {
            let column = table.columns[column].name.clone();
            return Err(DecodeError::NotPortable { table: table.name.clone(), column });
        }
        let form = match values {
            Values::Text => Form::Text,
            Values::Binary(_) => Form::Binary,
        };
        let untold = table.key.iter().copied().find(|&column| !told[column]);
        Ok(Mapping { table: Arc::clone(table), form, columns: columns.into(), fillers, untold })
    }

    fn row(&self, tuple: Tuple<'_>) -> Result<Row, DecodeError> {
        Ok(Row::new(self.form, &self.cells(tuple)?))
    }

    /// The values in the order of the replica's columns, where they lie.
    fn cells<'t>(&self, tuple: Tuple<'t>) -> Result<Vec<Cell<'t>>, DecodeError> {
        if tuple.width() != self.columns.len() {
            return Err(DecodeError::OutOfOrder("a row has another number of columns than its relation"));
        }
        let mut cells = vec![Cell::Absent; self.table.columns.len()];
        for (target, value) in self.columns.iter().zip(tuple.columns()) {
            let Some(column) = *target else { continue };
            cells[column] = match (value, self.form) {
                (Column::Null, _) => Cell::Null,
                (Column::Unchanged, _) => Cell::Absent,
                (Column::Text(bytes), Form::Text) => Cell::Text(self.text(column, bytes)?),
                (Column::Binary(bytes), Form::Binary) => Cell::Binary(bytes),
                (Column::Text(_) | Column::Binary(_), _) => {
                    return Err(DecodeError::OutOfOrder("a value has another form than was asked for"));
                }
            };
        }
        Ok(cells)
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
        match self.table.key.iter().find(|&&column| row.cell(column).bytes().is_none()) {
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
    use crate::vocabulary::schema::{Column as TableColumn, TableName, WireType};

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
        let excluded = excluded.iter().map(|&name| name.to_owned());
        let mut tables = Tables::new(catalog(key), excluded, Values::Text);
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
        Row::new(Form::Text, &cells)
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
    fn binary_values_pass_as_they_are_where_both_sides_have_the_type_and_nowhere_else() {
        let of = |oid| Some(WireType { oid, is_array: false });
        let mut columns = ["id", "body"].map(TableColumn::text).to_vec();
        (columns[0].wire, columns[1].wire) = (of(23), of(25));
        let table = Table::new(TableName::new("public", "posts"), columns, vec![0]);
        let tables = |table: &Table, types: &[(u32, u32)]| {
            let types = types.iter().filter_map(|&(oid, wire)| Some((oid, of(wire)?)));
            let values = Values::Binary(Arc::new(WireTypes(types.collect())));
            let mut tables = Tables::new(Arc::new(Catalog::new([table.clone()])), [], values);
            let bytes = relation(POSTS, "posts", IN_ORDER).encode(None);
            let Ok(Message::Relation { relation, .. }) = decode(&bytes, false) else { panic!("a relation") };
            tables.describe(&relation);
            tables
        };
        // The relation's columns are all of the leader's type 25.
        let values = vec![Value::Binary(vec![0, 0, 0, 1]), Value::Binary(vec![0xff])];
        let insert = Model::Insert(POSTS, values);
        let refused = |table: &Table, types: &[(u32, u32)]| match operation(&tables(table, types), &insert) {
            Err(DecodeError::NotPortable { column, .. }) => column,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&table, &[(25, 25)]), "id", "another type");
        assert_eq!(refused(&table, &[]), "id", "one that means something else on each server");
        let mut same = table.clone();
        same.columns[0].wire = of(25);
        let cells = [Cell::Binary(&[0, 0, 0, 1]), Cell::Binary(&[0xff])];
        let expected = Operation::Insert(Row::new(Form::Binary, &cells));
        assert_eq!(operation(&tables(&same, &[(25, 25)]), &insert), Ok(Some(expected)));
        let as_text = Model::Insert(POSTS, vec![text("1"), text("a")]);
        assert!(matches!(operation(&tables(&same, &[(25, 25)]), &as_text), Err(DecodeError::OutOfOrder(_))));
        // What stands in for a column that old changes lack is text.
        let mut added = TableColumn::text("added");
        added.wire = of(25);
        let grown = Table::new(same.name.clone(), [same.columns.clone(), vec![added]].concat(), vec![0]);
        let with_value = grown.clone().with_filler("added", Filler::Value(Some("old".to_owned())));
        assert_eq!(refused(&with_value, &[(25, 25)]), "added");
        let with_null = grown.with_filler("added", Filler::Value(None));
        assert!(operation(&tables(&with_null, &[(25, 25)]), &insert).is_ok());
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
        let nowhere = operation(&Tables::new(catalog(vec![0]), [], Values::Text), &insert).unwrap_err();
        assert_eq!(nowhere, DecodeError::UndescribedRelation(POSTS));
    }
}
