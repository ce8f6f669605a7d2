//! The whole pure path, from bytes in topics to rows on a replica, against the leader's own rows: every layout of topics,
//! every order in which partitions may arrive, kills of the connector and of the daemon, any grouping.
//!
//! `PROPTEST_CASES` sets how much is tried; a failure prints the smallest history that shows it.

mod absent;
mod dice;
mod incremental;
mod replica;
pub(super) mod topics;
mod world;

use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tokio::sync::oneshot;

use self::dice::Dice;
use self::replica::Replica;
use self::topics::{Connector, Topics};
use self::world::{EXCLUDED, Layout, Leader, PLACEHOLDER, PREFIX};
use super::LaneStart;
use super::core::{LaneCore, Turn};
use super::hub::Join;
use super::start::read_from;
use super::{LaneError, LaneLimits, Standing, Takes};
use crate::assemble::AssembleError;
use crate::decode::debezium::{DecodeSettings, Decoder, RawRecord, Transactions};
use crate::status::StatusCell;
use crate::vocabulary::fence::{Fence, Fences};
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use crate::vocabulary::offset::{PartitionIndex, Place};
use crate::vocabulary::parcel::ReplicaPhase;
use crate::vocabulary::schema::Catalog;

fn cases(default: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(default), ..ProptestConfig::default() }
}

fn start(replica: &Replica, transactions: Transactions, parcel_changes: usize) -> (LaneStart, Decoder) {
    let catalog = Arc::new(Catalog::new(world::tables()));
    let decoding = DecodeSettings {
        placeholder: PLACEHOLDER.to_owned(),
        excluded: vec![EXCLUDED.to_owned()],
        transactions,
        ..DecodeSettings::default()
    };
    let decoder = Decoder::new(&catalog, decoding);
    let start = LaneStart {
        catalog,
        watermark: replica.stored.watermark,
        leader: None,
        phase: replica.stored.phase,
        offsets: replica.stored.offsets.clone(),
        snapshots: replica.stored.snapshots.clone(),
        fences: Fences::default(),
        repeats: vec![],
        looks_back: false,
        streaming: false,
        binary: true,
        limits: LaneLimits {
            queue_records: 4,
            queue_bytes: 1 << 20,
            parcel_changes,
            parcel_bytes: 1 << 20,
            channel_bytes: 1 << 20,
        },
    };
    (start, decoder)
}

/// Where a replica stands that was live from the beginning.
pub(super) fn live_start() -> LaneStart {
    let (start, _) = start(&Replica::new(), Transactions::Required, 3);
    LaneStart { phase: ReplicaPhase::Live, ..start }
}

/// What a worker has learnt when its lane ended, for the next one.
#[derive(Debug, Clone, Default)]
struct Learnt {
    looks_back: bool,
    repeats: Vec<Xid>,
}

impl Learnt {
    /// What goes on after this end; an error when nothing does.
    fn heed(&mut self, error: LaneError) -> Result<(), LaneError> {
        match error {
            LaneError::LookBack { .. } if !self.looks_back => self.looks_back = true,
            LaneError::ReadAgain { repeated } if !self.repeats.contains(&repeated) => {
                self.repeats.push(repeated);
            }
            error => return Err(error),
        }
        Ok(())
    }

    fn told(&self, (start, decoder): (LaneStart, Decoder)) -> (LaneStart, Decoder) {
        (LaneStart { looks_back: self.looks_back, repeats: self.repeats.clone(), ..start }, decoder)
    }
}

/// One run of the daemon: reads until everything is consumed, or until it is killed after so many records.
struct Daemon<'a> {
    topics: &'a Topics,
    core: LaneCore,
    next: Vec<usize>,
}

