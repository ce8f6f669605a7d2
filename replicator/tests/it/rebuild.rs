//! Fenced copies from a real leader into a real replica, with the stream anywhere behind or ahead of them.
//!
//! The stream is made here, from transactions that really ran on the leader: their ids and positions are the leader's own,
//! which is what a fence is about.

use std::collections::BTreeMap;

use anyhow::Context as _;
use e2e::postgres::{Cluster, Role};
use replicator::replica::checkpoint::Checkpoint;
use replicator::replica::copy::{self, CopyScope};
use replicator::replica::session::Session;
use replicator::replica::{Disposition, ReplicaError};
use replicator::snapshot::{self, LeaderSettings, SnapshotError, SnapshotMode, Target};
use replicator::vocabulary::offset::{Offsets, TopicPartition};
use replicator::vocabulary::parcel::ReplicaPhase;
use replicator::vocabulary::schema::TableName;
use tokio_postgres::Client;

use crate::feed::{Options, Record, acquire, feed};
use crate::golden;

const OPTIONS: Options<'static> =
    Options { prefix: "app", parcel_changes: 1_000, group: 10, ..golden::OPTIONS };

/// A leader and its replica, and what the connector would have written between them.
struct Fixture {
    leader: Cluster,
    owner: Client,
    replica: Cluster,
    records: Vec<Record>,
}

/// A transaction that has run and may not have committed: its session, and its change.
struct Running {
    client: Client,
    xid: u64,
    change: String,
}

impl Fixture {
    async fn new() -> anyhow::Result<Self> {
        let leader = Cluster::leader().await?;
        let owner = leader.connect(Role::Superuser).await?;
        // Stands for the connector's: without it a copy would have no stream to go on with.
        owner.query("SELECT pg_create_logical_replication_slot('connector', 'pgoutput')", &[]).await?;
        Ok(Fixture { owner, leader, replica: Cluster::replica("replica-1").await?, records: Vec::new() })
    }

    fn settings(&self) -> anyhow::Result<LeaderSettings> {
        let url = self.leader.url(Role::Replicator).parse()?;
        Ok(LeaderSettings {
            url,
            publication: Some("cdc".to_owned()),
            exclude_tables: vec![],
            parallel_tables: 2,
            stream: None,
        })
    }

