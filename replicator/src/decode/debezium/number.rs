//! Numbers: JSON's tokens, decimal strings, and the bytes of `decimal.handling.mode=precise`.

use serde::Deserialize;

use super::ValueError;
use super::binary::base64;
use super::value::{integer, string};

/// A JSON number as it stands, or one of the strings that stand for what JSON has no number for.
pub(super) fn append_float(raw: &str, out: &mut String) -> Result<(), ValueError> {
    match raw {
        "\"NaN\"" | "\"Infinity\"" | "\"-Infinity\"" => out.push_str(&raw[1..raw.len() - 1]),
        _ => append_number(raw, out)?,
    }
    Ok(())
}

/// A JSON number as it stands: PostgreSQL reads every form that JSON allows.
pub(super) fn append_number(raw: &str, out: &mut String) -> Result<(), ValueError> {
    if !raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return Err(ValueError::unexpected("a number", raw));
    }
    out.push_str(raw);
    Ok(())
}

/// A `money` that `decimal.handling.mode=double` rounded: its input function knows no exponents.
pub(super) fn append_money_float(raw: &str, out: &mut String) -> Result<(), ValueError> {
    // The largest double that the type holds; the next one is beyond 92233720368547758.07.
    const MOST: f64 = 92_233_720_368_547_744.0;
    match raw.parse::<f64>() {
        Ok(value) if value.abs() <= MOST => {
            out.push_str(&format!("{value:.2}"));
            Ok(())
        }
        Ok(_) => Err(ValueError::OutOfRange { what: "money" }),
        Err(_) => Err(ValueError::unexpected("a number", raw)),
    }
}

/// `decimal.handling.mode=string`.
pub(super) fn append_decimal_text(raw: &str, out: &mut String) -> Result<(), ValueError> {
    match string(raw, "a decimal number in a string (decimal.handling.mode=string)")?.as_ref() {
        "NAN" | "NaN" => out.push_str("NaN"),
        "POSITIVE_INFINITY" => out.push_str("Infinity"),
        "NEGATIVE_INFINITY" => out.push_str("-Infinity"),
        text if is_decimal(text) => out.push_str(text),
        _ => {
            return Err(ValueError::Lossy {
                reason: "not a decimal number in a string",
                setting: "Set decimal.handling.mode=string in the connector, or source.modes.decimal to its mode.",
            });
        }
    }
    Ok(())
}

fn is_decimal(text: &str) -> bool {
    let allowed = |b| matches!(b, b'0'..=b'9' | b'.' | b'-' | b'+' | b'E' | b'e');
    text.bytes().all(allowed) && text.bytes().any(|b| b.is_ascii_digit())
}

/// `decimal.handling.mode=precise` where the scale is known: base64 of the unscaled value, or, with the converter's
/// `decimal.format=NUMERIC`, a JSON number that has all its digits.
pub(super) fn append_unscaled(scale: u32, raw: &str, out: &mut String) -> Result<(), ValueError> {
    if !raw.starts_with('"') {
        return append_number(raw, out);
    }
    append_scaled(&base64(raw)?, scale, out);
    Ok(())
}

/// `io.debezium.data.VariableScaleDecimal`: the value brings its scale, without the zeros at its end.
pub(super) fn append_variable_scale(raw: &str, out: &mut String) -> Result<(), ValueError> {
    #[derive(Deserialize)]
    struct Decimal<'a> {
        #[serde(borrow)]
        scale: &'a serde_json::value::RawValue,
        #[serde(borrow)]
        value: &'a serde_json::value::RawValue,
    }
    let expected = "a decimal with scale and value";
    let decimal: Decimal<'_> =
        serde_json::from_str(raw).map_err(|_| ValueError::unexpected(expected, raw))?;
    let bytes = base64(decimal.value.get())?;
    match i32::try_from(integer(decimal.scale.get())?) {
        // The most that PostgreSQL's numeric has on either side of the point (its documentation, table 8.2).
        Ok(scale @ 0..=16_383) => append_scaled(&bytes, scale.unsigned_abs(), out),
        Ok(scale @ -131_072..=-1) => {
            append_scaled(&bytes, 0, out);
            out.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
        }
        _ => return Err(ValueError::OutOfRange { what: "scale of a numeric" }),
    }
    Ok(())
}

