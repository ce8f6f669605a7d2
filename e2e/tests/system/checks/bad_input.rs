//! A record that nobody can read stops the replicas that need it, loses nothing and is named to the operator.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::wait;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use crate::system::{Login, PATIENCE, REPLICAS, System};

const TOPIC: &str = "app.public.posts";

pub(super) async fn malformed_record(system: Rc<System>) -> anyhow::Result<()> {
    system.assert_equal().await?;
    let broker = format!("127.0.0.1:{}", system.port("broker")?);
    let offset = tokio::task::spawn_blocking(move || produce(&broker, b"{ this is no event")).await??;
    println!("  malformed record at {TOPIC}/0 offset {offset}");

    // In the stream behind the record: it must neither be applied nor be lost.
    let writer = system.connect("leader", Login::Writer).await?;
    writer
        .batch_execute(
            "INSERT INTO posts (user_id, content) VALUES ('behind', 'behind the malformed record')",
        )
        .await?;
    await_halted(&system, offset).await?;
    for name in REPLICAS {
        let replica = system.connect(name, Login::Reader).await?;
        let row = replica.query_one("SELECT count(*) FROM posts WHERE user_id = 'behind'", &[]).await?;
        ensure!(row.get::<_, i64>(0) == 0, "{name} went past the malformed record");
    }
    let (status, _) = system.get("webapp", "/api/posts?limit=3").await?;
    ensure!(status == 200, "the replicas stopped, and reading answers {status}");

    // A restart must not skip it either.
    system.service("kill", "replicator").await?;
    system.service_without_waiting("start", "replicator").await?;
    await_halted(&system, offset).await?;
    println!("  halted again at the same record after a restart; reads go on");
    Ok(())
}

/// Waits until every replica is halted, for a cause that names the record's place.
async fn await_halted(system: &System, offset: i64) -> anyhow::Result<()> {
    let causes = wait::until("every replica to halt at the malformed record", PATIENCE, async || {
        let (_, body) =
            system.get("replicator", "/v1/replicas").await.map_err(|error| format!("{error:#}"))?;
        halted_causes(&body, offset).ok_or_else(|| body.to_string())
    })
    .await?;
    println!("  cause: {}", causes.first().context("find a cause")?);
    Ok(())
}

fn halted_causes(body: &Value, offset: i64) -> Option<Vec<String>> {
    let replicas = body["replicas"].as_array().filter(|replicas| replicas.len() == REPLICAS.len())?;
    let cause = |replica: &Value| {
        let cause = replica["cause"].as_str().filter(|_| replica["state"] == "halted")?;
        let names_the_place = cause.contains(TOPIC) && cause.contains(&offset.to_string());
        names_the_place.then(|| cause.to_owned())
    };
    replicas.iter().map(cause).collect()
}

/// Puts `value` into the topic of the posts; returns its offset.
fn produce(broker: &str, value: &[u8]) -> anyhow::Result<i64> {
    let timeout = Duration::from_secs(30);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", broker).create().context("make a producer")?;
    let record = BaseRecord::<(), [u8]>::to(TOPIC).partition(0).payload(value);
    producer.send(record).map_err(|(error, _)| error).context("produce the record")?;
    producer.flush(timeout).context("flush the record")?;
    let (_, end) =
        producer.client().fetch_watermarks(TOPIC, 0, timeout).context("ask for the end of the topic")?;
    Ok(end - 1)
}
