//! A leader and a replica with tables of a test's own, and events between them as Debezium writes them.

use std::collections::HashMap;

use anyhow::Context as _;
use e2e::postgres::{Cluster, Role};
use replicator::assemble::AssembleError;
use replicator::lane::LaneError;
use replicator::replica::ReplicaError;
use replicator::replica::apply::Applied;
use replicator::replica::leader::LeaderSession;
use replicator::replica::schema_change::{self, Cause};
use replicator::replica::session::Session;
use tokio_postgres::Client;

use crate::feed::{Help, Options, Record, acquire, feed_as};
use crate::golden::OPTIONS;

const PREFIX: &str = "app";

/// One event: the table within `public`, the operation, and the row before and after as JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    pub(crate) table: &'a str,
    pub(crate) op: &'a str,
    pub(crate) before: &'a str,
    pub(crate) after: &'a str,
    /// The header that marks a half of a key change, with its value.
    pub(crate) header: Option<(&'a str, &'a str)>,
}

impl<'a> Event<'a> {
    pub(crate) fn insert(table: &'a str, after: &'a str) -> Self {
        Event { table, op: "c", before: "null", after, header: None }
    }

    pub(crate) fn update(table: &'a str, after: &'a str) -> Self {
        Event { table, op: "u", before: "null", after, header: None }
    }

    pub(crate) fn delete(table: &'a str, before: &'a str) -> Self {
        Event { table, op: "d", before, after: "null", header: None }
    }

    pub(crate) fn with_header(self, name: &'a str, value: &'a str) -> Self {
        Event { header: Some((name, value)), ..self }
    }
}

pub(crate) struct Story {
    pub(crate) leader: Cluster,
    pub(crate) replica: Cluster,
    /// Everything may be done here.
    pub(crate) on_leader: Client,
    /// As the replicator, which owns the replica's tables.
    pub(crate) on_replica: Client,
    records: Vec<Record>,
    offsets: HashMap<String, i64>,
    xid: u32,
    pub(crate) help: Help,
    pub(crate) additive: bool,
    /// Statements that following the leader's schema ran.
    pub(crate) followed: Vec<String>,
}

impl Story {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let (leader, replica) = tokio::try_join!(Cluster::leader(), Cluster::replica("replica-1"))?;
        let on_leader = leader.connect(Role::Superuser).await?;
        let on_replica = replica.connect(Role::Replicator).await?;
        // A schema bears the role's name and would come first.
        on_replica.batch_execute("SET search_path = public").await?;
        Ok(Story {
            leader,
            replica,
            on_leader,
            on_replica,
            records: vec![],
            offsets: HashMap::new(),
            xid: 100,
            help: Help::default(),
            additive: true,
            followed: vec![],
        })
    }

    /// The same statements on both sides.
    pub(crate) async fn on_both(&self, sql: &str) -> anyhow::Result<()> {
        self.on_leader.batch_execute(sql).await.context("on the leader")?;
        self.on_replica.batch_execute(sql).await.context("on the replica")
    }

    /// Puts records of elsewhere into the topics.
    pub(crate) fn replay(&mut self, records: impl IntoIterator<Item = Record>) {
        self.records.extend(records);
    }

    fn record(&mut self, topic: String, value: String, header: Option<(&str, &str)>) {
        let offset = self.offsets.entry(topic.clone()).or_default();
        let headers = header.iter().map(|(n, v)| ((*n).to_owned(), Some((*v).to_owned()))).collect();
        self.records.push(Record { topic, partition: 0, offset: *offset, value: Some(value), headers });
        *offset += 1;
    }

    /// Writes one transaction into the topics.
    pub(crate) fn transaction(&mut self, events: &[Event<'_>]) {
        self.xid += 1;
        let xid = self.xid;
        let lsn = u64::from(xid) * 1000;
        let spine = format!("{PREFIX}.transaction");
        self.record(spine.clone(), format!(r#"{{"status":"BEGIN","id":"{xid}:{lsn}","ts_ms":1,"event_count":null,"data_collections":null}}"#), None);
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for (order, event) in (1..).zip(events) {
            let Event { table, op, before, after, header } = *event;
            let of_table = counts.entry(table).or_default();
            *of_table += 1;
            let value = format!(
                r#"{{"before":{before},"after":{after},"op":"{op}","source":{{"schema":"public","table":"{table}","txId":{xid},"lsn":{},"snapshot":null}},"transaction":{{"id":"{xid}:{}","total_order":{order},"data_collection_order":{of_table}}}}}"#,
                lsn + order,
                lsn + order,
            );
            self.record(format!("{PREFIX}.public.{table}"), value, header);
        }
        let collections: Vec<_> = counts
            .iter()
            .map(|(table, count)| format!(r#"{{"data_collection":"public.{table}","event_count":{count}}}"#))
            .collect();
        let count = events.len();
        let end = lsn + 900;
        self.record(spine, format!(r#"{{"status":"END","id":"{xid}:{end}","ts_ms":1,"event_count":{count},"data_collections":[{}]}}"#, collections.join(",")), None);
    }

    /// Applies everything, following the leader's schema on the way as a worker does.
    pub(crate) async fn feed(&mut self, prefix: &'static str) -> anyhow::Result<Vec<Applied>> {
        let options = Options { prefix, exclude: &[], parcel_changes: 1000, group: 10, ..OPTIONS };
        let mut before = None;
        loop {
            let error = match feed_as(&self.replica, &self.records, options, None, &self.help).await {
                Ok(applied) => return Ok(applied),
                Err(error) => error,
            };
            let of_lane = error.downcast_ref::<LaneError>().and_then(|error| match error {
                LaneError::Assemble { error, .. } => match error.as_ref() {
                    AssembleError::Refused { error, .. } => Cause::of_record(error),
                    _ => None,
                },
                _ => None,
            });
            let of_replica = error.downcast_ref::<ReplicaError>().and_then(Cause::of_replica);
            let Some(cause) = of_lane.or(of_replica).filter(|cause| before.as_ref() != Some(cause)) else {
                return Err(error);
            };
            let session = Session::connect(&self.replica.url(Role::Replicator).parse()?).await?;
            let epoch = acquire(&session, prefix).await?.epoch;
            let leader = LeaderSession::connect(&self.leader.url(Role::Replicator).parse()?).await?;
            let followed = schema_change::follow(&session, epoch, &leader, self.additive, &cause).await?;
            self.followed.extend(followed.statements);
            self.help.fillers.extend(followed.fillers);
            before = Some(cause);
        }
    }

    pub(crate) async fn apply(&mut self) -> anyhow::Result<Vec<Applied>> {
        self.feed(PREFIX).await
    }

    /// All rows of a table as text, in order.
    pub(crate) async fn rows(client: &Client, table: &str) -> anyhow::Result<String> {
        let query =
            format!("SELECT coalesce(string_agg(t::text, ' ' ORDER BY t::text), '') FROM public.{table} t");
        Ok(client.query_one(&query, &[]).await?.get(0))
    }

    /// Demands that both sides hold the same rows; returns them.
    pub(crate) async fn assert_equal(&self, table: &str) -> anyhow::Result<String> {
        let expected = Self::rows(&self.on_leader, table).await?;
        assert_eq!(Self::rows(&self.on_replica, table).await?, expected, "{table}");
        Ok(expected)
    }
}

/// The SQL that a refusal tells the operator.
pub(crate) fn told(error: &anyhow::Error) -> Vec<String> {
    match error.downcast_ref::<ReplicaError>() {
        Some(ReplicaError::Schema { sql, .. }) => sql.clone(),
        _ => vec![],
    }
}
