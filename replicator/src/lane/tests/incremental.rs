//! Rows of an incremental snapshot, which may be older than the changes before them.

use std::collections::BTreeMap;

use super::replica::Replica;
use super::topics::{self, Topics};
use super::world::{Layout, PREFIX};
use super::{Learnt, read_all, start};
use crate::decode::debezium::{RawRecord, Transactions};
use crate::lane::LaneError;
use crate::lane::core::{LaneCore, Turn};
use crate::lane::start::read_from;
use crate::vocabulary::lsn::{CommitLsn, Lsn};
use crate::vocabulary::offset::{PartitionIndex, Place, TopicPartition};
use crate::vocabulary::parcel::ReplicaPhase;
use crate::vocabulary::schema::TableName;

/// A lane that has met an incremental snapshot.
fn looks_back() -> Learnt {
    Learnt { looks_back: true, ..Learnt::default() }
}

/// A connector that was killed right behind such a row writes a transaction again.
#[test]
fn what_is_repeated_behind_such_a_row_is_left_out() {
    let mut topics = Topics::empty(Layout::PerTable(1));
    let transaction = |topics: &mut Topics| {
        topics.begin(1);
        topics.row(1, (1, 90), "a");
        topics.end(1, 100, 1);
    };
    transaction(&mut topics);
    topics.copied(0, "b");
    transaction(&mut topics);
    let mut replica = Replica::new();
    // So that each change is given out before the transaction's end says that it is a repetition.
    let start = looks_back().told(start(&replica, Transactions::Required, 1));
    read_all(&topics, start, &[0], &mut replica).unwrap();
    assert_eq!(replica.stored.rows()["items"], [["a", "1", "2"], ["b", "0", "0"]]);
}

/// Before the position at which reading begins stand a newer change of the row, or a truncate in another partition of its table.
/// The replica has that row, or has lost it, which is what the older one is good for.
#[test]
fn changes_before_the_position_are_newer() {
    let cases =
        [(false, true, Some(["a", "1", "2"])), (false, false, Some(["a", "0", "0"])), (true, false, None)];
    for (truncates, is_there, expected) in cases {
        let mut topics = Topics::empty(Layout::PerTable(2));
        topics.begin(1);
        if truncates {
            topics.truncate(1, (1, 90));
        } else {
            topics.row(1, (1, 90), "a");
        }
        topics.end(1, 100, 1);
        let applied = topics.ends();
        topics.copied(usize::from(truncates), "a");
        topics.begin(2);
        topics.row(2, (1, 110), "b");
        topics.end(2, 120, 1);
        let read = |learnt: &Learnt, dice: &[u8]| {
            let mut replica = Replica::new();
            replica.stored.offsets = applied.clone();
            replica.stored.watermark = CommitLsn(Lsn(100));
            replica.stored.phase = ReplicaPhase::Live;
            if is_there {
                replica.stored.put("items", ["a", "1", "2"]);
            }
            let start = learnt.told(start(&replica, Transactions::Required, 3));
            read_all(&topics, start, dice, &mut replica).map(|()| replica.stored.rows())
        };
        for dice in [[0, 0, 0], [1, 0, 2], [7, 3, 1]] {
            let unknown = LaneError::LookBack { table: TableName::new("public", "items") };
            assert_eq!(read(&Learnt::default(), &dice), Err(unknown));
            let rows = read(&looks_back(), &dice).unwrap();
            assert!(rows["items"].iter().eq(expected.iter().chain(&[["b", "1", "2"]])), "{rows:?}");
        }
    }
}

/// A lane that looks back, where the replica needs `items` from this offset on.
fn core(needed: i64) -> LaneCore {
    let mut replica = Replica::new();
    let topics = Topics::empty(Layout::PerTable(1));
    let items = topics.partitions.iter().find(|p| &*p.topic == "app.public.items").unwrap();
    replica.stored.offsets.insert(items.clone(), needed);
    replica.stored.phase = ReplicaPhase::Live;
    let (start, decoder) = looks_back().told(start(&replica, Transactions::Required, 3));
    let from = read_from(Transactions::Required, true, &start.offsets, &topics.partitions, &BTreeMap::new());
    assert_eq!(from[items], 0.max(needed - 10_000));
    let mut core = LaneCore::new(start, decoder, PREFIX.to_owned()).unwrap();
    topics.partitions.iter().for_each(|partition| core.add_partition(partition.clone()));
    core.look_back_from(&from);
    core
}

fn accept(core: &mut LaneCore, topic: &str, offset: i64, at_ms: i64, value: &str) -> TopicPartition {
    let (index, partition) = (0u32..).zip(core.names().all()).find(|(_, p)| &*p.topic == topic).unwrap();
    let place = Place { partition: PartitionIndex(index), offset };
    let value = Some(value.as_bytes());
    core.accept(&RawRecord { place, written_at_ms: Some(at_ms), value, old_key: None, new_key: None })
        .unwrap();
    partition
}

/// What stands between the last record and the position are marks of Kafka's own transactions, and nothing follows.
#[test]
fn what_is_not_there_is_not_waited_for() {
    let mut core = core(20_000);
    let items = accept(&mut core, "app.public.items", 19_990, 0, &topics::row(1, (1, 90), "a"));
    assert!(matches!(core.turn().unwrap(), Turn::Starved));
    assert!(core.waiting_for().is_some());
    assert_eq!(core.unreached(), [(items.clone(), 19_991)]);
    core.set_reached(&items);
    assert_eq!((core.waiting_for(), core.unreached()), (None, vec![]));
}

#[test]
fn what_was_changed_long_before_says_nothing() {
    for (at_ms, expected) in [(60_000, "fill"), (60_001, "copy")] {
        let mut core = core(1);
        accept(&mut core, "app.public.items", 0, 0, &topics::row(1, (1, 90), "a"));
        let after = r#"{"id":"a","a":"0","b":"0"}"#;
        accept(&mut core, "app.public.items", 1, at_ms, &topics::incremental("items", after));
        let Turn::Parcel(parcel) = core.turn().unwrap() else { panic!("the row is given out") };
        let names: Vec<_> = parcel.changes.iter().map(|change| change.operation.name()).collect();
        assert_eq!(names, [expected]);
    }
}
