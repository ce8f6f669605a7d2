//! The messages of a leader's own stream, as text and in binary, whole and in blocks.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use e2e::postgres::{Cluster, Kind, Role};
use e2e::random::Random;
use e2e::types::{FAMILIES, LARGE};
use replicator::decode::DecodeError;
use replicator::decode::pgoutput::{
    Column, Decoder, Message, OldRow, PgOutputError, RelationId, Tables, Tuple, Values, decode, decode_frame,
};
use replicator::replica::catalog;
use replicator::source::postgres::{ReplicationConnection, wire_types};
use replicator::vocabulary::change::Change;
use replicator::vocabulary::offset::{PartitionIndex, Place};

use super::{Bytes, Tally, fuzz, mutate};
use crate::types::capture;

/// What the types' tables have nothing of. The last transaction is larger than what the leader keeps in memory.
const KINDS: &str = "
    CREATE TABLE keyless (a int, b text);
    ALTER TABLE keyless REPLICA IDENTITY FULL;
    CREATE TABLE pair (a int, b text, c text, PRIMARY KEY (b, a));
    CREATE TABLE wide (id int PRIMARY KEY, filler text);
    CREATE PUBLICATION everything FOR ALL TABLES;";

const CHANGES: &[&str] = &[
    "INSERT INTO keyless SELECT g, 'k' || g FROM generate_series(1, 9) g",
    "UPDATE keyless SET b = NULL WHERE a < 3",
    "DELETE FROM keyless WHERE a > 6",
    "INSERT INTO pair SELECT g, 'é' || g, 'c' FROM generate_series(1, 9) g",
    "UPDATE pair SET a = a + 100 WHERE a < 4",
    "DELETE FROM pair WHERE a = 5",
    "TRUNCATE keyless, pair RESTART IDENTITY CASCADE",
    "SELECT pg_logical_emit_message(true, 'prefix', 'inside'), pg_logical_emit_message(false, '', 'outside')",
    "ALTER TABLE wide ADD more numeric; INSERT INTO wide VALUES (0, '', 1.50)",
    "BEGIN; INSERT INTO wide SELECT g, repeat('x', 200) FROM generate_series(1, 600) g; SAVEPOINT s;
     INSERT INTO wide SELECT g, repeat('y', 200) FROM generate_series(1001, 1600) g; ROLLBACK TO s;
     UPDATE wide SET more = id; DELETE FROM wide WHERE id < 100; TRUNCATE keyless; COMMIT",
];

/// One message, and what has to have been said before it.
struct Said {
    bytes: Vec<u8>,
    in_stream: bool,
    /// The descriptions of its relations.
    relations: Vec<Vec<u8>>,
}

/// The messages of one stream, and what reads them.
struct Corpus {
    messages: Vec<Said>,
    tables: Tables,
}

fn relations(message: &Message<'_>) -> Vec<RelationId> {
    match message {
        Message::Insert { relation, .. }
        | Message::Update { relation, .. }
        | Message::Delete { relation, .. } => {
            vec![*relation]
        }
        Message::Truncate { relations, .. } => relations.iter().collect(),
        _ => Vec::new(),
    }
}

/// The messages in the order of the stream.
fn corpus(stream: Vec<Vec<u8>>, tables: Tables) -> anyhow::Result<Corpus> {
    let (mut decoder, mut described, mut messages) = (Decoder::new(), HashMap::new(), Vec::new());
    for bytes in stream {
        let in_stream = decoder.in_stream();
        let message = decoder.decode(&bytes)?;
        if let Message::Relation { relation, .. } = &message {
            // Described again where no block is open, it carries no xid.
            let without_xid = if in_stream { [&bytes[..1], &bytes[5..]].concat() } else { bytes.clone() };
            described.insert(relation.id, without_xid);
        }
        let relations = relations(&message).iter().filter_map(|id| described.get(id).cloned()).collect();
        messages.push(Said { bytes, in_stream, relations });
    }
    ensure!(messages.iter().any(|m| m.in_stream), "no transaction came in blocks");
    Ok(Corpus { messages, tables })
}

async fn corpora() -> anyhow::Result<Vec<Corpus>> {
    let settings = [("logical_decoding_work_mem", "64kB")];
    let cluster = Cluster::with_settings(Kind::Plain, "leader", &settings).await?;
    let sql = cluster.connect(Role::Superuser).await?;
    sql.batch_execute(&std::fs::read_to_string(capture::file("schema.sql"))?).await?;
    sql.batch_execute(KINDS).await?;
    sql.batch_execute("SELECT pg_create_logical_replication_slot('fuzz', 'pgoutput')").await?;
    for family in FAMILIES.iter().chain([&LARGE]) {
        for statements in family.stream_sql() {
            sql.batch_execute(&statements).await.with_context(|| family.name)?;
        }
    }
    for statements in CHANGES {
        sql.batch_execute(statements).await.with_context(|| *statements)?;
    }
    let catalog = Arc::new(catalog::load(&sql).await?);
    let mut connection = ReplicationConnection::connect(&cluster.url(Role::Superuser).parse()?, &[]).await?;
    let types = Arc::new(wire_types(&mut connection).await?);
    connection.close().await;
    let mut corpora = Vec::new();
    for (binary, values) in [("false", Values::Text), ("true", Values::Binary(types))] {
        let query = "SELECT data FROM pg_logical_slot_peek_binary_changes('fuzz', NULL, NULL, 'proto_version', '2',
                     'publication_names', 'everything', 'streaming', 'true', 'messages', 'true', 'binary', $1)";
        let rows = sql.query(query, &[&binary]).await?;
        let tables = Tables::new(Arc::clone(&catalog), [], values);
        corpora.push(corpus(rows.iter().map(|row| row.get(0)).collect(), tables)?);
    }
    Ok(corpora)
}

