//! Messages into parcels.

mod streams;

use super::*;
use crate::decode::pgoutput::Values;
use crate::decode::pgoutput::model::{Model, Value, relation};
use crate::lane::LaneLimits;
use crate::vocabulary::fence::{Fence, Fences};
use crate::vocabulary::parcel::ParcelEnd;
use crate::vocabulary::schema::{Catalog, Column, TableName};

const POSTS: u32 = 7;

fn core(phase: ReplicaPhase, fences: Fences) -> WalCore {
    let posts = Table::new(TableName::new("public", "posts"), vec![Column::text("id")], vec![0]);
    let start = LaneStart {
        catalog: Arc::new(Catalog::new([posts])),
        watermark: CommitLsn(Lsn(100)),
        leader: None,
        phase,
        offsets: [(offset::wal(), 100)].into(),
        snapshots: [].into(),
        fences,
        repeats: vec![],
        looks_back: false,
        streaming: true,
        binary: true,
        limits: LaneLimits {
            queue_records: 1,
            queue_bytes: 1,
            parcel_changes: 2,
            parcel_bytes: usize::MAX,
            channel_bytes: 1,
        },
    };
    let mut core = WalCore::new(start, Lsn(100), vec![], Values::Text);
    let relation = relation(POSTS, "posts", &[(true, "id")]);
    assert!(feed(&mut core, 100, &relation).is_none());
    core
}

fn feed(core: &mut WalCore, lsn: u64, model: &Model) -> Option<Parcel> {
    let payload = model.encode(None);
    core.accept(&WalData { start: Lsn(lsn), end: Lsn(lsn), sent_at_ms: 0, payload: &payload }).unwrap()
}

fn insert(id: &str) -> Model {
    Model::Insert(POSTS, vec![Value::Text(id.as_bytes().to_vec())])
}

/// A transaction of so many rows, whose commit record begins at `at` and ends 8 behind it; what comes out of it, in words.
fn transaction(core: &mut WalCore, xid: u32, at: u64, rows: usize) -> Vec<String> {
    let mut out = vec![feed(core, at, &Model::Begin(at, 5, xid))];
    out.extend((0..rows).map(|n| feed(core, at - 50 + n as u64, &insert(&n.to_string()))));
    out.push(feed(core, at, &Model::Commit(at, at + 8, 5)));
    out.into_iter().flatten().map(words).collect()
}

fn words(parcel: Parcel) -> String {
    let rows = parcel.changes.len();
    match parcel.end {
        ParcelEnd::Open => format!("{rows} open"),
        ParcelEnd::Discard => "discard".to_owned(),
        ParcelEnd::Commit(point) => {
            let lsn = point.watermark().map_or(0, |lsn| lsn.0.0);
            assert_eq!(point.offsets, [(WAL, offset::wal_offset(Lsn(lsn)))], "where it goes on");
            let xid = point.transaction.map_or(0, |transaction| transaction.xid.0);
            format!("{rows} of {xid} to {lsn} {}", point.state.as_str())
        }
    }
}

fn keepalive(core: &mut WalCore, lsn: u64, at_ms: i64) -> Option<String> {
    let keepalive = Keepalive { wal_end: Lsn(lsn), sent_at_ms: at_ms, reply_requested: false };
    core.keepalive(&keepalive).map(words)
}

#[test]
fn a_transaction_goes_out_whole_or_in_parts_and_moves_the_watermark_to_its_end() {
    let mut core = core(ReplicaPhase::Live, Fences::default());
    assert_eq!(transaction(&mut core, 5, 200, 1), ["1 of 5 to 208 live"]);
    assert_eq!(transaction(&mut core, 6, 300, 5), ["2 open", "2 open", "1 of 6 to 308 live"]);
    assert_eq!(core.resumes_at(), Some(Lsn(308)));
    assert!(feed(&mut core, 400, &Model::Begin(400, 5, 7)).is_none());
    assert_eq!(core.resumes_at(), None, "not within a transaction");
}

#[test]
fn what_the_replica_has_already_is_dropped() {
    let mut core = core(ReplicaPhase::Live, Fences::default());
    assert_eq!(transaction(&mut core, 4, 92, 3), [] as [String; 0]);
    assert_eq!(core.repeated(), 1);
    assert_eq!(
        transaction(&mut core, 5, 100, 1),
        ["1 of 5 to 108 live"],
        "it begins where the last one ended"
    );
}

#[test]
fn a_sign_of_life_moves_the_watermark_between_transactions_only() {
    let mut core = core(ReplicaPhase::Live, Fences::default());
    assert_eq!(keepalive(&mut core, 150, 1000).unwrap(), "0 of 0 to 150 live");
    assert_eq!(keepalive(&mut core, 150, 1001), None, "nothing new");
    assert_eq!(
        keepalive(&mut core, 150, 2000).unwrap(),
        "0 of 0 to 150 live",
        "still up to date, a second later"
    );
    assert_eq!(keepalive(&mut core, 140, 4000), None, "never back");
    assert!(feed(&mut core, 200, &Model::Begin(200, 5, 7)).is_none());
    assert_eq!(keepalive(&mut core, 300, 5000), None, "the open transaction ends before that");
}

#[test]
fn the_end_of_a_backlog_is_told_where_the_last_commit_stands() {
    let mut core = core(ReplicaPhase::Live, Fences::default());
    let mut commits = |count: u32, from: u64| {
        for n in 0..u64::from(count) {
            assert_eq!(transaction(&mut core, 5, from + 10 * n, 0).len(), 1);
        }
        let last = from + 10 * u64::from(count - 1) + 8;
        keepalive(&mut core, last, 0)
    };
    assert_eq!(commits(MANY - 1, 1000), None, "too few");
    assert_eq!(commits(MANY, 2000).unwrap(), "0 of 0 to 2078 live");
    for n in 0..3 * u64::from(MANY) {
        assert_eq!(commits(1, 3000 + 10 * n), None, "one by one they are no backlog");
    }
}

#[test]
fn a_copy_is_live_when_the_stream_has_passed_it_and_its_own_transactions_are_left_out() {
    let fence = Fence { snapshot: "5:8:6".parse().unwrap(), lsn: Lsn(250) };
    let fences = Fences { tables: [(TableName::new("public", "posts"), fence)].into(), ..Fences::default() };
    let mut core = core(ReplicaPhase::Copying, fences);
    assert_eq!(transaction(&mut core, 7, 200, 1), ["0 of 7 to 208 copying"], "the copy has it");
    assert_eq!(transaction(&mut core, 6, 220, 1), ["1 of 6 to 228 copying"], "it was running then");
    assert!(core.waiting_for().is_some());
    assert_eq!(keepalive(&mut core, 260, 9000).unwrap(), "0 of 0 to 260 live");
    assert_eq!(transaction(&mut core, 9, 300, 1), ["1 of 9 to 308 live"]);
}

#[test]
fn messages_out_of_order_end_the_lane_with_the_place() {
    let mut core = core(ReplicaPhase::Live, Fences::default());
    let payload = insert("1").encode(None);
    let data = WalData { start: Lsn(0x1_0000_0010), end: Lsn(0), sent_at_ms: 0, payload: &payload };
    let error = core.accept(&data).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the leader's WAL at 1/10: the leader's stream: a change belongs to no transaction"
    );
    assert!(!error.is_outage() && error.hint().contains("pooler"));
}