    /// Runs a change of one account on a session of its own and leaves it open.
    async fn begin(&self, id: i64, balance: Option<i64>) -> anyhow::Result<Running> {
        let client = self.leader.connect(Role::Superuser).await?;
        client.batch_execute("BEGIN").await?;
        let xid: String = client.query_one("SELECT pg_current_xact_id()::text", &[]).await?.get(0);
        let row = |balance| format!(r#"{{"id":{id},"owner":"o","balance":"{balance}.00","note":null}}"#);
        let change = match balance {
            Some(balance) => {
                let upsert = format!(
                    "INSERT INTO accounts VALUES ({id}, 'o', {balance})
                     ON CONFLICT (id) DO UPDATE SET owner = 'o', balance = excluded.balance"
                );
                client.batch_execute(&upsert).await?;
                format!(r#""before":null,"after":{},"op":"u""#, row(balance))
            }
            None => {
                client.batch_execute(&format!("DELETE FROM accounts WHERE id = {id}")).await?;
                format!(r#""before":{},"after":null,"op":"d""#, row(0))
            }
        };
        Ok(Running { client, xid: xid.parse()?, change })
    }

    /// Commits it, and writes what the connector would write.
    async fn commit(&mut self, running: Running) -> anyhow::Result<()> {
        let Running { client, xid, change } = running;
        client.batch_execute("COMMIT").await?;
        let lsn: String =
            client.query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::text", &[]).await?.get(0);
        self.stream(xid, &lsn, Some(&change));
        Ok(())
    }

    /// One committed transaction.
    async fn write(&mut self, id: i64, balance: Option<i64>) -> anyhow::Result<()> {
        let running = self.begin(id, balance).await?;
        self.commit(running).await
    }

    fn stream(&mut self, xid: u64, lsn: &str, change: Option<&str>) {
        // What the WAL carries has 32 bits.
        let id = format!("{}:{lsn}", xid & 0xFFFF_FFFF);
        let counts = match change {
            Some(_) => r#"[{"data_collection":"public.accounts","event_count":1}]"#,
            None => "[]",
        };
        let count = u8::from(change.is_some());
        self.push("app.transaction", format!(
            r#"{{"status":"BEGIN","id":"{id}","event_count":null,"data_collections":null,"ts_ms":1700000000000}}"#
        ));
        if let Some(change) = change {
            self.push("app.public.accounts", format!(
                r#"{{{change},"source":{{"schema":"public","table":"accounts","snapshot":null,"lsn":{lsn}}},"transaction":{{"id":"{id}","total_order":1,"data_collection_order":1}}}}"#
            ));
        }
        self.push("app.transaction", format!(
            r#"{{"status":"END","id":"{id}","event_count":{count},"data_collections":{counts},"ts_ms":1700000000000}}"#
        ));
    }

    fn push(&mut self, topic: &str, value: String) {
        let offset = self.records.iter().filter(|r| r.topic == topic).count();
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let topic = topic.to_owned();
        self.records.push(Record { topic, partition: 0, offset, value: Some(value), headers: vec![] });
    }

    /// The offsets after the last record, as the broker would tell.
    fn ends(&self) -> Offsets {
        let mut ends = Offsets::new();
        for record in &self.records {
            let partition = TopicPartition { topic: record.topic.as_str().into(), partition: 0 };
            ends.insert(partition, record.offset + 1);
        }
        ends
    }

    async fn ask(&self, tables: &[&str]) -> anyhow::Result<()> {
        let session = self.session().await?;
        let tables: Vec<_> = tables.iter().map(|table| TableName::new("public", *table)).collect();
        Ok(copy::ask(&session, "test", &tables).await?)
    }

    async fn session(&self) -> anyhow::Result<Session> {
        Ok(Session::connect(&self.replica.url(Role::Replicator).parse()?).await?)
    }

    /// What the daemon does with the wish before it applies anything.
    async fn fill(&self) -> anyhow::Result<Checkpoint> {
        let session = self.session().await?;
        let checkpoint = acquire(&session, "app").await?;
        self.copy(&session, &checkpoint, snapshot::scope_of(&checkpoint, SnapshotMode::Connector)).await
    }

    async fn copy(
        &self,
        session: &Session,
        checkpoint: &Checkpoint,
        scope: CopyScope,
    ) -> anyhow::Result<Checkpoint> {
        let url = self.replica.url(Role::Replicator).parse()?;
        let target = Target { session, url: &url, epoch: checkpoint.epoch, is_new: checkpoint.is_new() };
        let ends = async || Ok::<_, SnapshotError>(self.ends());
        Ok(snapshot::fill(target, &self.settings()?, scope, ends, |_| {}).await?)
    }

    /// The files of the replica's tables, by name.
    async fn files(&self) -> anyhow::Result<BTreeMap<String, u32>> {
        let files = "SELECT relname::text, relfilenode FROM pg_class
            WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
        let rows = self.replica.connect(Role::Superuser).await?.query(files, &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    async fn feed(&self) -> anyhow::Result<u64> {
        let applied = feed(&self.replica, &self.records, OPTIONS, None).await?;
        Ok(applied.iter().map(|a| a.transactions).sum())
    }

    /// A table's rows as text, on both sides.
    async fn rows(&self, table: &str) -> anyhow::Result<(String, String)> {
        let query = format!("SELECT coalesce(string_agg(t::text, ' ' ORDER BY t::text), '') FROM {table} t");
        let reader = self.replica.connect(Role::AppReader).await?;
        let there = self.owner.query_one(&query, &[]).await?.get(0);
        Ok((there, reader.query_one(&query, &[]).await?.get(0)))
    }

    async fn assert_equal(&self, table: &str) -> anyhow::Result<()> {
        let (there, here) = self.rows(table).await?;
        assert_eq!(here, there, "{table}");
        Ok(())
    }

    async fn state(&self) -> anyhow::Result<String> {
        let reader = self.replica.connect(Role::AppReader).await?;
        Ok(reader.query_one("SELECT state FROM replicator.progress", &[]).await?.get(0))
    }
}

#[tokio::test]
async fn a_replica_copied_as_a_whole_goes_on_from_the_ends_that_were_taken_before() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    f.write(1, Some(1)).await?;
    f.ask(&[]).await?;
    // Open while the copy is made: not in it, and all of its records come afterwards.
    let open = f.begin(500, Some(500)).await?;
    f.write(2, None).await?;
    let checkpoint = f.fill().await?;
    assert_eq!((checkpoint.to_copy, checkpoint.phase), (CopyScope::None, ReplicaPhase::Copying));
    assert_eq!(checkpoint.offsets, f.ends(), "nothing was written since");
    for table in ["accounts", "posts", "comments", "likes", "transfers"] {
        f.assert_equal(table).await?;
    }
    assert_eq!(f.feed().await?, 0);
    f.commit(open).await?;
    f.write(3, Some(33)).await?;
    assert_eq!(f.feed().await?, 2, "the open one, whose id is older than the copy, and the later one");
    assert_eq!(f.state().await?, "live");
    f.assert_equal("accounts").await
}

#[tokio::test]
async fn changes_that_a_tables_copy_holds_are_left_out_until_the_watermark_has_passed_it()
-> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    f.ask(&[]).await?;
    f.fill().await?;
    f.write(1, Some(10)).await?;
    assert_eq!((f.feed().await?, f.state().await?.as_str()), (1, "live"));
    // The stream of these is behind the copy: the row is changed twice and another deleted, then the table is copied.
    let open = f.begin(7, Some(70)).await?;
    f.write(1, Some(11)).await?;
    f.write(1, Some(12)).await?;
    f.write(2, None).await?;
    // Else the copy's position is the last commit itself, and that passes the fence.
    f.owner
        .execute("SELECT pg_logical_emit_message(false, 'test', 'something behind the commit')", &[])
        .await?;
    f.ask(&["accounts"]).await?;
    let checkpoint = f.fill().await?;
    assert_eq!(checkpoint.fences.tables.len(), 1);
    let copied = f.rows("accounts").await?.1;
    assert!(copied.contains("(1,o,12.00,)") && !copied.contains("(2,"), "{copied}");
    // Applied one by one, with a restart after each: no reader ever sees the account go back to 11.
    for _ in 0..3 {
        feed(&f.replica, &f.records, Options { group: 1, ..OPTIONS }, Some(1)).await?;
        assert_eq!(f.rows("accounts").await?.1, copied);
        assert_eq!(f.state().await?, "copying");
    }
    f.commit(open).await?;
    f.write(1, Some(13)).await?;
    f.feed().await?;
    assert_eq!(f.state().await?, "live");
    f.assert_equal("accounts").await?;
    let session = f.session().await?;
    assert!(acquire(&session, "app").await?.fences.is_empty(), "a fence that was passed is forgotten");
    Ok(())
}

#[tokio::test]
async fn whoever_applies_is_stopped_by_the_wish_and_begins_with_the_copy() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    f.ask(&[]).await?;
    f.fill().await?;
    f.write(1, Some(10)).await?;
    f.ask(&["accounts"]).await?;
    let refused = f.feed().await.expect_err("a copy was asked for");
    let refused = refused.downcast::<ReplicaError>()?;
    assert!(refused.to_string().contains("RP005"), "{refused}");
    assert_eq!(refused.disposition(), Disposition::Retry);
    assert_eq!(f.fill().await?.to_copy, CopyScope::None);
    f.write(1, Some(11)).await?;
    f.feed().await?;
    f.assert_equal("accounts").await
}

#[tokio::test]
async fn an_interrupted_copy_leaves_the_old_rows_and_keeps_the_tables_that_were_done() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    f.ask(&[]).await?;
    f.fill().await?;
    f.write(1, Some(10)).await?;
    f.feed().await?;
    f.owner.batch_execute("UPDATE posts SET version = version + 1").await?;
    // Refused in the middle: comments come before posts, and posts can't be read any more.
    f.owner.batch_execute("REVOKE SELECT ON posts FROM replicator").await?;
    f.ask(&["posts", "comments"]).await?;
    let before = f.rows("posts").await?.1;
    let error = f.fill().await.expect_err("posts can't be read");
    assert!(error.to_string().contains("42501"), "{error:#}");
    assert_eq!(f.rows("posts").await?.1, before, "readers see the old rows");
    let session = f.session().await?;
    assert_eq!(copy::wanted(&session).await?, [TableName::new("public", "posts")], "comments were done");
    drop(session);
    f.owner.batch_execute("GRANT SELECT ON posts TO replicator").await?;
    f.fill().await?;
    f.assert_equal("posts").await
}

#[tokio::test]
async fn an_owner_of_an_older_epoch_can_not_replace_a_table() -> anyhow::Result<()> {
    let f = Fixture::new().await?;
    let session = f.session().await?;
    let checkpoint = acquire(&session, "app").await?;
    f.ask(&["accounts"]).await?;
    let superuser = f.replica.superuser().await?;
    superuser.batch_execute("UPDATE replicator.checkpoint SET epoch = epoch + 1").await?;
    let refused = f.copy(&session, &checkpoint, CopyScope::Tables).await;
    let error = refused.err().context("it must be refused")?.downcast::<SnapshotError>()?;
    assert_eq!(error.disposition(), Disposition::Yield, "{error}");
    assert_eq!(f.rows("accounts").await?.1, "", "its rows went with it");
    Ok(())
}

#[tokio::test]
async fn a_publication_without_tables_is_no_reason_to_leave_the_stream() -> anyhow::Result<()> {
    let f = Fixture::new().await?;
    f.ask(&[]).await?;
    let session = f.session().await?;
    let checkpoint = acquire(&session, "app").await?;
    let url = f.replica.url(Role::Replicator).parse()?;
    let target =
        Target { session: &session, url: &url, epoch: checkpoint.epoch, is_new: checkpoint.is_new() };
    let settings = LeaderSettings { publication: Some("cdd".to_owned()), ..f.settings()? };
    let ends = async || Ok::<_, SnapshotError>(Offsets::new());
    let refused = snapshot::fill(target, &settings, CopyScope::All, ends, |_| {}).await;
    let error = refused.err().context("there is nothing to copy")?;
    assert!(error.to_string().contains("cdd"), "{error}");
    assert_eq!((error.disposition(), f.state().await?.as_str()), (Disposition::Halt, "empty"));
    assert_eq!(copy::asked(&session).await?, CopyScope::All);
    assert!(copy::cancel(&session).await?, "what has not begun can be taken back");
    assert_eq!(copy::asked(&session).await?, CopyScope::None);
    assert!(!copy::cancel(&session).await?);
    Ok(())
}

/// Its offsets are those of the copy, and the tables that are left lack what lies before them.
#[tokio::test]
async fn a_copy_that_was_begun_can_not_be_taken_back_by_asking_for_it_once_more() -> anyhow::Result<()> {
    let f = Fixture::new().await?;
    f.owner.batch_execute("REVOKE SELECT ON posts FROM replicator").await?;
    f.ask(&[]).await?;
    f.fill().await.expect_err("posts can't be read");
    f.ask(&[]).await?;
    let session = f.session().await?;
    let begun = copy::cancel(&session).await.expect_err("posts are not there");
    assert!(begun.to_string().contains("RP006"), "{begun}");
    assert_eq!(copy::asked(&session).await?, CopyScope::All, "all tables once more");
    f.owner.batch_execute("GRANT SELECT ON posts TO replicator").await?;
    // Whoever was at it comes to the end of the first copy.
    f.copy(&session, &acquire(&session, "app").await?, CopyScope::Tables).await?;
    assert_eq!(copy::asked(&session).await?, CopyScope::All, "the second has not begun");
    assert!(copy::cancel(&session).await?);
    drop(session);
    f.ask(&[]).await?;
    f.ask(&[]).await?;
    assert_eq!(f.fill().await?.to_copy, CopyScope::None);
    f.assert_equal("posts").await
}

/// Where nobody reads yet, a table's file is a new one, whose rows need no WAL. Once somebody may read, the old rows have to
/// stay where they are, and where others refer to a table they have to in any case.
#[tokio::test]
async fn only_a_replica_that_was_never_live_gets_new_files() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    let made = f.files().await?;
    f.write(1, Some(10)).await?;
    f.ask(&[]).await?;
    f.fill().await?;
    f.assert_equal("accounts").await?;
    let filled = f.files().await?;
    assert_eq!(filled["posts"], made["posts"], "comments refer to it");
    assert_ne!(filled["likes"], made["likes"]);
    f.write(2, Some(20)).await?;
    f.feed().await?;
    assert_eq!(f.state().await?, "live");
    f.ask(&[]).await?;
    f.fill().await?;
    f.assert_equal("accounts").await?;
    assert_eq!(f.files().await?, filled);
    Ok(())
}

