//! The assembler against every interleaving that partitions, restarts of the connector and restarts of the daemon allow.

mod history;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use self::history::{Counting, History, TABLES, counting, history};
use super::*;
use crate::decode::debezium::Member;
use crate::vocabulary::change::Operation;
use crate::vocabulary::lsn::Lsn;
use crate::vocabulary::offset::Place;
use crate::vocabulary::row::RowBuilder;
use crate::vocabulary::schema::{Table, TableName};

const SPINE: PartitionIndex = PartitionIndex(0);

fn collection(table: u32) -> Collection {
    Collection::Table(format!("public.t{table}").into())
}

fn partition(table: u32) -> PartitionIndex {
    PartitionIndex(table + 1)
}

fn member(xid: u32, total_order: u64, table: u32) -> Decoded {
    member_at(xid, (total_order, total_order), total_order, table)
}

/// An event whose numbers, in its transaction and in its table, are not its position: its transaction was counted anew. Its
/// offset tells which one it is.
fn member_at(xid: u32, (total_order, table_order): (u64, u64), lsn: u64, table: u32) -> Decoded {
    let of = Table::new(TableName::new("public", format!("t{table}")), vec![], vec![]);
    let place = Place { partition: partition(table), offset: i64::try_from(lsn).unwrap() };
    let change =
        Change { table: Arc::new(of), operation: Operation::Insert(RowBuilder::new(0).finish()), place };
    Decoded::Member(Member {
        xid: Xid(xid),
        total_order,
        table_order,
        lsn: Lsn(lsn),
        after: None,
        collection: collection(table),
        change: Some(change),
    })
}

fn begin(xid: u32) -> Boundary {
    Boundary::Begin { xid: Xid(xid) }
}

fn end(xid: u32, lsn: u64, counts: &[(u32, u64)]) -> Boundary {
    let counts = counts.iter().map(|(table, n)| (collection(*table), *n)).collect();
    Boundary::End { xid: Xid(xid), lsn: CommitLsn(Lsn(lsn)), committed_at_ms: 0, counts }
}

/// A record of the transaction topic that could be read.
#[expect(clippy::unnecessary_wraps, reason = "what the assembler takes may also be an error")]
fn written(boundary: Boundary) -> Result<Option<Boundary>, Box<DecodeError>> {
    Ok(Some(boundary))
}

fn assembler(tables: u32) -> Assembler {
    let mut assembler = Assembler::new(Some(SPINE), CommitLsn(Lsn(0)), &[]);
    (0..tables).for_each(|table| assembler.add_partition(partition(table), Some(&collection(table))));
    assembler
}

/// What came out, in words that are easy to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Out {
    Change(String, i64),
    Commit(u32),
    Discard,
}

fn drain(assembler: &mut Assembler) -> Result<Vec<Out>, AssembleError> {
    let mut out = Vec::new();
    while let Some(event) = assembler.next_event()? {
        out.push(match event {
            Event::Change(change) => Out::Change(change.table.name.name.clone(), change.place.offset),
            Event::Commit(committed) => Out::Commit(committed.xid.0),
            Event::Discard(_) => Out::Discard,
            Event::Copy(_) | Event::Loose(_) => unreachable!("every event here belongs to a transaction"),
        });
    }
    Ok(out)
}

fn change(table: u32, order: i64) -> Out {
    Out::Change(format!("t{table}"), order)
}

#[test]
fn rows_of_two_topics_come_out_in_the_leaders_order() {
    let mut a = assembler(2);
    a.push_boundary(0, written(begin(7)));
    a.push(partition(0), 0, 1, member(7, 1, 0));
    a.push(partition(0), 1, 1, member(7, 3, 0));
    assert_eq!(drain(&mut a).unwrap(), [change(0, 1)], "number 2 has not come yet");
    a.push(partition(1), 0, 1, member(7, 2, 1));
    assert_eq!(drain(&mut a).unwrap(), [change(1, 2), change(0, 3)]);
    a.push_boundary(1, written(end(7, 100, &[(0, 2), (1, 1)])));
    assert_eq!(drain(&mut a).unwrap(), [Out::Commit(7)]);
    assert_eq!(a.take_moved(), [(partition(0), 2), (partition(1), 1), (SPINE, 2)]);
}

