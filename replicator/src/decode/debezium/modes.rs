//! The connector's settings that decide what a value looks like, for events that do not carry their schema.

use serde::{Deserialize, Serialize};

/// How the connector writes values. An event with an embedded schema tells most of it better.
///
/// Only settings that no value gives away, or that lose values: an hstore is a string or an object, whatever the connector
/// was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Modes {
    /// The connector's `decimal.handling.mode`.
    pub decimal: DecimalMode,
    /// The connector's `time.precision.mode`.
    pub time_precision: TimeMode,
    /// The connector's `binary.handling.mode`.
    pub binary: BinaryMode,
    /// The connector's `interval.handling.mode`.
    pub interval: IntervalMode,
    /// The connector's `include.unknown.datatypes`.
    pub unknown_types: UnknownTypes,
}

/// `decimal.handling.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecimalMode {
    /// Decimal digits in a string.
    #[default]
    String,
    /// The unscaled value as bytes; the scale is in the schema. Drops trailing zeros where each value has its own scale,
    /// and sends NaN and the infinities as NULL.
    Precise,
    /// Rounded.
    Double,
}

/// `time.precision.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeMode {
    /// Microseconds.
    #[default]
    Microseconds,
    /// Milliseconds up to a precision of three digits, microseconds above.
    Adaptive,
    /// As `adaptive`, but times of day always in microseconds.
    AdaptiveTimeMicroseconds,
    /// ISO 8601.
    Isostring,
    /// An object with a field for each part.
    Structured,
    /// Nanoseconds, in which only the years 1677 to 2262 have room.
    Nanoseconds,
    /// Milliseconds.
    Connect,
}

/// `binary.handling.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BinaryMode {
    /// Bytes, which JSON has as base64.
    #[default]
    Bytes,
    /// A string of base64.
    Base64,
    /// The same with `-` and `_` for `+` and `/`.
    Base64UrlSafe,
    /// A string of hex digits.
    Hex,
}

/// `interval.handling.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalMode {
    /// ISO 8601.
    #[default]
    String,
    /// Microseconds, in which a month is 30.4375 days.
    Numeric,
}

/// `include.unknown.datatypes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownTypes {
    /// `true`: values of types that Debezium does not know come as bytes of PostgreSQL's text.
    #[default]
    Included,
    /// `false`: their columns are left out of events.
    LeftOut,
}

impl Modes {
    /// The connector's settings as modes: what `source.modes` has to be for events without schemas. A setting that this
    /// version does not know is returned as the error.
    ///
    /// # Errors
    /// The name of the first setting with a value that this version does not know.
    pub fn of_connector<'a>(setting: impl Fn(&str) -> Option<&'a str>) -> Result<Self, &'static str> {
        fn parse<T: for<'de> Deserialize<'de>>(value: &str) -> Option<T> {
            T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(value)).ok()
        }
        const DECIMAL: &str = "decimal.handling.mode";
        const TIME: &str = "time.precision.mode";
        const BINARY: &str = "binary.handling.mode";
        const INTERVAL: &str = "interval.handling.mode";
        const UNKNOWN: &str = "include.unknown.datatypes";
        // Debezium's defaults are not those of this version.
        Ok(Modes {
            decimal: parse(setting(DECIMAL).unwrap_or("precise")).ok_or(DECIMAL)?,
            time_precision: parse(setting(TIME).unwrap_or("adaptive")).ok_or(TIME)?,
            binary: parse(setting(BINARY).unwrap_or("bytes")).ok_or(BINARY)?,
            interval: parse(setting(INTERVAL).unwrap_or("numeric")).ok_or(INTERVAL)?,
            unknown_types: match setting(UNKNOWN).unwrap_or("false") {
                "true" => UnknownTypes::Included,
                "false" => UnknownTypes::LeftOut,
                _ => return Err(UNKNOWN),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connector_without_settings_has_debeziums_defaults() {
        let defaults = Modes::of_connector(|_| None).unwrap();
        assert_eq!((defaults.decimal, defaults.time_precision), (DecimalMode::Precise, TimeMode::Adaptive));
        assert_eq!(
            (defaults.interval, defaults.unknown_types),
            (IntervalMode::Numeric, UnknownTypes::LeftOut)
        );
        let url_safe =
            Modes::of_connector(|key| (key == "binary.handling.mode").then_some("base64-url-safe"));
        assert_eq!(url_safe.map(|m| m.binary), Ok(BinaryMode::Base64UrlSafe));
        let unknown = Modes::of_connector(|key| (key == "time.precision.mode").then_some("fortnights"));
        assert_eq!(unknown, Err("time.precision.mode"));
    }
}