/// A table that was dropped on both sides is no reason against a copy for ever after.
#[tokio::test]
async fn a_table_that_is_gone_everywhere_does_not_keep_the_rest_from_being_copied() -> anyhow::Result<()> {
    let f = Fixture::new().await?;
    f.ask(&[]).await?;
    f.fill().await?;
    f.owner.batch_execute("ALTER PUBLICATION cdc DROP TABLE likes").await?;
    f.ask(&[]).await?;
    let error = f.fill().await.err().context("the replica still has it")?;
    assert!(error.to_string().contains("public.likes"), "{error}");
    f.owner.batch_execute("DROP TABLE likes").await?;
    let superuser = f.replica.superuser().await?;
    superuser.batch_execute("DROP TABLE likes").await?;
    f.fill().await?;
    f.assert_equal("posts").await
}

#[tokio::test]
async fn publications_that_differ_are_not_chosen_from() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    f.ask(&[]).await?;
    f.fill().await?;
    f.write(1, Some(10)).await?;
    f.feed().await?;
    f.owner.batch_execute("CREATE PUBLICATION a_few FOR TABLE accounts WHERE (id > 5)").await?;
    f.ask(&["accounts"]).await?;
    let before = f.rows("accounts").await?.1;
    let session = f.session().await?;
    let checkpoint = acquire(&session, "app").await?;
    let url = f.replica.url(Role::Replicator).parse()?;
    let target =
        Target { session: &session, url: &url, epoch: checkpoint.epoch, is_new: checkpoint.is_new() };
    let ends = async || Ok::<_, SnapshotError>(Offsets::new());
    let settings = LeaderSettings { publication: None, ..f.settings()? };
    let refused = snapshot::fill(target, &settings, CopyScope::Tables, ends, |_| {}).await;
    assert!(matches!(refused, Err(SnapshotError::Ambiguous(_))), "{refused:?}");
    assert_eq!(f.rows("accounts").await?.1, before);
    Ok(())
}

