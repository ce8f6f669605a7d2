//! The reader at librdkafka's own broker for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use super::*;
use crate::lane::tests::{live_start, topics};
use crate::source::kafka::ends::Ends;

const SPINE_TOPIC: &str = "app.transaction";

struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Broker {
    fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(SPINE_TOPIC, 1, 1).unwrap();
        let servers = cluster.bootstrap_servers();
        let producer = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
        Broker { cluster, producer }
    }

    /// An empty transaction.
    fn write(&self, xid: u32) {
        self.boundaries(xid, &BTreeMap::new());
    }

    /// A transaction with one row of `items`, which is in this topic.
    fn write_row(&self, xid: u32, topic: &str) {
        self.send(topic, &topics::row(xid, (1, u64::from(xid)), &xid.to_string()));
        self.boundaries(xid, &BTreeMap::from([("public.items".to_owned(), 1)]));
    }

    fn boundaries(&self, xid: u32, counts: &BTreeMap<String, u64>) {
        self.send(SPINE_TOPIC, &topics::begin(xid, 1));
        self.send(SPINE_TOPIC, &topics::end(xid, u64::from(xid), counts));
        self.producer.flush(Duration::from_secs(10)).unwrap();
    }

    fn send(&self, topic: &str, value: &str) {
        self.producer.send(BaseRecord::<(), _>::to(topic).payload(value)).unwrap();
    }

    async fn reader(&self) -> KafkaReader {
        self.open(Transactions::Required, &[]).await.unwrap()
    }

    /// Opens a reader for a replica that needs these topics from these offsets on.
    async fn open(
        &self,
        transactions: Transactions,
        needed: &[(&str, i64)],
    ) -> Result<KafkaReader, LaneError> {
        let kafka = KafkaSettings {
            brokers: self.cluster.bootstrap_servers(),
            topic_prefix: "app".to_owned(),
            topics: vec![],
            transaction_topic: None,
            transactions,
            options: BTreeMap::new(),
            ends: Ends::default(),
        };
        let decoding = DecodeSettings { transactions, ..DecodeSettings::default() };
        let offsets = needed.iter().map(|(topic, offset)| (partition(topic), *offset)).collect();
        KafkaReader::open(1, kafka, decoding, LaneStart { offsets, ..live_start() }).await
    }
}

fn partition(topic: &str) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition: 0 }
}

/// Reads until a parcel comes.
async fn parcel(reader: &mut KafkaReader) -> Parcel {
    let come = async {
        loop {
            if let Some(parcel) = reader.next().await.unwrap() {
                return parcel;
            }
            reader.ready().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), come).await.expect("a transaction has been written")
}

/// A broker, and a reader that has read all that is there.
async fn fed() -> (Broker, KafkaReader) {
    let broker = Broker::new();
    broker.write(1);
    let mut reader = broker.reader().await;
    parcel(&mut reader).await;
    (broker, reader)
}