#[test]
fn end_before_its_rows_waits_for_them() {
    let mut a = assembler(1);
    a.push_boundary(0, written(begin(7)));
    a.push_boundary(1, written(end(7, 100, &[(0, 2)])));
    a.push(partition(0), 0, 1, member(7, 1, 0));
    assert_eq!(drain(&mut a).unwrap(), [change(0, 1)]);
    assert_eq!(a.waiting_for().unwrap(), "transaction 7 waits for changes of public.t0: 1 of 2 have come");
    a.push(partition(0), 1, 1, member(7, 2, 0));
    assert_eq!(drain(&mut a).unwrap(), [change(0, 2), Out::Commit(7)]);
}

#[test]
fn rows_of_a_topic_that_is_not_read_yet_are_waited_for() {
    let mut a = assembler(1);
    a.push_boundary(0, written(begin(7)));
    a.push_boundary(1, written(end(7, 100, &[(0, 1), (1, 1)])));
    a.push(partition(0), 0, 1, member(7, 2, 0));
    assert_eq!(drain(&mut a).unwrap(), [], "number 1 is in a topic that was made a moment ago");
    a.add_partition(partition(1), Some(&collection(1)));
    a.push(partition(1), 0, 1, member(7, 1, 1));
    assert_eq!(drain(&mut a).unwrap(), [change(1, 1), change(0, 2), Out::Commit(7)]);
}

#[test]
fn an_empty_transaction_is_a_commit_alone() {
    let mut a = assembler(1);
    a.push_boundary(0, written(begin(7)));
    a.push_boundary(1, written(end(7, 100, &[])));
    assert_eq!(drain(&mut a).unwrap(), [Out::Commit(7)]);
}

#[test]
fn a_later_transaction_at_the_head_proves_that_rows_are_missing() {
    let mut a = assembler(1);
    a.push_boundary(0, written(begin(7)));
    a.push_boundary(1, written(end(7, 100, &[(0, 2)])));
    a.push(partition(0), 0, 1, member(7, 1, 0));
    a.push(partition(0), 5, 1, member(8, 1, 0));
    let error = loop {
        match a.next_event() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it waits for rows that can't come any more"),
            Err(error) => break error,
        }
    };
    assert_eq!(
        error,
        AssembleError::Missing {
            xid: Xid(7),
            lsn: CommitLsn(Lsn(100)),
            collection: collection(0),
            expected: 2,
            seen: 1,
            partition: partition(0),
            offset: 5,
        }
    );
}

#[test]
fn a_transaction_that_never_ends_is_an_error_and_not_a_wait() {
    let mut a = assembler(1);
    a.push_boundary(0, written(begin(7)));
    a.push_boundary(1, written(begin(8)));
    assert_eq!(drain(&mut a).unwrap(), [], "8 may be a repetition; its END will tell");
    assert_eq!(a.waiting_for().unwrap(), "transaction 7 waits for its END in the transaction topic");
    a.push_boundary(2, written(end(8, 100, &[])));
    let expected = AssembleError::Unfinished { xid: Xid(7), begun_at: 0, next: Xid(8) };
    assert_eq!(a.next_event().expect_err("7 never ended"), expected);
}

#[test]
fn what_stands_before_a_record_that_can_not_be_read_is_given_out_first() {
    let mut a = assembler(2);
    a.push_boundary(0, written(begin(7)));
    a.push_boundary(1, written(end(7, 100, &[(0, 1)])));
    a.push(partition(1), 4, 1, Decoded::Refused(Box::new(DecodeError::MissingField("op"))));
    a.push(partition(0), 0, 1, member(7, 1, 0));
    assert!(matches!(a.next_event(), Ok(Some(Event::Change(_)))));
    assert!(matches!(a.next_event(), Ok(Some(Event::Commit(_)))));
    let error = a.next_event().expect_err("now it is the refused record's turn");
    assert!(matches!(error, AssembleError::Refused { offset: 4, .. }), "{error}");
}

#[test]
fn an_idle_topic_of_unknown_content_does_not_hide_that_rows_are_missing() {
    let mut a = assembler(1);
    a.add_partition(partition(9), None);
    a.push_boundary(0, written(begin(7)));
    a.push_boundary(1, written(end(7, 100, &[(0, 1)])));
    a.push(partition(0), 5, 1, member(8, 1, 0));
    assert!(matches!(a.next_event(), Err(AssembleError::Missing { .. })));
}

#[test]
fn a_table_without_a_known_topic_is_asked_for() {
    let mut a = assembler(1);
    a.push_boundary(0, written(begin(7)));
    a.push_boundary(1, written(end(7, 100, &[(5, 1)])));
    assert_eq!(drain(&mut a).unwrap(), []);
    assert_eq!(a.unknown_collections(), [collection(5)]);
    a.add_partition(partition(5), Some(&collection(5)));
    a.push(partition(5), 0, 1, member(7, 1, 5));
    assert_eq!(drain(&mut a).unwrap(), [change(5, 1), Out::Commit(7)]);
}

