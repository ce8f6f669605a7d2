//! The connector's events, in every mode in which some were captured, and its transaction boundaries.

use anyhow::ensure;
use e2e::postgres::{Cluster, Role};
use e2e::random::Random;
use e2e::types::MODES;
use replicator::decode::debezium::{
    DecodeSettings, Decoded, Decoder, Modes, RawRecord, Transactions, decode_boundary, is_boundary,
    lossy_columns,
};
use replicator::replica::catalog;
use replicator::vocabulary::change::Change;
use replicator::vocabulary::offset::{PartitionIndex, Place};
use replicator::vocabulary::schema::Catalog;

use super::{Bytes, Tally, check_error, fuzz, mutate};
use crate::feed::{Record, raw};
use crate::golden::{self, OPTIONS, captured};
use crate::types::{self, capture};

const PLACE: Place = Place { partition: PartitionIndex(0), offset: 17 };

/// The records of one connector, and decoders for them: one that takes what it gets, one that refuses what is lost.
struct Corpus {
    records: Vec<Record>,
    decoders: [Decoder; 2],
}

impl Corpus {
    fn new(records: Vec<Record>, tables: &Catalog, modes: Modes, placeholder: &str) -> Self {
        let strict =
            DecodeSettings { placeholder: placeholder.to_owned(), modes, ..DecodeSettings::default() };
        let lossy = lossy_columns(tables, modes);
        let lenient = DecodeSettings {
            allow_lossy: lossy.iter().map(|l| format!("{}.{}", l.table, l.column)).collect(),
            transactions: Transactions::Absent,
            ..strict.clone()
        };
        let records = records.into_iter().filter(|record| record.value.is_some()).collect();
        Corpus { records, decoders: [strict, lenient].map(|settings| Decoder::new(tables, settings)) }
    }
}

async fn tables(cluster: &Cluster) -> anyhow::Result<Catalog> {
    Ok(catalog::load(&cluster.connect(Role::Superuser).await?).await?)
}

async fn corpora() -> anyhow::Result<Vec<Corpus>> {
    let mut corpora = Vec::new();
    let of_golden = tables(&golden::replica().await?).await?;
    let defaults = Modes::of_connector(|_| None).map_err(anyhow::Error::msg)?;
    for (file, modes) in [
        ("A-null-to-default.jsonl", OPTIONS.modes),
        ("A-schema.jsonl", OPTIONS.modes),
        ("A-schemaless.jsonl", OPTIONS.modes),
        ("B-defaults.jsonl", defaults),
        ("C-schemaless.jsonl", OPTIONS.modes),
    ] {
        corpora.push(Corpus::new(captured(file)?, &of_golden, modes, OPTIONS.placeholder));
    }
    let of_types = tables(&types::replica().await?).await?;
    for mode in MODES {
        let placeholder = types::placeholder(mode)?;
        corpora.push(Corpus::new(capture::records(mode)?, &of_types, capture::modes(mode)?, placeholder));
    }
    Ok(corpora)
}

/// A record after the damage.
#[derive(Debug)]
struct Damaged {
    value: Bytes,
    old_key: Option<Bytes>,
    new_key: Option<Bytes>,
}

/// Records for one decoder, one after the other: it remembers their schemas.
#[derive(Debug)]
struct Case {
    corpus: usize,
    decoder: usize,
    records: Vec<Damaged>,
}

fn any_record<'c>(random: &mut Random, corpora: &'c [Corpus], corpus: usize) -> &'c Record {
    let of = if random.chance(90) { corpus } else { random.index(corpora.len()) };
    random.pick(&corpora[of].records)
}

fn value(record: &Record) -> &[u8] {
    record.value.as_deref().unwrap_or_default().as_bytes()
}

