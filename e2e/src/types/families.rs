//! The types and their values.

use super::{Column, Family};

/// What the types need on the leader and on each replica.
pub const EXTENSIONS: &[&str] = &["hstore", "citext", "ltree", "isn"];

/// Types of the user's own.
pub const TYPES: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'so happy, very', 'it''s \"odd\"', '');
    CREATE TYPE address AS (street text, zip int);
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN price AS numeric(12,2);
    CREATE DOMAIN label AS varchar(20);
    CREATE DOMAIN series AS int[];
    CREATE DOMAIN moment AS timestamp(3);
    CREATE TYPE temperatures AS RANGE (subtype = float8);
";

const fn column(sql_type: &'static str, values: &'static [&'static str]) -> Column {
    Column { sql_type, values }
}

/// All but the large values.
pub const FAMILIES: &[Family] = &[
    Family { name: "numbers", columns: NUMBERS },
    Family { name: "texts", columns: TEXTS },
    Family { name: "bytes and bits", columns: BYTES },
    Family { name: "times", columns: TIMES },
    Family { name: "documents", columns: DOCUMENTS },
    Family { name: "networks", columns: NETWORKS },
    Family { name: "geometry", columns: GEOMETRY },
    Family { name: "ranges", columns: RANGES },
    Family { name: "made by users", columns: MADE },
    Family { name: "arrays", columns: ARRAYS },
    Family { name: "arrays of others", columns: ARRAYS_OF_OTHERS },
];

/// Values that are stored out of line, so that an update of another column does not carry them.
pub const LARGE: Family = Family { name: "large", columns: LARGE_COLUMNS };

const NUMBERS: &[Column] = &[
    column("bool", &["true", "false"]),
    column("int2", &["-32768", "32767", "0"]),
    column("int4", &["-2147483648", "2147483647", "0"]),
    column("int8", &["-9223372036854775808", "9223372036854775807", "9007199254740993"]),
    column("oid", &["0", "4294967295"]),
    column("float4", &["1.5", "-0", "NaN", "Infinity", "-Infinity", "3.4028235e38", "1e-45", "0.1"]),
    column(
        "float8",
        &["2.25", "-0", "NaN", "Infinity", "-Infinity", "1.7976931348623157e308", "5e-324", "0.1"],
    ),
    column(
        "numeric",
        &[
            "12345.6789",
            "1.500",
            "0",
            "0.000",
            "-0.000000000000000000000000000000000001",
            "123456789012345678901234567890123456789012345678901234567890.5",
            "1e20",
            "12300000000000000000000",
        ],
    ),
    column("numeric(12,2)", &["100.50", "-9999999999.99", "0.00", "0.01", "7.10"]),
    column("numeric(5,0)", &["42", "-99999", "0", "10000"]),
    column("numeric(4,-2)", &["1200", "-999900", "0"]),
    column("numeric(38,10)", &["1234567890123456789012345678.0123456789", "-0.0000000001"]),
    column("money", &["12.34", "-92233720368547758.08", "92233720368547758.07", "0"]),
];

const TEXTS: &[Column] = &[
    column(
        "text",
        &[
            "",
            " ",
            "héllo \"q\" \\ wörld",
            "tab\tnl\nquote' \\ é😀",
            "null",
            "\u{1}\u{1f}\u{7f}\u{80}\u{10ffff}",
            "{\"a\": [1]}",
            "AAAA",
        ],
    ),
    column("varchar", &["", "varchar", "  spaces  "]),
    column("varchar(40)", &["", "forty"]),
    column("char(8)", &["", "ab", "abcdefgh", "ü"]),
    column("\"char\"", &["x", ""]),
    column("name", &["pg_class", ""]),
    column("citext", &["CiText", ""]),
    column("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"]),
    column("isbn", &["978-0-393-04002-9"]),
];