#[test]
fn a_repeated_transaction_that_was_given_out_is_discarded() {
    // A new assembler knows of applied transactions only the watermark.
    let mut a = Assembler::new(Some(SPINE), CommitLsn(Lsn(100)), &[]);
    a.add_partition(partition(0), Some(&collection(0)));
    a.push_boundary(5, written(begin(7)));
    a.push(partition(0), 5, 1, member(7, 1, 0));
    assert_eq!(drain(&mut a).unwrap(), [change(0, 1)], "nothing says yet that it is a repetition");
    a.push_boundary(6, written(end(7, 100, &[(0, 1)])));
    assert_eq!(drain(&mut a).unwrap(), [Out::Discard]);
}

#[test]
fn an_end_without_begin_is_the_tail_of_a_repetition() {
    let mut a = Assembler::new(Some(SPINE), CommitLsn(Lsn(100)), &[]);
    a.add_partition(partition(0), Some(&collection(0)));
    a.push_boundary(5, written(end(7, 100, &[(0, 9)])));
    a.push(partition(0), 5, 1, member(7, 9, 0));
    a.push_boundary(6, written(begin(8)));
    a.push(partition(0), 6, 1, member(8, 1, 0));
    a.push_boundary(7, written(end(8, 110, &[(0, 1)])));
    assert_eq!(drain(&mut a).unwrap(), [change(0, 1), Out::Commit(8)]);
    assert_eq!(a.duplicates(), 1);
}

/// Feeds the history in the order that `schedule` says, restarting the daemon from its checkpoint where `restarts` says. No more
/// than `room` records of a partition wait, but of those that the assembler wants more of.
fn replay(h: &History, room: usize, schedule: &[u8], restarts: &[u8]) -> Vec<Out> {
    let mut committed: Vec<Out> = Vec::new();
    let mut checkpoint: BTreeMap<PartitionIndex, i64> = BTreeMap::new();
    let mut watermark = CommitLsn(Lsn(0));
    let mut schedule = schedule.iter().cycle();
    let mut restarts = restarts.iter();
    'daemon: loop {
        let mut a = Assembler::new(Some(SPINE), watermark, &[]);
        (0..TABLES).for_each(|t| a.add_partition(partition(t), Some(&collection(t))));
        let mut next: Vec<usize> = (0..=TABLES)
            .map(|p| usize::try_from(checkpoint.get(&PartitionIndex(p)).copied().unwrap_or(0)).unwrap())
            .collect();
        let from = next.clone();
        // As a lane does: the transaction topic before the checkpoint tells what was applied.
        h.spine[..next[0]].iter().for_each(|boundary| a.remember(boundary));
        let mut open: Vec<Out> = Vec::new();
        let mut until_restart = restarts.next().map(|n| usize::from(*n));
        loop {
            let is_left = |p: &usize| next[*p] < if *p == 0 { h.spine.len() } else { h.rows[p - 1].len() };
            let left: Vec<usize> = (0..next.len()).filter(is_left).collect();
            if left.is_empty() {
                return committed;
            }
            let has_room = |p: &usize| {
                a.queued(PartitionIndex(*p as u32)).0 < room || *p == 0 && a.looks_ahead().is_some()
            };
            let left: Vec<usize> = left.into_iter().filter(has_room).collect();
            assert!(!left.is_empty(), "full queues that nothing empties: {:?}", a.waiting_for());
            let p = left[usize::from(*schedule.next().unwrap()) % left.len()];
            let offset = next[p] as i64;
            if p == 0 {
                a.push_boundary(offset, written(h.spine[next[0]].clone()));
            } else {
                let (xid, orders, lsn) = h.rows[p - 1][next[p]];
                let table = u32::try_from(p - 1).unwrap();
                a.push(partition(table), offset, 1, member_at(xid, orders, lsn, table));
            }
            next[p] += 1;
            loop {
                let Some(event) = a.next_event().expect("a history without losses") else {
                    // In a second everything has arrived, and what there is room for is read.
                    let has_room = a.queued(SPINE).0 < room || a.looks_ahead().is_some();
                    if !a.wants_ends() || a.wants_late_ends() && next[0] < h.spine.len() && has_room {
                        break;
                    }
                    // END overtakes rows that were sent before it: the topics hold no more yet than what was stored before the
                    // connector was started the last time, and what was read.
                    let rows: Vec<usize> = h.rows.iter().map(Vec::len).collect();
                    let there = if a.wants_late_ends() { &rows } else { &h.stored };
                    let ends = next[1..].iter().zip(there).map(|(read, there)| *read.max(there));
                    let unread = ends.zip(1..).filter(|(end, p)| from[*p as usize] < *end);
                    a.set_ends(unread.map(|(end, p)| (PartitionIndex(p), end as i64)).collect());
                    continue;
                };
                match event {
                    Event::Change(c) => open.push(Out::Change(c.table.name.name.clone(), c.place.offset)),
                    Event::Discard(_) => open.clear(),
                    Event::Copy(_) | Event::Loose(_) => unreachable!("every event belongs to a transaction"),
                    Event::Commit(c) => {
                        assert!(c.lsn > watermark, "the watermark is monotone");
                        watermark = c.lsn;
                        checkpoint.extend(a.take_moved());
                        committed.append(&mut open);
                        committed.push(Out::Commit(c.xid.0));
                    }
                }
            }
            if let Some(left) = &mut until_restart {
                if *left == 0 {
                    continue 'daemon;
                }
                *left -= 1;
            }
        }
    }
}

