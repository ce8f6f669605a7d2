//! The topics: are they there, in an order that can be relied on, and with all that the replicas still need?

use super::Finding;
use crate::config::Config;
use crate::source::kafka::{KafkaSource, SourceError};
use crate::vocabulary::offset::{Offsets, TopicPartition};

/// The topics that are read.
pub(super) struct Topics {
    source: KafkaSource,
    partitions: Vec<TopicPartition>,
}

/// Looks at the topics; none when that was in vain.
pub(super) async fn check(config: &Config, findings: &mut Vec<Finding>) -> Option<Topics> {
    let topics = match find(config).await {
        Ok(topics) => topics,
        Err(error) => {
            findings.push(finding("topics", &error));
            return None;
        }
    };
    let several: Vec<_> = topics.partitions.iter().filter(|p| p.partition == 1).collect();
    for partition in &several {
        findings.push(Finding::warning(
            format!(
                "topics: {} has several partitions: when a killed connector has lost rows of it, replicas halt and want a rebuild, \
                 where one partition would prove that they come again",
                partition.topic
            ),
            "Make it anew with one partition: \"topic.creation.default.partitions\": \"1\"",
        ));
    }
    if several.is_empty() {
        findings.push(Finding::good(format!(
            "topics: {} of prefix {}, one partition each",
            topics.partitions.len(),
            config.source.topic_prefix
        )));
    }
    Some(topics)
}

async fn find(config: &Config) -> Result<Topics, SourceError> {
    let source = KafkaSource::new(config.kafka(), "replicator.check", 1)?;
    let partitions = source.discover().await?;
    Ok(Topics { source, partitions })
}

impl Topics {
    /// Whether they still hold what a replica needs next.
    pub(super) async fn check_offsets(&self, replica: &str, offsets: &Offsets, findings: &mut Vec<Finding>) {
        if let Err(error) = self.source.check_positions(&self.partitions, offsets).await {
            findings.push(finding(replica, &error));
        }
    }
}

fn finding(of: &str, error: &SourceError) -> Finding {
    let what = format!("{of}: {error}");
    match error {
        SourceError::Unavailable(_) => Finding::unreachable(what, error.hint()),
        _ => Finding::error(what, error.hint()),
    }
}