const BYTES: &[Column] = &[
    column("bytea", &["", "\\x00ff10", "\\xfbffbf", "\\xdeadbeef", "\\x5f5f64656265"]),
    column("bit", &["1", "0"]),
    column("bit(1)", &["1", "0"]),
    column("bit(3)", &["101", "000", "001"]),
    column("bit(11)", &["10101010101", "00000000000", "10000000000", "00000000001"]),
    column("bit(64)", &["1000000000000000000000000000000000000000000000000000000000000001"]),
    column("varbit", &["1011", "", "0000", "00001011"]),
    column("varbit(20)", &["1011", "", "0"]),
];

const TIMES: &[Column] = &[
    column(
        "date",
        &[
            "2024-02-29",
            "1969-12-31",
            "infinity",
            "-infinity",
            "4713-01-01 BC",
            "5874897-12-31",
            "0001-12-31 BC",
            "9999-12-31",
            "10000-01-01",
        ],
    ),
    column("time", &["12:34:56.789012", "00:00:00", "24:00:00", "23:59:59.999999", "00:00:00.000001"]),
    column("time(0)", &["12:34:56", "24:00:00", "00:00:00"]),
    column("time(3)", &["12:34:56.789", "24:00:00", "00:00:00.001"]),
    column("time(6)", &["12:34:56.789012"]),
    column("timetz", &["12:34:56+02", "00:00:00-15:59", "24:00:00+00", "12:34:56.789012+05:30"]),
    column(
        "timestamp",
        &[
            "2024-02-29 12:34:56.123456",
            "1969-12-31 23:59:59.999999",
            "infinity",
            "-infinity",
            "0001-01-01 00:00:00 BC",
            "4713-01-01 00:00:00 BC",
            "9999-12-31 23:59:59.999999",
            "294246-12-31 23:59:59.999999",
            "294276-12-31 23:59:59.999999",
        ],
    ),
    column(
        "timestamp(0)",
        &["2024-02-29 12:34:56", "infinity", "-infinity", "0044-03-15 12:00:00 BC", "294276-12-31 23:59:59"],
    ),
    column("timestamp(3)", &["2024-02-29 12:34:56.123", "infinity", "-infinity", "1969-12-31 23:59:59.999"]),
    column("timestamp(4)", &["2024-02-29 12:34:56.1234", "infinity"]),
    column(
        "timestamptz",
        &[
            "2024-02-29 12:34:56.123456+02",
            "1969-12-31 23:59:59.999999+00",
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00.5+00 BC",
            "4713-01-01 00:00:00+00 BC",
            "9999-12-31 23:59:59.999999+00",
            "294276-12-31 23:59:59.999999+00",
            "0001-01-01 00:00:00+00",
        ],
    ),
    column("timestamptz(3)", &["2024-02-29 12:34:56.123+02", "2024-02-29 12:34:56.100+02", "infinity"]),
    column(
        "interval",
        &[
            "1 year 2 mons 3 days 04:05:06.789",
            "00:00:00",
            "-1 mons +2 days -03:00:00.000001",
            "178000000 years",
            "-178000000 years",
            "1 day",
            "00:00:00.000001",
            "-00:00:01.5",
            "2147483647:00:54.775807",
        ],
    ),
    column("interval day to second(3)", &["3 days 04:05:06.789"]),
];

const DOCUMENTS: &[Column] = &[
    column(
        "json",
        &["{\"a\": 1,  \"a\": 2}", "null", "[1, 1.10, \"x\"]", "\"\\u0041\"", " 17 ", "\"\\u0000\""],
    ),
    column(
        "jsonb",
        &[
            "{\"k\":[1,null,\"x\"],\"n\":1.10}",
            "null",
            "{\"big\":123456789012345678901234567890.123456789,\"u\":\"\\u0041\"}",
            "\"text\"",
            "[]",
        ],
    ),
    column("jsonpath", &["$.a[*] ? (@ > 1)"]),
    column("xml", &["<a>b</a>", "<a x=\"1\"/>", "text"]),
    column("tsvector", &["a fat cat", "'a':1A,2B 'it''s':3", ""]),
    column("tsquery", &["fat & cat", "!a | (b <-> c)"]),
    column(
        "hstore",
        &["a=>1,\"b c\"=>NULL", "", "\"k\\\"\\\\\"=>\"v\\\"\\\\, =>\"", "é=>\"\",n=>\"NULL\"", "zz=>1,b=>2"],
    ),
    column("ltree", &["Top.Sci", ""]),
    column("lquery", &["Top.*{0,2}.a|b"]),
];