/// The changes of each transaction, those of a table in their order. A row that was counted anew may have the number that is
/// next by the first counting, and its second BEGIN may be read later: then it comes before rows of other tables.
fn by_table(out: &[Out]) -> Vec<Out> {
    let mut sorted = Vec::new();
    for transaction in out.split_inclusive(|out| matches!(out, Out::Commit(_))) {
        let mut transaction = transaction.to_vec();
        transaction.sort_by_key(|out| match out {
            Out::Change(table, _) => (0, table.clone()),
            Out::Commit(_) | Out::Discard => (1, String::new()),
        });
        sorted.append(&mut transaction);
    }
    sorted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, ..ProptestConfig::default() })]

    #[test]
    fn any_arrival_order_and_any_restarts_give_the_leaders_history_exactly_once(
        transactions in prop::collection::vec(prop::collection::vec(0..TABLES, 0..6), 1..8),
        kills in prop::collection::vec((0usize..24, 0usize..24, counting(), any::<u8>()), 0..5),
        schedule in prop::collection::vec(any::<u8>(), 1..64),
        restarts in prop::collection::vec(0u8..40, 0..4),
        room in 2usize..40,
    ) {
        let h = history(&transactions, &kills);
        let found = replay(&h, room, &schedule, &restarts);
        if kills.iter().any(|(_, _, counting, lost)| *counting != Counting::On || *lost & 7 != 0) {
            prop_assert_eq!(by_table(&found), by_table(&h.expected));
        } else {
            prop_assert_eq!(found, h.expected);
        }
    }
}

#[test]
fn a_transaction_that_was_counted_anew_is_put_together_by_positions() {
    let mut a = assembler(1);
    a.push_boundary(0, written(begin(7)));
    for (offset, (order, lsn)) in
        [(1, 1), (2, 2), (3, 3), (4, 4), (1, 3), (2, 4), (3, 5)].into_iter().enumerate()
    {
        a.push(partition(0), offset as i64, 1, member_at(7, (order, order), lsn, 0));
    }
    assert_eq!(drain(&mut a).unwrap(), [change(0, 1), change(0, 2), change(0, 3), change(0, 4)]);
    a.push_boundary(1, written(begin(7)));
    a.push_boundary(2, written(end(7, 100, &[(0, 3)])));
    assert_eq!(drain(&mut a).unwrap(), [], "records of the first attempt may still be unread elsewhere");
    assert!(a.wants_ends());
    a.set_ends([(partition(0), 8)].into());
    assert_eq!(drain(&mut a).unwrap(), [change(0, 5)]);
    assert_eq!(a.unreached(), [(partition(0), 7)]);
    a.set_reached(partition(0));
    assert_eq!(drain(&mut a).unwrap(), []);
    assert!(a.wants_ends() && a.wants_late_ends(), "perhaps more is under way");
    a.set_ends([(partition(0), 7)].into());
    assert_eq!(drain(&mut a).unwrap(), [Out::Commit(7)]);
    assert_eq!(a.duplicates(), 2);
}

