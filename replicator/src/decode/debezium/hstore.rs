//! `hstore`: an object in a string (`hstore.handling.mode=json`) or an object (`map`).

use std::collections::BTreeMap;

use super::ValueError;
use super::value::{append_quoted, string};

/// Appends the pairs as PostgreSQL prints them: shorter keys first, those of one length by their bytes.
pub(super) fn append_hstore(raw: &str, out: &mut String) -> Result<(), ValueError> {
    let expected = "an object, or one in a string";
    let in_string;
    let json = if raw.starts_with('"') {
        in_string = string(raw, expected)?;
        in_string.as_ref()
    } else {
        raw
    };
    let pairs: BTreeMap<String, Option<String>> =
        serde_json::from_str(json).map_err(|_| ValueError::unexpected(expected, raw))?;
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    for (i, (key, value)) in pairs.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        append_quoted(key, out);
        out.push_str("=>");
        match value {
            Some(value) => append_quoted(value, out),
            None => out.push_str("NULL"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_and_an_object_say_the_same() {
        for raw in [r#""{\"zz\":\"1\",\"b \\\"c\":null,\"b\":\"2\"}""#, r#"{"zz":"1","b \"c":null,"b":"2"}"#]
        {
            let mut out = String::new();
            append_hstore(raw, &mut out).unwrap();
            assert_eq!(out, r#""b"=>"2", "zz"=>"1", "b \"c"=>NULL"#);
        }
        for raw in ["17", "[]", "\"x\"", "{\"a\":1}"] {
            assert!(append_hstore(raw, &mut String::new()).is_err(), "{raw}");
        }
    }
}