fn draw(random: &mut Random, corpora: &[Corpus]) -> Case {
    let (corpus, decoder) = (random.index(corpora.len()), random.index(2));
    let mut records: Vec<Damaged> = Vec::new();
    for _ in 0..random.between(1, 3) {
        let donor = |random: &mut Random| value(any_record(random, corpora, corpus));
        let mut damaged = match records.last() {
            // The same once more, with more damage: as with a schema that is known.
            Some(last) if random.chance(50) => last.value.0.clone(),
            _ => donor(random).to_vec(),
        };
        if random.chance(90) {
            mutate::json(random, &mut damaged, donor);
        }
        let mut key = |name: &str| {
            let drawn = any_record(random, corpora, corpus);
            let header = raw(drawn, PLACE);
            let header = if name == "old" { header.old_key } else { header.new_key };
            let mut key = match header {
                Some(header) => header.to_vec(),
                None if random.chance(20) => br#"{"id":1,"alt":"a"}"#.to_vec(),
                None => return None,
            };
            mutate::json(random, &mut key, |_| value(drawn));
            Some(Bytes(key))
        };
        let (old_key, new_key) = (key("old"), key("new"));
        records.push(Damaged { value: Bytes(damaged), old_key, new_key });
    }
    Case { corpus, decoder, records }
}

/// A change is not much larger than its record: hexadecimal digits, and the zeros that an exponent stands for.
fn check_change(change: Option<&Change>, record: &Damaged) -> anyhow::Result<()> {
    let Some(change) = change else { return Ok(()) };
    let (size, input) = (change.size_bytes(), record.value.0.len());
    let most = 16 * input + 4096 + 32_768 * change.table.columns.len();
    ensure!(size <= most, "{size} bytes of {input}");
    ensure!(change.place == PLACE, "another place");
    Ok(())
}

fn check(case: &Case, corpora: &[Corpus]) -> anyhow::Result<Tally> {
    let mut decoder = corpora[case.corpus].decoders[case.decoder].clone();
    let mut tally = Tally::default();
    for record in &case.records {
        let raw = RawRecord {
            place: PLACE,
            written_at_ms: None,
            value: Some(&record.value.0),
            old_key: record.old_key.as_ref().map(|key| &*key.0),
            new_key: record.new_key.as_ref().map(|key| &*key.0),
        };
        match tally.note(decoder.decode(&raw))? {
            Some(Decoded::Member(member)) => check_change(member.change.as_ref(), record)?,
            Some(Decoded::Loose(loose)) => check_change(loose.change.as_ref(), record)?,
            Some(Decoded::Copy(row)) => check_change(Some(&row.change), record)?,
            Some(Decoded::Refused(error)) => check_error(&error)?,
            Some(Decoded::Ignored) | None => {}
        }
    }
    Ok(tally)
}

#[tokio::test]
async fn debezium_events() -> anyhow::Result<()> {
    let mut corpora = corpora().await?;
    for corpus in &mut corpora {
        corpus.records.retain(|record| !record.topic.ends_with(".transaction"));
    }
    fuzz("debezium::debezium_events", 6000, |random| draw(random, &corpora), |case| check(case, &corpora))
}

#[test]
fn debezium_boundaries() -> anyhow::Result<()> {
    let mut records = captured("A-schema.jsonl")?;
    records.extend(captured("C-schemaless.jsonl")?);
    records.extend(capture::records(&MODES[0])?);
    let is_spine = |record: &Record| record.topic.ends_with(".transaction") && record.value.is_some();
    let (boundaries, events): (Vec<_>, Vec<_>) = records.iter().partition(|&record| is_spine(record));
    let draw = |random: &mut Random| {
        let from = if random.chance(95) { &boundaries } else { &events };
        let mut damaged = value(random.pick::<&Record>(from)).to_vec();
        if random.chance(90) {
            mutate::json(random, &mut damaged, |random| value(random.pick::<&Record>(&boundaries)));
        }
        Bytes(damaged)
    };
    let check = |case: &Bytes| {
        let mut tally = Tally::default();
        is_boundary(&case.0);
        tally.note(decode_boundary(&case.0))?;
        Ok(tally)
    };
    fuzz("debezium::debezium_boundaries", 20_000, draw, check)
}