impl<'a> Daemon<'a> {
    fn new(topics: &'a Topics, (start, decoder): (LaneStart, Decoder)) -> Self {
        let bounds = topics.partitions.iter().map(|p| (p.clone(), (0, i64::MAX))).collect();
        let from =
            read_from(decoder.transactions(), start.looks_back, &start.offsets, &topics.partitions, &bounds);
        let mut core = LaneCore::new(start, decoder, PREFIX.to_owned()).unwrap();
        topics.partitions.iter().for_each(|p| core.add_partition(p.clone()));
        core.look_back_from(&from);
        let first = |p| usize::try_from(from.get(p).copied().unwrap_or(0)).unwrap();
        Daemon { topics, core, next: topics.partitions.iter().map(first).collect() }
    }

    /// Reads one record of a partition that has room for it; false when there is none left.
    fn read(&mut self, dice: &mut Dice) -> Result<bool, LaneError> {
        let index = |p: usize| PartitionIndex(u32::try_from(p).unwrap());
        let left: Vec<usize> = (0..self.next.len())
            .filter(|p| self.next[*p] < self.topics.records[*p].len() && self.core.room(index(*p)) > 0)
            .collect();
        if left.is_empty() {
            let unread = (0..self.next.len()).any(|p| self.next[p] < self.topics.records[p].len());
            assert!(!unread, "full queues that nothing empties: {:?}", self.core.waiting_for());
            return Ok(false);
        }
        let p = left[dice.below(left.len())];
        let record = &self.topics.records[p][self.next[p]];
        let place = Place { partition: index(p), offset: i64::try_from(self.next[p]).unwrap() };
        self.next[p] += 1;
        self.core.accept(&RawRecord {
            place,
            written_at_ms: None,
            value: record.value.as_deref().map(str::as_bytes),
            old_key: record.old_key.as_deref().map(str::as_bytes),
            new_key: record.new_key.as_deref().map(str::as_bytes),
        })?;
        Ok(true)
    }

    /// Gives the replica all that can be assembled, and lets it commit whenever the dice say so.
    fn emit(&mut self, replica: &mut Replica, dice: &mut Dice) -> Result<(), LaneError> {
        loop {
            match self.core.turn()? {
                Turn::Starved => return Ok(()),
                Turn::NeedsEnds => {
                    self.core.set_ends(self.topics.ends().into_iter().collect());
                }
                Turn::Parcel(parcel) => {
                    replica.take(parcel, &self.core.names());
                    if dice.below(3) == 0 {
                        replica.commit_group(&self.core.names());
                    }
                }
            }
        }
    }
}

/// What is drawn for one run.
#[derive(Debug, Clone)]
struct Drawn {
    layout: Layout,
    initial: Vec<world::Intent>,
    transactions: Vec<Vec<world::Intent>>,
    /// Behind so many transactions an incremental snapshot gives all rows, as they were so many transactions before.
    chunks: Vec<(usize, usize)>,
    /// After so many records the connector is killed, and goes back by so many.
    connector_kills: Vec<(usize, usize)>,
    /// After so many records the daemon is killed, and goes on from a state that it stored: the last one, or an older one.
    daemon_kills: Vec<(usize, Option<u8>)>,
    knows_a_commit: bool,
    parcel_changes: usize,
    dice: Vec<u8>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let intents = |n| prop::collection::vec(world::intent(), n);
    (
        world::layout(),
        intents(0..12usize),
        prop::collection::vec(intents(0..7), 1..8),
        prop::collection::vec((1usize..8, 0usize..3), 0..3),
        prop::collection::vec((0usize..30, 0usize..30), 0..4),
        prop::collection::vec((0usize..40, prop::option::of(any::<u8>())), 0..4),
        any::<bool>(),
        1usize..6,
        prop::collection::vec(any::<u8>(), 1..64),
    )
        .prop_map(
            |(
                layout,
                initial,
                transactions,
                chunks,
                connector_kills,
                daemon_kills,
                knows,
                parcel_changes,
                dice,
            )| {
                Drawn {
                    layout,
                    initial,
                    transactions,
                    chunks,
                    connector_kills,
                    daemon_kills,
                    knows_a_commit: knows,
                    parcel_changes,
                    dice,
                }
            },
        )
}