#[tokio::test]
async fn rows_of_an_older_snapshot_do_not_replace_a_copy() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    f.write(1, Some(10)).await?;
    let lsn: String =
        f.owner.query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::text", &[]).await?.get(0);
    f.write(2, Some(20)).await?;
    f.ask(&[]).await?;
    f.fill().await?;
    // Behind the position from which the replica goes on, as a connector's snapshot that is still being written: the first
    // row's own kind, and one of an incremental snapshot.
    for marker in ["\"first_in_data_collection\"", "\"incremental\""] {
        f.push("app.public.accounts", format!(
            r#"{{"before":null,"after":{{"id":1,"owner":"old","balance":"1.00","note":null}},"op":"r","source":{{"schema":"public","table":"accounts","snapshot":{marker},"lsn":{lsn}}}}}"#
        ));
    }
    f.write(3, Some(30)).await?;
    f.feed().await?;
    f.assert_equal("accounts").await?;
    assert_eq!(f.state().await?, "live");
    Ok(())
}

#[tokio::test]
async fn a_copy_without_a_slot_to_go_on_from_is_not_begun() -> anyhow::Result<()> {
    let f = Fixture::new().await?;
    f.owner.query("SELECT pg_drop_replication_slot('connector')", &[]).await?;
    f.ask(&[]).await?;
    let error = f.fill().await.expect_err("changes after it would be lost").downcast::<SnapshotError>()?;
    assert!(matches!(error, SnapshotError::NoSlot), "{error}");
    assert_eq!(error.disposition(), Disposition::Retry, "the connector may still come");
    assert_eq!(f.state().await?, "empty");
    Ok(())
}

