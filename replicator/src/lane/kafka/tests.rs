//! The reader at librdkafka's own broker for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use super::*;
use crate::lane::LaneLimits;
use crate::source::kafka::ends::Ends;
use crate::vocabulary::fence::Fences;
use crate::vocabulary::lsn::CommitLsn;
use crate::vocabulary::offset::Offsets;
use crate::vocabulary::parcel::ReplicaPhase;
use crate::vocabulary::schema::Catalog;

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
        let begin = format!(r#"{{"status":"BEGIN","id":"{xid}:1","ts_ms":1}}"#);
        let end = format!(
            r#"{{"status":"END","id":"{xid}:{xid}","event_count":0,"ts_ms":1,"data_collections":[]}}"#
        );
        for value in [begin, end] {
            self.producer.send(BaseRecord::<(), _>::to(SPINE_TOPIC).payload(&value)).unwrap();
        }
        self.producer.flush(Duration::from_secs(10)).unwrap();
    }

    async fn reader(&self) -> KafkaReader {
        let kafka = KafkaSettings {
            brokers: self.cluster.bootstrap_servers(),
            topic_prefix: "app".to_owned(),
            topics: vec![],
            transaction_topic: None,
            transactions: crate::decode::debezium::Transactions::Required,
            options: BTreeMap::new(),
            ends: Ends::default(),
        };
        let start = LaneStart {
            catalog: Arc::new(Catalog::new(vec![])),
            watermark: CommitLsn::default(),
            leader: None,
            phase: ReplicaPhase::Live,
            offsets: Offsets::new(),
            snapshots: BTreeMap::new().into_iter().collect(),
            fences: Fences::default(),
            repeats: vec![],
            streaming: false,
            binary: true,
            limits: LaneLimits {
                queue_records: 100,
                queue_bytes: 1 << 20,
                parcel_changes: 10,
                parcel_bytes: 1 << 20,
                channel_bytes: 1 << 20,
            },
        };
        KafkaReader::open(1, kafka, DecodeSettings::default(), start).await.unwrap()
    }
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
    let broker = Broker::new();
    broker.write(1);
    let mut reader = broker.reader().await;
    parcel(&mut reader).await;
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
    let broker = Broker::new();
    broker.write(1);
    let mut reader = broker.reader().await;
    parcel(&mut reader).await;
    broker.cluster.broker_down(1).unwrap();
    idle(&mut reader, 14).await.expect("another client gets no answer, either");
    broker.cluster.broker_up(1).unwrap();
    broker.write(2);
    parcel(&mut reader).await;
}
