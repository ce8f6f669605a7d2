//! How each column is read: resolved once per table, or once per embedded schema, and never while rows are decoded.

use super::embedded::Field;
use super::loss::{self, Loss};
use super::modes::{BinaryMode, DecimalMode, Modes, TimeMode};
use super::placeholder::Placeholders;
use super::temporal::Unit;
use crate::vocabulary::schema::{ArrayKind, ColumnKind, Shape, Table};

/// How a token becomes text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Codec {
    Text,
    Boolean,
    Integer,
    Float,
    /// Money as a rounded number.
    MoneyFloat,
    /// Digits in a string.
    DecimalText,
    /// An unscaled number as bytes; holds the scale.
    Unscaled(u32),
    /// An unscaled number that brings its scale.
    VariableScale,
    Date,
    Time(Unit),
    ZonedTime,
    Timestamp(Unit),
    Instant,
    Interval,
    Bytes(BinaryMode),
    Bits(u32),
    KnownBits,
    Hstore,
    Shape(Shape),
    Array(Box<Codec>),
    /// PostgreSQL's text as bytes.
    Opaque(BinaryMode),
    /// Nothing can be made of it.
    None,
}

/// What NULL may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nulls {
    /// NULL.
    Real,
    /// NULL, or in an update a value that did not change and is not in the WAL.
    MayBeUnchanged,
    /// NULL, or a value that Debezium could not convert.
    MayBeLost,
}

/// How one column is read.
#[derive(Debug, Clone)]
pub(super) struct ColumnCodec {
    pub(super) codec: Codec,
    pub(super) nulls: Nulls,
    /// What the wire loses of every value; none when it carries them.
    pub(super) loss: Option<Loss>,
    /// What the operator was told and accepts: values that can't be had are left out.
    pub(super) allow_lossy: bool,
    /// The tokens that stand for an unchanged value.
    pub(super) unchanged: Vec<Box<str>>,
}

/// Where a column's wire form is known from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire<'a> {
    pub(super) modes: Modes,
    /// The field of the embedded schema.
    pub(super) field: Option<&'a Field>,
}

/// The codecs of a table's columns. `field` finds a column in the embedded schema.
pub(super) fn of_table<'f>(
    table: &Table,
    modes: Modes,
    placeholders: &Placeholders,
    allow_lossy: impl Fn(&str) -> bool,
    field: impl Fn(&str) -> Option<&'f Field>,
) -> Vec<ColumnCodec> {
    let column = |column: &crate::vocabulary::schema::Column| {
        let wire = Wire { modes, field: field(&column.name) };
        let codec = codec(&column.kind, wire);
        ColumnCodec {
            unchanged: placeholders.tokens(&column.kind, &codec),
            nulls: nulls(&column.kind, &codec, wire),
            loss: loss::of_every_value(&column.kind, wire),
            allow_lossy: allow_lossy(&column.name),
            codec,
        }
    };
    table.columns.iter().map(column).collect()
}

fn codec(kind: &ColumnKind, wire: Wire<'_>) -> Codec {
    match kind {
        ColumnKind::Boolean => Codec::Boolean,
        ColumnKind::Integer => Codec::Integer,
        ColumnKind::Float => Codec::Float,
        ColumnKind::Numeric(scale) => decimal(*scale, wire),
        // Debezium's money.fraction.digits is 2 unless it was changed, which only a schema tells.
        ColumnKind::Money => match decimal(Some(2), wire) {
            Codec::Float => Codec::MoneyFloat,
            exact => exact,
        },
        ColumnKind::Date => Codec::Date,
        ColumnKind::Time(precision) => Codec::Time(time_unit(*precision, wire)),
        ColumnKind::TimeTz => Codec::ZonedTime,
        ColumnKind::Timestamp(precision) => Codec::Timestamp(timestamp_unit(*precision, wire)),
        ColumnKind::TimestampTz => Codec::Instant,
        ColumnKind::Interval => Codec::Interval,
        ColumnKind::Bytea => binary(wire).map_or(Codec::None, Codec::Bytes),
        ColumnKind::Bit(length) => Codec::Bits(*length),
        ColumnKind::VarBit => Codec::KnownBits,
        ColumnKind::Hstore => Codec::Hstore,
        ColumnKind::Shape(shape) => Codec::Shape(*shape),
        ColumnKind::Enum | ColumnKind::Name | ColumnKind::Text => Codec::Text,
        ColumnKind::Array(array) => Codec::Array(Box::new(element(array, wire))),
        ColumnKind::NotCarried(_) | ColumnKind::NotSent(_) => Codec::None,
        ColumnKind::Opaque => binary(wire).map_or(Codec::None, Codec::Opaque),
    }
}

