//! The tables' shapes: some random, some made for one hard case each.

use crate::random::Random;

/// A table of the lab.
#[derive(Debug, Clone)]
pub struct Table {
    name: String,
    pub(super) columns: Vec<Column>,
    /// The first so many columns are the key; 0: rows may be equal, and the whole row identifies them.
    pub(super) key_columns: usize,
    /// Whether updates and deletes carry the whole old row, as they have to where there is no key.
    full_identity: bool,
    /// Constraints beside the key, as SQL behind the columns.
    constraints: &'static str,
    /// Partitioned by its second column.
    is_partitioned: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    type_name: &'static str,
    /// An SQL expression for a new value; `{n}` stands for a number that differs from row to row.
    value: &'static str,
    is_nullable: bool,
}

/// Types that Debezium carries exactly, each with an expression for random values.
const PAYLOADS: &[(&str, &str)] = &[
    ("bigint", "(random() * 1e15)::bigint"),
    ("integer", "(random() * 1e9)::int"),
    ("smallint", "(random() * 3e4)::smallint"),
    ("numeric", "round((random() * 1e6)::numeric, (random() * 6)::int)"),
    ("numeric(20,6)", "(random() * 1e9)::numeric"),
    (
        "double precision",
        "CASE (random() * 9)::int WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' WHEN 2 THEN '-0' ELSE random() * 1e10 END",
    ),
    ("real", "random()::real"),
    ("boolean", "random() < 0.5"),
    ("text", "md5(random()::text)"),
    ("text", "CASE WHEN random() < 0.2 THEN '' ELSE E'tab\\t\"quoted\" \\\\ ünïcödé ' || random() END"),
    ("varchar(80)", "repeat('ü', (random() * 40)::int)"),
    ("char(10)", "left(md5(random()::text), 1 + (random() * 8)::int)"),
    ("bytea", "decode(md5(random()::text), 'hex')"),
    ("timestamptz", "timestamptz '2026-01-01' + random() * interval '300 days'"),
    (
        "timestamp",
        "CASE WHEN random() < 0.1 THEN 'infinity' ELSE timestamp '1999-01-01' + random() * interval '9000 days' END",
    ),
    ("date", "date '2026-01-01' + (random() * 3000)::int"),
    ("time", "time '00:00' + random() * interval '23 hours'"),
    ("interval", "interval '2 mons' + random() * interval '400 days'"),
    ("uuid", "md5(random()::text)::uuid"),
    ("jsonb", "jsonb_build_object('a', random(), 'b', md5(random()::text), 'c', NULL, 'd', 1.10)"),
    ("json", "json_build_array({n}, random()::text, true)"),
    ("text[]", "ARRAY[md5(random()::text), NULL, 'a\"b,{c}', '']"),
    ("integer[]", "ARRAY[{n}, NULL, -{n}]"),
    ("inet", "'10.0.0.0'::inet + {n}"),
    ("int4range", "int4range(-5, {n} + 1)"),
    ("bit(12)", "((random() * 4000)::int)::bit(12)"),
];

/// A text of some kilobytes that does not compress, so that it is stored out of line.
const LONG_TEXT: &str =
    "(SELECT string_agg(md5(random()::text || g || {n}), '') FROM generate_series(1, 90 + {n} % 200) AS g)";
const LONG_JSON: &str =
    "(SELECT jsonb_agg(md5(random()::text || g || {n})) FROM generate_series(1, 120) AS g)";
const LONG_BYTES: &str = "(SELECT decode(string_agg(md5(random()::text || g || {n}), ''), 'hex') FROM generate_series(1, 200) AS g)";

const RANDOM_TABLES: usize = 5;
const WIDE_COLUMNS: usize = 60;

