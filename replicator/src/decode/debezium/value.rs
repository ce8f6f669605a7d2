//! One JSON token into the text that PostgreSQL's input function of the column's type reads.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ValueError;
use super::temporal::{append_date, append_instant, append_time, append_timestamp};
use crate::vocabulary::schema::ColumnKind;

/// The tokens that stand for "this TOAST value did not change and is not in the WAL".
#[derive(Debug, Clone)]
pub struct Placeholders {
    tokens: Vec<String>,
}

impl Placeholders {
    /// The forms that Debezium gives the placeholder for the types that can be stored out of line
    /// (`UnchangedToastedPlaceholder` in its source; text, bytea and text[] observed in the captures).
    pub fn new(placeholder: &str) -> Self {
        let text = serde_json::Value::from(placeholder).to_string();
        let base64 = BASE64.encode(placeholder);
        let bytes: Vec<_> = placeholder.bytes().map(|b| b.to_string()).collect();
        let map = serde_json::Value::from(format!("{{{text}:{text}}}")).to_string();
        let mut tokens = vec![
            format!("\"{base64}\""),
            format!("[{text}]"),
            format!("[\"{base64}\"]"),
            format!("[{}]", bytes.join(",")),
            map,
            text,
        ];
        if placeholder == "__debezium_unavailable_value" {
            // uuid[]: the version 3 UUID of the placeholder.
            tokens.push("[\"b68a35a7-17ad-35b3-af2a-ae46edb4545a\"]".to_owned());
        }
        Placeholders { tokens }
    }

    /// Whether a JSON token is one of the placeholder's forms.
    pub(super) fn matches(&self, raw: &str) -> bool {
        self.tokens.iter().any(|token| token == raw)
    }
}

/// Appends the text of a value that is not null.
pub(super) fn append_value(kind: &ColumnKind, raw: &str, out: &mut String) -> Result<(), ValueError> {
    match kind {
        ColumnKind::Text => out.push_str(&string(raw, "a string")?),
        ColumnKind::Integer => out.push_str(&integer(raw)?.to_string()),
        ColumnKind::Boolean => match raw {
            "true" | "false" => out.push_str(raw),
            _ => return Err(ValueError::unexpected("true or false", raw)),
        },
        ColumnKind::Float => append_number(raw, out)?,
        ColumnKind::Numeric => append_numeric(raw, out)?,
        ColumnKind::Date => append_date(integer(raw)?, out)?,
        ColumnKind::Time => append_time(integer(raw)?, out)?,
        ColumnKind::Timestamp => append_timestamp(integer(raw)?, out)?,
        ColumnKind::TimestampTz => append_instant(&string(raw, "an ISO 8601 instant")?, out)?,
        ColumnKind::Bytea => append_bytea(&base64(raw)?, out),
        ColumnKind::Bit(length) => append_bits(*length, raw, out)?,
        ColumnKind::Hstore => append_hstore(raw, out)?,
        ColumnKind::Point => append_point(raw, out)?,
        ColumnKind::Array(element) => append_array(element, raw, out)?,
        ColumnKind::NotCarried(reason) => {
            return Err(ValueError::Lossy {
                reason,
                setting: "Leave the column out with the connector's column.exclude.list and on the replica, or the table \
                          with source.exclude_tables.",
            });
        }
        ColumnKind::Opaque => match String::from_utf8(base64(raw)?) {
            Ok(text) => out.push_str(&text),
            Err(_) => return Err(ValueError::unexpected("base64 of UTF-8 text", raw)),
        },
    }
    Ok(())
}

/// A JSON string without its quotes and escapes; borrowed when there are no escapes.
fn string<'a>(raw: &'a str, expected: &'static str) -> Result<Cow<'a, str>, ValueError> {
    let inner = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Ok(Cow::Borrowed(inner)),
        Some(_) => serde_json::from_str::<String>(raw)
            .map(Cow::Owned)
            .map_err(|_| ValueError::unexpected(expected, raw)),
        None => Err(ValueError::unexpected(expected, raw)),
    }
}