fn element(array: &ArrayKind, wire: Wire<'_>) -> Codec {
    let mut wire = Wire { field: wire.field.and_then(|f| f.items.as_deref()), ..wire };
    // Inside an array bytes stay bytes, unless they become hex digits (observed).
    if wire.modes.binary != BinaryMode::Hex {
        wire.modes.binary = BinaryMode::Bytes;
    }
    match &array.element {
        // The bytes of PostgreSQL's text come as a string whatever they are called.
        ColumnKind::Opaque | ColumnKind::Bytea => codec(&array.element, Wire { field: None, ..wire }),
        element => codec(element, wire),
    }
}

fn decimal(scale: Option<u32>, wire: Wire<'_>) -> Codec {
    match (wire.field, wire.modes.decimal) {
        (Some(field), _) => match (field.name.as_deref(), field.kind.as_str()) {
            (Some("org.apache.kafka.connect.data.Decimal"), _) => {
                field.scale().or(scale).map_or(Codec::None, Codec::Unscaled)
            }
            (Some("io.debezium.data.VariableScaleDecimal"), _) => Codec::VariableScale,
            (_, "string") => Codec::DecimalText,
            (_, "double") => Codec::Float,
            _ => Codec::None,
        },
        (None, DecimalMode::String) => Codec::DecimalText,
        (None, DecimalMode::Precise) => scale.map_or(Codec::VariableScale, Codec::Unscaled),
        (None, DecimalMode::Double) => Codec::Float,
    }
}

fn time_unit(precision: u8, wire: Wire<'_>) -> Unit {
    match (wire.field, wire.modes.time_precision) {
        (Some(field), _) => match field.name.as_deref() {
            Some("io.debezium.time.Time" | "org.apache.kafka.connect.data.Time") => Unit::Millis,
            Some("io.debezium.time.NanoTime") => Unit::Nanos,
            _ => Unit::Micros,
        },
        (None, TimeMode::Connect) => Unit::Millis,
        (None, TimeMode::Adaptive) if precision <= 3 => Unit::Millis,
        (None, TimeMode::Nanoseconds) => Unit::Nanos,
        (None, _) => Unit::Micros,
    }
}

fn timestamp_unit(precision: u8, wire: Wire<'_>) -> Unit {
    match (wire.field, wire.modes.time_precision) {
        (Some(field), _) => match field.name.as_deref() {
            Some("io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp") => Unit::Millis,
            Some("io.debezium.time.NanoTimestamp") => Unit::Nanos,
            _ => Unit::Micros,
        },
        (None, TimeMode::Connect) => Unit::Millis,
        (None, TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds) if precision <= 3 => Unit::Millis,
        (None, TimeMode::Nanoseconds) => Unit::Nanos,
        (None, _) => Unit::Micros,
    }
}

/// How bytes are written; none when the schema says "string" and `source.modes.binary` does not say of what.
pub(super) fn binary(wire: Wire<'_>) -> Option<BinaryMode> {
    match (wire.field.map(|f| f.kind.as_str()), wire.modes.binary) {
        (Some("bytes"), _) => Some(BinaryMode::Bytes),
        (Some("string"), BinaryMode::Bytes) => None,
        (_, mode) => Some(mode),
    }
}

/// Where NULL may be what became of a value, it is not taken for NULL.
fn nulls(kind: &ColumnKind, codec: &Codec, wire: Wire<'_>) -> Nulls {
    if matches!(kind, ColumnKind::NotSent(_)) || loss::of_nulls(kind, wire.modes).is_some() {
        Nulls::MayBeLost
    } else if matches!(codec, Codec::VariableScale | Codec::KnownBits)
        || loss::of_unchanged(kind, wire).is_some()
    {
        Nulls::MayBeUnchanged
    } else {
        Nulls::Real
    }
}
