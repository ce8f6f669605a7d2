//! Transactions that come while they run: every order of messages, and histories made by chance.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::lane::wal::streams::{MAX_DEPTH, MAX_OPEN};
use crate::vocabulary::row::Cell;

/// Feeds a message of a block, made by `xid`.
fn feed_in(core: &mut WalCore, lsn: u64, xid: u32, model: &Model) -> Result<Option<Parcel>, LaneError> {
    let payload = model.encode(Some(xid));
    core.accept(&WalData { start: Lsn(lsn), end: Lsn(lsn), sent_at_ms: 0, payload: &payload })
}

fn fails(core: &mut WalCore, model: &Model) -> String {
    let payload = model.encode(None);
    let data = WalData { start: Lsn(400), end: Lsn(400), sent_at_ms: 0, payload: &payload };
    core.accept(&data).unwrap_err().to_string()
}

fn posts() -> Model {
    relation(POSTS, "posts", &[(true, "id")])
}

/// A block of the transaction `xid` with a row by each of these; what comes out of it, in words.
fn block(core: &mut WalCore, xid: u32, first: bool, by: &[u32]) -> Vec<String> {
    let mut out = vec![feed(core, 300, &Model::StreamStart(xid, first))];
    if first {
        out.push(feed_in(core, 300, xid, &posts()).unwrap());
    }
    out.extend(by.iter().map(|by| feed_in(core, 300, *by, &insert("1")).unwrap()));
    out.push(feed(core, 300, &Model::StreamStop));
    out.into_iter().flatten().map(streamed).collect()
}

/// The parcel in words, with its place in the transaction.
fn streamed(parcel: Parcel) -> String {
    let place = parcel.streamed.map_or_else(String::new, |place| {
        let begins = if place.begins { " begins" } else { "" };
        format!("{}@{}{begins} ", place.xid.0, place.depth)
    });
    format!("{place}{}", words(parcel))
}

fn live() -> WalCore {
    core(ReplicaPhase::Live, Fences::default())
}

fn abort(core: &mut WalCore, xid: u32, sub: u32) -> Option<String> {
    feed(core, 300, &Model::StreamAbort(xid, sub)).map(streamed)
}

#[test]
fn a_block_goes_out_when_it_ends_and_others_commit_between_two() {
    let mut core = live();
    assert_eq!(block(&mut core, 8, true, &[8, 8, 8]), ["8@0 begins 2 open", "8@0 1 open"]);
    assert_eq!(core.resumes_at(), None, "it would come again");
    assert_eq!(transaction(&mut core, 9, 310, 1), ["1 of 9 to 318 live"]);
    assert_eq!(keepalive(&mut core, 330, 1000).unwrap(), "0 of 0 to 330 live", "its commit comes later");
    assert_eq!(block(&mut core, 8, false, &[8]), ["8@0 1 open"]);
    let end = feed(&mut core, 400, &Model::StreamCommit(8, 400, 408, 5)).map(streamed);
    assert_eq!(end.unwrap(), "8@0 0 of 8 to 408 live");
    assert_eq!(core.resumes_at(), Some(Lsn(408)));
}

#[test]
fn several_come_at_once_and_each_describes_its_tables() {
    let mut core = live();
    assert_eq!(block(&mut core, 8, true, &[8]), ["8@0 begins 1 open"]);
    assert_eq!(block(&mut core, 9, true, &[9]), ["9@0 begins 1 open"]);
    assert_eq!(block(&mut core, 8, false, &[8]), ["8@0 1 open"]);
    assert!(feed(&mut core, 350, &Model::StreamCommit(9, 350, 358, 5)).is_some());
    // What nobody has described in this transaction is not known in it.
    assert!(feed(&mut core, 360, &Model::StreamStart(10, true)).is_none());
    let error = feed_in(&mut core, 360, 10, &insert("1")).unwrap_err();
    assert!(matches!(&error, LaneError::Unstreamable { xid: Xid(10), why } if why.contains("described")));
    assert!(error.is_outage(), "it is no fault");
}

#[test]
fn what_a_committed_one_has_described_holds_for_all_and_what_another_one_has_does_not() {
    let start = |core: &mut WalCore, xid| feed(core, 300, &Model::StreamStart(xid, true));
    for (ends, holds) in [(Model::StreamCommit(8, 400, 408, 5), true), (Model::StreamAbort(8, 8), false)] {
        let mut core = live();
        core.tables = core.tables.undescribed();
        assert!(start(&mut core, 8).is_none());
        assert!(feed_in(&mut core, 300, 8, &posts()).unwrap().is_none());
        assert!(feed(&mut core, 300, &Model::StreamStop).is_none());
        feed(&mut core, 400, &ends);
        assert!(feed(&mut core, 500, &Model::Begin(500, 5, 9)).is_none());
        let payload = insert("1").encode(None);
        let data = WalData { start: Lsn(490), end: Lsn(490), sent_at_ms: 0, payload: &payload };
        assert_eq!(core.accept(&data).is_ok(), holds);
    }
}

