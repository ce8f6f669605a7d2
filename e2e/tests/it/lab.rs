//! The lab on one server: its SQL is accepted, most of its transactions commit, and its invariant holds between them and
//! fails where a row is lost, doubled or half changed.

use std::time::Duration;

use e2e::lab::{self, Lab};
use e2e::observe::{self, Invariants, Marks, Progress, Reader};
use e2e::postgres::{Cluster, Role};

/// Enough for each kind of transaction to come.
const TRANSACTIONS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_invariant_of_the_lab_holds_between_transactions_and_a_fault_is_seen() {
    let lab = Lab::new(42);
    // A replica, because the invariants read the contract's schema; it only needs what a leader has beside.
    let server = Cluster::replica("both").await.unwrap();
    let first = server.connect(Role::Superuser).await.unwrap();
    // For this session, and then for those that come.
    first.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    let writable = "ALTER ROLE postgres IN DATABASE app SET default_transaction_read_only = off";
    first.batch_execute(writable).await.unwrap();
    let owner = server.connect(Role::Superuser).await.unwrap();
    owner.batch_execute("CREATE PUBLICATION cdc; CREATE ROLE debezium").await.unwrap();
    let tables = format!("{} {} {}", lab.create(), lab.on_leader(), lab.on_replica());
    owner.batch_execute(&tables).await.unwrap();
    owner.batch_execute(&lab.first_rows()).await.unwrap();

    let marks = Marks::default();
    let marker = observe::mark(&server.url(Role::Superuser), Duration::from_millis(10), &marks);
    let invariants = Invariants::of_the_demo().with(lab.invariant());
    let reader = Reader::new(&owner, &invariants).await.unwrap();
    let mut writer = lab.writer(1);
    let (mut committed, mut refused) = (0, 0);
    for _ in 0..TRANSACTIONS {
        let transaction = writer.next_transaction();
        match lab::run(&owner, &transaction).await.unwrap() {
            true => committed += 1,
            false => refused += usize::from(transaction.commits()),
        }
        let violations = reader.read(true, &mut Progress::default()).await.unwrap();
        assert_eq!(violations, Vec::<String>::new(), "after {}", transaction.sql());
    }
    let made = marker.finish().await.unwrap();
    println!("{committed} committed, {refused} refused, {made} marks");
    assert!(refused * 5 < committed, "{refused} of {committed} transactions were refused");
    assert!(made > 0, "no marks");

    for fault in [
        "DELETE FROM lab.bag WHERE ctid = (SELECT min(ctid) FROM lab.bag)",
        "INSERT INTO lab.sack SELECT * FROM lab.sack LIMIT 1",
        "UPDATE lab.docs SET weight = weight + 1 WHERE id = (SELECT min(id) FROM lab.docs)",
        "DELETE FROM lab.parent",
    ] {
        owner.batch_execute("BEGIN; SET LOCAL session_replication_role = replica").await.unwrap();
        owner.batch_execute(fault).await.unwrap();
        let violations = reader.read(true, &mut Progress::default()).await.unwrap();
        assert!(violations.iter().any(|text| text.contains("its tally says")), "{fault}: {violations:?}");
        owner.batch_execute("ROLLBACK").await.unwrap();
    }
}
