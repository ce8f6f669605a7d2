//! Plans against a map: whatever is folded, the rows at the end are those of the changes one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::vocabulary::offset::{PartitionIndex, Place};
use crate::vocabulary::row::{Cell, Key, Row, RowBuilder};
use crate::vocabulary::schema::{Column, Table, TableName};

fn table(name: &str) -> Arc<Table> {
    Arc::new(Table::new(TableName::new("public", name), ["id", "a", "b"].map(Column::text).to_vec(), vec![0]))
}

/// A row of key, a and b; none for a column that the event does not carry.
fn row(id: u8, a: Option<u8>, b: Option<u8>) -> Row {
    let mut row = RowBuilder::new(3);
    row.set(0, Cell::Text(&id.to_string()));
    for (i, value) in [(1, a), (2, b)] {
        if let Some(value) = value {
            row.set(i, Cell::Text(&value.to_string()));
        }
    }
    row.finish()
}

fn key(id: u8) -> Key {
    row(id, None, None).project(&[0])
}

fn change(table: &Arc<Table>, operation: Operation) -> Change {
    Change { table: Arc::clone(table), operation, place: Place { partition: PartitionIndex(1), offset: 0 } }
}

#[test]
fn a_row_that_takes_a_deleted_ones_place_inherits_nothing_from_it() {
    let table = table("t");
    let changes = [
        change(&table, Operation::Delete(key(1))),
        change(&table, Operation::Insert(row(1, Some(2), None))),
        change(&table, Operation::Delete(key(2))),
        change(&table, Operation::Insert(row(2, Some(2), Some(3)))),
    ];
    let all: Vec<&Change> = changes.iter().collect();
    let kinds: Vec<_> = plan(&all).into_iter().map(|step| step.kind).collect();
    let [StepKind::Delete(gone), StepKind::Upsert(_, replaced), StepKind::Insert(_, new)] = &kinds[..] else {
        panic!("{kinds:?}")
    };
    assert_eq!((gone.len(), replaced.len(), new.len()), (1, 1, 1));
    assert_eq!(new[0].cell(0), Cell::Text("1"), "b gets its default, not the deleted row's value");
}

/// Tables as maps from key to values: what PostgreSQL would hold.
type Model = BTreeMap<(String, String), Vec<String>>;

fn text(cell: Cell<'_>) -> String {
    match cell {
        Cell::Text(text) => text.to_owned(),
        Cell::Null => "NULL".to_owned(),
        Cell::Absent => "absent".to_owned(),
        Cell::Binary(bytes) => format!("{bytes:?}"),
    }
}

/// Applies one step as its SQL does, and complains where PostgreSQL would.
fn apply(model: &mut Model, step: &Step<'_>) {
    let name = step.table.name.name.clone();
    let id = |row: &Row| (name.clone(), text(row.cell(0)));
    let values = |row: &Row| (0..3).map(|c| text(row.cell(c))).collect::<Vec<_>>();
    match &step.kind {
        StepKind::Insert(_, rows) => {
            for row in rows {
                assert!(!values(row).contains(&"absent".to_owned()), "an insert of a partial row");
                assert!(model.insert(id(row), values(row)).is_none(), "duplicate key {:?}", id(row));
            }
        }
        StepKind::Upsert(_, rows) => rows.iter().for_each(|row| {
            model.insert(id(row), values(row));
        }),
        StepKind::Fill(_, rows) => rows.iter().for_each(|row| {
            model.entry(id(row)).or_insert_with(|| values(row));
        }),
        StepKind::Update(columns, rows) => {
            for row in rows {
                let stored = model.get_mut(&id(row)).expect("an update finds its row");
                columns.iter().for_each(|c| stored[c] = text(row.cell(c)));
            }
        }
        StepKind::Delete(keys) => keys.iter().for_each(|key| {
            model.remove(&(name.clone(), text(key.0.cell(0)))).expect("a delete finds its row");
        }),
        StepKind::Rekey(columns, old, row) => {
            let mut stored =
                model.remove(&(name.clone(), text(old.0.cell(0)))).expect("a rekey finds its row");
            columns.iter().for_each(|c| stored[c] = text(row.cell(c)));
            assert!(model.insert(id(row), stored).is_none(), "the new key is taken");
        }
        StepKind::Truncate(tables) => {
            model.retain(|(table, _), _| !tables.iter().any(|t| t.name.name == *table));
        }
        StepKind::Clear => model.retain(|(table, _), _| *table != name),
        StepKind::UpdateKeyless(..) | StepKind::DeleteKeyless(_) => unreachable!("these tables have keys"),
    }
}

/// What a client of the leader might do next; made legal by `legal_history`.
#[derive(Debug, Clone)]
enum Intent {
    Put {
        table: u8,
        id: u8,
        a: u8,
        b: u8,
        only: u8,
    },
    /// A snapshot's row that may be there.
    Fill {
        table: u8,
        id: u8,
        a: u8,
        b: u8,
    },
    Delete {
        table: u8,
        id: u8,
    },
    Rekey {
        table: u8,
        id: u8,
        to: u8,
        with_values: bool,
    },
    Truncate {
        tables: u8,
    },
}

fn intent() -> impl Strategy<Value = Intent> {
    let table = 0u8..2;
    let id = 0u8..5;
    prop_oneof![
        6 => (table.clone(), id.clone(), any::<u8>(), any::<u8>(), 0u8..3)
            .prop_map(|(table, id, a, b, only)| Intent::Put { table, id, a, b, only }),
        2 => (table.clone(), id.clone(), any::<u8>(), any::<u8>())
            .prop_map(|(table, id, a, b)| Intent::Fill { table, id, a, b }),
        3 => (table.clone(), id.clone()).prop_map(|(table, id)| Intent::Delete { table, id }),
        2 => (table, id.clone(), id, any::<bool>())
            .prop_map(|(table, id, to, with_values)| Intent::Rekey { table, id, to, with_values }),
        1 => (1u8..4).prop_map(|tables| Intent::Truncate { tables }),
    ]
}

