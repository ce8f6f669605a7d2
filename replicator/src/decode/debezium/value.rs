//! One JSON token into the text that PostgreSQL's input function of the column's type reads.

use std::borrow::Cow;

use super::ValueError;
use super::array::append_array;
use super::binary::{append_bits, append_bytea, append_known_bits, bytes};
use super::codec::Codec;
use super::geometry::append_shape;
use super::hstore::append_hstore;
use super::number::{
    append_decimal_text, append_float, append_money_float, append_unscaled, append_variable_scale,
};
use super::temporal::{
    append_date, append_instant, append_interval, append_time, append_timestamp, append_zoned_time,
};

/// Appends the text of a value that is not null.
pub(super) fn append_value(codec: &Codec, raw: &str, out: &mut String) -> Result<(), ValueError> {
    match codec {
        Codec::Text => out.push_str(&string(raw, "a string")?),
        Codec::Integer => out.push_str(&integer(raw)?.to_string()),
        Codec::Boolean => match raw {
            "true" | "false" => out.push_str(raw),
            _ => return Err(ValueError::unexpected("true or false", raw)),
        },
        Codec::Float => append_float(raw, out)?,
        Codec::MoneyFloat => append_money_float(raw, out)?,
        Codec::DecimalText => append_decimal_text(raw, out)?,
        Codec::Unscaled(scale) => append_unscaled(*scale, raw, out)?,
        Codec::VariableScale => append_variable_scale(raw, out)?,
        Codec::Date => append_date(raw, out)?,
        Codec::Time(unit) => append_time(*unit, raw, out)?,
        Codec::ZonedTime => append_zoned_time(raw, out)?,
        Codec::Timestamp(unit) => append_timestamp(*unit, raw, out)?,
        Codec::Instant => append_instant(raw, out)?,
        Codec::Interval => append_interval(raw, out)?,
        Codec::Bytes(mode) => append_bytea(&bytes(*mode, raw)?, out),
        Codec::Bits(length) => append_bits(*length, raw, out)?,
        Codec::KnownBits => append_known_bits(raw, out)?,
        Codec::Hstore => append_hstore(raw, out)?,
        Codec::Shape(shape) => append_shape(*shape, raw, out)?,
        Codec::Array(element) => append_array(element, raw, out)?,
        Codec::Opaque(mode) => match String::from_utf8(bytes(*mode, raw)?) {
            Ok(text) => out.push_str(&text),
            Err(_) => return Err(ValueError::unexpected("bytes of UTF-8 text", raw)),
        },
        Codec::None => return Err(ValueError::unexpected("nothing, for this type is not carried", raw)),
    }
    Ok(())
}

/// A JSON string without its quotes and escapes; borrowed when there are no escapes.
pub(super) fn string<'a>(raw: &'a str, expected: &'static str) -> Result<Cow<'a, str>, ValueError> {
    let inner = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Ok(Cow::Borrowed(inner)),
        Some(_) => serde_json::from_str::<String>(raw)
            .map(Cow::Owned)
            .map_err(|_| ValueError::unexpected(expected, raw)),
        None => Err(ValueError::unexpected(expected, raw)),
    }
}

pub(super) fn integer(raw: &str) -> Result<i64, ValueError> {
    match raw.parse() {
        Ok(number) => Ok(number),
        Err(_) if raw.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit()) && !raw.is_empty() => {
            Err(ValueError::OutOfRange { what: "64-bit integer" })
        }
        Err(_) => Err(ValueError::unexpected("an integer", raw)),
    }
}

/// In double quotes with backslash escapes: what array and hstore literals share.
pub(super) fn append_quoted(text: &str, out: &mut String) {
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
    use crate::decode::debezium::modes::BinaryMode;

    fn text(codec: &Codec, raw: &str) -> String {
        let mut out = String::new();
        append_value(codec, raw, &mut out).map_or_else(|e| format!("refused: {e}"), |()| out)
    }

    #[test]
    fn each_codec_gives_what_postgresql_reads() {
        let cases = [
            (Codec::Text, r#""tab\t\"q\" é 😀""#, "tab\t\"q\" é 😀"),
            (Codec::Boolean, "true", "true"),
            (Codec::Integer, "-9223372036854775808", "-9223372036854775808"),
            (Codec::Float, "3.4028235e+38", "3.4028235e+38"),
            (Codec::Float, "\"-Infinity\"", "-Infinity"),
            (Codec::MoneyFloat, "-1.2345678E7", "-12345678.00"),
            (Codec::DecimalText, "\"1.500\"", "1.500"),
            (Codec::DecimalText, "\"POSITIVE_INFINITY\"", "Infinity"),
            (Codec::DecimalText, "\"NAN\"", "NaN"),
            (Codec::Bytes(BinaryMode::Bytes), "\"AP8Q\"", "\\x00ff10"),
            (Codec::Bytes(BinaryMode::Bytes), "\"\"", "\\x"),
            (Codec::Opaque(BinaryMode::Bytes), "\"e1sxLDMpfQ==\"", "{[1,3)}"),
        ];
        for (codec, raw, expected) in cases {
            assert_eq!(text(&codec, raw), expected, "{codec:?} {raw}");
        }
    }

    #[test]
    fn tokens_of_the_wrong_sort_are_refused_and_not_guessed() {
        for (codec, raw) in [
            (Codec::None, "\"Cw==\""),
            (Codec::Text, "17"),
            (Codec::Boolean, "1"),
            (Codec::Float, "\"1.5\""),
            (Codec::MoneyFloat, "-9.223372036854776E16"),
            (Codec::Bytes(BinaryMode::Bytes), "\"not base64!\""),
            (Codec::Opaque(BinaryMode::Bytes), "{\"wkb\":\"AQ==\"}"),
            (Codec::Opaque(BinaryMode::Bytes), "\"/w==\""),
        ] {
            assert!(text(&codec, raw).starts_with("refused: "), "{codec:?} {raw}");
        }
    }
}
