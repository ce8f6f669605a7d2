//! Single rows: there from before the connector, of unusual values, gone by truncate.

use std::rc::Rc;

use anyhow::{Context, ensure};

use crate::system::{Login, REPLICAS, System};

/// The seed rows are older than the connector, so only its snapshot can have brought them.
pub(super) async fn snapshot(system: Rc<System>) -> anyhow::Result<()> {
    let contents = system.assert_equal().await?;
    for name in REPLICAS {
        let replica = system.connect(name, Login::Reader).await?;
        let row = replica
            .query_one(
                "SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM posts WHERE user_id = 'ada')",
                &[],
            )
            .await?;
        ensure!(row.get::<_, i64>(0) >= 100 && row.get::<_, i64>(1) == 1, "{name} lacks seed rows");
    }
    println!("  on the leader and three replicas: {contents}");
    Ok(())
}

/// Texts that quoting, escaping or transcoding could change.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "'single' \"double\" `back` \\backslash\\ \\n is no line end",
        "line\nend\r\n\ttab and trailing space ",
        "ünïcödé, 中文, עברית, 👩‍👩‍👧, e\u{301} is not \u{e9}, \u{feff}BOM, \u{1F}unit separator",
        "{\"json\": [1, 2.50, null]} <b>&amp;</b> %s $1 {} NULL",
        // What stands for an unchanged value when the connector is not told otherwise.
        "__debezium_unavailable_value",
        "\u{10FFFF}\u{80}",
        " ",
    ]
    .map(str::to_owned)
    .into();
    texts.push("ß".repeat(10_000));
    texts.push("0123456789".repeat(1000));
    texts
}

/// Timestamps and numbers at the ends of what the columns hold. Sums of money are put back at the end of the check.
pub(super) async fn fidelity(system: Rc<System>) -> anyhow::Result<()> {
    let writer = system.connect("leader", Login::Writer).await?;
    let texts = texts();
    for text in &texts {
        writer.execute("INSERT INTO posts (user_id, content) VALUES ('fidelity', $1)", &[text]).await?;
    }
    let times = [
        "1970-01-01 00:00:00.000001+00",
        "0044-03-15 12:00:00+00 BC",
        "9999-12-31 23:59:59.999999+00",
        "infinity",
        "-infinity",
    ];
    for time in times {
        let insert = format!(
            "INSERT INTO posts (user_id, content, created_at) VALUES ('fidelity', '{time}', '{time}')"
        );
        writer.batch_execute(&insert).await?;
    }
    let numbers = ["999999999999.99", "-999999999999.99", "0.00", "0.01", "NaN"];
    for (id, number) in (900_001..).zip(numbers) {
        let insert =
            format!("INSERT INTO accounts (id, owner, balance) VALUES (-{id}, 'fidelity', '{number}')");
        writer.batch_execute(&insert).await?;
    }
    let update = "UPDATE posts SET content = 'before' WHERE content = $1";
    writer.execute(update, &[&texts[4]]).await?;
    writer.execute("UPDATE posts SET content = $1 WHERE content = 'before'", &[&texts[4]]).await?;
    // The same bytes again, now as updates; the empty text and NULL are two values.
    writer.batch_execute("UPDATE accounts SET note = '' WHERE id = -900001").await?;
    writer.batch_execute("UPDATE posts SET version = 9223372036854775807 WHERE user_id = 'fidelity'").await?;
    system.assert_equal().await?;

    // Checksums can't agree by accident, but they could by a mistake in the comparison: read the texts as well.
    for name in REPLICAS {
        let replica = system.connect(name, Login::Reader).await?;
        for text in &texts {
            let query = "SELECT count(*) FROM posts WHERE user_id = 'fidelity' AND content = $1";
            let found: i64 = replica.query_one(query, &[text]).await?.get(0);
            ensure!(
                found == 1,
                "{name} has {found} rows with the text {:?}",
                text.chars().take(40).collect::<String>()
            );
        }
    }
    println!(
        "  {} texts, {} times, {} numbers equal on three replicas",
        texts.len(),
        times.len(),
        numbers.len()
    );
    writer
        .batch_execute("DELETE FROM accounts WHERE id < 0; DELETE FROM posts WHERE user_id = 'fidelity'")
        .await?;
    system.assert_equal().await.map(drop)
}

pub(super) async fn truncate(system: Rc<System>) -> anyhow::Result<()> {
    let writer = system.connect("leader", Login::Writer).await?;
    writer
        .batch_execute(
            "INSERT INTO likes (post_id, user_id) SELECT id, 'truncate' FROM posts ON CONFLICT DO NOTHING",
        )
        .await?;
    system.assert_equal().await?;
    let likes = "SELECT count(*) FROM likes";
    let before: i64 = system.connect(REPLICAS[2], Login::Reader).await?.query_one(likes, &[]).await?.get(0);
    ensure!(before > 0, "there is nothing to truncate");
    // In one transaction with an insert: what comes after the truncate stays.
    let owner = system.connect("leader", Login::Owner).await?;
    owner
        .batch_execute(
            "BEGIN; TRUNCATE likes;
             INSERT INTO likes (post_id, user_id) SELECT id, 'after' FROM posts LIMIT 1; COMMIT",
        )
        .await
        .context("truncate on the leader")?;
    system.assert_equal().await?;
    for name in REPLICAS {
        let left: i64 = system.connect(name, Login::Reader).await?.query_one(likes, &[]).await?.get(0);
        ensure!(left == 1, "{name} has {left} likes after the truncate");
    }
    println!("  {before} likes truncated, 1 inserted after it, on three replicas");
    Ok(())
}