/// What the leader does, and what its connector writes of it; by its number a transaction's id.
fn play(drawn: &Drawn, shares_as_postgresql: bool, xid: impl Fn(u32) -> u32) -> (Leader, Connector) {
    let mut leader = Leader::default();
    drawn.initial.iter().for_each(|intent| leader.act(intent));
    let mut connector = Connector::new(&mut leader, drawn.knows_a_commit);
    connector.shares_positions_as_postgresql = shares_as_postgresql;
    let mut states = vec![leader.rows()];
    for (intents, number) in drawn.transactions.iter().zip(0u32..) {
        intents.iter().for_each(|intent| leader.act(intent));
        connector.commit(&mut leader, xid(number));
        states.push(leader.rows());
        for (_, late) in drawn.chunks.iter().filter(|(behind, _)| *behind + 1 == states.len()) {
            connector.chunk(&states[states.len().saturating_sub(late + 1)]);
        }
    }
    (leader, connector)
}

/// The leader's history in topics.
fn history(drawn: &Drawn, dice: &mut Dice) -> (Leader, Connector, Topics) {
    // Transactions that overlap on the leader have xids in another order than their commits.
    let (leader, connector) = play(drawn, false, |number| 1000 + (number ^ 1));
    let topics = connector.topics(drawn.layout, &drawn.connector_kills, dice);
    (leader, connector, topics)
}

fn replicate(drawn: &Drawn) -> Result<(), TestCaseError> {
    let mut dice = Dice::new(&drawn.dice);
    let (leader, connector, topics) = history(drawn, &mut dice);
    prop_assert_eq!(&*topics.partitions[0].topic, topics::transaction_topic(drawn.layout));
    let mut replica = Replica::new();
    let mut kills = drawn.daemon_kills.iter();
    loop {
        let kill = kills.next();
        let mut learnt = Learnt::default();
        let begin = |replica: &Replica, learnt: &Learnt| {
            let start = start(replica, Transactions::Required, drawn.parcel_changes);
            Daemon::new(&topics, learnt.told(start))
        };
        let mut daemon = begin(&replica, &learnt);
        let mut records = 0;
        while kill.is_none_or(|(after, _)| records < *after) {
            if !daemon.read(&mut dice).map_err(|error| failed(&error))? {
                break;
            }
            records += 1;
            if let Err(error) = daemon.emit(&mut replica, &mut dice) {
                learnt.heed(error).map_err(|error| failed(&error))?;
                replica.restart(replica.history.len() - 1);
                daemon = begin(&replica, &learnt);
            }
        }
        match kill {
            None => {
                replica.commit_group(&daemon.core.names());
                break;
            }
            Some((_, None)) => replica.restart(replica.history.len() - 1),
            Some((_, Some(older))) => replica.restart(usize::from(*older) % replica.history.len()),
        }
    }
    prop_assert_eq!(replica.stored.rows(), leader.rows());
    prop_assert_eq!(replica.stored.watermark, CommitLsn(Lsn(connector.watermark)));
    Ok(())
}

fn failed(error: &LaneError) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn a_replica_ends_with_the_leaders_rows_whatever_the_layout_the_arrival_the_kills_and_the_grouping(
        drawn in drawn()
    ) {
        replicate(&drawn)?;
    }
}

/// A lane that stands at commit 100, or within the transaction behind it.
fn standing(is_within: bool) -> Standing {
    Standing {
        start: live_start(),
        expected: 1,
        gather_until: tokio::time::Instant::now(),
        begun: true,
        at: (!is_within).then_some(CommitLsn(Lsn(100))),
        is_commit: true,
        position: CommitLsn(Lsn(100)),
        phase: ReplicaPhase::Live,
        streamed: HashSet::new(),
    }
}

fn takes(standing: &Standing, watermark: u64, catches_up: bool) -> Takes {
    let start = LaneStart { watermark: CommitLsn(Lsn(watermark)), ..standing.start.clone() };
    let (answer, _) = oneshot::channel();
    standing.takes(&Join { start, catches_up, status: StatusCell::new("replica-1"), answer })
}

