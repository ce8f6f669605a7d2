//! What the wire can't carry, whatever is done here: known from the column's type and the connector's settings, before
//! the first event comes.

use super::codec::{Wire, binary};
use super::modes::{BinaryMode, DecimalMode, IntervalMode, Modes, TimeMode, UnknownTypes};
use crate::vocabulary::schema::{Catalog, ColumnKind, Shape, TableName};

/// What is lost of every value of a column, and the setting that keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) what: &'static str,
    pub(super) setting: &'static str,
}

/// The ways out when no setting of the connector helps.
pub(in crate::decode) const NO_SETTING: &str = "Leave the column out with the connector's column.exclude.list and on the replica, or \
     the table with source.exclude_tables, or accept the loss with source.allow_lossy.";

/// How much of a column does not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Every value is refused.
    Every,
    /// NULL is refused in updates, because it may stand for a large value that did not change, unless the old row comes, too.
    Unchanged,
    /// NULL is refused, because it may stand for a value.
    Null,
    /// A few values, which can't be told from others, and which another setting of the connector keeps.
    Avoidable,
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
            if let Some(loss) = of_nulls(&column.kind, modes) {
                add(Extent::Null, loss.what, loss.setting.to_owned());
            } else if let Some(what) = of_unchanged(&column.kind, wire) {
                add(
                    Extent::Unchanged,
                    what,
                    format!("On the leader: ALTER TABLE {} REPLICA IDENTITY FULL;", table.name),
                );
            }
            if let Some(loss) = avoidable(&column.kind, modes) {
                add(Extent::Avoidable, loss.what, loss.setting.to_owned());
            }
            for loss in of_some_values(&column.kind, modes) {
                add(Extent::Rare, loss.what, loss.setting.to_owned());
            }
        }
    }
    found
}

