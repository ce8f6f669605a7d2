//! When records can be read: a consumer in this process, which does nothing but to look at the clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::stream;

/// Arrivals that nobody has taken yet: a whole run may be taken at its end.
const BACKLOG: usize = 65_536;

/// Which records are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// The ENDs of transactions, without which nobody knows that a transaction is complete.
    Ends,
    /// The rows too, which come through another topic: all that an applier has to wait for.
    EndsAndRows,
}

/// A record of a transaction that has become readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// As the leader numbers its transactions, in 32 bits.
    pub(crate) xid: u32,
    pub(crate) at: Instant,
}

/// Reads the topics of `prefix`, which have to exist, from their beginning. The thread ends when the receiver is dropped.
///
/// A thread of its own and no task: closing a consumer may take its time, which the end of the program does not wait for.
pub(crate) fn watch(
    brokers: &str,
    prefix: &str,
    watched: Watched,
) -> anyhow::Result<mpsc::Receiver<Arrival>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(&stream::transaction_topic(prefix), 0, Offset::Beginning)?;
    if watched == Watched::EndsAndRows {
        partitions.add_partition_offset(&stream::table_topic(prefix), 0, Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    let (tell, told) = mpsc::channel(BACKLOG);
    std::thread::spawn(move || {
        while !tell.is_closed() {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
            let at = Instant::now();
            let xid = message.payload().and_then(|payload| end_or_row(payload).ok().flatten());
            if xid.is_some_and(|xid| tell.blocking_send(Arrival { xid, at }).is_err()) {
                return;
            }
        }
    });
    Ok(told)
}

/// The transaction of an END or of a row; `None` for a BEGIN. With or without embedded schema.
fn end_or_row(payload: &[u8]) -> anyhow::Result<Option<u32>> {
    let record: Value = serde_json::from_slice(payload).context("read a record")?;
    let record = record.get("payload").unwrap_or(&record);
    // Both name it `xid:lsn`, a row inside its block `transaction`.
    let id = match record["status"].as_str() {
        Some("END") => &record["id"],
        Some(_) => return Ok(None),
        None => &record["transaction"]["id"],
    };
    let xid = id.as_str().and_then(|id| id.split(':').next()).context("find the transaction's id")?;
    Ok(Some(xid.parse().context("read the transaction's id")?))
}

/// The moment at which the last of a transaction's records arrived, by xid.
pub(crate) fn last_of_each(arrivals: impl IntoIterator<Item = Arrival>) -> HashMap<u32, Instant> {
    let mut last = HashMap::new();
    for Arrival { xid, at } in arrivals {
        last.entry(xid).and_modify(|known: &mut Instant| *known = at.max(*known)).or_insert(at);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_rows_name_their_transaction() {
        let read = |text: &str| end_or_row(text.as_bytes());
        assert_eq!(read(r#"{"status":"END","id":"771:2650","event_count":1}"#).unwrap(), Some(771));
        assert_eq!(read(r#"{"schema":{},"payload":{"status":"END","id":"771:2650"}}"#).unwrap(), Some(771));
        assert_eq!(read(r#"{"op":"c","transaction":{"id":"772:9","total_order":1}}"#).unwrap(), Some(772));
        assert_eq!(read(r#"{"status":"BEGIN","id":"771:2640"}"#).unwrap(), None);
        assert!(read(r#"{"op":"r","transaction":null}"#).is_err());
        assert!(read("no record").is_err());
    }

    #[test]
    fn a_transaction_is_readable_with_its_last_record() {
        let (first, second) = (Instant::now(), Instant::now() + Duration::from_millis(3));
        let arrivals = [Arrival { xid: 7, at: second }, Arrival { xid: 7, at: first }];
        assert_eq!(last_of_each(arrivals), HashMap::from([(7, second)]));
    }
}
