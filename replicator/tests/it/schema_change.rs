//! The leader's schema changes under way: what only adds is followed, anything else stops with the SQL to run.

use anyhow::ensure;
use replicator::replica::ReplicaError;

use crate::golden::captured;
use crate::story::{Event, Story, told};

/// What the capture's leader did to its table `ddl`, whose events the capture has, up to the renaming and after it.
const DDL: [&str; 2] = [
    "INSERT INTO ddl VALUES (1, 1, 'one');
     ALTER TABLE ddl ADD COLUMN c int DEFAULT 5; INSERT INTO ddl VALUES (2, 2, 'two', 2);
     ALTER TABLE ddl DROP COLUMN b; INSERT INTO ddl VALUES (3, 3, 3);
     ALTER TABLE ddl RENAME COLUMN a TO a2; INSERT INTO ddl VALUES (4, 4, 4)",
    "ALTER TABLE ddl ALTER a2 TYPE bigint; UPDATE ddl SET a2 = 5000000000 WHERE id = 1;
     BEGIN; INSERT INTO ddl VALUES (5, 5, 5); ALTER TABLE ddl ADD COLUMN d text; INSERT INTO ddl VALUES (6, 6, 6, 'd'); COMMIT",
];

#[tokio::test]
async fn a_captured_story_of_every_alter_table_is_followed_or_stops_with_its_sql() -> anyhow::Result<()> {
    let mut story = Story::new().await?;
    story.on_both("CREATE TABLE ddl (id int PRIMARY KEY, a int, b text)").await?;
    story.on_leader.batch_execute(DDL[0]).await?;
    let records = captured("C-schemaless.jsonl")?;
    let xids: Vec<u32> = (144_209..=144_216).collect();
    let is_of_ddl = |record: &crate::feed::Record| {
        let value = record.value.as_deref().unwrap_or_default();
        let of_transaction = |xid: &u32| value.contains(&format!("\"id\":\"{xid}:"));
        record.topic == "c0.public.ddl"
            || (record.topic == "c0.transaction" && xids.iter().any(of_transaction))
    };
    story.replay(records.into_iter().filter(is_of_ddl));

    // Added under a row; then a column dropped; then one renamed, which nobody can tell from another drop and add.
    let error = story.feed("c0").await.expect_err("a renaming is not guessed");
    ensure!(error.to_string().contains("renamed"), "{error:#}");
    ensure!(
        told(&error)[0].starts_with("ALTER TABLE \"public\".\"ddl\" RENAME COLUMN \"a\" TO \"a2\""),
        "{error:#}"
    );
    assert_eq!(Story::rows(&story.on_replica, "ddl").await?, "(1,1,one,5) (2,2,two,2) (3,3,,3)");
    story.on_replica.batch_execute(&told(&error)[0]).await?;

    // A value that the old type can't hold.
    story.on_leader.batch_execute(DDL[1]).await?;
    let error = story.feed("c0").await.expect_err("the type was changed");
    let retype = "ALTER TABLE \"public\".\"ddl\" ALTER COLUMN \"a2\" TYPE bigint";
    ensure!(told(&error).contains(&retype.to_owned()), "{error:#}: {:?}", told(&error));
    story.on_replica.batch_execute(retype).await?;

    // A column added between two inserts of one transaction.
    story.feed("c0").await?;
    let rows = "SELECT string_agg(ROW(id, a2, c, d)::text, ' ' ORDER BY id) FROM ddl";
    let expected: String = story.on_leader.query_one(rows, &[]).await?.get(0);
    let found: String = story.on_replica.query_one(rows, &[]).await?.get(0);
    assert_eq!(found, expected);
    assert_eq!(expected, "(1,5000000000,5,) (2,2,2,) (3,3,3,) (4,4,4,) (5,5,5,) (6,6,6,d)");
    Ok(())
}

