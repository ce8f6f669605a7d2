//! Data that a replica refuses, under the policy to keep it aside: the one change goes to the quarantine, nothing else does,
//! and trying again brings the replica where the leader is.

use std::time::Duration;

use e2e::postgres::Role;
use e2e::wait::until;
use replicator::replica::checkpoint::{self, CheckpointWriter, Claim};
use replicator::replica::quarantine::review::{self, Entry};
use replicator::replica::quarantine::{DataPolicy, FailurePolicy, Quarantine};
use replicator::replica::session::Session;
use replicator::replica::{Disposition, ReplicaError, apply::Applier, catalog};
use replicator::vocabulary::change::{Change, Operation};
use replicator::vocabulary::offset::{PartitionNames, TopicPartition};
use replicator::vocabulary::parcel::{Parcel, ParcelEnd};
use replicator::vocabulary::row::{Cell, RowBuilder};
use tokio_postgres::Client;

use crate::apply::{Fixture, transaction};
use crate::forms::change_in_binary;

/// Balances above this are refused by a constraint that only the replica has.
const TOO_MUCH: &str = "1000.00";

/// A replica that keeps what it refuses, with a constraint of its own.
async fn keeping(quarantine_limit: usize) -> anyhow::Result<(Fixture, Client)> {
    let policy = FailurePolicy { data: DataPolicy::Quarantine, quarantine_limit };
    let f = Fixture::with_policy(policy).await?;
    let superuser = f.cluster.superuser().await?;
    superuser.batch_execute("ALTER TABLE accounts ADD CONSTRAINT modest CHECK (balance < 1000)").await?;
    Ok((f, superuser))
}

fn insert(f: &Fixture, id: &str, balance: &str, offset: i64) -> anyhow::Result<Change> {
    f.change("accounts", Operation::Insert(f.account(id, Some(balance))?), offset)
}

fn update(f: &Fixture, id: &str, balance: &str, offset: i64) -> anyhow::Result<Change> {
    f.change("accounts", Operation::Update(f.account(id, Some(balance))?), offset)
}

fn delete(f: &Fixture, id: &str, offset: i64) -> anyhow::Result<Change> {
    let key = f.account(id, None)?.project(&f.table("accounts")?.key);
    f.change("accounts", Operation::Delete(key), offset)
}

async fn session(f: &Fixture) -> anyhow::Result<Session> {
    Ok(Session::connect(&f.cluster.url(Role::Replicator).parse()?).await?)
}

async fn entries(f: &Fixture) -> anyhow::Result<Vec<Entry>> {
    Ok(review::list(&session(f).await?).await?)
}

async fn diverged(f: &Fixture) -> anyhow::Result<(i64, Vec<String>)> {
    let row = f.reader.query_one("SELECT quarantined, diverged FROM replicator.progress", &[]).await?;
    Ok((row.get(0), row.get(1)))
}

/// What a daemon does when it starts again: everything is read from the replica.
async fn take_over(f: &mut Fixture) -> anyhow::Result<()> {
    let session = session(f).await?;
    let superuser = f.cluster.connect(Role::Superuser).await?;
    superuser.batch_execute("SELECT pg_terminate_backend(pid, 5000) FROM replicator.lease").await?;
    let checkpoint = until("the replica to be free", Duration::from_secs(10), async || {
        let claim = Claim { source: "debezium:app", owner: "test", lease: Duration::from_secs(60) };
        checkpoint::acquire(&session, claim).await.map_err(|error| error.to_string())
    })
    .await?;
    f.catalog = catalog::load(session.client()).await?.into();
    let policy = FailurePolicy { data: DataPolicy::Quarantine, quarantine_limit: 100 };
    let quarantine = Quarantine::load(&session, &f.catalog, policy).await?;
    let writer = CheckpointWriter::prepare(&session, checkpoint.epoch).await?;
    let names = PartitionNames::default();
    names.add(TopicPartition { topic: "app.transaction".into(), partition: 0 });
    names.add(TopicPartition { topic: "app.public.accounts".into(), partition: 0 });
    f.applier = Applier::new(session, writer, names).with_quarantine(quarantine);
    Ok(())
}