/// All tables of a lab.
pub(super) fn tables(random: &mut Random) -> Vec<Table> {
    let mut tables: Vec<_> = (0..RANDOM_TABLES).map(|index| random_table(random, index)).collect();
    tables.push(wide(random));
    tables.extend([bag("bag", random), bag("sack", random)]);
    for (name, full_identity) in [("docs", false), ("docs_full", true)] {
        let columns = vec![
            column("id", "bigint", "(random() * 1e12)::bigint"),
            nullable("body", "text", LONG_TEXT),
            nullable("meta", "jsonb", LONG_JSON),
            nullable("blob", "bytea", LONG_BYTES),
        ];
        tables.push(Table { full_identity, ..keyed(name, columns, 1) });
    }
    let tagged = || {
        vec![
            column("id", "bigint", "(random() * 1e12)::bigint"),
            column("tag", "bigint", "(random() * 1e12)::bigint"),
            nullable("label", "text", "md5(random()::text)"),
        ]
    };
    tables.push(Table { constraints: ", UNIQUE (tag)", ..keyed("swap", tagged(), 1) });
    let deferred = ", UNIQUE (tag) DEFERRABLE INITIALLY DEFERRED";
    tables.push(Table { constraints: deferred, ..keyed("deferred_swap", tagged(), 1) });
    let shifted = vec![
        column("line", "integer", "(random() * 4)::int"),
        column("position", "bigint", "(random() * 1e12)::bigint"),
        nullable("label", "text", "md5(random()::text)"),
    ];
    tables.push(keyed("shift", shifted, 2));
    tables.push(keyed("parent", vec![column("id", "bigint", "(random() * 1e12)::bigint")], 1));
    let child = vec![
        column("id", "bigint", "(random() * 1e12)::bigint"),
        column("parent_id", "bigint", "(SELECT id FROM lab.parent ORDER BY random() + {n} LIMIT 1)"),
    ];
    let reference = ", FOREIGN KEY (parent_id) REFERENCES lab.parent ON DELETE CASCADE ON UPDATE CASCADE";
    tables.push(Table { constraints: reference, ..keyed("child", child, 1) });
    let part = vec![
        column("id", "bigint", "(random() * 1e12)::bigint"),
        column("region", "integer", "(random() * 2)::int"),
        nullable("label", "text", "md5(random()::text)"),
    ];
    tables.push(Table { is_partitioned: true, ..keyed("part", part, 2) });
    tables
}

/// A key of one to three columns, and a few others.
fn random_table(random: &mut Random, index: usize) -> Table {
    const KEYS: &[(&str, &str)] = &[
        ("bigint", "(random() * 1e12)::bigint"),
        ("text", "md5(random()::text)"),
        ("uuid", "md5(random()::text)::uuid"),
        ("integer", "(random() * 2e9)::int"),
    ];
    let key_columns = random.index(3) + 1;
    let mut columns: Vec<_> = (0..key_columns)
        .map(|position| {
            let (type_name, value) = random.pick(KEYS);
            column(&format!("k{position}"), type_name, value)
        })
        .collect();
    columns.extend(payload(random, 3 + index * 2));
    let full_identity = random.chance(25);
    Table { full_identity, ..keyed(&format!("random_{index}"), columns, key_columns) }
}

fn wide(random: &mut Random) -> Table {
    let mut columns = vec![column("id", "bigint", "(random() * 1e12)::bigint")];
    columns.extend(payload(random, WIDE_COLUMNS));
    keyed("wide", columns, 1)
}

/// Rows that are often equal, or equal but for a spelling: a change touches one of them, and exactly one.
fn bag(name: &str, random: &mut Random) -> Table {
    let mut columns = vec![
        column("colour", "integer", "(random() * 3)::int"),
        nullable("label", "text", "CASE WHEN random() < 0.5 THEN 'same' ELSE NULL END"),
        nullable("amount", "numeric", "(ARRAY['1.0', '1.00', '1'])[1 + (random() * 2)::int]::numeric"),
        nullable("ratio", "double precision", "(ARRAY['0', '-0', 'NaN'])[1 + (random() * 2)::int]::float8"),
    ];
    if random.chance(50) {
        columns.push(nullable("document", "json", "'{\"a\": 1}'::json"));
    }
    Table { full_identity: true, ..keyed(name, columns, 0) }
}