#[test]
fn a_replica_joins_where_it_stands_and_waits_for_a_commit_only_if_it_goes_on_meanwhile() {
    let at_commit = standing(false);
    assert_eq!(takes(&at_commit, 100, false), Takes::From(CommitLsn(Lsn(100))));
    assert_eq!(takes(&at_commit, 90, false), Takes::No);
    assert_eq!(takes(&at_commit, 90, true), Takes::From(CommitLsn(Lsn(100))));
    assert_eq!(takes(&at_commit, 110, true), Takes::No, "the lane stands behind it");
    let within = standing(true);
    assert_eq!(takes(&within, 90, true), Takes::Later);
    assert_eq!(
        takes(&within, 100, false),
        Takes::No,
        "it needs that transaction's first part, which is given out"
    );
    assert_eq!(takes(&within, 110, false), Takes::No, "that transaction's END may be hours away");
    assert_eq!(takes(&within, 90, false), Takes::No);
}

/// A transaction whose END was stored and whose second row was lost with the connector, which goes on with that row, counts
/// anew, and comes to another END only behind more transactions than wait in a queue.
#[test]
fn the_end_that_counts_is_found_behind_any_number_of_other_transactions() {
    let mut topics = Topics::empty(Layout::PerTable(1));
    topics.begin(1);
    topics.row(1, (1, 90), "a");
    topics.end(1, 100, 2);
    let others = |topics: &mut Topics| {
        for xid in 2..40 {
            topics.begin(xid);
            topics.end(xid, 100 + u64::from(xid), 0);
        }
    };
    others(&mut topics);
    topics.begin(1);
    topics.row(1, (1, 95), "b");
    topics.end(1, 100, 1);
    others(&mut topics);
    for dice in [[0, 0, 0], [1, 0, 2], [0, 1, 1]] {
        let mut replica = Replica::new();
        let start = start(&replica, Transactions::Required, 3);
        read_all(&topics, start, &dice, &mut replica).unwrap();
        assert_eq!(replica.stored.rows()["items"].len(), 2);
        assert_eq!(replica.stored.watermark, CommitLsn(Lsn(139)));
    }
}

/// One run of the daemon, to the topics' ends.
fn read_all(
    topics: &Topics,
    start: (LaneStart, Decoder),
    dice: &[u8],
    replica: &mut Replica,
) -> Result<(), LaneError> {
    let mut dice = Dice::new(dice);
    let mut daemon = Daemon::new(topics, start);
    while daemon.read(&mut dice)? {
        daemon.emit(replica, &mut dice)?;
    }
    replica.commit_group(&daemon.core.names());
    Ok(())
}

/// Rows of a snapshot come first where a table has several partitions, and one that can't be read keeps the stream from
/// beginning.
#[test]
fn a_record_that_is_refused_before_the_stream_may_begin_is_named() {
    let mut topics = Topics::empty(Layout::PerTable(2));
    topics.begin(1);
    topics.row(1, (1, 90), "a");
    topics.end(1, 100, 1);
    let refused = topics.partitions.iter().position(|p| &*p.topic == "app.public.pairs").unwrap();
    topics.records[refused].push(topics::Record::of("{\"op\":\"r\"}"));
    let mut replica = Replica::new();
    let start = start(&replica, Transactions::Required, 3);
    match read_all(&topics, start, &[0], &mut replica) {
        Err(LaneError::Assemble { at, error }) => {
            assert!(matches!(*error, AssembleError::Refused { offset: 0, .. }), "{error}");
            assert!(at.contains("app.public.pairs"), "{at}");
        }
        other => panic!("{other:?}"),
    }
}

