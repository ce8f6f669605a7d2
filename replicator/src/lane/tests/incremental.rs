//! Rows of an incremental snapshot, which may be older than the changes before them.

use super::replica::Replica;
use super::topics::Topics;
use super::world::Layout;
use super::{Learnt, read_all, start};
use crate::decode::debezium::Transactions;
use crate::lane::LaneError;
use crate::vocabulary::lsn::{CommitLsn, Lsn};
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
#[test]
fn changes_before_the_position_are_newer() {
    for truncates in [false, true] {
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
            let start = learnt.told(start(&replica, Transactions::Required, 3));
            read_all(&topics, start, dice, &mut replica).map(|()| replica.stored.rows())
        };
        for dice in [[0, 0, 0], [1, 0, 2], [7, 3, 1]] {
            let unknown = LaneError::LookBack { table: TableName::new("public", "items") };
            assert_eq!(read(&Learnt::default(), &dice), Err(unknown));
            // The replica has lost the row, which is all that it is filled for.
            let lost = (!truncates).then_some(["a", "0", "0"]);
            let rows = read(&looks_back(), &dice).unwrap();
            assert!(rows["items"].iter().eq(lost.iter().chain(&[["b", "1", "2"]])), "{truncates}: {rows:?}");
        }
    }
}
