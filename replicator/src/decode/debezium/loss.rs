//! What the wire can't carry, whatever is done here: known from the column's type and the connector's settings, before
//! the first event comes.

use super::codec::{Wire, binary};
use super::modes::{BinaryMode, DecimalMode, Modes, TimeMode};
use crate::vocabulary::schema::{Catalog, ColumnKind, Shape, TableName};

/// What is lost of every value of a column, and the setting that keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) what: &'static str,
    pub(super) setting: &'static str,
}

/// The ways out when no setting of the connector helps.
pub(super) const NO_SETTING: &str = "Leave the column out with the connector's column.exclude.list and on the replica, or \
     the table with source.exclude_tables, or accept the loss with source.allow_lossy.";

/// How much of a column does not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Every value is refused.
    Every,
    /// Updates that leave a large value alone are refused: it comes as NULL, unless the old row comes too.
    Unchanged,
    /// NULL is refused, because it may stand for a value.
    Null,
    /// A few values, of which most can't be told from others.
    Rare,
}

/// A column that the wire does not carry whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossyColumn {
    /// The table.
    pub table: TableName,
    /// The column.
    pub column: String,
    /// How much is lost.
    pub extent: Extent,
    /// What is lost, as a clause.
    pub what: &'static str,
    /// The statement or setting that mends it.
    pub way_out: String,
}

/// Every column of the catalog that these settings of the connector do not carry whole, in the catalog's order of columns.
pub fn lossy_columns(catalog: &Catalog, modes: Modes) -> Vec<LossyColumn> {
    let mut found = Vec::new();
    let mut tables: Vec<_> = catalog.tables().collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    for table in tables {
        for column in table.columns.iter().filter(|c| !c.generated) {
            let wire = Wire { modes, field: None };
            let mut add = |extent, what, way_out: String| {
                let (table, column) = (table.name.clone(), column.name.clone());
                found.push(LossyColumn { table, column, extent, what, way_out });
            };
            if let Some(loss) = of_every_value(&column.kind, wire) {
                add(Extent::Every, loss.what, loss.setting.to_owned());
                continue;
            }
            if let Some(what) = of_nulls(&column.kind) {
                add(Extent::Null, what, NO_SETTING.to_owned());
            } else if let Some(what) = of_unchanged(&column.kind, modes) {
                add(
                    Extent::Unchanged,
                    what,
                    format!("On the leader: ALTER TABLE {} REPLICA IDENTITY FULL;", table.name),
                );
            }
            for what in of_some_values(&column.kind, modes) {
                add(Extent::Rare, what, NO_SETTING.to_owned());
            }
        }
    }
    found
}

/// What is lost of every value.
pub(super) fn of_every_value(kind: &ColumnKind, wire: Wire<'_>) -> Option<Loss> {
    let lost = |what| Some(Loss { what, setting: NO_SETTING });
    match kind {
        ColumnKind::NotCarried(what) | ColumnKind::NotSent(what) => lost(what),
        ColumnKind::VarBit => lost("Debezium does not carry the length of a bit varying value"),
        ColumnKind::TimeTz => time_tz(wire),
        ColumnKind::Numeric(scale) => decimal(scale.is_none(), wire),
        ColumnKind::Money => decimal(false, wire),
        ColumnKind::Time(precision) => time(*precision, wire),
        ColumnKind::Timestamp(precision) => timestamp(*precision, wire),
        ColumnKind::Bytea | ColumnKind::Opaque if binary(wire).is_none() => Some(Loss {
            what: "the schema does not say how bytes are written into strings",
            setting: "Set source.modes.binary to the connector's binary.handling.mode.",
        }),
        ColumnKind::Array(array) => match &array.element {
            ColumnKind::Time(precision) if *precision > 3 => {
                lost("Debezium cuts the elements of a time array to milliseconds")
            }
            element => {
                let wire = Wire { field: wire.field.and_then(|f| f.items.as_deref()), ..wire };
                match element {
                    ColumnKind::Bytea | ColumnKind::Opaque => None,
                    element => of_every_value(element, wire),
                }
            }
        },
        _ => None,
    }
}

fn time_tz(wire: Wire<'_>) -> Option<Loss> {
    let structured = match wire.field {
        Some(field) => field.kind == "struct",
        None => wire.modes.time_precision == TimeMode::Structured,
    };
    (!structured).then_some(Loss {
        what: "Debezium does not carry the zone of a time with time zone",
        setting: "Set time.precision.mode=structured in the connector and source.modes.time_precision, or leave the column \
                  out with column.exclude.list and on the replica, or accept the loss with source.allow_lossy.",
    })
}

