//! The leader's own stream, from real servers: what comes through it, and what becomes of the connection.

mod connection;
mod continuity;
mod login;
mod messages;
mod slots;
mod streaming;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use e2e::postgres::{Cluster, Kind, Role};
use replicator::decode::pgoutput::{Column, Decoder, Frame, Message, OldRow, RelationId, Tuple};
use replicator::source::postgres::{
    Lifetime, ReplicationConnection, ReplicationStream, SlotSnapshot, StreamOptions, create_slot,
};
use replicator::vocabulary::lsn::{CommitLsn, Lsn};
use replicator::vocabulary::row::Form;
use tokio_postgres::{Client, Config};

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(30);

const SLOT: &str = "direct";

/// A leader with the table `items`, a publication of all tables, and a slot.
struct Leader {
    cluster: Cluster,
    sql: Client,
}

impl Leader {
    async fn start() -> anyhow::Result<Self> {
        Self::with_settings(&[]).await
    }

    async fn with_settings(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let cluster = Cluster::with_settings(Kind::Plain, "leader", settings).await?;
        let sql = cluster.connect(Role::Superuser).await?;
        sql.batch_execute(
            "CREATE TABLE items (id int PRIMARY KEY, name text, amount numeric, at timestamptz);
             ALTER TABLE items ALTER name SET STORAGE external;
             CREATE PUBLICATION everything FOR ALL TABLES",
        )
        .await?;
        let leader = Leader { cluster, sql };
        let mut connection = leader.connect(&[]).await?;
        create_slot(&mut connection, SLOT, Lifetime::Permanent, SlotSnapshot::Discard).await?;
        connection.close().await;
        Ok(leader)
    }

    fn config(&self) -> anyhow::Result<Config> {
        Ok(self.cluster.url(Role::Superuser).parse()?)
    }

    async fn connect(&self, settings: &[(&str, &str)]) -> anyhow::Result<ReplicationConnection> {
        Ok(ReplicationConnection::connect(&self.config()?, settings).await?)
    }

    /// Streams the slot with protocol 1, as text.
    async fn stream(&self) -> anyhow::Result<Reader> {
        self.stream_with(&[], Lsn(0), &options()).await
    }

    async fn stream_with(
        &self,
        settings: &[(&str, &str)],
        from: Lsn,
        options: &StreamOptions,
    ) -> anyhow::Result<Reader> {
        let connection = self.connect(settings).await?;
        Ok(Reader::new(connection.start(SLOT, from, options).await?))
    }

    async fn text(&self, sql: &str) -> anyhow::Result<String> {
        let row = self.sql.query_one(sql, &[]).await?;
        Ok(row.get(0))
    }
}

fn options() -> StreamOptions {
    StreamOptions {
        publications: vec!["everything".to_owned()],
        values: Form::Text,
        streaming: false,
        messages: true,
    }
}

/// Reads a stream and writes down what it says.
struct Reader {
    stream: ReplicationStream,
    decoder: Decoder,
    names: HashMap<RelationId, String>,
    /// The last commit that came.
    commit: CommitLsn,
}

impl Reader {
    fn new(stream: ReplicationStream) -> Self {
        Reader { stream, decoder: Decoder::new(), names: HashMap::new(), commit: CommitLsn::default() }
    }

    /// The next message that is not a relation or type, in words; none for a keepalive.
    async fn step(&mut self) -> anyhow::Result<Option<String>> {
        match self.stream.next().await? {
            Frame::Data(data) => {
                let message = self.decoder.decode(data.payload)?;
                Ok(note(&mut self.names, &mut self.commit, &message))
            }
            Frame::Keepalive(_) => Ok(None),
        }
    }

    /// Everything up to the message that begins so, which comes last.
    async fn until(&mut self, beginning: &str) -> anyhow::Result<Vec<String>> {
        let mut lines = Vec::new();
        let reading = async {
            loop {
                if let Some(line) = self.step().await? {
                    lines.push(line);
                    if lines.last().is_some_and(|line| line.starts_with(beginning)) {
                        return anyhow::Ok(());
                    }
                }
            }
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        read.with_context(|| format!("no {beginning}; so far {lines:?}"))??;
        Ok(lines)
    }

    /// The error that ends the stream.
    async fn failure(&mut self) -> anyhow::Result<replicator::source::postgres::PostgresSourceError> {
        let reading = async {
            loop {
                if let Err(error) = self.stream.next().await {
                    return error;
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.context("the stream goes on")
    }
}

fn note(
    names: &mut HashMap<RelationId, String>,
    commit: &mut CommitLsn,
    message: &Message<'_>,
) -> Option<String> {
    let table = |id: &RelationId| names.get(id).cloned().unwrap_or_else(|| "?".to_owned());
    Some(match message {
        Message::Relation { relation, .. } => {
            names.insert(relation.id, relation.name.to_owned());
            return None;
        }
        Message::Type { .. } => return None,
        Message::Begin { .. } => "begin".to_owned(),
        Message::Commit { lsn, .. } => {
            *commit = *lsn;
            "commit".to_owned()
        }
        Message::Origin { name, .. } => format!("origin {name}"),
        Message::Insert { relation, new, .. } => format!("insert {} {}", table(relation), row(new)),
        Message::Update { relation, old: None, new, .. } => {
            format!("update {} {}", table(relation), row(new))
        }
        Message::Update { relation, old: Some(old), new, .. } => {
            format!("update {} {} to {}", table(relation), old_row(old), row(new))
        }
        Message::Delete { relation, old, .. } => format!("delete {} {}", table(relation), old_row(old)),
        Message::Truncate { relations, cascade, restart_identity, .. } => {
            let tables: Vec<_> = relations.iter().map(|id| table(&id)).collect();
            format!("truncate {} cascade={cascade} restart={restart_identity}", tables.join(","))
        }
        Message::Message { transactional, prefix, content, .. } => {
            format!("message {prefix} {} transactional={transactional}", String::from_utf8_lossy(content))
        }
        Message::StreamStart { xid, first } => format!("stream start {xid} first={first}"),
        Message::StreamStop => "stream stop".to_owned(),
        Message::StreamCommit { xid, lsn, .. } => {
            *commit = *lsn;
            format!("stream commit {xid}")
        }
        Message::StreamAbort { xid, subxid } => format!("stream abort {xid}/{subxid}"),
    })
}

fn old_row(old: &OldRow<'_>) -> String {
    match old {
        OldRow::Key(tuple) => format!("key {}", row(tuple)),
        OldRow::Full(tuple) => format!("full {}", row(tuple)),
    }
}

fn row(tuple: &Tuple<'_>) -> String {
    let value = |column: Column<'_>| match column {
        Column::Null => "NULL".to_owned(),
        Column::Unchanged => "unchanged".to_owned(),
        Column::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Column::Binary(bytes) => {
            format!("x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
    };
    format!("({})", tuple.columns().map(value).collect::<Vec<_>>().join(", "))
}