#[test]
fn a_rollback_takes_back_what_was_given_out_and_nothing_else() {
    let mut core = live();
    assert_eq!(
        block(&mut core, 8, true, &[8, 10, 11]),
        ["8@0 begins 1 open", "8@1 1 open", "8@2 1 open"],
        "each within the other, as far as anybody knows"
    );
    assert_eq!(abort(&mut core, 8, 12), None, "of this one nothing has come");
    assert_eq!(abort(&mut core, 8, 11).unwrap(), "8@2 discard");
    assert_eq!(abort(&mut core, 8, 11), None, "not twice");
    assert_eq!(block(&mut core, 8, false, &[10, 13, 8]), ["8@1 1 open", "8@2 1 open", "8@0 1 open"]);
    assert_eq!(abort(&mut core, 8, 10), None, "8 went on: 10 and 13 are part of it for good");
    assert_eq!(abort(&mut core, 8, 8).unwrap(), "8@0 discard");
    assert!(core.resumes_at().is_some());
    assert_eq!(abort(&mut core, 8, 8), None, "of one that is unknown nothing was given out");
    assert_eq!(block(&mut core, 20, true, &[]), [] as [String; 0]);
    assert_eq!(abort(&mut core, 20, 20), None, "nor of one that has changed nothing");
}

#[test]
fn one_without_changes_for_the_replica_ends_as_any_other() {
    let mut core = live();
    assert_eq!(block(&mut core, 8, true, &[]), [] as [String; 0]);
    let end = feed(&mut core, 400, &Model::StreamCommit(8, 400, 408, 5)).map(streamed);
    assert_eq!(end.unwrap(), "0 of 8 to 408 live", "without a session of its own");
}

#[test]
fn one_that_the_replica_has_already_is_taken_back() {
    let mut core = live();
    assert_eq!(keepalive(&mut core, 500, 1000).unwrap(), "0 of 0 to 500 live");
    assert_eq!(block(&mut core, 8, true, &[8]), ["8@0 begins 1 open"]);
    let end = feed(&mut core, 400, &Model::StreamCommit(8, 400, 408, 5)).map(streamed);
    assert_eq!((end.unwrap().as_str(), core.repeated()), ("8@0 discard", 1));
}

#[test]
fn a_copy_leaves_out_what_it_holds_of_streamed_transactions_too() {
    let fence = Fence { snapshot: "5:8:6".parse().unwrap(), lsn: Lsn(450) };
    let fences = Fences { tables: [(TableName::new("public", "posts"), fence)].into(), ..Fences::default() };
    let mut core = core(ReplicaPhase::Copying, fences);
    assert_eq!(block(&mut core, 7, true, &[7, 20]), [] as [String; 0], "the copy has it");
    assert_eq!(block(&mut core, 6, true, &[6]), ["6@0 begins 1 open"], "it was running then");
    let end = feed(&mut core, 400, &Model::StreamCommit(6, 400, 408, 5)).map(streamed);
    assert_eq!(end.unwrap(), "6@0 0 of 6 to 408 copying");
}

#[test]
fn what_can_not_be_applied_while_it_runs_is_read_whole() {
    let mut core = live();
    assert!(feed(&mut core, 300, &Model::StreamStart(8, true)).is_none());
    let error = feed_in(&mut core, 300, 8, &Model::Truncate(vec![POSTS], false, false)).unwrap_err();
    assert!(matches!(&error, LaneError::Unstreamable { xid: Xid(8), .. }), "readers would wait: {error}");
    let mut core = live();
    assert!(feed(&mut core, 300, &Model::StreamStart(8, true)).is_none());
    assert!(feed_in(&mut core, 300, 8, &posts()).unwrap().is_none());
    let depth = u32::try_from(MAX_DEPTH).unwrap();
    for by in 9..9 + depth {
        feed_in(&mut core, 300, by, &insert("1")).unwrap();
    }
    let error = feed_in(&mut core, 300, 9 + depth, &insert("1")).unwrap_err();
    assert!(matches!(&error, LaneError::Unstreamable { xid: Xid(8), .. }), "too deep: {error}");
    let mut core = live();
    let most = u32::try_from(MAX_OPEN).unwrap();
    (0..most).for_each(|n| drop(block(&mut core, 8 + n, true, &[8 + n])));
    let payload = Model::StreamStart(8 + most, true).encode(None);
    let data = WalData { start: Lsn(300), end: Lsn(300), sent_at_ms: 0, payload: &payload };
    assert!(matches!(core.accept(&data), Err(LaneError::Unstreamable { .. })), "too many");
}

