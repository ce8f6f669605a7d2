//! What becomes of the connection.

use std::time::Duration;

use e2e::proxy::ChaosProxy;
use e2e::wait::until;
use replicator::decode::pgoutput::{Frame, StatusUpdate};
use replicator::source::postgres::{PostgresSourceError, ReplicationConnection};
use replicator::vocabulary::lsn::Lsn;

use super::{Leader, PATIENCE, Reader, SLOT, options};

fn all(lsn: Lsn) -> StatusUpdate {
    StatusUpdate { written: lsn, flushed: lsn, applied: lsn, reply_requested: false }
}

async fn confirmed(leader: &Leader) -> anyhow::Result<Lsn> {
    let sql =
        format!("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    Ok(leader.text(&sql).await?.parse()?)
}

async fn wait_until_confirmed(leader: &Leader, lsn: Lsn) -> anyhow::Result<()> {
    until("the confirmed position", PATIENCE, async || {
        let found = confirmed(leader).await.map_err(|e| e.to_string())?;
        if found == lsn { Ok(()) } else { Err(format!("{found} and not {lsn}")) }
    })
    .await
}

#[tokio::test]
async fn a_stream_goes_on_behind_what_was_confirmed_and_repeats_what_was_not() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    for id in 1..=3 {
        leader.sql.batch_execute(&format!("INSERT INTO items VALUES ({id}, NULL, NULL, NULL)")).await?;
    }
    let mut reader = leader.stream().await?;
    reader.until("commit").await?;
    let first = reader.commit;
    reader.until("commit").await?;
    let second = reader.commit;
    reader.stream.send_status(all(first.0))?;
    wait_until_confirmed(&leader, first.0).await?;
    reader.stream.stop().await?.close().await;

    let mut reader = leader.stream().await?;
    assert_eq!(reader.until("commit").await?[1], "insert items (2, NULL, NULL, NULL)");
    assert_eq!(reader.commit, second);
    reader.stream.stop().await?.close().await;

    let mut reader = leader.stream_with(&[], second.0, &options()).await?;
    assert_eq!(reader.until("commit").await?[1], "insert items (3, NULL, NULL, NULL)");
    assert_eq!(confirmed(&leader).await?, first.0, "asking for a later start confirms nothing");
    Ok(())
}

#[tokio::test]
async fn an_idle_stream_is_kept_alive_and_told_how_far_the_leader_is() -> anyhow::Result<()> {
    let leader = Leader::with_settings(&[("wal_sender_timeout", "1s")]).await?;
    let mut reader = leader.stream().await?;
    let written: Lsn = leader.text("SELECT pg_current_wal_lsn()::text").await?.parse()?;
    let (mut asked, mut seen) = (0, Lsn(0));
    let end = tokio::time::Instant::now() + Duration::from_secs(4);
    while let Ok(frame) = tokio::time::timeout_at(end, reader.stream.next()).await {
        if let Frame::Keepalive(keepalive) = frame? {
            asked += u32::from(keepalive.reply_requested);
            seen = seen.max(keepalive.wal_end);
        }
    }
    assert!(asked >= 3, "asked {asked} times in four times the limit, and answered");
    assert!(seen >= written, "{seen} {written}");
    reader.stream.send_status(StatusUpdate { reply_requested: true, ..all(seen) })?;
    let frame = tokio::time::timeout(PATIENCE, reader.stream.next()).await??;
    assert!(matches!(frame, Frame::Keepalive(_)), "an answer that was asked for: {frame:?}");
    wait_until_confirmed(&leader, seen).await
}

#[tokio::test]
async fn dropping_a_wait_loses_nothing() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader
        .sql
        .batch_execute(
            "INSERT INTO items SELECT i, repeat('x', 1000), NULL, NULL FROM generate_series(1, 5000) i",
        )
        .await?;
    let mut reader = leader.stream().await?;
    let mut rows = 0;
    let reading = async {
        loop {
            // Shorter than most reads take, so that they are cut everywhere.
            match tokio::time::timeout(Duration::from_micros(20), reader.step()).await {
                Ok(line) => match line?.unwrap_or_default().as_str() {
                    "commit" => return anyhow::Ok(()),
                    line => rows += u32::from(line.starts_with("insert")),
                },
                Err(_) => reader.stream.send_status(all(Lsn(0)))?,
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await??;
    assert_eq!(rows, 5000);
    Ok(())
}

#[tokio::test]
async fn a_stream_that_stops_gives_its_session_back_for_commands() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader.sql.batch_execute("INSERT INTO items VALUES (1, NULL, NULL, NULL)").await?;
    let reader = leader.stream().await?;
    let mut connection = tokio::time::timeout(PATIENCE, reader.stream.stop()).await??;
    let identity = connection.identify_system().await?;
    assert_eq!((identity.history.timeline, identity.database.as_str()), (1, "app"));
    assert!(identity.wal_position > Lsn(0) && identity.history.system_id > 0);
    let rows = connection.simple_query("ask", "SELECT 1, NULL; SELECT ''").await?;
    assert_eq!(rows, [vec![Some("1".to_owned()), None], vec![Some(String::new())]]);
    let error =
        connection.start(SLOT, Lsn(0), &options()).await.expect_err("PostgreSQL would end it at once");
    assert!(error.to_string().contains("streamed before"), "{error}");
    let mut reader = leader.stream().await?;
    assert_eq!(reader.until("commit").await?.len(), 3, "nothing was confirmed");
    Ok(())
}

#[tokio::test]
async fn a_walsender_that_is_ended_says_so() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    let mut reader = leader.stream().await?;
    leader.sql.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots", &[]).await?;
    let error = reader.failure().await?;
    assert!(matches!(&error, PostgresSourceError::Ended(said) if said.code == "57P01"), "{error}");
    assert!(error.hint().contains("connects again"), "{}", error.hint());
    Ok(())
}

#[tokio::test]
async fn a_leader_that_stops_or_vanishes_ends_the_stream() -> anyhow::Result<()> {
    let mut leader = Leader::start().await?;
    let proxy = ChaosProxy::start(leader.cluster.port()).await?;
    let config = leader.cluster.url_through(e2e::postgres::Role::Superuser, proxy.port()).parse()?;
    let connection = ReplicationConnection::connect(&config, &[]).await?;
    let mut reader = Reader::new(connection.start(SLOT, Lsn(0), &options()).await?);
    proxy.cut();
    let error = reader.failure().await?;
    assert!(matches!(error, PostgresSourceError::Lost(_)), "{error}");

    let free =
        until("the slot to be free", PATIENCE, async || leader.stream().await.map_err(|e| e.to_string()));
    let mut reader = free.await?;
    leader.cluster.kill()?;
    let error = reader.failure().await?;
    assert!(matches!(error, PostgresSourceError::Lost(_) | PostgresSourceError::Ended(_)), "{error}");
    let error = leader.connect(&[]).await.expect_err("nobody is there").to_string();
    assert!(error.contains(&format!("127.0.0.1:{} can't be reached", leader.cluster.port())), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_query_that_was_given_up_makes_the_connection_useless_and_not_wrong() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    let mut connection = leader.connect(&[]).await?;
    let waiting = connection.simple_query("sleep", "SELECT pg_sleep(1)");
    tokio::time::timeout(Duration::from_millis(50), waiting).await.expect_err("it sleeps");
    let error =
        connection.simple_query("ask", "SELECT 2").await.expect_err("its answer would be the first's");
    assert!(matches!(error, PostgresSourceError::Protocol(_)), "{error}");
    Ok(())
}
