//! Ways to set the connector up: each gives values other wire forms.

/// A connector's settings for the forms of values.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// A short name, fit for topics, slots, databases and files.
    pub name: &'static str,
    /// What differs from [`BASE`].
    pub settings: &'static [(&'static str, &'static str)],
}

/// What all of them share: the settings of `debezium/register-postgres.json` that decide what a value looks like.
pub const BASE: &[(&str, &str)] = &[
    ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
    ("tasks.max", "1"),
    ("plugin.name", "pgoutput"),
    ("publish.via.partition.root", "true"),
    ("provide.transaction.metadata", "true"),
    ("skipped.operations", "none"),
    ("decimal.handling.mode", "string"),
    ("time.precision.mode", "microseconds"),
    ("interval.handling.mode", "string"),
    ("hstore.handling.mode", "json"),
    ("binary.handling.mode", "bytes"),
    ("include.unknown.datatypes", "true"),
    ("unavailable.value.placeholder", "unchanged-5d2c0a6f9b7e4c1d8a3f60b2e94d7158"),
    ("key.converter", "org.apache.kafka.connect.json.JsonConverter"),
    ("key.converter.schemas.enable", "false"),
    ("key.converter.replace.null.with.default", "false"),
    ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
    ("value.converter.schemas.enable", "false"),
    ("value.converter.replace.null.with.default", "false"),
    ("header.converter", "org.apache.kafka.connect.json.JsonConverter"),
    ("header.converter.schemas.enable", "false"),
    ("poll.interval.ms", "5"),
    ("producer.override.linger.ms", "0"),
    ("topic.creation.default.partitions", "1"),
    ("topic.creation.default.replication.factor", "1"),
];

const SCHEMAS: (&str, &str) = ("value.converter.schemas.enable", "true");

/// The modes that are captured and compared.
pub const MODES: &[Mode] = &[
    Mode { name: "recommended", settings: &[] },
    Mode {
        name: "precise_adaptive_with_schema",
        settings: &[
            SCHEMAS,
            ("decimal.handling.mode", "precise"),
            ("time.precision.mode", "adaptive"),
            ("binary.handling.mode", "base64"),
            ("hstore.handling.mode", "map"),
        ],
    },
    Mode {
        name: "adaptive_hex",
        settings: &[
            ("time.precision.mode", "adaptive"),
            ("binary.handling.mode", "hex"),
            ("hstore.handling.mode", "map"),
        ],
    },
    Mode {
        name: "isostring_url_safe",
        settings: &[("time.precision.mode", "isostring"), ("binary.handling.mode", "base64-url-safe")],
    },
    Mode {
        name: "structured_with_schema",
        settings: &[
            SCHEMAS,
            ("time.precision.mode", "structured"),
            ("interval.handling.mode", "numeric"),
            ("binary.handling.mode", "hex"),
        ],
    },
    Mode {
        name: "adaptive_time_microseconds",
        settings: &[
            ("time.precision.mode", "adaptive_time_microseconds"),
            ("decimal.handling.mode", "precise"),
            ("binary.handling.mode", "base64"),
        ],
    },
    Mode {
        name: "nanoseconds_numeric",
        settings: &[
            ("time.precision.mode", "nanoseconds"),
            ("decimal.handling.mode", "precise"),
            ("value.converter.decimal.format", "NUMERIC"),
        ],
    },
    Mode {
        name: "lossy_with_schema",
        settings: &[
            SCHEMAS,
            ("time.precision.mode", "connect"),
            ("decimal.handling.mode", "double"),
            ("interval.handling.mode", "numeric"),
            ("include.unknown.datatypes", "false"),
        ],
    },
];