/// As many ticks as come in some time in which nothing is given out, each as long as it takes to be answered.
async fn idle(reader: &mut KafkaReader, ticks: u32) -> Result<(), LaneError> {
    for _ in 0..ticks {
        assert!(reader.next().await.unwrap().is_none());
        reader.tick(true).await?;
        while reader.look.as_ref().is_some_and(|look| !look.empty.is_finished()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_gets_nothing_of_what_is_there_ends_its_lane() {
    let (broker, mut reader) = fed().await;
    idle(&mut reader, 30).await.expect("nothing has been written that it does not get");
    reader.source.strand();
    idle(&mut reader, 60).await.expect("nothing has been written meanwhile");
    broker.write(2);
    let error = idle(&mut reader, 80).await.expect_err("the transaction does not come");
    assert!(
        matches!(&error, LaneError::Source(SourceError::Stranded { partition, offset: 2 }) if *partition.topic == *SPINE_TOPIC),
        "{error}"
    );
    assert!(error.is_outage(), "it goes on by itself");
}

#[tokio::test]
async fn an_outage_of_all_brokers_is_waited_for() {
    let (broker, mut reader) = fed().await;
    broker.cluster.broker_down(1).unwrap();
    idle(&mut reader, 14).await.expect("another client gets no answer, either");
    broker.cluster.broker_up(1).unwrap();
    broker.write(2);
    parcel(&mut reader).await;
}

/// What a topic that was made anew looks like: it holds less than what the replica was fed with.
#[tokio::test]
async fn a_position_beyond_the_end_of_a_topic_is_lost_and_never_reset() {
    let (broker, _reader) = fed().await;
    broker.cluster.create_topic("app.public.items", 1, 1).unwrap();
    for (topic, needed, high) in [(SPINE_TOPIC, 3, 2), ("app.public.items", 1, 0)] {
        let error = broker.open(Transactions::Required, &[(topic, needed)]).await.expect_err(topic);
        let expected = SourceError::PositionLost { partition: partition(topic), needed, low: 0, high };
        assert!(matches!(&error, LaneError::Source(found) if *found == expected), "{error}");
        assert!(!error.is_outage(), "{topic}: it does not end by itself");
        assert!(error.hint().contains("replicator rebuild"), "{}", error.hint());
    }
    for at_the_end in [&[(SPINE_TOPIC, 2)][..], &[("app.public.items", 0)], &[]] {
        broker.open(Transactions::Required, at_the_end).await.unwrap();
    }
}

#[tokio::test]
async fn a_topic_that_the_replica_was_fed_from_and_that_is_gone_is_waited_for() {
    let (broker, _reader) = fed().await;
    let error = broker.open(Transactions::Required, &[("app.public.items", 7)]).await.unwrap_err();
    assert!(
        error.to_string().contains("app.public.items/0, which the replica was fed from, is not there"),
        "{error}"
    );
    assert!(error.is_outage());
}

#[tokio::test]
async fn the_topic_of_a_table_that_is_gone_may_be_gone_too() {
    let (broker, _reader) = fed().await;
    broker.cluster.create_topic("app.public.items", 1, 1).unwrap();
    let dropped = [(SPINE_TOPIC, 2), ("app.public.dropped", 7)];
    let mut reader = broker.open(Transactions::Required, &dropped).await.unwrap();
    broker.write(2);
    parcel(&mut reader).await;
    // Without transactions nothing would count what was in it, and a topic of another name may hold any table.
    let absent = broker.open(Transactions::Absent, &dropped).await.unwrap_err();
    assert!(absent.to_string().contains("app.public.dropped/0, which the replica was fed from"), "{absent}");
    let routed = broker.open(Transactions::Required, &[("app.routed", 7)]).await.unwrap_err();
    assert!(routed.to_string().contains("app.routed/0, which the replica was fed from"), "{routed}");
}

#[tokio::test]
async fn several_partitions_have_an_order_only_with_transactions() {
    let (broker, _reader) = fed().await;
    broker.cluster.create_topic("app.public.items", 2, 1).unwrap();
    let error = broker.open(Transactions::Absent, &[]).await.unwrap_err();
    let expected = SourceError::SeveralPartitions("app.public.items".to_owned());
    assert!(matches!(&error, LaneError::Source(found) if *found == expected), "{error}");
    assert!(error.hint().contains("provide.transaction.metadata=true"), "{}", error.hint());
    broker.open(Transactions::Required, &[]).await.unwrap();
}

/// The broker for tests can't add a partition to a topic: two topics hold the table here, which is the same to the assembler.
#[tokio::test]
async fn what_is_missed_may_be_in_a_partition_that_has_just_appeared() {
    let broker = Broker::new();
    broker.cluster.create_topic("app.routed-1", 1, 1).unwrap();
    broker.write_row(1, "app.routed-1");
    let mut reader = broker.reader().await;
    parcel(&mut reader).await;
    broker.cluster.create_topic("app.routed-2", 1, 1).unwrap();
    broker.write_row(2, "app.routed-2");
    broker.write_row(3, "app.routed-1");
    let end = async {
        loop {
            match reader.next().await {
                Ok(_) => reader.ready().await.unwrap(),
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(20), end).await.expect("a later row has come");
    assert!(
        matches!(&error, LaneError::Source(SourceError::Unread { partition }) if *partition.topic == *"app.routed-2"),
        "{error}"
    );
    assert!(error.is_outage(), "it goes on by itself");
    let mut reader = broker.reader().await;
    for _ in 0..3 {
        assert_eq!(parcel(&mut reader).await.changes.len(), 1);
    }
}