#[test]
fn blocks_out_of_order_end_the_lane() {
    assert!(fails(&mut live(), &Model::StreamStart(8, false)).contains("goes on that has not begun"));
    assert!(fails(&mut live(), &Model::StreamCommit(8, 400, 408, 5)).contains("commits that has not begun"));
    let mut core = live();
    block(&mut core, 8, true, &[8]);
    assert!(fails(&mut core, &Model::StreamStart(8, true)).contains("begins twice"));
    for message in [Model::StreamStart(8, false), Model::StreamAbort(8, 8)] {
        let mut core = live();
        block(&mut core, 8, true, &[8]);
        assert!(feed(&mut core, 400, &Model::Begin(400, 5, 9)).is_none());
        assert!(fails(&mut core, &message).contains("stands within another one"), "{message:?}");
    }
    let mut core = live();
    assert!(feed(&mut core, 400, &Model::StreamStart(8, true)).is_none());
    assert_eq!(keepalive(&mut core, 500, 9000), None, "not within a block");
    assert!(fails(&mut core, &Model::Begin(400, 5, 9)).contains("inside a streamed block"));
}

/// What a session of the leader does next.
#[derive(Debug, Clone, Copy)]
enum Act {
    Insert,
    Savepoint,
    /// Ends the innermost subtransaction.
    Release,
    RollBackTo,
    Commit,
    RollBack,
    /// The leader's memory is full: what this session has done is sent.
    Stream,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Insert),
        2 => Just(Act::Savepoint),
        1 => Just(Act::Release),
        1 => Just(Act::RollBackTo),
        1 => Just(Act::Commit),
        1 => Just(Act::RollBack),
        3 => Just(Act::Stream),
    ]
}

/// A transaction as the leader's decoder holds it.
#[derive(Debug, Default)]
struct Running {
    xid: u32,
    /// Open subtransactions, the innermost last: its xid once it has one, and those that have committed into it.
    levels: Vec<(Option<u32>, Vec<u32>)>,
    /// Its changes that were not sent, in order, and who made them.
    pending: Vec<(u32, u64)>,
    /// Its changes that are not rolled back.
    done: Vec<(u32, u64)>,
    /// Who has sent something.
    sent: BTreeSet<u32>,
    is_streamed: bool,
}

/// A leader with some sessions, and the lane that reads it.
struct World {
    core: WalCore,
    sessions: Vec<Option<Running>>,
    next: u64,
    committed: Vec<u64>,
    /// What the replica's readers see.
    visible: Vec<u64>,
    /// The rows of the open side transactions, by subtransaction.
    sides: BTreeMap<u32, Vec<Vec<u64>>>,
    watermark: CommitLsn,
}

impl World {
    fn number(&mut self) -> u64 {
        self.next += 10;
        self.next
    }

    fn send(&mut self, model: &Model, by: Option<u32>) {
        let lsn = self.number();
        let payload = model.encode(by);
        let data = WalData { start: Lsn(lsn), end: Lsn(lsn), sent_at_ms: 0, payload: &payload };
        if let Some(parcel) = self.core.accept(&data).unwrap() {
            self.apply(&parcel);
        }
    }

