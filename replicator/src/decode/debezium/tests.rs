//! Records as the connector writes them, and records as it should never write them.

use proptest::prelude::*;

use super::*;
use crate::vocabulary::offset::PartitionIndex;
use crate::vocabulary::row::Cell;
use crate::vocabulary::schema::{Column, ColumnKind};

fn column(name: &str, kind: ColumnKind) -> Column {
    Column::of_type(name, "text", kind)
}

fn decoder_of(transactions: Transactions) -> Decoder {
    let accounts = Table::new(
        TableName::new("public", "accounts"),
        vec![
            column("id", ColumnKind::Integer),
            column("balance", ColumnKind::Numeric(Some(2))),
            column("note", ColumnKind::Text),
            Column { generated: true, ..column("twice", ColumnKind::Numeric(None)) },
        ],
        vec![0],
    );
    let log = Table::new(TableName::new("public", "log"), vec![column("line", ColumnKind::Text)], vec![]);
    let columns = vec![
        column("id", ColumnKind::Integer),
        column("alt", ColumnKind::Text),
        column("note", ColumnKind::Text),
    ];
    let indexed = Table::new(TableName::new("public", "indexed"), columns, vec![1]).with_identity_index();
    let settings = DecodeSettings {
        placeholder: "__debezium_unavailable_value".to_owned(),
        excluded: vec!["public.ignored".to_owned()],
        transactions,
        ..DecodeSettings::default()
    };
    Decoder::new(&Catalog::new([accounts, log, indexed]), settings)
}

fn decoder() -> Decoder {
    decoder_of(Transactions::Required)
}

const PLACE: Place = Place { partition: PartitionIndex(3), offset: 17 };

fn record(value: &str) -> RawRecord<'_> {
    RawRecord {
        place: PLACE,
        written_at_ms: None,
        value: Some(value.as_bytes()),
        old_key: None,
        new_key: None,
    }
}

fn event(op: &str, before: &str, after: &str) -> String {
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"version":"3.7.0.Final","snapshot":null,"schema":"public",
        "table":"accounts","txId":571,"lsn":53195829}},"op":"{op}","ts_ms":1,
        "transaction":{{"id":"571:53195829","total_order":2,"data_collection_order":1}}}}"#
    )
}

fn member(decoded: Decoded) -> Member {
    match decoded {
        Decoded::Member(member) => member,
        other => panic!("not a member of a transaction: {other:?}"),
    }
}

fn operation(value: &str) -> Operation {
    member(decoder().decode(&record(value)).unwrap()).change.unwrap().operation
}

fn refused(value: &str) -> DecodeError {
    decoder().decode(&record(value)).expect_err("it must be refused")
}