fn payload(random: &mut Random, count: usize) -> Vec<Column> {
    (0..count)
        .map(|position| {
            let (type_name, value) = random.pick(PAYLOADS);
            nullable(&format!("c{position}"), type_name, value)
        })
        .collect()
}

fn keyed(name: &str, mut columns: Vec<Column>, key_columns: usize) -> Table {
    columns.push(column("weight", "integer", "(random() * 2)::int"));
    Table {
        name: name.to_owned(),
        columns,
        key_columns,
        full_identity: false,
        constraints: "",
        is_partitioned: false,
    }
}

fn column(name: &str, type_name: &'static str, value: &'static str) -> Column {
    Column { name: name.to_owned(), type_name, value, is_nullable: false }
}

fn nullable(name: &str, type_name: &'static str, value: &'static str) -> Column {
    Column { is_nullable: true, ..column(name, type_name, value) }
}

impl Column {
    /// SQL for a new value of row `number`.
    pub(super) fn value(&self, number: &str) -> String {
        let value = self.value.replace("{n}", number);
        if self.is_nullable { format!("CASE WHEN random() < 0.12 THEN NULL ELSE {value} END") } else { value }
    }
}

impl Table {
    /// Its name in the schema `lab`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name as SQL.
    pub fn sql_name(&self) -> String {
        format!("lab.{}", self.name)
    }

    /// Whether rows may be equal.
    pub fn is_keyless(&self) -> bool {
        self.key_columns == 0
    }

    /// The table and its partitions.
    pub(super) fn all_sql_names(&self) -> Vec<String> {
        let partitions = if self.is_partitioned { 3 } else { 0 };
        let partitions = (0..partitions).map(|index| format!("lab.{}_{index}", self.name));
        std::iter::once(self.sql_name()).chain(partitions).collect()
    }

    pub(super) fn create(&self) -> String {
        let name = self.sql_name();
        let columns = self.columns.iter().map(|column| {
            let constraint = if column.is_nullable { "" } else { " NOT NULL" };
            format!("{} {}{constraint}", column.name, column.type_name)
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        let key: Vec<_> =
            self.columns[..self.key_columns].iter().map(|column| column.name.as_str()).collect();
        let key = if key.is_empty() { String::new() } else { format!(", PRIMARY KEY ({})", key.join(", ")) };
        let (partitioned, partitions) = if self.is_partitioned {
            let partitions = (0..3).map(|index| {
                format!("CREATE TABLE {name}_{index} PARTITION OF {name} FOR VALUES IN ({index});\n")
            });
            (format!(" PARTITION BY LIST ({})", self.columns[1].name), partitions.collect())
        } else {
            (String::new(), String::new())
        };
        let identity = if self.full_identity {
            format!("ALTER TABLE {name} REPLICA IDENTITY FULL;\n")
        } else {
            String::new()
        };
        format!(
            "CREATE TABLE {name} ({columns}{key}{}){partitioned};\n{partitions}{identity}",
            self.constraints
        )
    }

    pub(super) fn triggers(&self) -> String {
        let (name, table) = (&self.name, self.sql_name());
        let trigger = |operation: &str, transitions: &str| {
            format!(
                "CREATE TRIGGER count_{operation} AFTER {operation} ON {table} {transitions}
                 FOR EACH STATEMENT EXECUTE FUNCTION lab.count_rows('{name}');\n"
            )
        };
        [
            trigger("INSERT", "REFERENCING NEW TABLE AS came"),
            trigger("UPDATE", "REFERENCING NEW TABLE AS came OLD TABLE AS went"),
            trigger("DELETE", "REFERENCING OLD TABLE AS went"),
            trigger("TRUNCATE", ""),
        ]
        .concat()
    }
}