    /// As a replica does.
    fn apply(&mut self, parcel: &Parcel) {
        let id = |change: &Change| match &change.operation {
            Operation::Insert(row) => match row.cell(0) {
                Cell::Text(id) => id.parse::<u64>().unwrap(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        let rows: Vec<u64> = parcel.changes.iter().map(id).collect();
        match parcel.streamed {
            None => self.visible.extend(rows),
            Some(place) => {
                assert_eq!(place.begins, !self.sides.contains_key(&place.xid.0));
                let side = self.sides.entry(place.xid.0).or_insert_with(|| vec![vec![]]);
                match &parcel.end {
                    ParcelEnd::Discard if place.depth == 0 => drop(self.sides.remove(&place.xid.0)),
                    ParcelEnd::Discard => side.truncate(place.depth),
                    ParcelEnd::Open | ParcelEnd::Commit(_) => {
                        assert!(place.depth <= side.len(), "one deeper at most");
                        if place.depth == side.len() {
                            side.push(vec![]);
                        }
                        let ended = side.split_off(place.depth + 1).concat();
                        side[place.depth].extend(ended.into_iter().chain(rows));
                    }
                }
            }
        }
        if let ParcelEnd::Commit(point) = &parcel.end {
            let lsn = point.watermark().unwrap();
            assert!(lsn > self.watermark, "the watermark is monotone");
            self.watermark = lsn;
            if let Some(place) = parcel.streamed {
                self.visible.extend(self.sides.remove(&place.xid.0).unwrap().concat());
            }
            assert_eq!(self.visible, self.committed, "what the leader has committed, in its order");
        }
    }

    fn stream(&mut self, running: &mut Running) {
        if running.pending.is_empty() {
            return;
        }
        self.send(&Model::StreamStart(running.xid, !running.is_streamed), None);
        if !running.is_streamed {
            self.send(&posts(), Some(running.xid));
        }
        running.is_streamed = true;
        // Of the transaction itself, whoever made the changes.
        running.sent.insert(running.xid);
        for (by, id) in std::mem::take(&mut running.pending) {
            running.sent.insert(by);
            self.send(&insert(&id.to_string()), Some(by));
        }
        self.send(&Model::StreamStop, None);
    }

    /// As the record of a rollback names them: what had committed into it first, then itself.
    fn abort(&mut self, running: &mut Running, xids: &[u32]) {
        running.pending.retain(|(by, _)| !xids.contains(by));
        running.done.retain(|(by, _)| !xids.contains(by));
        for xid in xids.iter().filter(|xid| running.sent.contains(xid)) {
            self.send(&Model::StreamAbort(running.xid, *xid), None);
        }
    }

    fn act(&mut self, session: usize, act: Act) {
        let mut running = match self.sessions[session].take() {
            Some(running) => running,
            None => {
                let xid = u32::try_from(self.number()).unwrap();
                Running { xid, levels: vec![(Some(xid), vec![])], ..Running::default() }
            }
        };
        let innermost = running.levels.len() - 1;
        match act {
            Act::Insert => {
                // Who writes has an xid, and so has everybody around.
                for level in 0..=innermost {
                    let xid = u32::try_from(self.number()).unwrap();
                    running.levels[level].0.get_or_insert(xid);
                }
                let (by, id) = (running.levels[innermost].0.unwrap(), self.number());
                running.pending.push((by, id));
                running.done.push((by, id));
            }
            Act::Savepoint => running.levels.push((None, vec![])),
            Act::Release if innermost > 0 => {
                let (xid, within) = running.levels.pop().unwrap();
                running.levels[innermost - 1].1.extend(within.into_iter().chain(xid));
            }
            Act::RollBackTo if innermost > 0 => {
                let (xid, within) = running.levels.pop().unwrap();
                let xids: Vec<u32> = within.into_iter().chain(xid).collect();
                self.abort(&mut running, &xids);
            }
            Act::Stream => self.stream(&mut running),
            Act::RollBack => {
                let levels = std::mem::take(&mut running.levels);
                let xids: Vec<u32> = levels
                    .into_iter()
                    .rev()
                    .flat_map(|(xid, within)| within.into_iter().chain(xid))
                    .collect();
                self.abort(&mut running, &xids);
                // Nobody is told of one of which nothing was sent.
                assert!(!self.sides.contains_key(&running.xid) || running.is_streamed);
                return;
            }
            Act::Commit => return self.commit(running),
            Act::Release | Act::RollBackTo => {}
        }
        self.sessions[session] = Some(running);
    }

    fn commit(&mut self, mut running: Running) {
        let at = self.number();
        self.committed.extend(running.done.iter().map(|(_, id)| *id));
        if running.is_streamed {
            self.stream(&mut running);
            self.send(&Model::StreamCommit(running.xid, at, at + 8, 5), None);
        } else {
            self.send(&Model::Begin(at, 5, running.xid), None);
            for (_, id) in &running.pending {
                self.send(&insert(&id.to_string()), None);
            }
            self.send(&Model::Commit(at, at + 8, 5), None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Transactions and subtransactions that end in any way, sent whole or in blocks cut anywhere: what a replica shows is
    /// what the leader has committed, in its order.
    #[test]
    fn any_cut_of_any_history_shows_what_was_committed(acts in prop::collection::vec((0..4usize, act()), 0..120)) {
        let mut world = World {
            core: live(),
            sessions: (0..4).map(|_| None).collect(),
            next: 1000,
            committed: vec![],
            visible: vec![],
            sides: BTreeMap::new(),
            watermark: CommitLsn::default(),
        };
        for (session, act) in acts {
            world.act(session, act);
        }
        for session in 0..4 {
            world.act(session, Act::Commit);
        }
        prop_assert_eq!(world.visible, world.committed);
        prop_assert!(world.sides.is_empty(), "nothing stays open");
    }
}