#[test]
fn an_insert_with_and_without_an_embedded_schema() {
    let plain = event("c", "null", r#"{"id":9007199254740993,"balance":"1.50","note":null}"#);
    let embedded = format!(r#"{{"schema":{{"type":"struct","fields":[]}},"payload":{plain}}}"#);
    for value in [&plain, &embedded] {
        let member = member(decoder().decode(&record(value)).unwrap());
        assert_eq!((member.xid, member.total_order), (Xid(571), 2));
        assert_eq!(member.collection.to_string(), "public.accounts");
        let Operation::Insert(row) = member.change.unwrap().operation else { panic!("not an insert") };
        assert_eq!(row.cell(0), Cell::Text("9007199254740993"), "exact above 2^53");
        assert_eq!(row.cell(1), Cell::Text("1.50"), "scale kept");
        assert_eq!(row.cell(2), Cell::Null);
        assert_eq!(row.cell(3), Cell::Absent, "the replica computes generated columns");
    }
}

#[test]
fn a_placeholder_is_absent_in_an_update_and_a_text_like_any_other_in_an_insert() {
    let after = r#"{"id":1,"balance":"2","note":"__debezium_unavailable_value"}"#;
    let Operation::Update(row) = operation(&event("u", "null", after)) else { panic!("not an update") };
    assert_eq!(row.cell(2), Cell::Absent);
    let Operation::Insert(row) = operation(&event("c", "null", after)) else { panic!("not an insert") };
    assert_eq!(row.cell(2), Cell::Text("__debezium_unavailable_value"));
}

#[test]
fn a_delete_takes_only_the_key_from_the_old_row() {
    // With the default replica identity the other fields are fillers from the schema, not values.
    let Operation::Delete(key) = operation(&event("d", r#"{"id":7,"balance":"","note":""}"#, "null")) else {
        panic!("not a delete")
    };
    assert_eq!(key.0.cell(0), Cell::Text("7"));
    assert_eq!(key.0.width(), 1);
}

#[test]
fn a_key_change_is_one_change_although_it_comes_as_two_events() {
    let delete = event("d", r#"{"id":1,"balance":null,"note":null}"#, "null");
    let half = RawRecord { new_key: Some(br#"{"id":2}"#), ..record(&delete) };
    assert!(member(decoder().decode(&half).unwrap()).change.is_none(), "counted, not applied");
    let create = event("c", "null", r#"{"id":2,"balance":"5","note":"__debezium_unavailable_value"}"#);
    let half = RawRecord { old_key: Some(br#"{"id":1}"#), ..record(&create) };
    let Operation::Rekey { old, row } = member(decoder().decode(&half).unwrap()).change.unwrap().operation
    else {
        panic!("not a change of key")
    };
    assert_eq!(old.0.cell(0), Cell::Text("1"));
    assert_eq!(row.cell(0), Cell::Text("2"));
    assert_eq!(row.cell(2), Cell::Absent, "the large value stands in the old row");
}

#[test]
fn snapshot_rows_carry_where_the_snapshot_was_taken() {
    let value = event("r", "null", r#"{"id":1,"balance":"1","note":"x","twice":"2"}"#)
        .replace(r#""snapshot":null"#, r#""snapshot":"last_in_data_collection""#)
        .replace(r#"{"id":"571:53195829","total_order":2,"data_collection_order":1}"#, "null");
    match decoder().decode(&record(&value)).unwrap() {
        Decoded::Copy(row) => {
            assert_eq!(row.snapshot_lsn, Some(Lsn(53_195_829)));
            assert!(row.last_of_table);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn tombstones_messages_and_excluded_tables_are_accounted_for() {
    let tombstone = RawRecord { value: None, ..record("") };
    assert!(matches!(decoder().decode(&tombstone), Ok(Decoded::Ignored)));
    let outside = r#"{"op":"m","source":{},"transaction":null,"message":{"prefix":"p","content":""}}"#;
    assert!(matches!(decoder().decode(&record(outside)), Ok(Decoded::Ignored)));
    let inside = r#"{"op":"m","source":{"lsn":6,"sequence":"[\"4\",\"6\"]"},"transaction":{"id":"5:6","total_order":3,"data_collection_order":1}}"#;
    let counted = member(decoder().decode(&record(inside)).unwrap());
    assert_eq!((counted.collection, counted.total_order), (Collection::Messages, 3));
    assert_eq!((counted.lsn, counted.after), (Lsn(6), Some(CommitLsn(Lsn(4)))));
    let first = inside.replace(r#"\"4\""#, "null");
    assert_eq!(member(decoder().decode(&record(&first)).unwrap()).after, None, "no commit was seen before");
    let ignored = event("c", "null", r#"{"anything":1}"#).replace("accounts", "ignored");
    let counted = member(decoder().decode(&record(&ignored)).unwrap());
    assert_eq!(counted.collection.to_string(), "public.ignored");
    assert!(counted.change.is_none());
}

#[test]
fn transaction_records_join_on_the_xid_and_carry_the_commit_in_end() {
    let begin =
        r#"{"status":"BEGIN","id":"571:53195829","event_count":null,"data_collections":null,"ts_ms":5}"#;
    assert_eq!(decode_boundary(begin.as_bytes()), Ok(Boundary::Begin { xid: Xid(571) }));
    let end = r#"{"status":"END","id":"571:53195900","event_count":3,"ts_ms":7,"data_collections":[
        {"data_collection":"public.accounts","event_count":2},
        {"data_collection":"io.debezium.LogicalDecodingMessageId@5c20825d","event_count":1}]}"#;
    let expected = Boundary::End {
        xid: Xid(571),
        lsn: CommitLsn(Lsn(53_195_900)),
        committed_at_ms: 7,
        counts: vec![(Collection::Table("public.accounts".into()), 2), (Collection::Messages, 1)],
    };
    assert_eq!(decode_boundary(end.as_bytes()), Ok(expected.clone()));
    let embedded = format!(r#"{{"schema":{{}},"payload":{end}}}"#);
    assert_eq!(decode_boundary(embedded.as_bytes()), Ok(expected));
}

/// Found by the fuzz target: the sum of the counts overflowed.
#[test]
fn counts_that_no_transaction_can_have_are_refused() {
    for total in [0, u64::MAX] {
        let end = format!(
            r#"{{"status":"END","id":"5:6","event_count":{total},"ts_ms":7,"data_collections":[
               {{"data_collection":"public.a","event_count":18446744073709551615}},
               {{"data_collection":"public.b","event_count":1}}]}}"#
        );
        assert!(matches!(decode_boundary(end.as_bytes()), Err(DecodeError::MissingField(_))));
    }
}

/// Found by the fuzz target: a message was as long as what the event had in the place of a name or number.
#[test]
fn a_message_stays_a_line_whatever_the_event_brings() {
    let long = "é".repeat(50_000);
    let good = r#"{"id":1,"balance":"1","note":"x"}"#;
    let unknown: String = (0..500).map(|n| format!(r#","{n}{long:.300}":1"#)).collect();
    let cases = [
        event(&long, "null", good),
        event("c", "null", good).replace("accounts", &long),
        event("c", "null", good).replace("571:53195829", &long),
        event("c", "null", good).replace(r#""lsn":53195829"#, &format!(r#""lsn":"{long}""#)),
        event("c", "null", good).replace(r#""snapshot":null"#, &format!(r#""snapshot":"{long}""#)),
        event("c", "null", &format!(r#"{{"id":1,"balance":"1","note":"x"{unknown}}}"#)),
    ];
    for value in cases {
        let error = refused(&value);
        let (text, hint) = (error.to_string(), error.hint());
        assert!(
            text.len() < 8000 && hint.len() < 1000,
            "{} and {} bytes: {text:.200}",
            text.len(),
            hint.len()
        );
    }
    let error =
        refused(&event("c", "null", good).replace(r#""lsn":53195829"#, &format!(r#""lsn":"{long}""#)));
    assert!(error.to_string().contains(" at line "), "where it is stays: {error}");
}

#[test]
fn what_can_not_be_understood_is_refused_with_its_name_and_a_way_out() {
    let good = r#"{"id":1,"balance":"1","note":"x"}"#;
    let cases = [
        ("{", "not a JSON change event"),
        ("[]", "not a JSON change event"),
        ("17", "not a JSON change event"),
        ("{}", "no \"op\""),
        (r#"{"op":"c"}"#, "no \"source\""),
        (&event("x", "null", good), "unknown operation \"x\""),
        (&event("c", "null", "null"), "no \"after\""),
        (&event("c", "null", "[1]"), "not a JSON change event"),
        (&event("c", "null", good).replace("accounts", "missing"), "table public.missing does not exist"),
        (&event("c", "null", r#"{"id":1,"balance":"1","note":"x","new":1}"#), "carries \"new\", which"),
        (&event("c", "null", r#"{"id":1,"balance":"1"}"#), "carries no value for \"note\""),
        (&event("c", "null", r#"{"id":1,"id":1,"balance":"1","note":"x"}"#), "stands twice"),
        (
            &event("c", "null", r#"{"id":"1","balance":"1","note":"x"}"#),
            "\"id\" of public.accounts: expected an integer",
        ),
        (&event("c", "null", r#"{"id":99999999999999999999,"balance":"1","note":"x"}"#), "no 64-bit integer"),
        (&event("c", "null", r#"{"id":1,"balance":"AJY=","note":"x"}"#), "not a decimal number"),
        (&event("d", "null", "null"), "no old row"),
        (&event("d", "{}", "null"), "the key of public.accounts has no value for \"id\""),
        (&event("c", "null", good).replace("\"transaction\"", "\"other\""), "no transaction block"),
        (&event("c", "null", good).replace("571:53195829", "571"), "not xid:lsn"),
    ];
    for (value, complaint) in cases {
        let error = refused(value);
        assert!(error.to_string().contains(complaint), "{value}\n{error}");
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn formats_of_a_schema_registry_are_named_with_the_converter_to_change() {
    // Avro; JSON Schema, which goes on as JSON; and a transaction record.
    for bytes in [&[0, 0, 0, 0, 42, 7, 7][..], b"\0\0\0\0\x2a{\"op\":\"c\"}"] {
        let value = decoder().decode(&RawRecord { value: Some(bytes), ..record("") }).unwrap_err();
        for error in [value, decode_boundary(bytes).unwrap_err()] {
            assert_eq!(error, DecodeError::RegistryEncoded { id: 42, converter: Converter::Value });
            let said = error.to_string();
            assert!(
                said.contains("Avro, Protobuf or JSON Schema of a schema registry (schema id 42)"),
                "{said}"
            );
            let hint = error.hint();
            assert!(hint.contains("value.converter=org.apache.kafka.connect.json.JsonConverter"), "{hint}");
        }
    }
}

#[test]
fn what_can_not_be_json_hints_at_the_converter_that_wrote_it() {
    let converter = |error: &DecodeError| match error {
        DecodeError::OtherFormat { what, converter } => (*what, *converter),
        other => panic!("{other}"),
    };
    for (bytes, why) in [
        (&[0xff, 0xfe][..], "it is not UTF-8"),
        (b"Struct{id=1}", "it does not begin with {"),
        (b"[1]", "it does not begin with {"),
        (b"\0\x01", "it does not begin with {"),
        (b"", "it does not begin with {"),
    ] {
        let error = decoder().decode(&RawRecord { value: Some(bytes), ..record("") }).unwrap_err();
        assert_eq!(converter(&error), (why, Converter::Value));
        assert!(error.hint().contains("value.converter=") && error.to_string().contains(why), "{error}");
    }
    // A key in a header, by a converter that does not write JSON.
    let insert = event("c", "null", r#"{"id":5,"balance":"1","note":"n"}"#);
    let moved = RawRecord { old_key: Some(b"Struct{id=1}"), ..record(&insert) };
    let error = decoder().decode(&moved).unwrap_err();
    assert_eq!(converter(&error), ("it does not begin with {", Converter::Header));
    assert!(error.hint().contains("header.converter="), "{}", error.hint());
    // Damaged JSON is no matter of converters.
    let damaged = decoder().decode(&record("{\"op\"")).unwrap_err();
    assert!(matches!(damaged, DecodeError::NotJson(_)) && !damaged.hint().contains("converter"), "{damaged}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let record = RawRecord { value: Some(&bytes), old_key: Some(&bytes), ..record("") };
        let decoded = decoder().decode(&record).is_ok();
        prop_assert!(!decoded || bytes.len() > 10, "noise is not an event");
        prop_assert!(decode_boundary(&bytes).is_err());
    }

    #[test]
    fn no_damage_to_an_event_makes_the_decoder_panic(at in 0usize..400, with in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = event("u", "null", r#"{"id":1,"balance":"1.5","note":"é\n"}"#).into_bytes();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = with }
        // Either result is right; a panic fails the test. An error must say something.
        if let Err(error) = decoder().decode(&RawRecord { value: Some(&bytes), ..record("") }) {
            prop_assert!(!error.to_string().is_empty() && !error.hint().is_empty());
        }
    }
}

#[test]
fn where_transactions_are_absent_an_event_is_a_change_with_a_position() {
    let mut loose = decoder_of(Transactions::Absent);
    let text = event("d", r#"{"id":1}"#, "null").replace("\"transaction\":", "\"other\":");
    assert_eq!(decoder().decode(&record(&text)).unwrap_err(), DecodeError::NoTransactionBlock);
    let Ok(Decoded::Loose(event)) = loose.decode(&record(&text)) else { panic!("{text}") };
    assert_eq!((event.lsn, event.change.unwrap().operation.name()), (Lsn(53_195_829), "delete"));
}

/// What the real connector writes when `alt` changes: the WAL carries the old `alt` alone, and 0 stands in for `id`.
#[test]
fn a_row_whose_identity_is_an_index_beside_its_primary_key_is_never_looked_for_by_that() {
    let text = |op, before, after| event(op, before, after).replace("accounts", "indexed");
    let delete = text("d", r#"{"id":0,"alt":"a","note":null}"#, "null");
    let insert = text("c", "null", r#"{"id":5,"alt":"b","note":"n"}"#);
    let halves = [
        (RawRecord { new_key: Some(br#"{"id":5}"#), ..record(&delete) }, "delete"),
        (RawRecord { old_key: Some(br#"{"id":0}"#), ..record(&insert) }, "insert"),
    ];
    for (record, expected) in &halves {
        let Ok(Decoded::Member(member)) = decoder().decode(record) else { panic!("{expected}") };
        let operation = member.change.unwrap().operation;
        assert_eq!(operation.name(), *expected);
        if let Operation::Delete(key) = operation {
            assert_eq!(key.0.cell(0), Cell::Text("a"));
        }
    }
    let placeholder = text("c", "null", r#"{"id":5,"alt":"b","note":"__debezium_unavailable_value"}"#);
    let unchanged = RawRecord { old_key: Some(br#"{"id":0}"#), ..record(&placeholder) };
    assert!(matches!(decoder().decode(&unchanged), Err(DecodeError::NoOldRow(_))));
}

#[test]
fn boundaries_are_told_from_events_where_one_topic_has_both() {
    let begin = r#"{"status":"BEGIN","id":"571:53195829"}"#;
    assert!(is_boundary(begin.as_bytes()));
    assert!(is_boundary(format!(r#"{{"schema":{{}},"payload":{begin}}}"#).as_bytes()));
    assert!(!is_boundary(event("c", "null", r#"{"status":"BEGIN"}"#).as_bytes()));
    assert!(!is_boundary(b"\x00\x00\x00\x00\x07avro"));
}

/// NaN of a `numeric(p,s)` is NULL on the wire (golden set B has one), and 24:00 is 00:00: read as what they look like, since
/// real ones must arrive. Only `check` stands before them.
#[test]
fn what_a_setting_loses_in_silence_is_read_as_what_arrives() {
    let columns = || {
        vec![
            column("id", ColumnKind::Integer),
            column("balance", ColumnKind::Numeric(Some(2))),
            column("closes", ColumnKind::Time(0)),
        ]
    };
    let table = || Table::new(TableName::new("public", "accounts"), columns(), vec![0]);
    let modes =
        Modes { decimal: DecimalMode::Precise, time_precision: TimeMode::Isostring, ..Modes::default() };
    let mut decoder =
        Decoder::new(&Catalog::new([table()]), DecodeSettings { modes, ..DecodeSettings::default() });
    for op in ["c", "u"] {
        let text = event(op, "null", r#"{"id":1,"balance":null,"closes":"00:00:00Z"}"#);
        let row = match member(decoder.decode(&record(&text)).unwrap()).change.unwrap().operation {
            Operation::Insert(row) | Operation::Update(row) => row,
            other => panic!("{other:?}"),
        };
        assert_eq!((row.cell(1), row.cell(2)), (Cell::Null, Cell::Text("00:00:00")), "{op}");
    }
    let lost: Vec<_> =
        lossy_columns(&Catalog::new([table()]), modes).into_iter().map(|l| (l.column, l.extent)).collect();
    assert_eq!(lost, [("balance".to_owned(), Extent::Avoidable), ("closes".to_owned(), Extent::Avoidable)]);
}
