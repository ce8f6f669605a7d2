//! Values as the connector was seen to send them, and values at the ends of what PostgreSQL holds.

use super::*;

fn text(append: impl FnOnce(&mut String) -> Result<(), ValueError>) -> String {
    let mut out = String::new();
    append(&mut out).map_or_else(|e| format!("refused: {e}"), |()| out)
}

fn date(raw: &str) -> String {
    text(|out| append_date(raw, out))
}

fn time(unit: Unit, raw: &str) -> String {
    text(|out| append_time(unit, raw, out))
}

fn timestamp(unit: Unit, raw: &str) -> String {
    text(|out| append_timestamp(unit, raw, out))
}

fn instant(raw: &str) -> String {
    text(|out| append_instant(raw, out))
}

#[test]
fn dates_as_postgresql_prints_them() {
    for (raw, expected) in [
        ("0", "1970-01-01"),
        ("19782", "2024-02-29"),
        ("-719163", "0001-12-31 BC"),
        ("-2440550", "4713-01-01 BC"),
        ("2145042905", "5874897-12-31"),
        ("2146033979", "infinity"),
        ("-622191234", "infinity"),
        ("-2147472691", "-infinity"),
        ("-625821272", "-infinity"),
        ("2145042906", "refused: the number is no date"),
        ("\"2024-02-29Z\"", "2024-02-29"),
        ("\"-4712-01-01Z\"", "4713-01-01 BC"),
        ("\"0000-12-31Z\"", "0001-12-31 BC"),
        ("\"+5874897-12-31Z\"", "5874897-12-31"),
        ("\"+5877611-06-21Z\"", "infinity"),
        ("\"-5877611-06-22Z\"", "-infinity"),
        ("\"2024-02-30T\"", "refused: expected an ISO 8601 date, found a string"),
        (r#"{"year":-4712,"month":1,"day":1,"specialValue":null}"#, "4713-01-01 BC"),
        (r#"{"year":null,"month":null,"day":null,"specialValue":"POSITIVE_INFINITY"}"#, "infinity"),
    ] {
        assert_eq!(date(raw), expected, "{raw}");
    }
}

#[test]
fn timestamps_before_1970_and_before_christ_in_either_unit() {
    use Unit::{Micros, Millis};
    for (unit, raw, expected) in [
        (Micros, "0", "1970-01-01 00:00:00"),
        (Micros, "-1", "1969-12-31 23:59:59.999999"),
        (Micros, "-62167219200000000", "0001-01-01 00:00:00 BC"),
        (Micros, "9223372036854775807", "infinity"),
        (Micros, "-9223372036854775808", "-infinity"),
        (Micros, "9223372036825200000", "infinity"),
        (Micros, "-9223372036853775810", "refused: the number is no timestamp"),
        (Millis, "1709210096123", "2024-02-29 12:34:56.123"),
        (Millis, "-1", "1969-12-31 23:59:59.999"),
        (Millis, "9223372036825200000", "infinity"),
        (Millis, "-9223372036832400000", "-infinity"),
        (Millis, "9224318015999000", "294276-12-31 23:59:59"),
        (Millis, "9223372036854775807", "refused: the number is no timestamp"),
        (Micros, "\"2024-02-29T12:34:56.1234Z\"", "2024-02-29 12:34:56.1234"),
        (Micros, "\"+294276-12-31T23:59:59.999999Z\"", "294276-12-31 23:59:59.999999"),
        (Micros, "\"+292278994-08-16T23:00:00Z\"", "infinity"),
        (Micros, "\"-292275055-05-16T23:00:00Z\"", "-infinity"),
        (Micros, "\"2024-02-29T12:34:56+02:00\"", "refused: expected an ISO 8601 timestamp, found a string"),
    ] {
        assert_eq!(timestamp(unit, raw), expected, "{raw}");
    }
}

#[test]
fn times_up_to_and_including_midnight() {
    assert_eq!(time(Unit::Micros, "86400000000"), "24:00:00");
    assert_eq!(time(Unit::Millis, "86400000"), "24:00:00");
    assert_eq!(time(Unit::Micros, "45296789012"), "12:34:56.789012");
    assert_eq!(time(Unit::Millis, "45296500"), "12:34:56.5");
    assert_eq!(time(Unit::Micros, "\"12:34:56.789Z\""), "12:34:56.789");
    for refused in ["86400000001", "-1", "\"25:00:00Z\"", "true", "{}"] {
        assert!(time(Unit::Micros, refused).starts_with("refused"), "{refused}");
    }
    assert!(time(Unit::Millis, "9223372036854775807").starts_with("refused"));
}

#[test]
fn times_with_a_zone_keep_it_when_it_is_there() {
    let zoned = |raw: &str| text(|out| append_zoned_time(raw, out));
    let parts = |offset: i32| {
        format!(
            r#"{{"hour":12,"minute":34,"second":56,"nanos":500000000,"offsetSeconds":{offset},"precision":6}}"#
        )
    };
    assert_eq!(zoned(&parts(7200)), "12:34:56.5+02");
    assert_eq!(zoned(&parts(-57540)), "12:34:56.5-15:59");
    assert_eq!(zoned(&parts(19_801)), "12:34:56.5+05:30:01");
    assert_eq!(zoned("\"10:34:56Z\""), "10:34:56+00");
    assert!(zoned(&parts(9_999_999)).starts_with("refused"));
}

#[test]
fn instants_that_java_prints_and_postgresql_refuses() {
    for (raw, expected) in [
        ("\"2024-02-29T10:34:56.123456Z\"", "2024-02-29 10:34:56.123456+00"),
        ("\"2024-02-29T10:34:56.100Z\"", "2024-02-29 10:34:56.1+00"),
        ("\"+294276-12-31T23:59:59.999999Z\"", "294276-12-31 23:59:59.999999+00"),
        ("\"-4712-01-01T00:00:00.000000Z\"", "4713-01-01 00:00:00+00 BC"),
        ("\"0000-06-01T00:00:00Z\"", "0001-06-01 00:00:00+00 BC"),
        ("\"infinity\"", "infinity"),
        ("\"-infinity\"", "-infinity"),
        ("\"+292269055-12-02T23:00:00.000000Z\"", "-infinity"),
        ("\"+999999-01-01T00:00:00Z\"", "refused: the number is no timestamp"),
        ("\"x\"", "refused: expected an ISO 8601 timestamp, found a string"),
    ] {
        assert_eq!(instant(raw), expected, "{raw}");
    }
}

#[test]
fn intervals_as_text_and_from_their_parts() {
    let interval = |raw: &str| text(|out| append_interval(raw, out));
    assert_eq!(interval("\"P1Y2M3DT4H5M6.789S\""), "P1Y2M3DT4H5M6.789S");
    assert_eq!(
        interval(
            r#"{"years":0,"months":-1,"days":2,"hours":-3,"minutes":0,"seconds":0,"nanos":-1000,"precision":6}"#
        ),
        "P0Y-1M2DT-3H0M-0.000001S"
    );
    assert_eq!(
        interval(r#"{"years":1,"months":2,"days":3,"hours":4,"minutes":5,"seconds":-6,"nanos":-789000000}"#),
        "P1Y2M3DT4H5M-6.789S"
    );
    assert!(interval("37091106789000").contains("lost its months"));
}