/// Transactions with one row each that ended before a copy of the whole replica was begun, the copy's snapshot and position, and
/// those that ended afterwards. What comes of the stream: the replica, or the transaction that it would lack.
fn behind_a_copy(
    before: &[(u32, u64)],
    (snapshot, at): (&str, u64),
    after: &[(u32, u64)],
) -> Result<Replica, Xid> {
    let mut topics = Topics::empty(Layout::PerTable(1));
    let put = |topics: &mut Topics, transactions: &[(u32, u64)]| {
        for (xid, lsn) in transactions {
            topics.begin(*xid);
            topics.row(*xid, (1, lsn - 1), &format!("{xid} at {lsn}"));
            topics.end(*xid, *lsn, 1);
        }
    };
    put(&mut topics, before);
    let mut replica = Replica::new();
    replica.stored.offsets = topics.ends();
    put(&mut topics, after);
    let fence = Fence { snapshot: snapshot.parse().unwrap(), lsn: Lsn(at) };
    let (start, decoder) = start(&replica, Transactions::Required, 3);
    let fences = Fences { whole: Some(fence), ..Fences::default() };
    match read_all(&topics, (LaneStart { fences, ..start }, decoder), &[0], &mut replica) {
        Ok(()) => Ok(replica),
        Err(LaneError::NotCopied { xid, .. }) => Err(xid),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_commit_that_the_leader_held_back_from_the_copy_is_not_passed_over() {
    // 7 was running for the snapshot, and had ended in the topics.
    let copy = ("5:9:7", 150);
    let lost = |before: &[_], after: &[_]| behind_a_copy(before, copy, after).err();
    assert_eq!(lost(&[(6, 90), (7, 100), (8, 110)], &[(9, 200)]), Some(Xid(7)));
    // One that had not ended may have an id that the snapshot does not know yet.
    assert_eq!(lost(&[(6, 90), (10, 100)], &[(11, 200)]), Some(Xid(10)));
    // A killed connector went back, not so far, or so that it was there a second time.
    assert_eq!(lost(&[(6, 90), (7, 100), (8, 110)], &[(8, 110), (9, 200)]), Some(Xid(7)));
    assert_eq!(lost(&[(6, 90), (7, 100), (8, 110), (8, 110)], &[(9, 200)]), Some(Xid(7)));
    assert_eq!(lost(&[(6, 90), (7, 100), (6, 90), (7, 100)], &[(9, 200)]), Some(Xid(7)));
    // It went back to before it, and brings it.
    for (before, after) in [
        (&[(6, 90), (7, 100), (8, 110), (6, 90)][..], &[(7, 100), (8, 110), (9, 200)][..]),
        (&[(7, 100), (8, 110)][..], &[(6, 90), (7, 100), (8, 110), (9, 200)][..]),
    ] {
        let replica = behind_a_copy(before, copy, after).unwrap();
        let keys: Vec<_> = replica.stored.rows()["items"].iter().map(|row| row[0].clone()).collect();
        assert_eq!(keys, ["7 at 100", "9 at 200"]);
    }
}

/// The leader was restored to 50, and writes to the same topics. The copy is one of that leader, at 60.
#[test]
fn what_a_restored_leader_has_lost_does_not_keep_a_copy_from_going_on() {
    let old = [(899, 45), (901, 51), (910, 52), (906, 58), (950, 70), (960, 90)];
    let copy = ("905:905:", 60);
    // The new transactions end before the copy, or only behind it; or those that were lost lie behind its position.
    let with = |new: &[_]| [&old[..], new].concat();
    for before in [with(&[(903, 55)]), with(&[(902, 53), (903, 55)]), with(&[]), vec![(899, 45), (950, 70)]] {
        for after in [&[(904, 56), (905, 61), (910, 65)][..], &[(905, 61), (910, 65)][..]] {
            let replica = behind_a_copy(&before, copy, after).unwrap();
            let keys: Vec<_> = replica.stored.rows()["items"].iter().map(|row| row[0].clone()).collect();
            assert_eq!(keys, ["905 at 61", "910 at 65"], "{before:?} {after:?}");
        }
    }
    // What the new leader held back is still found.
    let found = behind_a_copy(&with(&[(903, 55), (905, 57)]), copy, &[(906, 61)]);
    assert_eq!(found.err(), Some(Xid(905)));
}