#[tokio::test]
async fn rows_that_were_there_get_what_the_leaders_rows_got() -> anyhow::Result<()> {
    let mut story = Story::new().await?;
    story.on_both("CREATE TABLE t (id int PRIMARY KEY, name text)").await?;
    let insert = "INSERT INTO t (id, name) VALUES (1, 'a'), (2, 'b')";
    story.on_both(insert).await?;
    story
        .on_leader
        .batch_execute(
            "ALTER TABLE t ADD COLUMN at timestamptz NOT NULL DEFAULT now(), ADD COLUMN n numeric(10,3) DEFAULT 1.5,
                ADD COLUMN \"Odd \"\"name\" text COLLATE \"C\" DEFAULT 'it''s', ADD COLUMN list int[] DEFAULT '{1,2}';
             ALTER TABLE t ALTER n SET DEFAULT 9, ALTER \"Odd \"\"name\" DROP DEFAULT;
             INSERT INTO t VALUES (3, 'c', '2026-01-01 00:00+00', 2, 'x', '{}');
             UPDATE t SET name = 'B' WHERE id = 2",
        )
        .await?;
    let at: String = story
        .on_leader
        .query_one(
            "SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM t WHERE id = 1",
            &[],
        )
        .await?
        .get(0);
    let new = r#"{"id":3,"name":"c","at":"2026-01-01T00:00:00Z","n":"2.000","Odd \"name":"x","list":[]}"#;
    let old = format!(r#"{{"id":2,"name":"B","at":"{at}","n":"1.500","Odd \"name":"it's","list":[1,2]}}"#);
    story.transaction(&[Event::insert("t", new), Event::update("t", &old)]);
    story.apply().await?;
    ensure!(story.assert_equal("t").await?.contains("it's"));
    let defaults = "SELECT string_agg(concat(attname, ' ', attnotnull, ' ', pg_get_expr(adbin, adrelid)), ', ' ORDER BY attnum)
                    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
                    WHERE attrelid = 't'::regclass AND attnum > 0";
    let expected: String = story.on_leader.query_one(defaults, &[]).await?.get(0);
    assert_eq!(story.on_replica.query_one(defaults, &[]).await?.get::<_, String>(0), expected);
    Ok(())
}

#[tokio::test]
async fn a_column_that_an_operator_added_first_is_filled_as_on_the_leader() -> anyhow::Result<()> {
    let mut story = Story::new().await?;
    story.on_both("CREATE TABLE t (id int PRIMARY KEY, name text)").await?;
    story.on_replica.batch_execute("ALTER TABLE t ADD COLUMN n int DEFAULT 7, ADD COLUMN note text").await?;
    // Written before the leader's columns were added, read after.
    story.on_leader.batch_execute("INSERT INTO t VALUES (1, 'a')").await?;
    story.transaction(&[Event::insert("t", r#"{"id":1,"name":"a"}"#)]);
    story.on_leader.batch_execute("ALTER TABLE t ADD COLUMN n int DEFAULT 8, ADD COLUMN note text").await?;
    story.apply().await?;
    assert_eq!(story.assert_equal("t").await?, "(1,a,8,)");
    ensure!(story.followed.is_empty(), "{:?}", story.followed);

    story.on_leader.batch_execute("INSERT INTO t VALUES (2, 'b', 2, 'x')").await?;
    story.transaction(&[Event::insert("t", r#"{"id":2,"name":"b","n":2,"note":"x"}"#)]);
    story.apply().await?;
    story.assert_equal("t").await.map(drop)
}

#[tokio::test]
async fn a_column_that_the_leader_does_not_have_yet_waits_for_it() -> anyhow::Result<()> {
    let mut story = Story::new().await?;
    story.on_both("CREATE TABLE t (id int PRIMARY KEY, name text)").await?;
    story.on_replica.batch_execute("ALTER TABLE t ADD COLUMN n int DEFAULT 7").await?;
    story.transaction(&[Event::insert("t", r#"{"id":1,"name":"a"}"#)]);
    story.apply().await?;
    assert_eq!(Story::rows(&story.on_replica, "t").await?, "(1,a,7)");
    Ok(())
}

#[tokio::test]
async fn a_column_that_the_connector_leaves_out_is_never_taken_for_a_new_one() -> anyhow::Result<()> {
    let mut story = Story::new().await?;
    story.on_both("CREATE TABLE t (id int PRIMARY KEY, secret text, tail text)").await?;
    story.transaction(&[Event::insert("t", r#"{"id":1,"secret":"s"}"#)]);
    let error = story.apply().await.expect_err("nothing says what tail holds");
    ensure!(error.to_string().contains("\"tail\""), "{error:#}");
    assert_eq!(Story::rows(&story.on_replica, "t").await?, "");
    Ok(())
}

#[tokio::test]
async fn values_of_each_rows_own_and_a_policy_against_it_stop_with_the_sql() -> anyhow::Result<()> {
    let mut story = Story::new().await?;
    story.on_both("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await?;
    story.on_leader.batch_execute("ALTER TABLE t ADD COLUMN n int DEFAULT 3").await?;
    story.transaction(&[Event::insert("t", r#"{"id":2,"n":3}"#)]);
    story.additive = false;
    let error = story.apply().await.expect_err("the policy forbids it");
    ensure!(
        told(&error)[0].contains("ADD COLUMN IF NOT EXISTS \"n\" integer DEFAULT '3'::integer"),
        "{error:#}"
    );
    story.additive = true;
    story.apply().await?;

    story.on_leader.batch_execute("ALTER TABLE t ADD COLUMN u uuid DEFAULT gen_random_uuid()").await?;
    story.transaction(&[Event::insert("t", r#"{"id":3,"n":3,"u":"018f0000-0000-7000-8000-000000000001"}"#)]);
    let error = story.apply().await.expect_err("row 1 has a value that no event carries");
    ensure!(error.to_string().contains("a value of its own"), "{error:#}");
    ensure!(told(&error)[0].contains("rebuild"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn new_tables_types_labels_and_partitions_are_made_as_on_the_leader() -> anyhow::Result<()> {
    let mut story = Story::new().await?;
    story
        .on_leader
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok');
             CREATE DOMAIN price AS numeric(8,2) CHECK (VALUE >= 0);
             CREATE TABLE fresh (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood NOT NULL DEFAULT 'ok',
                p price, twice numeric GENERATED ALWAYS AS (p * 2) STORED);
             CREATE TABLE bag (a int, b text); ALTER TABLE bag REPLICA IDENTITY FULL;
             CREATE TABLE part (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
             CREATE TABLE part_eu PARTITION OF part FOR VALUES IN ('eu');
             INSERT INTO fresh (m, p) VALUES ('sad', 1.50); INSERT INTO bag VALUES (1, 'x'), (1, 'x');
             INSERT INTO part VALUES (1, 'eu')",
        )
        .await?;
    story.transaction(&[Event::insert("fresh", r#"{"id":1,"m":"sad","p":"1.50"}"#)]);
    story.transaction(&[
        Event::insert("bag", r#"{"a":1,"b":"x"}"#),
        Event::insert("bag", r#"{"a":1,"b":"x"}"#),
    ]);
    story.transaction(&[Event::insert("part", r#"{"id":1,"region":"eu"}"#)]);
    story.apply().await?;
    for table in ["fresh", "bag", "part", "part_eu"] {
        ensure!(!story.assert_equal(table).await?.is_empty());
    }

    // A label in the middle, and a partition that the replica lacks.
    story
        .on_leader
        .batch_execute(
            "ALTER TYPE mood ADD VALUE 'so-so' BEFORE 'ok'; ALTER TYPE mood ADD VALUE 'worst' BEFORE 'sad';
             CREATE TABLE part_asia PARTITION OF part FOR VALUES IN ('asia');",
        )
        .await?;
    story
        .on_leader
        .batch_execute("INSERT INTO fresh (m) VALUES ('so-so'); INSERT INTO part VALUES (2, 'asia')")
        .await?;
    story.transaction(&[Event::insert("fresh", r#"{"id":2,"m":"so-so","p":null}"#)]);
    story.transaction(&[Event::insert("part", r#"{"id":2,"region":"asia"}"#)]);
    story.apply().await?;
    story.assert_equal("fresh").await?;
    story.assert_equal("part_asia").await?;
    let labels = "SELECT enum_range(NULL::mood)::text";
    assert_eq!(story.on_replica.query_one(labels, &[]).await?.get::<_, String>(0), "{worst,sad,so-so,ok}");
    Ok(())
}

#[tokio::test]
async fn a_dropped_column_is_kept_and_no_longer_written() -> anyhow::Result<()> {
    let mut story = Story::new().await?;
    story.on_both("CREATE TABLE t (id int PRIMARY KEY, old text DEFAULT 'd', must text NOT NULL)").await?;
    story.on_leader.batch_execute("ALTER TABLE t DROP COLUMN old").await?;
    story.transaction(&[Event::insert("t", r#"{"id":1,"must":"m"}"#)]);
    story.transaction(&[Event::update("t", r#"{"id":1,"must":"n"}"#)]);
    story.apply().await?;
    assert_eq!(Story::rows(&story.on_replica, "t").await?, "(1,d,n)");

    story.on_leader.batch_execute("ALTER TABLE t DROP COLUMN must").await?;
    story.transaction(&[Event::insert("t", r#"{"id":2}"#)]);
    let error = story.apply().await.expect_err("the replica wants a value");
    assert_eq!(told(&error), ["ALTER TABLE \"public\".\"t\" DROP COLUMN \"must\""], "{error:#}");
    story.on_replica.batch_execute(&told(&error)[0]).await?;
    story.apply().await?;
    assert_eq!(Story::rows(&story.on_replica, "t").await?, "(1,d) (2,d)");
    Ok(())
}

#[tokio::test]
async fn only_the_owner_changes_the_schema() -> anyhow::Result<()> {
    use e2e::postgres::Role;
    use replicator::replica::leader::LeaderSession;
    use replicator::replica::schema_change::{Cause, follow};
    use replicator::replica::session::Session;
    use replicator::vocabulary::schema::TableName;

    let story = Story::new().await?;
    story.on_leader.batch_execute("CREATE TABLE fresh (id int PRIMARY KEY)").await?;
    let session = Session::connect(&story.replica.url(Role::Replicator).parse()?).await?;
    let epoch = crate::feed::acquire(&session, "app").await?.epoch;
    let leader = LeaderSession::connect(&story.leader.url(Role::Replicator).parse()?).await?;
    let cause = Cause::UnknownTable(TableName::new("public", "fresh"));
    let refused = follow(&session, epoch - 1, &leader, true, &cause).await;
    ensure!(matches!(refused, Err(ReplicaError::Owned { .. })), "{refused:?}");
    follow(&session, epoch, &leader, true, &cause).await?;
    let again = follow(&session, epoch, &leader, true, &cause).await?;
    ensure!(again.statements.is_empty(), "what is there is not made again: {:?}", again.statements);
    Ok(())
}