/// A big-endian two's complement number with the point `scale` digits before its end.
fn append_scaled(bytes: &[u8], scale: u32, out: &mut String) {
    let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
    let digits = match i128_of(bytes) {
        Some(value) => value.unsigned_abs().to_string(),
        None => long_digits(bytes, negative),
    };
    if negative {
        out.push('-');
    }
    let scale = scale as usize;
    if scale == 0 {
        out.push_str(&digits);
        return;
    }
    if digits.len() <= scale {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', scale - digits.len()));
        out.push_str(&digits);
    } else {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.push_str(whole);
        out.push('.');
        out.push_str(fraction);
    }
}

fn i128_of(bytes: &[u8]) -> Option<i128> {
    if bytes.len() > 16 {
        return None;
    }
    let sign = if bytes.first().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [sign; 16];
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

/// The digits of a magnitude above 128 bits: limbs of nine digits, multiplied by 256 for each byte.
fn long_digits(bytes: &[u8], negative: bool) -> String {
    const LIMB: u64 = 1_000_000_000;
    let mut limbs: Vec<u64> = vec![0];
    for byte in bytes {
        // The magnitude of a negative number is its complement plus one.
        let byte = if negative { !byte } else { *byte };
        multiply_add(&mut limbs, 256, u64::from(byte), LIMB);
    }
    if negative {
        multiply_add(&mut limbs, 1, 1, LIMB);
    }
    let mut digits = limbs.last().map(ToString::to_string).unwrap_or_default();
    for limb in limbs.iter().rev().skip(1) {
        digits.push_str(&format!("{limb:09}"));
    }
    digits
}

fn multiply_add(limbs: &mut Vec<u64>, factor: u64, addend: u64, limb: u64) {
    let mut carry = addend;
    for part in limbs.iter_mut() {
        let product = *part * factor + carry;
        *part = product % limb;
        carry = product / limb;
    }
    if carry > 0 {
        limbs.push(carry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(f: impl FnOnce(&mut String) -> Result<(), ValueError>) -> String {
        let mut out = String::new();
        f(&mut out).map_or_else(|e| format!("refused: {e}"), |()| out)
    }

    #[test]
    fn unscaled_bytes_as_the_connector_sends_them() {
        for (scale, raw, expected) in [
            (2, "\"J0I=\"", "100.50"),
            (2, "\"/xcrWvAB\"", "-9999999999.99"),
            (2, "\"AQ==\"", "0.01"),
            (2, "\"AA==\"", "0.00"),
            (0, "\"/nlh\"", "-99999"),
            (2, "\"gAAAAAAAAAA=\"", "-92233720368547758.08"),
            (10, "\"CUmw9vACMxPESZBOzGdFFQ==\"", "1234567890123456789012345678.0123456789"),
            (
                1,
                "\"AMStkjDvWS/U6HtMait6LQ4dgB9v5A52bDk=\"",
                "123456789012345678901234567890123456789012345678901234567890.5",
            ),
            (2, "100.50", "100.50"),
        ] {
            assert_eq!(text(|out| append_unscaled(scale, raw, out)), expected, "{raw}");
        }
    }

    #[test]
    fn long_negative_numbers_and_every_scale() {
        // -2^136, and one below.
        assert_eq!(
            long_digits(&[0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], true),
            "87112285931760246646623899502532662132736"
        );
        assert_eq!(long_digits(&[0xff; 20], true), "1");
        let variable = |scale: &str| {
            text(|out| append_variable_scale(&format!("{{\"scale\":{scale},\"value\":\"Dw==\"}}"), out))
        };
        assert_eq!(variable("1"), "1.5");
        assert_eq!(variable("-3"), "15000");
        assert_eq!(variable("36"), "0.000000000000000000000000000000000015");
        assert_eq!(variable("99999999999"), "refused: the number is no scale of a numeric");
        assert!(variable("-2000000000").starts_with("refused"));
    }

    #[test]
    fn a_text_is_not_taken_for_a_number() {
        for raw in ["\"\"", "\"-\"", "\"1,5\"", "\"AJY=\"", "1.5"] {
            assert!(text(|out| append_decimal_text(raw, out)).starts_with("refused"), "{raw}");
        }
        assert!(text(|out| append_float("\"1.5\"", out)).starts_with("refused"));
        assert_eq!(text(|out| append_float("-0.0", out)), "-0.0");
    }
}
