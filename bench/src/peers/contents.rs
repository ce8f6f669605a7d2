//! Does every replica hold what the leader holds?

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::servers;
use super::stage::Stage;
use crate::system::server_name;

/// By table: rows, and a sum over every column of each.
type Contents = BTreeMap<String, (i64, String)>;

/// An error when a replica's measured tables differ from the leader's.
pub(crate) async fn ensure_equal(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut reads = JoinSet::new();
    for replica in 0..=stage.replicas {
        let client = stage.system.connect_replica(replica).await?;
        reads.spawn(async move { contents(&client).await.map(|found| (replica, found)) });
    }
    let mut found = BTreeMap::new();
    while let Some(one) = reads.join_next().await {
        found.extend([one??]);
    }
    let leader = found.remove(&0).context("look at the leader")?;
    ensure!(!leader.is_empty(), "the leader has no measured tables");
    for (replica, has) in found {
        ensure!(has == leader, "{} holds {has:?} and not {leader:?}", server_name(replica));
    }
    Ok(())
}

/// Of every table in the schema `bench`. Equal when the rows are, in whatever order.
async fn contents(client: &Client) -> anyhow::Result<Contents> {
    let mut contents = Contents::new();
    for table in servers::tables(client).await? {
        let read = format!(
            "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {table} AS t"
        );
        let row = client.query_one(&read, &[]).await.with_context(|| format!("read {table}"))?;
        contents.insert(table, (row.get(0), row.get(1)));
    }
    Ok(contents)
}
