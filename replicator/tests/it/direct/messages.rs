//! What comes through the stream.

use replicator::source::postgres::StreamOptions;
use replicator::vocabulary::lsn::Lsn;
use replicator::vocabulary::row::Form;

use super::{Leader, options};

#[tokio::test]
async fn every_kind_of_change_comes_in_the_order_of_the_leader() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader
        .sql
        .batch_execute(
            "CREATE TABLE other (id int);
             BEGIN;
             INSERT INTO items VALUES (1, 'one', 1.50, '2026-01-02 03:04:05+02'), (2, NULL, NULL, NULL);
             UPDATE items SET name = 'eins' WHERE id = 1;
             UPDATE items SET id = 3 WHERE id = 1;
             SELECT pg_logical_emit_message(true, 'note', 'inside');
             SELECT pg_logical_emit_message(false, 'note', 'at once');
             DELETE FROM items WHERE id = 2;
             TRUNCATE items, other RESTART IDENTITY CASCADE;
             COMMIT",
        )
        .await?;
    let mut reader = leader.stream().await?;
    let lines = reader.until("commit").await?;
    assert_eq!(
        lines,
        [
            "message note at once transactional=false",
            "begin",
            "insert items (1, one, 1.50, 2026-01-02 01:04:05+00)",
            "insert items (2, NULL, NULL, NULL)",
            "update items (1, eins, 1.50, 2026-01-02 01:04:05+00)",
            "update items key (1, NULL, NULL, NULL) to (3, eins, 1.50, 2026-01-02 01:04:05+00)",
            "message note inside transactional=true",
            "delete items key (2, NULL, NULL, NULL)",
            "truncate items,other cascade=true restart=true",
            "commit",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn binary_values_are_what_the_types_send() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader.sql.batch_execute("INSERT INTO items VALUES (258, 'ab', 1.5, '2000-01-01 00:00:01+00')").await?;
    let binary = StreamOptions { values: Form::Binary, ..options() };
    let mut reader = leader.stream_with(&[], Lsn(0), &binary).await?;
    let lines = reader.until("commit").await?;
    let numeric = "x00020000000000010001\u{31}388";
    assert_eq!(lines[1], format!("insert items (x00000102, x6162, {numeric}, x00000000000f4240)"));
    Ok(())
}

#[tokio::test]
async fn text_values_do_not_depend_on_the_settings_of_the_role_or_the_url() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader
        .sql
        .batch_execute(
            "ALTER ROLE postgres SET DateStyle = 'SQL, DMY';
             ALTER ROLE postgres SET TimeZone = 'Asia/Tokyo';
             ALTER ROLE postgres SET bytea_output = 'escape';
             ALTER ROLE postgres SET IntervalStyle = 'iso_8601';
             ALTER ROLE postgres SET extra_float_digits = -5;
             CREATE TYPE public.mood AS ENUM ('fine');
             CREATE TABLE kinds (at timestamptz, raw bytea, span interval, f float8, r regtype, m public.mood);
             INSERT INTO kinds VALUES ('2026-02-03 00:00+00', '\\x0aff', '1 day 2 hours', 0.1::float8 + 0.2, 'mood', 'fine')",
        )
        .await?;
    let mut config = leader.config()?;
    config.options("-c TimeZone=Europe/Berlin -c search_path=public");
    let connection = replicator::source::postgres::ReplicationConnection::connect(&config, &[]).await?;
    let mut reader = super::Reader::new(connection.start(super::SLOT, Lsn(0), &options()).await?);
    let lines = reader.until("commit").await?;
    assert_eq!(
        lines[1],
        "insert kinds (2026-02-03 00:00:00+00, \\x0aff, 1 day 02:00:00, 0.30000000000000004, public.mood, fine)"
    );
    Ok(())
}

#[tokio::test]
async fn a_large_value_that_an_update_leaves_is_said_to_be_unchanged() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader
        .sql
        .batch_execute(
            "INSERT INTO items VALUES (1, repeat('x', 3000000), 1, NULL);
             UPDATE items SET amount = 2",
        )
        .await?;
    let mut reader = leader.stream().await?;
    let lines = reader.until("commit").await?;
    assert_eq!(lines[1].len(), "insert items (1, , 1, NULL)".len() + 3_000_000);
    assert_eq!(lines[2], "update items (1, unchanged, 2, NULL)");
    Ok(())
}

#[tokio::test]
async fn with_replica_identity_full_old_rows_have_all_values() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader
        .sql
        .batch_execute(
            "ALTER TABLE items REPLICA IDENTITY FULL;
             INSERT INTO items VALUES (1, 'a', 1, NULL);
             UPDATE items SET amount = 2;
             DELETE FROM items",
        )
        .await?;
    let mut reader = leader.stream().await?;
    let lines = reader.until("commit").await?;
    assert_eq!(lines[2], "update items full (1, a, 1, NULL) to (1, a, 2, NULL)");
    assert_eq!(lines[3], "delete items full (1, a, 2, NULL)");
    Ok(())
}

#[tokio::test]
async fn a_change_that_came_from_elsewhere_names_its_origin() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader
        .sql
        .batch_execute(
            "SELECT pg_replication_origin_create('elsewhere');
             SELECT pg_replication_origin_session_setup('elsewhere');
             INSERT INTO items VALUES (1, 'a', 1, NULL)",
        )
        .await?;
    let lines = leader.stream().await?.until("commit").await?;
    assert_eq!(lines, ["begin", "origin elsewhere", "insert items (1, a, 1, NULL)", "commit"]);
    Ok(())
}

#[tokio::test]
async fn partitions_come_as_their_partitioned_table_where_the_publication_says_so() -> anyhow::Result<()> {
    use replicator::source::postgres::{
        PublishedTables, create_publication, find_publication, published_tables,
    };
    use replicator::vocabulary::schema::TableName;
    let leader = Leader::start().await?;
    leader
        .sql
        .batch_execute(
            "CREATE TABLE \"Parted\" (id int) PARTITION BY RANGE (id);
             CREATE TABLE part PARTITION OF \"Parted\" FOR VALUES FROM (0) TO (9)",
        )
        .await?;
    let mut connection = leader.connect(&[]).await?;
    let (items, parted) = (TableName::new("public", "items"), TableName::new("public", "Parted"));
    let name = "it's \"some\"";
    assert_eq!(find_publication(&mut connection, name).await?, None);
    let tables = [items.clone(), parted.clone()];
    create_publication(&mut connection, name, PublishedTables::Only(&tables)).await?;
    create_publication(&mut connection, "all", PublishedTables::All).await?;
    let found = find_publication(&mut connection, name).await?.expect("it was made");
    assert!(found.via_root && !found.all_tables);
    assert!(found.inserts && found.updates && found.deletes && found.truncates);
    assert!(find_publication(&mut connection, "all").await?.is_some_and(|found| found.all_tables));
    assert_eq!(published_tables(&mut connection, name).await?, [parted, items]);
    leader.sql.batch_execute("INSERT INTO \"Parted\" VALUES (1)").await?;
    let named = StreamOptions { publications: vec![name.to_owned()], ..options() };
    let mut reader = super::Reader::new(connection.start(super::SLOT, Lsn(0), &named).await?);
    // The table, not its partition; PostgreSQL looks the publication up in the catalog as it was at the change.
    assert_eq!(reader.until("insert").await?.last().expect("the insert"), "insert Parted (1)");
    Ok(())
}
