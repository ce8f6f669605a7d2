//! More tables than the demo's: made on the leader and the replicas, followed by the source.

use std::fs;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::settings::Source;
use crate::system::{Login, REPLICAS, System, script};

/// The schemas that checks may make beside the demo's.
const SCHEMAS: &str = r"lab\..*,peer\..*";

/// SQL that makes tables.
pub(crate) struct Tables {
    /// On the leader; ends with the tables in the publication.
    pub(crate) leader: String,
    /// On each replica; ends with tables that the replicator owns.
    pub(crate) replica: String,
}

/// Makes the tables everywhere and waits until the source follows them. They must be empty: rows from before are not
/// streamed. The replicator knows them when it is started the next time.
pub(crate) async fn follow(system: &System, tables: &Tables) -> anyhow::Result<()> {
    for name in REPLICAS {
        let replica = system.repair(name).await?;
        replica.batch_execute(&tables.replica).await.with_context(|| format!("make the tables of {name}"))?;
    }
    let leader = system.connect("leader", Login::Owner).await?;
    leader.batch_execute(&tables.leader).await.context("make the tables of the leader")?;

    match system.source() {
        Source::Kafka => follow_by_connector(system).await,
        // Being published is enough: the stream says what its tables are.
        Source::Direct => Ok(()),
    }
}

async fn follow_by_connector(system: &System) -> anyhow::Result<()> {
    let file = e2e::repository().join("debezium/register-postgres.json");
    let text = fs::read_to_string(&file).context("read the registration")?;
    let mut registration: Value = serde_json::from_str(&text).context("read the registration as JSON")?;
    let list = &mut registration["config"]["table.include.list"];
    let demo = list.as_str().context("find the table list")?;
    *list = Value::from(format!("{demo},{SCHEMAS}"));
    let wider = system.state().join("connect/wider.json");
    fs::write(&wider, registration.to_string()).context("write the wider registration")?;
    script(system.command("register-connector.sh").arg("--quiet").arg("--file").arg(&wider)).await?;
    let (_, config) = system.get("connect", "/connectors/postgres-connector/config").await?;
    let followed = config["table.include.list"].as_str().unwrap_or_default();
    ensure!(followed.ends_with(SCHEMAS), "the connector follows {followed}");
    Ok(())
}
