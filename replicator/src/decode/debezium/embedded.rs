//! Embedded schemas: `{"schema": …, "payload": …}`, as `schemas.enable=true` writes every event.
//!
//! The schema is several times as long as the payload and the same in every event of a table. So each is read once: an
//! event that begins with the bytes of a known schema is only compared with them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::DecodeError;
use super::codec::ColumnCodec;

/// A field of a schema, as far as it says how values are written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Field {
    /// `int64`, `string`, `bytes`, `struct`, `array`, …
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The logical type, e.g. `io.debezium.time.MicroTimestamp`.
    pub(super) name: Option<String>,
    /// The column's name.
    field: Option<String>,
    parameters: Option<Parameters>,
    /// The elements of an array.
    pub(super) items: Option<Box<Field>>,
    #[serde(default)]
    fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Parameters {
    scale: Option<String>,
}

impl Field {
    /// The scale of an `org.apache.kafka.connect.data.Decimal`.
    pub(super) fn scale(&self) -> Option<u32> {
        // PostgreSQL's numeric has at most 16383 digits behind the point.
        self.parameters.as_ref()?.scale.as_ref()?.parse().ok().filter(|scale| *scale <= 16_383)
    }

    /// A field of this structure.
    pub(super) fn get(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.field.as_deref() == Some(name))
    }
}

/// An event's schema that was seen before.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The record up to its payload.
    prefix: Box<str>,
    /// The schema of a row; none for a record that has none.
    pub(super) row: Option<Field>,
    /// The table that it was resolved for, and how its columns are read.
    pub(super) resolved: Option<(Arc<str>, Arc<[ColumnCodec]>)>,
}

/// How many schemas are kept. With more tables than this in turn, each event's schema is read again.
const MOST: usize = 64;

/// Schemas, the one used last at the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Schemas(Vec<Known>);

/// What every record with a schema begins with, but for white space.
const START: &str = "{\"schema\":";

impl Schemas {
    /// The payload of a record and its schema, when it has one.
    ///
    /// # Errors
    /// When the record is not JSON, or has a schema and no payload.
    pub(super) fn unwrap<'a>(&mut self, text: &'a str) -> Result<(&'a str, Option<&mut Known>), DecodeError> {
        if !text.starts_with(START) {
            return Ok((super::envelope::Unwrapped::of_text(text)?.get(), None));
        }
        if let Some(position) = self.0.iter().rposition(|known| text.starts_with(&*known.prefix)) {
            let last = self.0.len() - 1;
            self.0.swap(position, last);
            let known = &mut self.0[last];
            let payload = text[known.prefix.len()..].strip_suffix('}');
            return Ok((payload.ok_or(DecodeError::MissingField("payload"))?, Some(known)));
        }
        self.read(text)
    }

    fn read<'a>(&mut self, text: &'a str) -> Result<(&'a str, Option<&mut Known>), DecodeError> {
        #[derive(Deserialize)]
        struct Wrapper<'a> {
            schema: Option<Field>,
            #[serde(borrow)]
            payload: Option<&'a RawValue>,
        }
        let wrapper: Wrapper<'a> =
            serde_json::from_str(text).map_err(|e| DecodeError::NotJson(e.to_string()))?;
        let payload = wrapper.payload.ok_or(DecodeError::MissingField("payload"))?.get();
        // The payload stands last, as the converter writes it; otherwise nothing is learnt from the record.
        let prefix = text.strip_suffix('}').and_then(|t| t.strip_suffix(payload));
        let (Some(prefix), Some(schema)) = (prefix, wrapper.schema) else { return Ok((payload, None)) };
        let row = schema.get("after").or_else(|| schema.get("before")).cloned();
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push(Known { prefix: prefix.into(), row, resolved: None });
        Ok((payload, self.0.last_mut()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"schema":{"type":"struct","fields":[{"type":"struct","fields":[{"type":"bytes","optional":true,
        "name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2","connect.decimal.precision":"12"},"field":"n"}],
        "optional":true,"field":"after"}]},"payload":"#;

    #[test]
    fn a_schema_is_read_once_and_recognised() {
        let mut schemas = Schemas::default();
        for payload in ["{\"op\":\"c\"}", "{\"op\":\"u\"}", "null"] {
            let record = format!("{SCHEMA}{payload}}}");
            let (found, known) = schemas.unwrap(&record).unwrap();
            assert_eq!(found, payload);
            let row = known.unwrap().row.as_ref().unwrap();
            assert_eq!(row.get("n").and_then(Field::scale), Some(2));
        }
        assert_eq!(schemas.0.len(), 1);
    }

    #[test]
    fn damaged_wrappers_are_refused_and_odd_ones_understood() {
        let mut schemas = Schemas::default();
        assert!(schemas.unwrap(&format!("{SCHEMA}1}}")).is_ok());
        for damaged in
            ["{\"schema\":", "{\"schema\":{}}", "{\"schema\":17,\"payload\":1}", &format!("{SCHEMA}{{")]
        {
            assert!(schemas.unwrap(damaged).is_err(), "{damaged}");
        }
        for (odd, payload) in [
            ("{\"schema\":null,\"payload\":{\"a\":1}}", "{\"a\":1}"),
            ("{\"schema\":null,\"payload\":2,\"more\":3}", "2"),
            (" { \"schema\" : null, \"payload\" : 4 } ", "4"),
            ("{\"op\":\"c\"}", "{\"op\":\"c\"}"),
        ] {
            assert_eq!(schemas.unwrap(odd).unwrap().0, payload, "{odd}");
        }
    }

    #[test]
    fn no_more_schemas_are_kept_than_are_allowed() {
        let mut schemas = Schemas::default();
        for i in 0..MOST + 10 {
            let record = SCHEMA.replace("\"n\"", &format!("\"n{i}\"")) + "1}";
            schemas.unwrap(&record).unwrap();
        }
        assert_eq!(schemas.0.len(), MOST);
    }
}
