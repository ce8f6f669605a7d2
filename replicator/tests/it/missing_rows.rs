//! Updates of rows that the replica has lost: made whole from the event, or with the leader's help.

use anyhow::ensure;
use e2e::postgres::Role;

use crate::story::{Event, Story};

const BIG: &str = r#""__debezium_unavailable_value""#;

async fn story() -> anyhow::Result<Story> {
    let mut story = Story::new().await?;
    story.on_both("CREATE TABLE t (id int PRIMARY KEY, n int, big text, extra text)").await?;
    story.on_leader.batch_execute("GRANT SELECT ON t TO replicator").await?;
    story.help.leader = Some(story.leader.url(Role::Replicator).parse()?);
    Ok(story)
}

#[tokio::test]
async fn what_the_event_leaves_out_is_fetched_from_the_leader() -> anyhow::Result<()> {
    let mut story = story().await?;
    // The row was changed again since the event: only what the event leaves out is taken from there.
    story.on_leader.batch_execute("INSERT INTO t VALUES (1, 12, repeat('x', 9000), 'later')").await?;
    story.transaction(&[Event::update("t", &format!(r#"{{"id":1,"n":11,"big":{BIG},"extra":"then"}}"#))]);
    let applied = story.apply().await?;
    assert_eq!(applied.iter().map(|a| a.fetched_for_missing).sum::<u64>(), 1);
    let row = story.on_replica.query_one("SELECT n, length(big), extra FROM t", &[]).await?;
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1), row.get::<_, &str>(2)), (11, 9000, "then"));
    // The later change comes in the stream, and both are equal.
    story.transaction(&[Event::update("t", &format!(r#"{{"id":1,"n":12,"big":{BIG},"extra":"later"}}"#))]);
    story.apply().await?;
    story.assert_equal("t").await.map(drop)
}

#[tokio::test]
async fn a_row_that_is_gone_on_the_leader_meanwhile_stays_away() -> anyhow::Result<()> {
    let mut story = story().await?;
    story.transaction(&[Event::update("t", &format!(r#"{{"id":1,"n":11,"big":{BIG},"extra":null}}"#))]);
    story.transaction(&[Event::delete("t", r#"{"id":1,"n":null,"big":null,"extra":null}"#)]);
    story.apply().await?;
    assert_eq!(story.assert_equal("t").await?, "");
    Ok(())
}

#[tokio::test]
async fn a_row_that_the_leader_does_not_show_yet_is_waited_for() -> anyhow::Result<()> {
    let mut story = story().await?;
    // As between the moment at which a commit is in the WAL and the one at which others see it.
    story.on_leader.batch_execute("BEGIN; INSERT INTO t VALUES (1, 11, repeat('x', 9000), NULL)").await?;
    story.transaction(&[Event::update("t", &format!(r#"{{"id":1,"n":11,"big":{BIG},"extra":null}}"#))]);
    let after = story.leader.connect(Role::Superuser).await?;
    let hidden = std::mem::replace(&mut story.on_leader, after);
    // A transaction sees its server's activity as of its first look.
    let watcher = story.leader.connect(Role::Superuser).await?;
    let (applied, committed) = tokio::join!(story.apply(), async {
        // The replicator's session waits: only then the row is shown.
        e2e::wait::until("the fetch to wait", std::time::Duration::from_secs(20), async || {
            let asked = "SELECT count(*) FROM pg_stat_activity
                         WHERE usename = 'replicator' AND query LIKE '%pg_snapshot_xmin%'";
            let waiting = watcher.query_one(asked, &[]).await.map_err(|e| e.to_string())?;
            if waiting.get::<_, i64>(0) > 0 { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await?;
        Ok::<_, anyhow::Error>(hidden.batch_execute("COMMIT").await?)
    });
    applied?;
    committed?;
    ensure!(!story.assert_equal("t").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_key_change_of_a_missing_row_takes_the_row_under_its_new_key() -> anyhow::Result<()> {
    let mut story = story().await?;
    story.on_leader.batch_execute("INSERT INTO t VALUES (2, 11, repeat('x', 9000), 'e')").await?;
    let after = format!(r#"{{"id":2,"n":11,"big":{BIG},"extra":"e"}}"#);
    story.transaction(&[
        Event::delete("t", r#"{"id":1,"n":null,"big":null,"extra":null}"#)
            .with_header("__debezium.newkey", r#"{"id":2}"#),
        Event::insert("t", &after).with_header("__debezium.oldkey", r#"{"id":1}"#),
    ]);
    let applied = story.apply().await?;
    assert_eq!(applied.iter().map(|a| a.fetched_for_missing).sum::<u64>(), 1);
    story.assert_equal("t").await.map(drop)
}

#[tokio::test]
async fn without_the_leader_the_replica_halts_and_says_what_would_help() -> anyhow::Result<()> {
    let mut story = story().await?;
    story.help.leader = None;
    story.transaction(&[Event::update("t", &format!(r#"{{"id":1,"n":11,"big":{BIG},"extra":null}}"#))]);
    let error = story.apply().await.expect_err("nothing gives the large value");
    let hint = error
        .downcast_ref::<replicator::replica::ReplicaError>()
        .map(replicator::replica::ReplicaError::hint)
        .unwrap_or_default();
    ensure!(hint.contains("leader.url"), "{error:#}: {hint}");
    Ok(())
}
