//! Bytes and bits.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::ValueError;
use super::modes::BinaryMode;
use super::value::string;

/// Standard base64 in a JSON string: what Kafka Connect makes of bytes.
pub(super) fn base64(raw: &str) -> Result<Vec<u8>, ValueError> {
    bytes(BinaryMode::Base64, raw)
}

/// The bytes of a JSON string.
pub(super) fn bytes(mode: BinaryMode, raw: &str) -> Result<Vec<u8>, ValueError> {
    let (expected, decoded) = match mode {
        BinaryMode::Bytes | BinaryMode::Base64 => {
            let expected = "base64 in a string";
            (expected, STANDARD.decode(string(raw, expected)?.as_ref()).ok())
        }
        BinaryMode::Base64UrlSafe => {
            let expected = "base64 with - and _ in a string";
            (expected, URL_SAFE.decode(string(raw, expected)?.as_ref()).ok())
        }
        BinaryMode::Hex => {
            let expected = "hex digits in a string";
            (expected, unhex(&string(raw, expected)?))
        }
    };
    decoded.ok_or_else(|| ValueError::unexpected(expected, raw))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

/// Appends what `bytea_output=hex` prints.
pub(super) fn append_bytea(bytes: &[u8], out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + 2 * bytes.len());
    out.push_str("\\x");
    for byte in bytes {
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
}

/// `bit(1)` is a boolean; longer ones are the bytes of a bit set, lowest bit first, zero bytes at the end left out.
pub(super) fn append_bits(length: u32, raw: &str, out: &mut String) -> Result<(), ValueError> {
    match raw {
        "true" => out.push('1'),
        "false" => out.push('0'),
        _ => {
            let bytes = base64(raw)?;
            for position in (0..length as usize).rev() {
                let set = bytes.get(position / 8).is_some_and(|byte| byte >> (position % 8) & 1 == 1);
                out.push(if set { '1' } else { '0' });
            }
        }
    }
    Ok(())
}

/// `bit varying`: the bits from the highest that is set. Those above it, all zero, are lost.
pub(super) fn append_known_bits(raw: &str, out: &mut String) -> Result<(), ValueError> {
    let bytes = base64(raw)?;
    let highest = (0..bytes.len() * 8).rev().find(|&position| bytes[position / 8] >> (position % 8) & 1 == 1);
    let length = highest.map_or(0, |position| position + 1);
    append_bits(u32::try_from(length).unwrap_or(u32::MAX), raw, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_four_forms_of_the_same_bytes() {
        for (mode, raw) in [
            (BinaryMode::Bytes, "\"+/+/\""),
            (BinaryMode::Base64, "\"+/+/\""),
            (BinaryMode::Base64UrlSafe, "\"-_-_\""),
            (BinaryMode::Hex, "\"fbffbf\""),
        ] {
            assert_eq!(bytes(mode, raw), Ok(vec![0xfb, 0xff, 0xbf]), "{mode:?}");
        }
        for (mode, raw) in [
            (BinaryMode::Bytes, "\"-_-_\""),
            (BinaryMode::Hex, "\"fbf\""),
            (BinaryMode::Hex, "\"é\""),
            (BinaryMode::Hex, "17"),
        ] {
            assert!(bytes(mode, raw).is_err(), "{mode:?} {raw}");
        }
    }

    #[test]
    fn bits_of_a_known_and_of_an_unknown_length() {
        let bits = |length, raw| {
            let mut out = String::new();
            append_bits(length, raw, &mut out).map(|()| out)
        };
        assert_eq!(bits(11, "\"VQU=\"").as_deref(), Ok("10101010101"));
        assert_eq!(bits(3, "\"\"").as_deref(), Ok("000"));
        assert_eq!(bits(1, "true").as_deref(), Ok("1"));
        let mut out = String::new();
        append_known_bits("\"Cw==\"", &mut out).unwrap();
        assert_eq!(out, "1011");
    }
}