fn integer(raw: &str) -> Result<i64, ValueError> {
    match raw.parse() {
        Ok(number) => Ok(number),
        Err(_) if raw.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit()) && !raw.is_empty() => {
            Err(ValueError::OutOfRange { what: "64-bit integer" })
        }
        Err(_) => Err(ValueError::unexpected("an integer", raw)),
    }
}

/// A JSON number as it stands, or one of the strings that stand for what JSON has no number for.
fn append_number(raw: &str, out: &mut String) -> Result<(), ValueError> {
    match raw {
        "\"NaN\"" | "\"Infinity\"" | "\"-Infinity\"" => out.push_str(&raw[1..raw.len() - 1]),
        _ if raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => out.push_str(raw),
        _ => return Err(ValueError::unexpected("a number", raw)),
    }
    Ok(())
}

fn append_numeric(raw: &str, out: &mut String) -> Result<(), ValueError> {
    if !raw.starts_with('"') {
        return append_number(raw, out);
    }
    match string(raw, "a decimal number in a string (decimal.handling.mode=string)")?.as_ref() {
        "NAN" => out.push_str("NaN"),
        "POSITIVE_INFINITY" => out.push_str("Infinity"),
        "NEGATIVE_INFINITY" => out.push_str("-Infinity"),
        // `decimal.handling.mode=precise` sends base64 of the unscaled value, whose scale is in the schema.
        text if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'E' | b'e')) => {
            out.push_str(text);
        }
        _ => {
            return Err(ValueError::Lossy {
                reason: "not a decimal number in a string",
                setting: "Set decimal.handling.mode=string in the connector.",
            });
        }
    }
    Ok(())
}

fn base64(raw: &str) -> Result<Vec<u8>, ValueError> {
    let text = string(raw, "base64 in a string")?;
    BASE64.decode(text.as_ref()).map_err(|_| ValueError::unexpected("base64 in a string", raw))
}

fn append_bytea(bytes: &[u8], out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + 2 * bytes.len());
    out.push_str("\\x");
    for byte in bytes {
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
}

/// `bit(1)` is a boolean; longer ones are the bytes of a bit set, lowest bit first, zero bytes at the end left out.
fn append_bits(length: u32, raw: &str, out: &mut String) -> Result<(), ValueError> {
    match raw {
        "true" => out.push('1'),
        "false" => out.push('0'),
        _ => {
            let bytes = base64(raw)?;
            for position in (0..length as usize).rev() {
                let set = bytes.get(position / 8).is_some_and(|byte| byte >> (position % 8) & 1 == 1);
                out.push(if set { '1' } else { '0' });
            }
        }
    }
    Ok(())
}

/// `hstore.handling.mode=json`: a JSON object inside a JSON string.
fn append_hstore(raw: &str, out: &mut String) -> Result<(), ValueError> {
    let expected = "an object in a string (hstore.handling.mode=json)";
    let json = string(raw, expected)?;
    let pairs: BTreeMap<String, Option<String>> =
        serde_json::from_str(&json).map_err(|_| ValueError::unexpected(expected, raw))?;
    for (i, (key, value)) in pairs.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        append_quoted(key, out);
        out.push_str("=>");
        match value {
            Some(value) => append_quoted(value, out),
            None => out.push_str("NULL"),
        }
    }
    Ok(())
}

fn append_point(raw: &str, out: &mut String) -> Result<(), ValueError> {
    #[derive(Deserialize)]
    struct Point<'a> {
        #[serde(borrow)]
        x: &'a RawValue,
        #[serde(borrow)]
        y: &'a RawValue,
    }
    let point: Point<'_> =
        serde_json::from_str(raw).map_err(|_| ValueError::unexpected("a point with x and y", raw))?;
    out.push('(');
    append_number(point.x.get(), out)?;
    out.push(',');
    append_number(point.y.get(), out)?;
    out.push(')');
    Ok(())
}

