//! Arrays of one dimension.

use serde_json::value::RawValue;

use super::ValueError;
use super::codec::Codec;
use super::loss::NO_SETTING;
use super::value::{append_quoted, append_value};

/// A JSON array as PostgreSQL's array literal; every element is quoted, which all element types accept.
pub(super) fn append_array(element: &Codec, raw: &str, out: &mut String) -> Result<(), ValueError> {
    let elements: Vec<&RawValue> =
        serde_json::from_str(raw).map_err(|_| ValueError::unexpected("an array", raw))?;
    // Of an array of arrays Debezium makes an array of NULLs, or of what Java prints for an object.
    let nested = |item: &&RawValue| is_java_array(item.get());
    if !elements.is_empty() && elements.iter().all(|item| item.get() == "null") || elements.iter().any(nested)
    {
        return Err(ValueError::Lossy {
            reason: "an array of several dimensions arrives without its values, and nothing but NULLs looks the same",
            setting: NO_SETTING,
        });
    }
    out.push('{');
    let mut scratch = String::new();
    for (i, item) in elements.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        if item.get() == "null" {
            out.push_str("NULL");
            continue;
        }
        scratch.clear();
        append_value(element, item.get(), &mut scratch)?;
        check_calendar(element, &scratch)?;
        append_quoted(&scratch, out);
    }
    out.push('}');
    Ok(())
}

/// `"[Ljava.lang.String;@36a43c3e"`: the class of an array, and where it was in memory.
fn is_java_array(raw: &str) -> bool {
    let Some((class, address)) = raw.trim_matches('"').split_once('@') else { return false };
    let is_class = class.starts_with("[L") && class.ends_with(';')
        || class.starts_with("[[")
        || matches!(class, "[I" | "[J" | "[S" | "[B" | "[Z" | "[F" | "[D");
    is_class && !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Inside arrays, pgjdbc reads dates by a calendar that was another one before 1582-10-15, and loses the era.
fn check_calendar(element: &Codec, text: &str) -> Result<(), ValueError> {
    if !matches!(element, Codec::Date | Codec::Timestamp(_) | Codec::Instant) || text.ends_with("infinity") {
        return Ok(());
    }
    let is_modern = !text.ends_with(" BC") && (text.find('-') > Some(4) || text >= "1582-10-15");
    if is_modern {
        return Ok(());
    }
    Err(ValueError::Lossy {
        reason: "dates before 1582-10-15 in an array arrive as others",
        setting: NO_SETTING,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::debezium::modes::BinaryMode;
    use crate::decode::debezium::temporal::Unit;

    fn text(element: &Codec, raw: &str) -> String {
        let mut out = String::new();
        append_array(element, raw, &mut out).map_or_else(|e| format!("refused: {e}"), |()| out)
    }

    #[test]
    fn elements_are_quoted_and_null_is_not() {
        for (element, raw, expected) in [
            (Codec::Text, r#"["a","b,c","d\"q\\",null,"","NULL"]"#, r#"{"a","b,c","d\"q\\",NULL,"","NULL"}"#),
            (Codec::Integer, "[]", "{}"),
            (Codec::Bytes(BinaryMode::Bytes), r#"["AP8="]"#, r#"{"\\x00ff"}"#),
            (Codec::Bytes(BinaryMode::Hex), r#"["00ff"]"#, r#"{"\\x00ff"}"#),
            (Codec::Timestamp(Unit::Millis), "[1709210096500]", r#"{"2024-02-29 12:34:56.5"}"#),
            (Codec::Date, "[-622191234,2145042905]", r#"{"infinity","5874897-12-31"}"#),
        ] {
            assert_eq!(text(&element, raw), expected, "{raw}");
        }
    }

    #[test]
    fn what_an_array_of_arrays_becomes_is_refused() {
        for (element, raw) in [
            (Codec::Integer, "[null,null]"),
            (Codec::Text, r#"["[Ljava.lang.String;@36a43c3e",null]"#),
            (Codec::Text, r#"["[[I@1"]"#),
            (Codec::Integer, "[[1],[2]]"),
            (Codec::Integer, "\"{1}\""),
            (Codec::Date, "[-703383]"),
            (Codec::Timestamp(Unit::Micros), "[-63517953599876544]"),
        ] {
            assert!(text(&element, raw).starts_with("refused"), "{raw}");
        }
        assert_eq!(text(&Codec::Text, r#"["[L@","a@b"]"#), r#"{"[L@","a@b"}"#, "addresses of mail are texts");
    }
}
