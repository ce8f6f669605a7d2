//! Slots: made, looked at, copied, and everything that can be wrong with them.

use std::time::Duration;

use e2e::postgres::{Cluster, Kind, Role};
use replicator::source::postgres::{
    Lifetime, PostgresSourceError, ReplicationConnection, SlotSnapshot, StreamOptions, copy_slot,
    create_slot, drop_slot, find_slot,
};
use replicator::vocabulary::lsn::Lsn;

use super::{Leader, Reader, SLOT, options};

#[tokio::test]
async fn a_slot_is_made_looked_at_and_dropped() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    let mut connection = leader.connect(&[]).await?;
    let created = create_slot(&mut connection, "another", Lifetime::Permanent, SlotSnapshot::Discard).await?;
    assert_eq!(created.snapshot, None);
    let slot = find_slot(&mut connection, "another").await?.expect("it was made");
    assert_eq!((slot.name.as_str(), slot.plugin.as_deref()), ("another", Some("pgoutput")));
    assert_eq!((slot.database.as_deref(), slot.temporary, slot.active_pid), (Some("app"), false, None));
    assert_eq!(slot.confirmed_flush, Some(created.consistent_point));
    assert_eq!((slot.wal_status.as_deref(), slot.is_lost()), (Some("reserved"), false));
    assert!(slot.restart_lsn.is_some_and(|lsn| lsn <= created.consistent_point));
    let again = create_slot(&mut connection, "another", Lifetime::Permanent, SlotSnapshot::Discard).await;
    let error = again.expect_err("the name is taken");
    assert!(
        error.to_string().starts_with("make the slot: ") && error.to_string().contains("42710"),
        "{error}"
    );
    drop_slot(&mut connection, "another").await?;
    assert_eq!(find_slot(&mut connection, "another").await?, None);
    Ok(())
}

#[tokio::test]
async fn an_exported_snapshot_has_what_the_slot_does_not_send() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader.sql.batch_execute("INSERT INTO items VALUES (1, 'before', NULL, NULL)").await?;
    let mut connection = leader.connect(&[]).await?;
    let created = create_slot(&mut connection, "copying", Lifetime::Session, SlotSnapshot::Export).await?;
    leader.sql.batch_execute("INSERT INTO items VALUES (2, 'after', NULL, NULL)").await?;
    let snapshot = created.snapshot.expect("it was asked for");
    leader
        .sql
        .batch_execute(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{snapshot}'"
        ))
        .await?;
    assert_eq!(leader.text("SELECT string_agg(name, ',') FROM items").await?, "before");
    leader.sql.batch_execute("COMMIT").await?;
    let mut reader = Reader::new(connection.start("copying", created.consistent_point, &options()).await?);
    assert_eq!(reader.until("commit").await?[1], "insert items (2, after, NULL, NULL)");
    assert!(reader.commit.0 > created.consistent_point);
    Ok(())
}

#[tokio::test]
async fn a_copied_slot_is_read_while_the_first_is_in_use_and_ends_with_its_session() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader.sql.batch_execute("INSERT INTO items VALUES (1, NULL, NULL, NULL)").await?;
    let mut first = leader.stream().await?;
    first.until("commit").await?;

    let mut connection = leader.connect(&[]).await?;
    let confirmed = copy_slot(&mut connection, SLOT, "second").await?;
    assert!(confirmed < first.commit.0);
    let slot = find_slot(&mut connection, "second").await?.expect("it was made");
    assert!(slot.temporary && slot.confirmed_flush == Some(confirmed));
    let mut second = Reader::new(connection.start("second", Lsn(0), &options()).await?);
    assert_eq!(second.until("commit").await?[1], "insert items (1, NULL, NULL, NULL)");
    assert_eq!(second.commit, first.commit);
    assert_eq!(second.stream.slot(), "second");
    second.stream.stop().await?.close().await;
    let mut connection = leader.connect(&[]).await?;
    e2e::wait::until("the copy to be gone", super::PATIENCE, async || {
        match find_slot(&mut connection, "second").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_slot_in_use_is_told_from_one_that_is_missing() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    let reader = leader.stream().await?;
    let connection = leader.connect(&[]).await?;
    let error = connection.start(SLOT, Lsn(0), &options()).await.expect_err("it is in use");
    assert!(matches!(&error, PostgresSourceError::SlotInUse { slot, .. } if slot == SLOT), "{error}");
    let pid = leader.text("SELECT active_pid::text FROM pg_replication_slots").await?;
    assert!(error.to_string().contains(&pid), "the other one is named: {error}");
    assert!(error.hint().contains("active_pid"), "{}", error.hint());
    drop(reader);
    let connection = leader.connect(&[]).await?;
    let error = connection.start("nowhere", Lsn(0), &options()).await.expect_err("there is none");
    assert!(matches!(&error, PostgresSourceError::SlotMissing { slot, .. } if slot == "nowhere"), "{error}");
    assert!(error.hint().contains("replicator rebuild"), "{}", error.hint());
    Ok(())
}

#[tokio::test]
async fn a_slot_whose_wal_is_gone_is_lost() -> anyhow::Result<()> {
    let settings = [("max_slot_wal_keep_size", "1MB"), ("min_wal_size", "32MB")];
    let leader = Leader::with_settings(&settings).await?;
    let mut connection = leader.connect(&[]).await?;
    e2e::wait::until("the slot to be lost", Duration::from_secs(60), async || {
        let waste = "SELECT pg_logical_emit_message(false, 'waste', repeat('x', 1000)), pg_switch_wal()";
        leader.sql.execute(waste, &[]).await.map_err(|e| e.to_string())?;
        leader.sql.batch_execute("CHECKPOINT").await.map_err(|e| e.to_string())?;
        match find_slot(&mut connection, SLOT).await {
            Ok(Some(slot)) if slot.is_lost() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let error = connection.start(SLOT, Lsn(0), &options()).await.expect_err("it is lost");
    assert!(matches!(&error, PostgresSourceError::SlotLost { slot, .. } if slot == SLOT), "{error}");
    assert!(
        error.hint().contains("max_slot_wal_keep_size") && error.hint().contains("rebuild"),
        "{}",
        error.hint()
    );
    Ok(())
}

#[tokio::test]
async fn a_missing_publication_shows_with_the_first_change() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader.sql.batch_execute("INSERT INTO items VALUES (1, NULL, NULL, NULL)").await?;
    let wrong = StreamOptions { publications: vec!["nowhere".to_owned()], ..options() };
    let mut reader = leader.stream_with(&[], Lsn(0), &wrong).await?;
    let error = reader.failure().await?;
    assert!(matches!(error, PostgresSourceError::PublicationMissing(_)), "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_leader_without_logical_wal_is_refused_with_the_statement_that_mends_it() -> anyhow::Result<()> {
    let cluster = Cluster::with_settings(Kind::Plain, "leader", &[("wal_level", "replica")]).await?;
    let config = cluster.url(Role::Superuser).parse()?;
    let mut connection = ReplicationConnection::connect(&config, &[]).await?;
    let made = create_slot(&mut connection, SLOT, Lifetime::Permanent, SlotSnapshot::Discard).await;
    let error = made.expect_err("nothing can be decoded");
    assert!(matches!(error, PostgresSourceError::WalLevel(_)), "{error}");
    assert!(error.hint().contains("ALTER SYSTEM SET wal_level = logical"), "{}", error.hint());
    Ok(())
}