#[tokio::test]
async fn odd_tables_arrive_as_the_leader_has_them() -> anyhow::Result<()> {
    let f = Fixture::new().await?;
    let tables = r#"
        CREATE TYPE mood AS ENUM ('sad', 'ok');
        CREATE TABLE "Odd ""T" (
            id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood, ms mood[], r regclass, i interval, t timetz,
            a int[], x bit varying(9), n numeric, f float8, b bytea, twice int GENERATED ALWAYS AS (id * 2) STORED);
        CREATE TABLE parts (k int, v text, at timestamptz) PARTITION BY RANGE (k);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
        CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
        CREATE TABLE parent (v text);
        CREATE TABLE child () INHERITS (parent);"#;
    f.owner.batch_execute(tables).await?;
    let superuser = f.replica.superuser().await?;
    superuser.batch_execute(tables).await?;
    let own = "ALTER TABLE \"Odd \"\"T\" OWNER TO replicator; ALTER TABLE parts OWNER TO replicator;
               ALTER TABLE parent OWNER TO replicator; ALTER TABLE child OWNER TO replicator;
               GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_reader; ALTER TABLE parts_1 OWNER TO replicator;
               ALTER TABLE parts_2 OWNER TO replicator";
    superuser.batch_execute(own).await?;
    f.owner
        .batch_execute(
            r#"INSERT INTO "Odd ""T" (m, ms, r, i, t, a, x, n, f, b) VALUES
                   ('ok', '{sad,ok}', 'public.posts', '1 mon -2 days', '10:00+05', '{{1,2},{3,4}}', B'101', 'NaN', '-Infinity', '\x00ff'),
                   (NULL, '{}', NULL, NULL, NULL, '[5:6]={7,8}', B'', 1e30, 'NaN', ''), (NULL, NULL, NULL, '-1 year', '24:00-03', NULL, NULL, 0.10, -0.0, NULL);
               INSERT INTO parts SELECT k, repeat('x', 5000), '4713-01-01 BC' FROM generate_series(0, 19) k;
               INSERT INTO parent VALUES ('p'); INSERT INTO child VALUES ('c');
               GRANT SELECT ON ALL TABLES IN SCHEMA public TO replicator;
               ALTER PUBLICATION cdc ADD TABLE "Odd ""T", parts, parent"#,
        )
        .await?;
    f.ask(&[]).await?;
    f.fill().await?;
    for table in ["\"Odd \"\"T\"", "parts", "parts_2", "parent", "child"] {
        f.assert_equal(table).await?;
    }
    Ok(())
}
