//! Values that Debezium's events can't carry, whatever its settings. The leader's own stream carries them.

use super::{Column, Family};

/// They have no captured events: nothing in an event would tell them from others.
pub const BEYOND: Family = Family { name: "beyond the connector", columns: COLUMNS };

const fn column(sql_type: &'static str, values: &'static [&'static str]) -> Column {
    Column { sql_type, values }
}

const COLUMNS: &[Column] = &[
    column("int4[]", &["{{1,2},{3,4}}", "[0:1]={5,6}", "[-2:-1][3:4]={{1,2},{3,NULL}}", "{{{1}},{{2}}}"]),
    column("text[]", &["{{a,\"b,c\"},{NULL,\"\"}}", "{__debezium_unavailable_value}", "[5:5]={x}"]),
    column("numeric[]", &["{NaN,Infinity,-Infinity}", "{{1.500},{0.00}}"]),
    column("interval[]", &["{\"1 mon 2 days\",-00:00:01.5}", "{178000000 years,NULL}", "{{1 day},{2 days}}"]),
    column("timetz", &["12:34:56.789012+05:30", "00:00:00-15:59", "24:00:00+15:59"]),
    column("timetz[]", &["{12:34:56.789012-03:30,24:00:00+00}"]),
    column(
        "timestamp",
        &["294276-12-31 23:59:59.999999", "4714-11-24 00:00:00 BC", "294247-01-10 04:00:54.775808"],
    ),
    column("timestamptz", &["294276-12-31 23:59:59.999999+00", "4714-11-24 00:00:00+00 BC"]),
    column("timestamp[]", &["{infinity,-infinity,\"294276-12-31 23:59:59.999999\"}"]),
    column("timestamptz[]", &["{infinity,\"4714-11-24 00:00:00+00 BC\"}"]),
    column("numeric", &["Infinity", "-Infinity", "NaN", "sql:repeat('9', 4000)::numeric"]),
    column("tsrange[]", &["{\"[-infinity,infinity]\",empty}"]),
    column("money", &["-92233720368547758.08"]),
    // What the connector puts where an update does not carry a value, by default and as this repository sets it.
    column(
        "text",
        &[
            "__debezium_unavailable_value",
            "unchanged-5d2c0a6f9b7e4c1d8a3f60b2e94d7158",
            "sql:repeat('x', 3000)",
        ],
    ),
    column("jsonb", &["\"__debezium_unavailable_value\"", "{\"a\": \"__debezium_unavailable_value\"}"]),
    column("json", &["\"__debezium_unavailable_value\"", " [1,  1.0]\n"]),
    column("bytea", &["__debezium_unavailable_value", "unchanged-5d2c0a6f9b7e4c1d8a3f60b2e94d7158"]),
    column("uuid[]", &["{{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}}"]),
    column("address[]", &["{{\"(a,1)\"},{\"(,)\"}}"]),
    column("series", &["{{1,2},{3,4}}", "[7:8]={1,2}"]),
    column("\"char\"[]", &["{x,\"\"}"]),
    column("regtype", &["integer", "timestamp with time zone"]),
    column("int2vector", &["1 2 3", ""]),
    column("tid", &["(42,7)"]),
    column("txid_snapshot", &["10:20:10,14,15"]),
];