/// Turns intents into changes that can follow one another on a leader, given the rows that exist.
fn legal_history(tables: &[Arc<Table>], mut exists: [[bool; 5]; 2], intents: &[Intent]) -> Vec<Change> {
    let mut changes = Vec::new();
    for intent in intents {
        match *intent {
            Intent::Put { table, id, a, b, only } => {
                let (t, i) = (usize::from(table), usize::from(id));
                let operation = if std::mem::replace(&mut exists[t][i], true) {
                    // A TOAST value that did not change is not in the event.
                    Operation::Update(row(id, (only != 1).then_some(a), (only != 2).then_some(b)))
                } else {
                    Operation::Insert(row(id, Some(a), Some(b)))
                };
                changes.push(change(&tables[t], operation));
            }
            Intent::Fill { table, id, a, b } => {
                exists[usize::from(table)][usize::from(id)] = true;
                changes.push(change(&tables[usize::from(table)], Operation::Fill(row(id, Some(a), Some(b)))));
            }
            Intent::Delete { table, id } => {
                let (t, i) = (usize::from(table), usize::from(id));
                if std::mem::replace(&mut exists[t][i], false) {
                    changes.push(change(&tables[t], Operation::Delete(key(id))));
                }
            }
            Intent::Rekey { table, id, to, with_values } => {
                let (t, from, into) = (usize::from(table), usize::from(id), usize::from(to));
                if exists[t][from] && !exists[t][into] {
                    exists[t][from] = false;
                    exists[t][into] = true;
                    let row = row(to, with_values.then_some(9), None);
                    changes.push(change(&tables[t], Operation::Rekey { old: key(id), row }));
                }
            }
            Intent::Truncate { tables: which } => {
                for (t, table) in tables.iter().enumerate().filter(|(t, _)| which >> t & 1 == 1) {
                    exists[t] = [false; 5];
                    changes.push(change(table, Operation::Truncate));
                }
            }
        }
    }
    changes
}

fn stored(tables: &[Arc<Table>], exists: [[bool; 5]; 2]) -> Model {
    let mut model = Model::new();
    for (t, table) in tables.iter().enumerate() {
        for id in (0u8..5).filter(|id| exists[t][usize::from(*id)]) {
            model.insert(
                (table.name.name.clone(), id.to_string()),
                vec![id.to_string(), "old a".into(), "old b".into()],
            );
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_folded_plan_leaves_the_rows_of_source_order(
        exists in any::<[[bool; 5]; 2]>(),
        intents in prop::collection::vec(intent(), 0..40),
        cuts in prop::collection::vec(1usize..10, 1..8),
    ) {
        let tables = [table("t0"), table("t1")];
        let changes = legal_history(&tables, exists, &intents);
        let all: Vec<&Change> = changes.iter().collect();

        let mut one_by_one = stored(&tables, exists);
        plan_in_source_order(&all).iter().for_each(|(_, step)| apply(&mut one_by_one, step));

        let mut folded = stored(&tables, exists);
        plan(&all).iter().for_each(|step| apply(&mut folded, step));
        prop_assert_eq!(&folded, &one_by_one);

        // Any cut into groups equals any other.
        let mut cut = stored(&tables, exists);
        let mut rest = &all[..];
        for length in cuts.iter().cycle().take_while(|_| true) {
            let (group, tail) = rest.split_at((*length).min(rest.len()));
            plan(group).iter().for_each(|step| apply(&mut cut, step));
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(&cut, &one_by_one);
    }
}

#[test]
fn a_backlog_of_updates_to_one_row_is_one_update() {
    let table = table("t0");
    let changes: Vec<Change> =
        (0u8..100).map(|n| change(&table, Operation::Update(row(1, Some(n), None)))).collect();
    let steps = plan(&changes.iter().collect::<Vec<_>>());
    assert_eq!(steps.len(), 1);
    let StepKind::Update(columns, rows) = &steps[0].kind else { panic!("{steps:?}") };
    assert_eq!(columns.iter().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].cell(1), Cell::Text("99"));
}

#[test]
fn tables_that_refer_to_each_other_are_truncated_in_one_statement() {
    let (posts, comments) = (table("posts"), table("comments"));
    let changes = [
        change(&posts, Operation::Insert(row(1, Some(1), Some(1)))),
        change(&posts, Operation::Truncate),
        change(&comments, Operation::Truncate),
    ];
    let steps = plan(&changes.iter().collect::<Vec<_>>());
    assert_eq!(steps.len(), 1, "the insert need not happen: {steps:?}");
    let StepKind::Truncate(tables) = &steps[0].kind else { panic!("{steps:?}") };
    assert_eq!(tables.len(), 2);
}

#[test]
fn rows_without_a_key_share_an_insert_and_keep_their_order() {
    let keyless = Arc::new(Table::new(TableName::new("public", "log"), table("x").columns.clone(), vec![]));
    let changes: Vec<Change> =
        (0u8..50).map(|n| change(&keyless, Operation::Insert(row(n, Some(n), None)))).collect();
    let steps = plan(&changes.iter().collect::<Vec<_>>());
    assert_eq!(steps.len(), 1, "one statement for a bulk load");
    let StepKind::Insert(_, rows) = &steps[0].kind else { panic!("{steps:?}") };
    assert!(rows.iter().enumerate().all(|(n, row)| row.cell(0) == Cell::Text(&n.to_string())));
}
