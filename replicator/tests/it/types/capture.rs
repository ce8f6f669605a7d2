//! The captured events of one mode, and the leader's rows that they have to give.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use e2e::types::{BASE, Family, Mode, Path};
use replicator::decode::debezium::Modes;
use serde::Deserialize;

use crate::feed::Record;

/// The prefix of the captured topics.
pub(crate) const PREFIX: &str = "x";

/// What stands between the schema of an event and the rest of it; the capture stores each schema once.
const PAYLOAD: &str = ",\"payload\":";

pub(crate) fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/types").join(name)
}

/// The events of a mode, in the order in which a consumer saw them.
pub(crate) fn records(mode: &Mode) -> anyhow::Result<Vec<Record>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Line {
        Schema {
            schema: String,
        },
        Event {
            topic: String,
            partition: i32,
            offset: i64,
            schema: Option<usize>,
            value: Option<String>,
            headers: Vec<(String, Option<String>)>,
        },
    }
    let text = std::fs::read_to_string(file(&format!("{}.jsonl", mode.name)))?;
    let (mut schemas, mut records) = (Vec::new(), Vec::new());
    for line in text.lines() {
        match serde_json::from_str(line)? {
            Line::Schema { schema } => schemas.push(schema),
            Line::Event { topic, partition, offset, schema, value, headers } => {
                let value = match schema {
                    Some(number) => {
                        let schema = schemas.get(number).context("a schema that came before")?;
                        value.map(|payload| format!("{schema}{PAYLOAD}{payload}"))
                    }
                    None => value,
                };
                records.push(Record { topic, partition, offset, value, headers });
            }
        }
    }
    ensure!(records.len() > 300, "{} has {} events", mode.name, records.len());
    Ok(records)
}

/// A setting of a mode's connector.
pub(crate) fn setting(mode: &Mode, key: &str) -> Option<&'static str> {
    let found = mode.settings.iter().chain(BASE).find(|(name, _)| *name == key);
    found.map(|(_, value)| *value)
}

/// What `source.modes` has to be for a mode.
pub(crate) fn modes(mode: &Mode) -> anyhow::Result<Modes> {
    let modes = Modes::of_connector(|key| setting(mode, key));
    modes.map_err(|key| anyhow::anyhow!("{}: {key} is unknown", mode.name))
}

/// Whether a record is an event of a family's table. Topics have `_` where a name has something odd.
pub(crate) fn is_of(record: &Record, family: &Family) -> bool {
    record.topic == format!("{PREFIX}.public.{}", family.name.replace(' ', "_"))
}

/// A row of the leader: table, id, column. Large values are digests.
pub(crate) type Place = (String, usize, String);

/// The leader's final values.
pub(crate) fn expected() -> anyhow::Result<BTreeMap<Place, Option<String>>> {
    let text = std::fs::read_to_string(file("expected.tsv"))?;
    let values = text.lines().map(|line| {
        let mut fields = line.splitn(4, '\t');
        let mut field = || fields.next().with_context(|| format!("four fields in {line}"));
        let place = (field()?.to_owned(), field()?.parse()?, field()?.to_owned());
        Ok((place, serde_json::from_str(field()?)?))
    });
    values.collect()
}

/// The way by which a row came.
pub(crate) fn path(id: usize) -> anyhow::Result<Path> {
    let found = Path::ALL.into_iter().rfind(|path| path.first_id() <= id);
    found.with_context(|| format!("row {id} came by no known way"))
}
