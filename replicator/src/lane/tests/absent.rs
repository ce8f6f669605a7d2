//! Without transaction metadata: each table by itself, with a connector that repeats what it wrote and a daemon that starts again
//! anywhere. Rows with a key end as the leader's, and nothing is applied that stood before what was applied already. (At the same
//! position it may be: the rows of one multi-row insert share one, and nothing tells which of them had been written.)

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::dice::Dice;
use super::replica::{Stored, texts};
use super::topics::Topics;
use super::world::{Layout, Rows};
use super::{Daemon, Drawn, Learnt, Replica, cases, drawn, failed, play, start};
use crate::decode::debezium::Transactions;
use crate::lane::core::Turn;
use crate::vocabulary::change::{Change, Operation};
use crate::vocabulary::offset::{PartitionIndex, Place};
use crate::vocabulary::parcel::ParcelEnd;
use crate::vocabulary::row::Row;

/// The rows of one table.
type Table = Vec<Vec<String>>;

/// As the applier in this mode: what a repetition does not find is not missed.
fn apply(rows: &mut Rows, change: &Change) {
    let table = rows.entry(change.table.name.name.clone()).or_default();
    let key = |row: &[String]| change.table.key.iter().map(|c| row[*c].clone()).collect::<Vec<_>>();
    let take = |table: &mut Table, wanted: &[String]| {
        let found = table.iter().position(|row| key(row) == wanted);
        found.map(|found| table.remove(found))
    };
    let put = |table: &mut Table, old: &[String], row: &Row| {
        let mut new = texts(row);
        let new_key = key(&new);
        let Some(before) = take(table, old).or_else(|| take(table, &new_key)) else { return };
        for (value, before) in new.iter_mut().zip(before) {
            if value == "absent" {
                *value = before;
            }
        }
        table.push(new);
    };
    match &change.operation {
        Operation::Insert(row) | Operation::Copy(row) => {
            let row = texts(row);
            take(table, &key(&row));
            table.push(row);
        }
        Operation::Fill(row) => {
            let row = texts(row);
            if !table.iter().any(|other| key(other) == key(&row)) {
                table.push(row);
            }
        }
        Operation::Update(row) => put(table, &key(&texts(row)), row),
        Operation::Rekey { old, row } => put(table, &texts(&old.0), row),
        Operation::Delete(old) => drop(take(table, &texts(&old.0))),
        Operation::Truncate | Operation::Clear => table.clear(),
        Operation::UpdateKeyless { .. } | Operation::DeleteKeyless(_) => {}
    }
}

/// What was stored together; with the furthest position of each partition's changes, which the replica does not know.
type State = (Stored, Rows, HashMap<PartitionIndex, u64>);

/// Where in the WAL an event stood; none for a row of an incremental snapshot.
fn position(topics: &Topics, place: Place) -> Option<u64> {
    let record = &topics.records[place.partition.get()][usize::try_from(place.offset).unwrap()];
    let event: serde_json::Value = serde_json::from_str(record.value.as_deref().unwrap()).unwrap();
    event["source"]["lsn"].as_u64()
}

/// A run of the daemon, from what was stored last.
fn begin<'a>(topics: &'a Topics, states: &[State], parcel_changes: usize, learnt: &Learnt) -> Daemon<'a> {
    let mut replica = Replica::new();
    replica.stored = states.last().unwrap().0.clone();
    let start = start(&replica, Transactions::Absent, parcel_changes);
    Daemon::new(topics, learnt.told(start))
}

/// Gives the replica what there is; each parcel is a commit. False when the run ended and another one has begun.
fn emit(
    daemon: &mut Daemon<'_>,
    states: &mut Vec<State>,
    parcel_changes: usize,
    learnt: &mut Learnt,
) -> Result<bool, TestCaseError> {
    loop {
        let turn = match daemon.core.turn() {
            Ok(turn) => turn,
            Err(error) => {
                learnt.heed(error).map_err(|error| failed(&error))?;
                *daemon = begin(daemon.topics, states, parcel_changes, learnt);
                return Ok(false);
            }
        };
        match turn {
            Turn::Starved => return Ok(true),
            Turn::NeedsEnds => return Err(TestCaseError::fail("nothing waits for an end")),
            Turn::Parcel(parcel) => {
                let ParcelEnd::Commit(point) = &parcel.end else {
                    return Err(TestCaseError::fail("a transaction without transactions"));
                };
                let (mut stored, mut rows, mut furthest) = states.last().cloned().unwrap();
                for change in &parcel.changes {
                    if let Some(at) = position(daemon.topics, change.place) {
                        let before = furthest.insert(change.place.partition, at).unwrap_or(0);
                        prop_assert!(at >= before, "{:?} goes back from {} to {}", change, before, at);
                    }
                    apply(&mut rows, change);
                }
                stored.advance(point, &daemon.core.names());
                states.push((stored, rows, furthest));
            }
        }
    }
}

fn replicate(drawn: &Drawn) -> Result<(), TestCaseError> {
    let mut dice = Dice::new(&drawn.dice);
    let (leader, connector) = play(drawn, true, |number| 1000 + number);
    let mut topics = connector.topics(Layout::PerTable(1), &drawn.connector_kills, &mut dice);
    topics.partitions.remove(0);
    topics.records.remove(0);
    let mut states = vec![(Stored::default(), Rows::new(), HashMap::new())];
    let mut kills = drawn.daemon_kills.iter();
    loop {
        let kill = kills.next();
        let mut learnt = Learnt::default();
        let mut daemon = begin(&topics, &states, drawn.parcel_changes, &learnt);
        let mut records = 0;
        while kill.is_none_or(|(after, _)| records < *after) {
            let has_read = daemon.read(&mut dice).map_err(|error| failed(&error))?;
            records += 1;
            // A full queue has to be emptied before it can be read on.
            let is_full = (0..topics.partitions.len())
                .any(|p| daemon.core.room(PartitionIndex(u32::try_from(p).unwrap())) == 0);
            let emits = !has_read || is_full || dice.below(3) == 0;
            let goes_on = !emits || emit(&mut daemon, &mut states, drawn.parcel_changes, &mut learnt)?;
            if !has_read && goes_on {
                break;
            }
        }
        match kill {
            None => break,
            Some((_, None)) => {}
            Some((_, Some(older))) => states.truncate(usize::from(*older) % states.len() + 1),
        }
    }
    let keyed = |mut rows: Rows| {
        rows.remove("log");
        rows.retain(|_, rows| !rows.is_empty());
        rows.values_mut().for_each(|rows| rows.sort());
        rows
    };
    prop_assert_eq!(keyed(states.pop().unwrap().1), keyed(leader.rows()));
    Ok(())
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn keyed_tables_end_with_the_leaders_rows_without_transactions(drawn in drawn()) {
        replicate(&drawn)?;
    }
}
