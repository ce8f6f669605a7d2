//! The topics: are they there, and in an order that can be relied on?

use super::{Finding, Order};
use crate::config::Config;
use crate::source::kafka::{KafkaSource, SourceError};

/// In which order the topics give events; the better one when they could not be looked at.
pub(super) async fn check(config: &Config, findings: &mut Vec<Finding>) -> Order {
    let found = match KafkaSource::new(config.kafka(), "replicator.check", 1) {
        Ok(source) => source.discover().await,
        Err(error) => Err(error),
    };
    let partitions = match found {
        Ok(partitions) => partitions,
        Err(error @ SourceError::Unavailable(_)) => {
            findings.push(Finding::unreachable(format!("topics: {error}"), error.hint()));
            return Order::OfTables;
        }
        Err(error) => {
            findings.push(Finding::error(format!("topics: {error}"), error.hint()));
            return Order::OfTables;
        }
    };
    let several: Vec<_> = partitions.iter().filter(|p| p.partition == 1).collect();
    for partition in &several {
        findings.push(Finding::warning(
            format!(
                "topics: {} has several partitions: truncates and rows without a key have no order",
                partition.topic
            ),
            "Make it anew with one partition: \"topic.creation.default.partitions\": \"1\"",
        ));
    }
    if several.is_empty() {
        findings.push(Finding::good(format!(
            "topics: {} of prefix {}, one partition each, transaction metadata among them",
            partitions.len(),
            config.source.topic_prefix
        )));
        return Order::OfTables;
    }
    Order::OfKeys
}