/// What is lost of every value.
pub(super) fn of_every_value(kind: &ColumnKind, wire: Wire<'_>) -> Option<Loss> {
    let lost = |what| Some(Loss { what, setting: NO_SETTING });
    let left_out = wire.field.is_none() && wire.modes.unknown_types == UnknownTypes::LeftOut;
    match kind {
        ColumnKind::Opaque if left_out => Some(LEFT_OUT),
        ColumnKind::Interval => interval(wire),
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

fn interval(wire: Wire<'_>) -> Option<Loss> {
    let numeric = match wire.field {
        Some(field) => field.kind == "int64",
        None => {
            wire.modes.interval == IntervalMode::Numeric && wire.modes.time_precision != TimeMode::Structured
        }
    };
    numeric.then_some(Loss {
        what: "interval.handling.mode=numeric turns months and days into microseconds",
        setting: "Set interval.handling.mode=string in the connector and source.modes.interval.",
    })
}

fn decimal(variable_scale: bool, wire: Wire<'_>) -> Option<Loss> {
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
        return Some(Loss { what: "decimal.handling.mode=double rounds", setting: DECIMAL });
    }
    stripped.then_some(Loss {
        what: "decimal.handling.mode=precise drops the zeros at the end of a number without a fixed scale",
        setting: DECIMAL,
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

const DECIMAL: &str = "Set decimal.handling.mode=string in the connector and source.modes.decimal.";

const MICROSECONDS: &str =
    "Set time.precision.mode=microseconds in the connector and source.modes.time_precision.";

const CONNECT: Loss =
    Loss { what: "time.precision.mode=connect cuts to milliseconds", setting: MICROSECONDS };

/// Any column of arrays may hold both, however many dimensions it was declared with.
const NULLS_OR_DIMENSIONS: &str = "an array that holds nothing but NULLs, or has several dimensions, is refused: Debezium does not carry \
     the second, and it may look like the first";

const LEFT_OUT: Loss = Loss {
    what: "include.unknown.datatypes=false leaves types that Debezium does not know out of its events, or sends NULL",
    setting: "Set include.unknown.datatypes=true in the connector, and source.modes.unknown_types = \"included\".",
};

/// What NULL may stand for.
pub(super) fn of_nulls(kind: &ColumnKind, modes: Modes) -> Option<Loss> {
    match kind {
        ColumnKind::Array(array) if matches!(array.element, ColumnKind::Enum | ColumnKind::Opaque) => {
            Some(Loss {
                what: "Debezium sends an array of this type as NULL when one of its elements is NULL",
                setting: NO_SETTING,
            })
        }
        // Its snapshot knows the type, its stream does not (observed).
        ColumnKind::Name if modes.unknown_types == UnknownTypes::LeftOut => Some(LEFT_OUT),
        _ => None,
    }
}

/// Whether an unchanged value that is stored out of line comes as NULL: Debezium has no placeholder for most arrays and
/// for the larger shapes, and its own does not survive each form of bytes and dates (observed).
pub(super) fn of_unchanged(kind: &ColumnKind, wire: Wire<'_>) -> Option<&'static str> {
    let unmarked = match kind {
        ColumnKind::Array(array) => {
            !array.has_placeholder
                || array.element == ColumnKind::Bytea && !bytes_are_bytes(wire)
                || array.element == ColumnKind::Date && !dates_are_plain_numbers(wire)
        }
        ColumnKind::Bytea | ColumnKind::Opaque => {
            matches!(binary(wire), Some(BinaryMode::Base64 | BinaryMode::Base64UrlSafe))
        }
        ColumnKind::Shape(Shape::Path | Shape::Polygon) => true,
        _ => false,
    };
    unmarked.then_some("Debezium sends a large value that an update leaves alone as NULL")
}

/// Whether the elements of an array of bytea were bytes before they became JSON.
fn bytes_are_bytes(wire: Wire<'_>) -> bool {
    match wire.field.and_then(|field| field.items.as_deref()) {
        Some(item) => item.kind == "bytes",
        None => wire.modes.binary == BinaryMode::Bytes,
    }
}

/// Whether the elements of an array of dates are numbers that Debezium did not wrap into a date of Kafka Connect's.
fn dates_are_plain_numbers(wire: Wire<'_>) -> bool {
    match wire.field.and_then(|field| field.items.as_deref()) {
        Some(item) => item.name.as_deref() == Some("io.debezium.time.Date"),
        None => !matches!(
            wire.modes.time_precision,
            TimeMode::Isostring | TimeMode::Structured | TimeMode::Connect
        ),
    }
}

/// What is lost of some values without a trace in the event, only because of one of the connector's settings.
fn avoidable(kind: &ColumnKind, modes: Modes) -> Option<Loss> {
    match (kind, modes.time_precision) {
        (ColumnKind::Time(_), TimeMode::Isostring) => {
            Some(Loss { what: "time.precision.mode=isostring turns 24:00 into 00:00", setting: MICROSECONDS })
        }
        (ColumnKind::Time(_), TimeMode::Structured) => {
            Some(Loss { what: "time.precision.mode=structured sends 24:00 as NULL", setting: MICROSECONDS })
        }
        (ColumnKind::Numeric(_), _) if modes.decimal == DecimalMode::Precise => {
            Some(Loss { what: "decimal.handling.mode=precise sends NaN as NULL", setting: DECIMAL })
        }
        _ => None,
    }
}

/// What is lost of some values whatever the connector's settings, or whatever they may sensibly be.
fn of_some_values(kind: &ColumnKind, modes: Modes) -> Vec<Loss> {
    let lost = |what| Loss { what, setting: NO_SETTING };
    match kind {
        ColumnKind::Date => vec![Loss {
            what: "a snapshot of Debezium's turns years before Christ into years after",
            setting: "Fill replicas by copies: snapshot.mode = \"copy\" here, snapshot.mode=no_data in the connector.",
        }],
        ColumnKind::Timestamp(precision) if overflows(*precision, modes.time_precision) => {
            vec![lost("timestamps after 294247-01-10 arrive as infinity, or as a number that is refused")]
        }
        ColumnKind::Shape(Shape::Polygon) => {
            vec![lost("a polygon whose last point repeats its first arrives without it")]
        }
        ColumnKind::Array(array) => {
            let mut found =
                vec![lost("an array's lower bounds other than 1 are lost"), lost(NULLS_OR_DIMENSIONS)];
            match array.element {
                ColumnKind::Time(_) => found.push(lost("24:00 in an array of time arrives as 00:00")),
                ColumnKind::Date | ColumnKind::Timestamp(_) | ColumnKind::TimestampTz => {
                    found
                        .push(lost("dates before 1582-10-15 in an array are refused: they arrive as others"));
                }
                _ => {}
            }
            found
        }
        _ => Vec::new(),
    }
}

/// Whether a timestamp is a number of microseconds, which 64 bits can't hold for PostgreSQL's last thirty years.
fn overflows(precision: u8, mode: TimeMode) -> bool {
    match mode {
        TimeMode::Microseconds => true,
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds => precision > 3,
        _ => false,
    }
}
