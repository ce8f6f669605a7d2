//! A topic as the broker itself has it, whatever the replicator says of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::system::System;

/// How long the broker may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A topic with one partition.
pub(crate) struct Topic {
    name: &'static str,
    consumer: Arc<BaseConsumer>,
}

impl Topic {
    /// A topic of the system's broker, which is first asked by [`Topic::end`].
    ///
    /// # Errors
    /// When the system has no broker.
    pub(crate) fn open(system: &System, name: &'static str) -> anyhow::Result<Self> {
        let broker = format!("127.0.0.1:{}", system.port("broker")?);
        let consumer = ClientConfig::new().set("bootstrap.servers", broker).create();
        Ok(Topic { name, consumer: Arc::new(consumer.context("make a consumer")?) })
    }

    /// The offset behind its last record.
    ///
    /// # Errors
    /// When the broker does not answer in time, or has no such topic.
    pub(crate) async fn end(&self) -> anyhow::Result<i64> {
        let (name, consumer) = (self.name, Arc::clone(&self.consumer));
        let ask = move || consumer.fetch_watermarks(name, 0, ANSWER_WITHIN);
        let (_, end) =
            tokio::task::spawn_blocking(ask).await?.with_context(|| format!("ask for the end of {name}"))?;
        Ok(end)
    }
}