#[test]
fn what_was_counted_twice_is_complete_with_its_last_event_and_not_by_its_count() {
    // Observed: of a truncate of two tables the first was stored, and the connector sent both again, numbered 2 and 3.
    let mut a = assembler(2);
    a.push_boundary(0, written(begin(7)));
    for (offset, (order, lsn)) in [(1, 1), (3, 5), (2, 1), (4, 5)].into_iter().enumerate() {
        let table_order = if lsn == 1 { order } else { order - 1 };
        a.push(partition(0), offset as i64, 1, member_at(7, (order, table_order), lsn, 0));
    }
    for (offset, order) in [2, 3].into_iter().enumerate() {
        a.push(partition(1), offset as i64, 1, member_at(7, (order, 1), 1, 1));
    }
    a.push_boundary(1, written(end(7, 100, &[(0, 4), (1, 1)])));
    assert!(drain(&mut a).unwrap().iter().all(|out| *out != Out::Commit(7)), "the last row has not come");
    assert!(a.wants_ends());
    a.set_ends([(partition(0), 4), (partition(1), 2)].into());
    assert!(drain(&mut a).unwrap().iter().all(|out| *out != Out::Commit(7)), "the ends say nothing of it");
    assert!(a.waiting_for().unwrap().contains("the last change of public.t0, number 4"));
    a.push(partition(0), 4, 1, member_at(7, (5, 4), 9, 0));
    assert_eq!(drain(&mut a).unwrap(), [change(0, 9)]);
    assert!(a.wants_late_ends());
    a.set_ends([(partition(0), 5), (partition(1), 2)].into());
    assert_eq!(drain(&mut a).unwrap(), [Out::Commit(7)]);
}

#[test]
fn a_transaction_whose_end_is_out_of_reach_is_an_error_and_not_a_wait() {
    let mut a = assembler(1);
    a.push_boundary(0, written(begin(7)));
    a.push_boundary(1, written(end(7, 100, &[(0, 2)])));
    a.push(partition(0), 0, 1, member_at(7, (1, 1), 1, 0));
    a.push(partition(0), 1, 1, member_at(7, (1, 1), 2, 0));
    (2..).take(LOOK_AHEAD - 1).for_each(|offset| a.push_boundary(offset, written(begin(8))));
    let ends = |a: &mut Assembler| a.set_ends([(partition(0), 2)].into());
    assert_eq!(drain(&mut a).unwrap(), [change(0, 1)], "counted anew");
    assert!(a.wants_ends());
    assert_eq!(a.looks_ahead(), Some(LOOK_AHEAD));
    ends(&mut a);
    assert_eq!(drain(&mut a).unwrap(), [change(0, 2)]);
    assert!(!a.wants_ends(), "its other END, or a row, may be the next record");
    a.push_boundary(LOOK_AHEAD as i64 + 1, written(begin(8)));
    assert_eq!(drain(&mut a).unwrap(), [], "rows may be under way");
    assert!(a.wants_late_ends());
    ends(&mut a);
    let error = a.next_event().expect_err("nothing more has come");
    assert!(matches!(error, AssembleError::OutOfReach { xid: Xid(7), .. }), "{error}");
}

#[test]
fn a_killed_connector_goes_back_into_an_applied_transaction_while_a_later_one_is_open() {
    // Observed: BEGIN of the later one was the last record before the kill; END of the applied one came without its BEGIN.
    let h = history(&[vec![0, 0], vec![1], vec![0, 1]], &[(8, 7, Counting::On, 0)]);
    assert_eq!(h.spine[4], begin(1003), "the third has begun");
    assert!(matches!(h.spine[5], Boundary::End { xid: Xid(1001), .. }), "the first ends again");
    assert_eq!(replay(&h, 100, &[0], &[]), h.expected);
    assert_eq!(replay(&h, 100, &[1, 2, 3, 0], &[]), h.expected);
}

#[test]
fn what_the_copy_holds_is_left_out_whole_although_its_first_rows_lie_before_the_start() {
    let mut a = assembler(2);
    let snapshot = "10:12:10".parse().unwrap();
    a.set_copied(Some(Fence { snapshot, lsn: Lsn(150) }));
    // Transaction 9's BEGIN and its first row stand before the start; 11's END is unknown when its row comes.
    a.push(partition(0), 5, 1, member(9, 2, 0));
    a.push_boundary(7, written(end(9, 90, &[(0, 2)])));
    a.push(partition(0), 6, 1, member(11, 1, 0));
    a.push_boundary(8, written(begin(11)));
    assert_eq!(drain(&mut a).unwrap(), []);
    a.push_boundary(9, written(end(11, 120, &[(0, 1), (1, 3)])));
    // 10 was running when the copy was taken: all of it is behind the start.
    a.push_boundary(10, written(begin(10)));
    a.push(partition(1), 3, 1, member(11, 2, 1));
    a.push(partition(1), 4, 1, member(10, 1, 1));
    a.push_boundary(11, written(end(10, 130, &[(1, 1)])));
    assert_eq!(drain(&mut a).unwrap(), [change(1, 1), Out::Commit(10)]);
}