#[tokio::test]
async fn one_bad_row_among_many_is_found_and_nothing_else_is_held_up() -> anyhow::Result<()> {
    let (mut f, _superuser) = keeping(100).await?;
    let mut group = Vec::new();
    for n in 0..300_i64 {
        let balance = if n == 217 { TOO_MUCH } else { "1.00" };
        group.push(transaction(0x100 + u64::try_from(n)?, vec![insert(&f, &n.to_string(), balance, n)?]));
    }
    let applied = f.applier.apply(&group.iter().collect::<Vec<_>>()).await?;
    assert_eq!((applied.transactions, applied.changes, applied.quarantined), (300, 300, 1));
    assert_eq!(f.sum().await?, "299.00");
    assert_eq!(f.watermark().await?, "0/22B", "the watermark of the last transaction");
    let found = entries(&f).await?;
    let [entry] = found.as_slice() else { panic!("one change is kept: {found:?}") };
    assert_eq!((entry.topic.as_str(), entry.partition, entry.offset), ("app.public.accounts", 0, 217));
    assert_eq!((entry.xid, entry.commit_lsn.as_deref()), (Some(7), Some("0/1D9")));
    assert_eq!((entry.operation.as_str(), entry.key.as_deref()), ("insert", Some("{\"id\":\"217\"}")));
    assert!(entry.after.as_deref().is_some_and(|after| after.contains("\"balance\":\"1000.00\"")));
    assert_eq!(
        (entry.sqlstate.as_deref(), entry.constraint_name.as_deref()),
        (Some("23514"), Some("modest"))
    );
    assert!(!entry.message.contains("1000.00"), "no values in messages: {}", entry.message);
    assert_eq!(diverged(&f).await?, (1, vec!["public.accounts".to_owned()]));
    assert_eq!(f.applier.quarantine().len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_is_kept_of_tables_that_stand_apart_belongs_to_its_own_transaction() -> anyhow::Result<()> {
    let (mut f, _superuser) = keeping(100).await?;
    let mut group = Vec::new();
    for n in 0..40_i64 {
        let (balance, amount) =
            (if n == 17 { TOO_MUCH } else { "1.00" }, if n == 31 { "-1.00" } else { "1.00" });
        let changes = vec![
            f.change("transfers", Operation::Insert(f.transfer(n, amount)?), n)?,
            insert(&f, &n.to_string(), balance, n)?,
        ];
        group.push(transaction(0x100 + u64::try_from(n)?, changes));
    }
    let applied = f.applier.apply(&group.iter().collect::<Vec<_>>()).await?;
    assert_eq!((applied.transactions, applied.changes, applied.quarantined), (40, 80, 2));
    let mut found: Vec<_> = entries(&f).await?.into_iter().map(|e| (e.offset, e.commit_lsn)).collect();
    found.sort();
    assert_eq!(found, [(17, Some("0/111".to_owned())), (31, Some("0/11F".to_owned()))]);
    // Both tables stand apart from the beginning now, and lose nothing by it.
    let next = transaction(
        0x200,
        vec![
            f.change("transfers", Operation::Insert(f.transfer(50, "1.00")?), 50)?,
            insert(&f, "50", "1.00", 50)?,
            update(&f, "17", "2.00", 51)?,
        ],
    );
    let applied = f.applier.apply(&[&next]).await?;
    assert_eq!((applied.quarantined, f.sum().await?.as_str()), (1, "40.00"));
    let transfers = f.reader.query_one("SELECT count(*), min(amount)::text FROM transfers", &[]).await?;
    assert_eq!((transfers.get::<_, i64>(0), transfers.get::<_, &str>(1)), (40, "1.00"));
    Ok(())
}

#[tokio::test]
async fn changes_of_a_kept_row_follow_it_and_trying_again_applies_them_in_order() -> anyhow::Result<()> {
    let (mut f, superuser) = keeping(100).await?;
    let first = transaction(0x100, vec![insert(&f, "1", TOO_MUCH, 0)?, insert(&f, "2", "1.00", 1)?]);
    f.applier.apply(&[&first]).await?;
    // Alone this update would make the row, and a later attempt at the insert would find it there.
    let second = transaction(0x200, vec![update(&f, "1", "5.00", 2)?, update(&f, "2", "2.00", 3)?]);
    assert_eq!(f.applier.apply(&[&second]).await?.quarantined, 1);
    assert_eq!(f.accounts().await?, "2=2.00");
    // Another daemon knows it, too.
    take_over(&mut f).await?;
    let third = transaction(0x300, vec![update(&f, "1", "6.00", 4)?, delete(&f, "2", 5)?]);
    assert_eq!(f.applier.apply(&[&third]).await?.quarantined, 1);
    assert_eq!(f.accounts().await?, "");
    let found = entries(&f).await?;
    assert_eq!(found.iter().map(|e| e.offset).collect::<Vec<_>>(), [0, 2, 4]);
    assert!(found[1].message.contains("an earlier change of the same row"), "{}", found[1].message);

    let again = review::retry(session(&f).await?, &[]).await?;
    assert_eq!((again.applied.len(), again.failed.len()), (0, 3), "the constraint is still there: {again:?}");
    let later = review::retry(session(&f).await?, &[found[2].id]).await?;
    assert_eq!(later.applied, Vec::<i64>::new(), "not before the row's earlier changes");
    assert_eq!(entries(&f).await?.iter().map(|e| e.retries).collect::<Vec<_>>(), [1, 1, 2]);

    superuser.batch_execute("ALTER TABLE accounts DROP CONSTRAINT modest").await?;
    let again = review::retry(session(&f).await?, &[]).await?;
    assert_eq!((again.applied.len(), again.failed.len()), (3, 0), "{again:?}");
    assert_eq!(f.accounts().await?, "1=6.00");
    assert_eq!(diverged(&f).await?, (0, vec![]));

    // The daemon that applied meanwhile still holds the row back in its memory; it has to start again.
    let error = f.applier.apply(&[&transaction(0x400, vec![])]).await.expect_err("it was fenced off");
    assert_eq!(error.disposition(), Disposition::Yield, "{error}");
    take_over(&mut f).await?;
    f.applier.apply(&[&transaction(0x400, vec![update(&f, "1", "7.00", 6)?])]).await?;
    assert_eq!(f.accounts().await?, "1=7.00");
    Ok(())
}

#[tokio::test]
async fn a_skipped_change_is_remembered_and_its_table_stays_diverged_until_it_is_repaired()
-> anyhow::Result<()> {
    let (mut f, superuser) = keeping(100).await?;
    let parcel = transaction(0x100, vec![insert(&f, "1", TOO_MUCH, 0)?, update(&f, "1", "5.00", 1)?]);
    f.applier.apply(&[&parcel]).await?;
    // Folded the two are one insert of a modest balance: nothing was refused.
    assert_eq!((f.accounts().await?.as_str(), entries(&f).await?.len()), ("1=5.00", 0));
    let parcel = transaction(0x200, vec![update(&f, "1", TOO_MUCH, 2)?]);
    f.applier.apply(&[&parcel]).await?;
    let id = entries(&f).await?[0].id;
    assert_eq!(review::skip(&session(&f).await?, &[id, id + 1], "ada@host").await?, [id]);
    assert_eq!(diverged(&f).await?, (0, vec!["public.accounts".to_owned()]));
    let row = superuser
        .query_one("SELECT resolution, resolved_by, after IS NOT NULL FROM replicator.quarantine", &[])
        .await?;
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("skipped", "ada@host"));
    assert!(row.get::<_, bool>(2), "it could still be looked up");
    take_over(&mut f).await?;
    assert_eq!(f.applier.quarantine().diverged().count(), 1);
    f.applier.apply(&[&transaction(0x300, vec![update(&f, "1", "6.00", 3)?])]).await?;
    assert_eq!(f.accounts().await?, "1=6.00", "the row is free again");
    superuser.batch_execute("SELECT replicator.settle('public', 'accounts', 'repaired', 'test')").await?;
    assert_eq!(diverged(&f).await?, (0, vec![]));
    Ok(())
}

#[tokio::test]
async fn a_truncate_settles_what_is_kept_for_its_table() -> anyhow::Result<()> {
    let (mut f, _superuser) = keeping(100).await?;
    f.applier.apply(&[&transaction(0x100, vec![insert(&f, "1", TOO_MUCH, 0)?])]).await?;
    // transfers refers to accounts: the two are emptied by one statement.
    let truncates =
        [f.change("transfers", Operation::Truncate, 1)?, f.change("accounts", Operation::Truncate, 2)?];
    let mut changes = vec![update(&f, "1", "2.00", 0)?];
    changes.extend(truncates);
    changes.push(insert(&f, "1", "3.00", 3)?);
    let applied = f.applier.apply(&[&transaction(0x200, changes)]).await?;
    assert_eq!(applied.quarantined, 1, "the update before the truncate");
    assert_eq!((f.accounts().await?.as_str(), diverged(&f).await?), ("1=3.00", (0, vec![])));
    assert!(f.applier.quarantine().is_empty());
    Ok(())
}

#[tokio::test]
async fn an_outage_or_a_missing_table_never_ends_in_the_quarantine() -> anyhow::Result<()> {
    let (mut f, superuser) = keeping(100).await?;
    let parcel = transaction(0x100, vec![insert(&f, "1", TOO_MUCH, 0)?, insert(&f, "2", "1.00", 1)?]);
    superuser.batch_execute("ALTER TABLE accounts RENAME TO elsewhere").await?;
    let error = f.applier.apply(&[&parcel]).await.expect_err("the table is gone");
    assert_eq!(error.disposition(), Disposition::Schema, "{error}");
    superuser.batch_execute("ALTER TABLE elsewhere RENAME TO accounts").await?;
    take_over(&mut f).await?;
    superuser.batch_execute("SELECT pg_terminate_backend(pid, 5000) FROM replicator.lease").await?;
    let error = f.applier.apply(&[&parcel]).await.expect_err("the session is gone");
    assert_eq!(error.disposition(), Disposition::Retry, "{error}");
    assert_eq!((entries(&f).await?.len(), f.watermark().await?.as_str()), (0, "0/0"));
    Ok(())
}

#[tokio::test]
async fn a_table_that_takes_nothing_keeps_its_own_changes_only() -> anyhow::Result<()> {
    let (mut f, superuser) = keeping(100).await?;
    let refused = vec![
        f.change("transfers", Operation::Insert(f.transfer(1, "-1.00")?), 0)?,
        insert(&f, "1", TOO_MUCH, 1)?,
    ];
    assert_eq!(f.applier.apply(&[&transaction(0x100, refused)]).await?.quarantined, 2);
    superuser
        .batch_execute(
            "ALTER TABLE accounts DROP CONSTRAINT modest;
             ALTER TABLE transfers DROP CONSTRAINT transfers_amount_check, OWNER TO postgres",
        )
        .await?;
    let again = review::retry(session(&f).await?, &[]).await?;
    assert_eq!((again.applied.len(), f.accounts().await?.as_str()), (1, "1=1000.00"), "{again:?}");
    assert!(again.failed[0].1.contains("permission denied"), "{again:?}");
    superuser.batch_execute("ALTER TABLE transfers OWNER TO replicator").await?;
    let again = review::retry(session(&f).await?, &[]).await?;
    assert_eq!((again.applied.len(), again.failed.len()), (1, 0), "{again:?}");
    assert_eq!(diverged(&f).await?, (0, vec![]));
    Ok(())
}

#[tokio::test]
async fn a_change_that_its_table_can_not_hold_any_more_still_keeps_its_row_back() -> anyhow::Result<()> {
    let (mut f, superuser) = keeping(100).await?;
    superuser.batch_execute("ALTER TABLE accounts ADD COLUMN remark text").await?;
    take_over(&mut f).await?;
    let mut row = RowBuilder::new(5);
    for (column, text) in ["1", "owner", TOO_MUCH].into_iter().enumerate() {
        row.set(column, Cell::Text(text));
    }
    row.set(3, Cell::Null);
    row.set(4, Cell::Text("said"));
    let change = f.change("accounts", Operation::Insert(row.finish()), 0)?;
    f.applier.apply(&[&transaction(0x100, vec![change])]).await?;
    superuser.batch_execute("ALTER TABLE accounts DROP COLUMN remark").await?;
    take_over(&mut f).await?;
    let applied = f.applier.apply(&[&transaction(0x200, vec![update(&f, "1", "9.00", 1)?])]).await?;
    assert_eq!(
        (applied.quarantined, f.accounts().await?.as_str()),
        (1, ""),
        "it would be made from an update"
    );
    let again = review::retry(session(&f).await?, &[]).await?;
    assert_eq!((again.applied.len(), again.failed.len()), (0, 2), "{again:?}");
    assert!(again.failed[0].1.contains("no column remark"), "{again:?}");
    assert!(again.failed[1].1.contains("an earlier change of the same row"), "{again:?}");

    superuser.batch_execute("ALTER TABLE accounts ADD COLUMN remark text, DROP CONSTRAINT modest").await?;
    let again = review::retry(session(&f).await?, &[]).await?;
    assert_eq!((again.applied.len(), f.accounts().await?.as_str()), (2, "1=9.00"), "{again:?}");
    Ok(())
}

#[tokio::test]
async fn a_change_without_its_row_is_kept_and_names_it() -> anyhow::Result<()> {
    let (mut f, _superuser) = keeping(100).await?;
    let partial = f.change("accounts", Operation::Update(f.account("9", None)?), 4)?;
    let applied = f.applier.apply(&[&transaction(0x100, vec![partial, insert(&f, "1", "1.00", 5)?])]).await?;
    assert_eq!((applied.quarantined, f.accounts().await?.as_str()), (1, "1=1.00"));
    let entry = &entries(&f).await?[0];
    assert_eq!((entry.sqlstate.as_deref(), entry.offset), (None, 4));
    assert!(entry.message.contains("found no row with this id"), "{}", entry.message);
    assert!(!entry.after.as_deref().unwrap_or_default().contains("balance"), "absent is not null: {entry:?}");
    Ok(())
}

#[tokio::test]
async fn changes_in_binary_are_kept_as_text_and_followed_by_key_all_the_same() -> anyhow::Result<()> {
    let (mut f, superuser) = keeping(100).await?;
    let refused = change_in_binary(&superuser, insert(&f, "1", TOO_MUCH, 0)?).await?;
    let taken = change_in_binary(&superuser, insert(&f, "2", "1.00", 1)?).await?;
    assert_eq!(f.applier.apply(&[&transaction(0x100, vec![refused, taken])]).await?.quarantined, 1);
    let follows = change_in_binary(&superuser, update(&f, "1", "5.00", 2)?).await?;
    assert_eq!(f.applier.apply(&[&transaction(0x200, vec![follows])]).await?.quarantined, 1);
    // Another daemon reads keys that were kept as text.
    take_over(&mut f).await?;
    let follows = change_in_binary(&superuser, update(&f, "1", "6.00", 3)?).await?;
    let gone = change_in_binary(&superuser, delete(&f, "2", 4)?).await?;
    assert_eq!(f.applier.apply(&[&transaction(0x300, vec![follows, gone])]).await?.quarantined, 1);
    assert_eq!(f.accounts().await?, "");
    let found = entries(&f).await?;
    assert_eq!(found.iter().map(|entry| entry.offset).collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!(found[0].key.as_deref(), Some("{\"id\":\"1\"}"));
    let after = found[0].after.as_deref().unwrap_or_default();
    assert!(after.contains("\"balance\":\"1000.00\"") && after.contains("\"owner\":\"owner\""), "{after}");

    superuser.batch_execute("ALTER TABLE accounts DROP CONSTRAINT modest").await?;
    let again = review::retry(session(&f).await?, &[]).await?;
    assert_eq!((again.applied.len(), f.accounts().await?.as_str()), (3, "1=6.00"));
    Ok(())
}

#[tokio::test]
async fn a_value_that_postgresql_can_not_store_is_kept_as_it_came() -> anyhow::Result<()> {
    let (mut f, _superuser) = keeping(100).await?;
    let mut row = RowBuilder::new(4);
    for (column, text) in ["1", "a\u{0}b", "1.00"].into_iter().enumerate() {
        row.set(column, Cell::Text(text));
    }
    row.set(3, Cell::Null);
    let change = f.change("accounts", Operation::Insert(row.finish()), 0)?;
    f.applier.apply(&[&transaction(0x100, vec![change])]).await?;
    let entry = &entries(&f).await?[0];
    assert_eq!(entry.sqlstate.as_deref(), Some("22021"));
    assert!(entry.after.as_deref().unwrap_or_default().contains("a\\u0000b"), "{entry:?}");
    Ok(())
}

#[tokio::test]
async fn a_large_transaction_keeps_what_it_must_and_forgets_it_when_it_is_given_up() -> anyhow::Result<()> {
    let (mut f, _superuser) = keeping(100).await?;
    let part = |changes| Parcel::new(changes, 0, ParcelEnd::Open);
    f.applier.apply_part(&part(vec![insert(&f, "1", TOO_MUCH, 0)?, insert(&f, "2", "2.00", 1)?])).await?;
    f.applier.discard_open().await?;
    assert_eq!(f.applier.quarantine().len(), 0);

    f.applier.apply_part(&part(vec![insert(&f, "1", "1.00", 2)?, insert(&f, "2", TOO_MUCH, 3)?])).await?;
    f.applier.apply_part(&part(vec![update(&f, "2", "3.00", 4)?])).await?;
    let ParcelEnd::Commit(point) = transaction(0x300, vec![]).end else { unreachable!("it commits") };
    let applied = f.applier.commit_open(&point).await?;
    assert_eq!((applied.changes, applied.quarantined), (3, 2));
    assert_eq!(f.accounts().await?, "1=1.00", "the row of the given-up attempt is not held back");
    let found = entries(&f).await?;
    assert!(found.iter().all(|e| e.commit_lsn.as_deref() == Some("0/300") && e.xid == Some(7)), "{found:?}");
    Ok(())
}

#[tokio::test]
async fn a_quarantine_that_is_full_halts_the_replica() -> anyhow::Result<()> {
    let (mut f, _superuser) = keeping(2).await?;
    let changes =
        (0..3).map(|n| insert(&f, &n.to_string(), TOO_MUCH, n)).collect::<anyhow::Result<Vec<_>>>()?;
    let error = f.applier.apply(&[&transaction(0x100, changes)]).await.expect_err("two are the limit");
    assert!(matches!(error, ReplicaError::QuarantineFull { limit: 2, .. }), "{error}");
    assert_eq!(error.disposition(), Disposition::Halt);
    assert!(error.hint().contains("replicator quarantine list"), "{}", error.hint());
    assert_eq!((entries(&f).await?.len(), f.watermark().await?.as_str()), (0, "0/0"), "nothing is committed");
    Ok(())
}