const NETWORKS: &[Column] = &[
    column("inet", &["10.0.0.1/24", "10.0.0.1", "::1", "2001:db8::/32", "0.0.0.0/0"]),
    column("cidr", &["10.0.0.0/8", "2001:db8::/32"]),
    column("macaddr", &["08:00:2b:01:02:03"]),
    column("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    column("pg_lsn", &["16/B374D848", "0/0"]),
    column("pg_snapshot", &["10:20:10,14,15"]),
    column("xid8", &["18446744073709551615"]),
    column("regclass", &["pg_class", "-"]),
];

const GEOMETRY: &[Column] = &[
    column(
        "point",
        &["(1.5,-2)", "(0,-0)", "(NaN,Infinity)", "(1e300,1e-300)", "(0.1,123456789.123456789)", "(1,2)"],
    ),
    column("line", &["{1,2,3}", "{-1,0.1,1e300}", "{0,-1,0}"]),
    column("lseg", &["[(1,2),(3,4)]", "[(0.1,-0),(1e300,1e-300)]"]),
    column("box", &["((1,1),(0,0))", "(3.5,4.25),(-1,0.1)", "(1e300,1),(0,-1e300)"]),
    column("path", &["((0,0),(1,1))", "[(0,0),(1,1)]", "[(0.1,2)]", "((1,2),(3,4),(5,6))"]),
    column("polygon", &["((0,0),(1,1),(1,0))", "((0.1,1))", "((0,0),(1,1),(1,0),(0,0))"]),
    column("circle", &["<(0,0),1>", "<(0.1,-2.5),1e300>", "<(1,2),0>"]),
];

const RANGES: &[Column] = &[
    column("int4range", &["[1,10)", "empty", "[1,)", "(,5)", "(,)"]),
    column("int8range", &["[1,)", "[-9223372036854775808,9223372036854775807)"]),
    column("numrange", &["[1.5,2.5]", "(,1.10]", "[NaN,)"]),
    column(
        "tsrange",
        &["[2024-01-01,2024-01-02)", "[-infinity,infinity]", "(\"0044-03-15 12:00:00.5 BC\",)"],
    ),
    column("tstzrange", &["[2024-01-01 00:00+02,2024-01-02 00:00:00.123456+00)", "[-infinity,]"]),
    column("daterange", &["[2024-01-01,2024-02-01)", "[-infinity,infinity)"]),
    column("temperatures", &["[0.1,1e300)", "[-Infinity,NaN]"]),
    column("int4multirange", &["{[1,3),[5,7)}", "{}"]),
    column("nummultirange", &["{[1.10,2.50]}"]),
    column("tstzmultirange", &["{[2024-01-01 00:00+00,2024-01-02 00:00+00)}"]),
];

const MADE: &[Column] = &[
    column("mood", &["sad", "so happy, very", "it's \"odd\"", ""]),
    column("address", &["(\"st, \"\"x\"\"\",123)", "(,)", "(\"\",-1)", "(\"é\\\\\",0)"]),
    column("positive", &["5", "2147483647"]),
    column("price", &["7.10", "-0.01", "0.00"]),
    column("label", &["a label", ""]),
    column("series", &["{1,2,3}", "{}", "{NULL,1}"]),
    column("moment", &["2024-02-29 12:34:56.123", "infinity"]),
];

const ARRAYS: &[Column] = &[
    column("bool[]", &["{t,f,NULL}", "{}"]),
    column("int2[]", &["{1,-2}", "{}", "{NULL,32767}"]),
    column("int4[]", &["{1,NULL,3}", "{}", "{2147483647}"]),
    column("int8[]", &["{9007199254740993,-9223372036854775808}", "{}"]),
    column("float4[]", &["{1.5,NaN,-Infinity}", "{0.1,-0,3.4028235e38}"]),
    column("float8[]", &["{1.5,NaN,Infinity}", "{0.1,-0,5e-324,1e300}"]),
    column("numeric[]", &["{1.5,2.75,NULL}", "{1.500,0.00}", "{1e20}"]),
    column("numeric(12,2)[]", &["{1.5,2.75}", "{}"]),
    column("text[]", &["{a,\"b,c\",\"d\\\"q\\\\\",NULL,\"\",\"NULL\"}", "{}", "{\" \",\"{}\"}", "{\"é😀\"}"]),
    column("varchar[]", &["{x,NULL,\"\"}"]),
    column("varchar(10)[]", &["{x,y}"]),
    column("char(4)[]", &["{ab,NULL}"]),
    column("bytea[]", &["{\"\\\\x00ff\",\"\\\\x\",NULL}", "{}"]),
    column("date[]", &["{2024-02-29,NULL}", "{infinity,-infinity,\"0044-03-15 BC\"}"]),
    column("time[]", &["{12:34:56.5,24:00:00,NULL}", "{12:34:56.789012}"]),
    column("timestamp[]", &["{\"2024-02-29 12:34:56.5\",NULL}", "{\"0044-03-15 12:00:00.123456 BC\"}"]),
    column("timestamp(3)[]", &["{\"2024-02-29 12:34:56.5\"}"]),
    column(
        "timestamptz[]",
        &["{\"2024-02-29 12:34:56.5+02\",NULL}", "{\"0044-03-15 12:00:00.123456+00 BC\"}"],
    ),
    column("uuid[]", &["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}"]),
    column("json[]", &["{\"{\\\"a\\\": 1,  \\\"a\\\": 2}\",NULL,\"null\"}"]),
    column("jsonb[]", &["{\"{\\\"a\\\": 1}\",\"2\",NULL,\"null\"}"]),
    column("inet[]", &["{10.0.0.1/24,::1}"]),
    column("cidr[]", &["{10.0.0.0/8}"]),
    column("macaddr[]", &["{08:00:2b:01:02:03}"]),
    column("citext[]", &["{AbC,NULL}"]),
    column("ltree[]", &["{Top.Sci}"]),
    column("oid[]", &["{1,4294967295}"]),
];

const ARRAYS_OF_OTHERS: &[Column] = &[
    column("mood[]", &["{sad,\"so happy, very\",NULL}", "{\"it's \\\"odd\\\"\",\"\"}"]),
    column("address[]", &["{\"(\\\"st, \\\"\\\"x\\\"\\\"\\\",1)\",NULL}"]),
    column("hstore[]", &["{\"a=>1\",NULL}"]),
    column("int4range[]", &["{\"[1,2)\",empty,NULL}"]),
    column("tstzrange[]", &["{\"[2024-01-01 00:00+00,)\"}"]),
    column("numrange[]", &["{\"[1.10,2)\"}"]),
    column("positive[]", &["{1,2}"]),
    column("price[]", &["{1.10,2}"]),
    column("interval[]", &["{1 day,NULL}"]),
    column("money[]", &["{12.34,NULL}"]),
    column("name[]", &["{a,b}"]),
    column("xml[]", &["{<a/>}"]),
    column("bit(3)[]", &["{101,NULL}"]),
    column("varbit[]", &["{101,1}"]),
    column("timetz[]", &["{12:34:56+02}"]),
    column("point[]", &["{\"(1,2)\"}"]),
    column("box[]", &["{(1,1),(0,0)}"]),
    column("tsvector[]", &["{\"'a' 'b'\"}"]),
    column("pg_lsn[]", &["{16/B374D848}"]),
    column("macaddr8[]", &["{08:00:2b:01:02:03:04:05}"]),
    column("int4multirange[]", &["{\"{[1,2)}\"}"]),
    column("int4[][]", &["{{1,2},{3,4}}", "{1,2}"]),
    column("text[][]", &["{{a,b},{c,NULL}}"]),
];

/// The tables that hold them keep everything above a hundred bytes out of line, so a few hundred bytes are large.
const LARGE_COLUMNS: &[Column] = &[
    column("text", &["sql:repeat('x', 300)"]),
    column("varchar", &["sql:repeat('v', 300)"]),
    column("json", &["sql:to_json(repeat('j', 300))"]),
    column("jsonb", &["sql:to_jsonb(repeat('b', 300))"]),
    column("xml", &["sql:('<a>' || repeat('x', 300) || '</a>')::xml"]),
    column("citext", &["sql:repeat('C', 300)"]),
    column("bytea", &["sql:decode(repeat('ab', 300), 'hex')"]),
    column("tsvector", &["sql:array_to_tsvector(ARRAY(SELECT 'w' || g FROM generate_series(1, 50) g))"]),
    column("hstore", &["sql:hstore('k', repeat('h', 300))"]),
    column("numeric", &["sql:repeat('123456789', 100)::numeric"]),
    column("varbit", &["sql:repeat('10', 2000)::varbit"]),
    column("address", &["sql:ROW(repeat('s', 300), 1)"]),
    column("int4range[]", &["sql:array_fill('[1,2)'::int4range, ARRAY[50])"]),
    column("text[]", &["sql:ARRAY[repeat('t', 300)]"]),
    column("varchar[]", &["sql:ARRAY[repeat('t', 300)]"]),
    column("jsonb[]", &["sql:ARRAY[to_jsonb(repeat('t', 300))]"]),
    column("bytea[]", &["sql:ARRAY[decode(repeat('cd', 300), 'hex')]"]),
    column("int4[]", &["sql:ARRAY(SELECT generate_series(1, 80))"]),
    column("int8[]", &["sql:ARRAY(SELECT generate_series(1, 80))::int8[]"]),
    column("int2[]", &["sql:ARRAY(SELECT generate_series(1, 150))::int2[]"]),
    column("date[]", &["sql:array_fill('2024-02-29'::date, ARRAY[80])"]),
    column("uuid[]", &["sql:array_fill('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, ARRAY[50])"]),
    column("numeric[]", &["sql:array_fill(1.25::numeric, ARRAY[90])"]),
    column("float8[]", &["sql:array_fill(1.25::float8, ARRAY[50])"]),
    column("bool[]", &["sql:array_fill(true, ARRAY[300])"]),
    column("timestamp[]", &["sql:array_fill('2024-02-29 12:34:56'::timestamp, ARRAY[50])"]),
    column("timestamptz[]", &["sql:array_fill('2024-02-29 12:34:56+00'::timestamptz, ARRAY[50])"]),
    column("mood[]", &["sql:array_fill('sad'::mood, ARRAY[80])"]),
    column(
        "path",
        &[
            "sql:(SELECT ('[' || string_agg('(' || g || ',1)', ',') || ']')::path FROM generate_series(1, 30) g)",
        ],
    ),
    column(
        "polygon",
        &[
            "sql:(SELECT ('(' || string_agg('(' || g || ',1)', ',') || ')')::polygon FROM generate_series(1, 30) g)",
        ],
    ),
    column(
        "int4multirange",
        &["sql:(SELECT range_agg(int4range(2 * g, 2 * g + 1)) FROM generate_series(1, 50) g)"],
    ),
];
