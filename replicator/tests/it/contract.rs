//! Replicas with an older contract schema are brought up to date by running the SQL files again, and lose nothing.

use e2e::postgres::{Cluster, Role};

/// The contract's files in the order in which `postgres/init.sh` runs them.
const CONTRACT: [&str; 6] = [
    include_str!("../../../postgres/replica/20-contract.sql"),
    include_str!("../../../postgres/replica/21-control.sql"),
    include_str!("../../../postgres/replica/22-quarantine.sql"),
    include_str!("../../../postgres/replica/23-rebuild.sql"),
    include_str!("../../../postgres/replica/24-side.sql"),
    include_str!("../../../postgres/replica/25-progress.sql"),
];

#[tokio::test]
async fn an_older_contract_is_brought_up_to_date_and_keeps_its_checkpoint() -> anyhow::Result<()> {
    let cluster = Cluster::plain("replica-1").await?;
    let client = cluster.connect(Role::Superuser).await?;
    client.batch_execute(include_str!("contract/first.sql")).await?;
    client.batch_execute("SELECT replicator.acquire('debezium:app', 'an older daemon')").await?;
    let advance = "SELECT replicator.advance(1, 'live', '0/100', 7, now(), '{\"a/0\": 3}', 1, 2)";
    client.batch_execute(advance).await?;
    for _ in 0..2 {
        for file in CONTRACT {
            client.batch_execute(file).await?;
        }
        let row = client
            .query_one("SELECT state, watermark::text, quarantined, diverged FROM replicator.progress", &[])
            .await?;
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("live", "0/100"));
        assert_eq!((row.get::<_, i64>(2), row.get::<_, Vec<String>>(3)), (0, vec![]));
    }
    // The older daemon's calls go on working until it is replaced.
    let row = client.query_one("SELECT replicator.acquire('debezium:app', 'an older daemon')", &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 2);
    client
        .batch_execute("SELECT replicator.advance(2, 'live', '0/200', 8, now(), '{\"a/0\": 4}', 1, 1)")
        .await?;
    let row = client.query_one("SELECT offsets::text, changes FROM replicator.checkpoint", &[]).await?;
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), ("{\"a/0\": 4}", 3));
    Ok(())
}
