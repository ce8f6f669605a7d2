//! Transactions that come while they run.

use replicator::source::postgres::StreamOptions;
use replicator::vocabulary::lsn::Lsn;

use super::{Leader, Reader, options};

/// The least that PostgreSQL takes: some hundred rows.
const SMALL: [(&str, &str); 1] = [("logical_decoding_work_mem", "64kB")];

const BULK: &str = "INSERT INTO items SELECT i, repeat('x', 100), NULL, NULL FROM generate_series";

async fn streamed(leader: &Leader) -> anyhow::Result<Reader> {
    let options = StreamOptions { streaming: true, ..options() };
    leader.stream_with(&SMALL, Lsn(0), &options).await
}

#[tokio::test]
async fn a_large_transaction_comes_before_its_commit_and_others_between_its_blocks() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    let other = leader.cluster.connect(e2e::postgres::Role::Superuser).await?;
    let mut reader = streamed(&leader).await?;
    let xid = async || leader.text("SELECT (pg_current_xact_id()::text::bigint % 4294967296)::text").await;
    leader.sql.batch_execute("BEGIN").await?;
    let large = xid().await?;
    leader.sql.batch_execute(&format!("{BULK}(1, 3000) i")).await?;
    let lines = reader.until("stream stop").await?;
    assert_eq!(lines[0], format!("stream start {large} first=true"));
    assert!(lines[1].starts_with("insert items (1, xxx"), "{}", lines[1]);

    other.batch_execute("INSERT INTO items VALUES (100000, 'between', NULL, NULL)").await?;
    let lines = reader.until("commit").await?;
    let between = ["begin", "insert items (100000, between, NULL, NULL)", "commit"];
    assert_eq!(lines[lines.len() - 3..], between, "while the large one is open");
    let between = reader.commit;

    leader.sql.batch_execute(&format!("SAVEPOINT s; {BULK}(10001, 13000) i; ROLLBACK TO s")).await?;
    let lines = reader.until("stream abort").await?;
    let abort = lines.last().expect("the abort");
    assert!(abort.starts_with(&format!("stream abort {large}/")), "{abort}");
    assert!(!abort.ends_with(&format!("/{large}")), "only the subtransaction is gone: {abort}");
    assert!(lines.contains(&format!("stream start {large} first=false")));

    leader.sql.batch_execute("INSERT INTO items VALUES (5000, 'last', NULL, NULL); COMMIT").await?;
    let lines = reader.until("stream commit").await?;
    assert_eq!(lines.last(), Some(&format!("stream commit {large}")));
    assert!(lines.contains(&"insert items (5000, last, NULL, NULL)".to_owned()));
    assert!(reader.commit > between, "commits come in the order of their positions");
    Ok(())
}

#[tokio::test]
async fn a_large_transaction_that_is_rolled_back_is_aborted_as_a_whole() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    let mut reader = streamed(&leader).await?;
    leader.sql.batch_execute(&format!("BEGIN; {BULK}(1, 3000) i")).await?;
    let lines = reader.until("stream stop").await?;
    let xid = lines[0].split(' ').nth(2).expect("an xid").to_owned();
    leader.sql.batch_execute("ROLLBACK; INSERT INTO items VALUES (1, 'after', NULL, NULL)").await?;
    let lines = reader.until("commit").await?;
    assert!(lines.contains(&format!("stream abort {xid}/{xid}")), "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("commit"));
    Ok(())
}

#[tokio::test]
async fn without_streaming_everything_comes_after_its_commit() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader.sql.batch_execute(&format!("{BULK}(1, 3000) i")).await?;
    let mut reader = leader.stream_with(&SMALL, Lsn(0), &options()).await?;
    let lines = reader.until("commit").await?;
    assert_eq!((lines.len(), lines[0].as_str()), (3002, "begin"));
    Ok(())
}