/// Messages that follow each other, after the damage.
#[derive(Debug)]
struct Case {
    corpus: usize,
    in_stream: bool,
    described: Vec<Bytes>,
    messages: Vec<Bytes>,
}

fn draw(random: &mut Random, corpora: &[Corpus]) -> Case {
    let number = random.index(corpora.len());
    let messages = &corpora[number].messages;
    let first = random.index(messages.len());
    let said = &messages[first..(first + random.index(3) + 1).min(messages.len())];
    let mut damaged = |bytes: &[u8], percent: u64| {
        let mut bytes = bytes.to_vec();
        if random.chance(percent) {
            let of = random.index(corpora.len());
            let donor = random.pick(&corpora[of].messages);
            mutate::binary(random, &mut bytes, &donor.bytes);
        }
        Bytes(bytes)
    };
    Case {
        corpus: number,
        in_stream: said[0].in_stream,
        described: said.iter().flat_map(|s| &s.relations).map(|bytes| damaged(bytes, 20)).collect(),
        messages: said.iter().map(|s| damaged(&s.bytes, 90)).collect(),
    }
}

/// The columns of a row, to their end.
fn walk(tuple: Tuple<'_>, input: usize) -> anyhow::Result<()> {
    ensure!(tuple.columns().count() == tuple.width(), "another number of columns");
    let bytes = |column| match column {
        Column::Text(bytes) | Column::Binary(bytes) => bytes.len(),
        Column::Null | Column::Unchanged => 0,
    };
    ensure!(tuple.columns().map(bytes).sum::<usize>() <= input, "more than there is");
    Ok(())
}

fn old(row: OldRow<'_>) -> Tuple<'_> {
    match row {
        OldRow::Key(tuple) | OldRow::Full(tuple) => tuple,
    }
}

/// What the replica makes of a message.
fn apply(message: Message<'_>, tables: &mut Tables, input: usize) -> anyhow::Result<Result<(), DecodeError>> {
    let change = match message {
        Message::Relation { relation, .. } => {
            ensure!(relation.columns().count() == relation.columns().len(), "another number of columns");
            tables.describe(&relation);
            return Ok(Ok(()));
        }
        Message::Insert { relation, new, .. } => {
            walk(new, input)?;
            tables.insert(relation, new)
        }
        Message::Update { relation, old: before, new, .. } => {
            before.map_or(Ok(()), |before| walk(old(before), input))?;
            walk(new, input)?;
            tables.update(relation, before, new)
        }
        Message::Delete { relation, old: before, .. } => {
            walk(old(before), input)?;
            tables.delete(relation, before)
        }
        Message::Truncate { relations, .. } => {
            let truncated = relations.iter().map(|relation| tables.truncate(relation).map(|_| ()));
            return Ok(truncated.collect());
        }
        _ => return Ok(Ok(())),
    };
    if let Ok(Some((table, operation))) = &change {
        let place = Place { partition: PartitionIndex(0), offset: 0 };
        let change = Change { table: Arc::clone(table), operation: operation.clone(), place };
        let most = 4 * input + 64 * table.columns.len() + 256;
        ensure!(change.size_bytes() <= most, "{} bytes of {input}", change.size_bytes());
    }
    Ok(change.map(drop))
}

fn check_place(error: PgOutputError, bytes: &[u8]) -> anyhow::Result<DecodeError> {
    ensure!(error.at <= bytes.len(), "{error}: the message has {} bytes", bytes.len());
    ensure!(error.to_string().contains(&format!(", byte {}: ", error.at)), "{error}: it does not say where");
    Ok(error.into())
}

fn check(case: &Case, corpora: &[Corpus]) -> anyhow::Result<Tally> {
    let (mut tally, mut tables) = (Tally::default(), corpora[case.corpus].tables.undescribed());
    for Bytes(described) in &case.described {
        if let Ok(Message::Relation { relation, .. }) = decode(described, false) {
            tables.describe(&relation);
        }
    }
    let mut decoder = Decoder::new();
    if case.in_stream {
        decoder.decode(b"S\0\0\0\x08\x01")?;
    }
    for Bytes(bytes) in &case.messages {
        let was_in_stream = decoder.in_stream();
        let result = match decoder.decode(bytes) {
            Ok(message) => apply(message, &mut tables, bytes.len())?,
            Err(error) => {
                ensure!(decoder.in_stream() == was_in_stream, "an error changes the decoder");
                Err(check_place(error, bytes)?)
            }
        };
        tally.note(result)?;
        if let Err(error) = decode_frame(bytes) {
            check_place(error, bytes)?;
        }
    }
    Ok(tally)
}

#[tokio::test]
async fn pgoutput_messages() -> anyhow::Result<()> {
    let corpora = corpora().await?;
    fuzz("pgoutput::pgoutput_messages", 20_000, |random| draw(random, &corpora), |case| check(case, &corpora))
}