fn decimal(variable_scale: bool, wire: Wire<'_>) -> Option<Loss> {
    let setting = "Set decimal.handling.mode=string in the connector and source.modes.decimal.";
    let (rounded, stripped) = match wire.field {
        Some(field) => {
            (field.kind == "double", field.name.as_deref() == Some("io.debezium.data.VariableScaleDecimal"))
        }
        None => (
            wire.modes.decimal == DecimalMode::Double,
            variable_scale && wire.modes.decimal == DecimalMode::Precise,
        ),
    };
    if rounded {
        return Some(Loss { what: "decimal.handling.mode=double rounds", setting });
    }
    stripped.then_some(Loss {
        what: "decimal.handling.mode=precise drops the zeros at the end of a number without a fixed scale",
        setting,
    })
}

fn time(precision: u8, wire: Wire<'_>) -> Option<Loss> {
    let connect = match wire.field {
        Some(field) => field.name.as_deref() == Some("org.apache.kafka.connect.data.Time"),
        None => wire.modes.time_precision == TimeMode::Connect,
    };
    (connect && precision > 3).then_some(CONNECT)
}

fn timestamp(precision: u8, wire: Wire<'_>) -> Option<Loss> {
    let (connect, nanos) = match wire.field {
        Some(field) => (
            field.name.as_deref() == Some("org.apache.kafka.connect.data.Timestamp"),
            field.name.as_deref() == Some("io.debezium.time.NanoTimestamp"),
        ),
        None => (
            wire.modes.time_precision == TimeMode::Connect,
            wire.modes.time_precision == TimeMode::Nanoseconds,
        ),
    };
    if connect && precision > 3 {
        return Some(CONNECT);
    }
    nanos.then_some(Loss {
        what: "time.precision.mode=nanoseconds sends timestamps outside the years 1677 to 2262 as NULL",
        setting: MICROSECONDS,
    })
}

const MICROSECONDS: &str =
    "Set time.precision.mode=microseconds in the connector and source.modes.time_precision.";

const CONNECT: Loss =
    Loss { what: "time.precision.mode=connect cuts to milliseconds", setting: MICROSECONDS };

/// What NULL may stand for.
fn of_nulls(kind: &ColumnKind) -> Option<&'static str> {
    match kind {
        ColumnKind::Array(array) if matches!(array.element, ColumnKind::Enum | ColumnKind::Opaque) => {
            Some("Debezium sends an array of this type as NULL when one of its elements is NULL")
        }
        _ => None,
    }
}

/// Whether an unchanged value that is stored out of line comes as NULL.
fn of_unchanged(kind: &ColumnKind, modes: Modes) -> Option<&'static str> {
    let base64 = matches!(modes.binary, BinaryMode::Base64 | BinaryMode::Base64UrlSafe);
    let text = matches!(modes.time_precision, TimeMode::Isostring | TimeMode::Structured);
    let unmarked = match kind {
        ColumnKind::Array(array) => {
            !array.has_placeholder
                || array.element == ColumnKind::Bytea && modes.binary != BinaryMode::Bytes
                || array.element == ColumnKind::Date && text
        }
        ColumnKind::Bytea | ColumnKind::Opaque => base64,
        ColumnKind::Shape(Shape::Path | Shape::Polygon) => true,
        _ => false,
    };
    unmarked.then_some("Debezium sends a large value that an update leaves alone as NULL")
}

/// What is lost of some values, as far as an event does not show it.
fn of_some_values(kind: &ColumnKind, modes: Modes) -> Vec<&'static str> {
    let clock_is_text = matches!(modes.time_precision, TimeMode::Isostring | TimeMode::Structured);
    match kind {
        ColumnKind::Date => vec!["a snapshot of Debezium's turns years before Christ into years after"],
        ColumnKind::Time(_) if clock_is_text => {
            vec!["time.precision.mode=isostring turns 24:00 into 00:00, structured into NULL"]
        }
        ColumnKind::Timestamp(precision)
            if *precision < 6 && modes.time_precision == TimeMode::Microseconds =>
        {
            vec!["timestamps after 294247-01-10 arrive as infinity"]
        }
        ColumnKind::Numeric(_) if modes.decimal == DecimalMode::Precise => {
            vec!["decimal.handling.mode=precise sends NaN as NULL"]
        }
        ColumnKind::Shape(Shape::Polygon) => {
            vec!["a polygon whose last point repeats its first arrives without it"]
        }
        ColumnKind::Array(array) => {
            let mut lost = vec!["an array's lower bounds other than 1 are lost"];
            match array.element {
                ColumnKind::Time(_) => lost.push("24:00 in an array of time arrives as 00:00"),
                ColumnKind::Date | ColumnKind::Timestamp(_) | ColumnKind::TimestampTz => {
                    lost.push("years before Christ in an array arrive as years after");
                }
                _ => {}
            }
            lost
        }
        _ => Vec::new(),
    }
}