/// A JSON array as PostgreSQL's array literal; every element is quoted, which all element types accept.
fn append_array(element: &ColumnKind, raw: &str, out: &mut String) -> Result<(), ValueError> {
    let elements: Vec<&RawValue> =
        serde_json::from_str(raw).map_err(|_| ValueError::unexpected("an array", raw))?;
    out.push('{');
    let mut scratch = String::new();
    for (i, item) in elements.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        match item.get() {
            "null" => out.push_str("NULL"),
            nested if nested.starts_with('[') => append_array(element, nested, out)?,
            item => {
                scratch.clear();
                append_value(element, item, &mut scratch)?;
                append_quoted(&scratch, out);
            }
        }
    }
    out.push('}');
    Ok(())
}

/// In double quotes with backslash escapes: what array and hstore literals share.
fn append_quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: &ColumnKind, raw: &str) -> String {
        let mut out = String::new();
        append_value(kind, raw, &mut out).map_or_else(|e| format!("refused: {e}"), |()| out)
    }

    #[test]
    fn each_kind_becomes_what_postgresql_reads() {
        let array = |kind| ColumnKind::Array(Box::new(kind));
        let cases = [
            (ColumnKind::Text, r#""tab\t\"q\" é 😀""#, "tab\t\"q\" é 😀"),
            (ColumnKind::Boolean, "true", "true"),
            (ColumnKind::Integer, "-9223372036854775808", "-9223372036854775808"),
            (ColumnKind::Float, "3.4028235e+38", "3.4028235e+38"),
            (ColumnKind::Float, "\"-Infinity\"", "-Infinity"),
            (ColumnKind::Numeric, "\"1.500\"", "1.500"),
            (ColumnKind::Numeric, "\"POSITIVE_INFINITY\"", "Infinity"),
            (ColumnKind::Numeric, "\"NAN\"", "NaN"),
            (ColumnKind::Bytea, "\"AP8Q\"", "\\x00ff10"),
            (ColumnKind::Bytea, "\"\"", "\\x"),
            (ColumnKind::Bit(11), "\"VQU=\"", "10101010101"),
            (ColumnKind::Bit(3), "\"\"", "000"),
            (ColumnKind::Bit(1), "true", "1"),
            (ColumnKind::Hstore, r#""{\"a\":\"1\",\"b \\\"c\":null}""#, r#""a"=>"1","b \"c"=>NULL"#),
            (ColumnKind::Point, r#"{"x":1.5,"y":-2.0,"wkb":"AQ==","srid":null}"#, "(1.5,-2.0)"),
            (ColumnKind::Opaque, "\"e1sxLDMpfQ==\"", "{[1,3)}"),
            (array(ColumnKind::Text), r#"["a","b,c","d\"q\\",null,""]"#, r#"{"a","b,c","d\"q\\",NULL,""}"#),
            (array(ColumnKind::Integer), "[]", "{}"),
            (array(ColumnKind::Bytea), r#"["AP8="]"#, r#"{"\\x00ff"}"#),
        ];
        for (kind, raw, expected) in cases {
            assert_eq!(text(&kind, raw), expected, "{kind:?} {raw}");
        }
    }

    #[test]
    fn what_the_wire_has_lost_is_refused_and_not_guessed() {
        for (kind, raw) in [
            (ColumnKind::NotCarried("lost"), "\"Cw==\""),
            (ColumnKind::Text, "17"),
            (ColumnKind::Boolean, "1"),
            (ColumnKind::Float, "\"1.5\""),
            (ColumnKind::Bytea, "\"not base64!\""),
            (ColumnKind::Opaque, "{\"wkb\":\"AQ==\"}"),
            (ColumnKind::Array(Box::new(ColumnKind::Integer)), "\"{1}\""),
        ] {
            assert!(text(&kind, raw).starts_with("refused: "), "{kind:?} {raw}");
        }
    }
}
