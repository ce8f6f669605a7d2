//! Damage: to bytes, to JSON's tokens, and inside its strings.

use std::ops::Range;

use e2e::random::Random;

/// What stands where a value of another sort or size was.
const SCALARS: &[&str] = &[
    "null",
    "true",
    "false",
    "\"\"",
    "[]",
    "{}",
    "[null]",
    "{\"\":null}",
    "0",
    "-0",
    "-1",
    "0.1",
    "-0.0",
    "1e400",
    "-1e400",
    "1e-400",
    "1E+5",
    "1e999999999",
    "1e-999999999",
    "2147483648",
    "-2147483649",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-99999999999999999999999999999999999999999",
    "170141183460469231731687303715884105728",
    "\"NaN\"",
    "\"Infinity\"",
    "\"-Infinity\"",
    "\"infinity\"",
    "\"-infinity\"",
    "\"1E+2147483647\"",
    "\"1E-2147483648\"",
    "\".\"",
    "\"-\"",
    "\"+.e\"",
    "\"0000-00-00\"",
    "\"-0001-13-32T25:61:61.9999999999Z\"",
    "\"999999999-12-31T23:59:59.999999999+18:00\"",
    "\"+292278994-08-17T07:12:55.807Z\"",
    "\"24:00:00\"",
    "\"é:00:00\"",
    "\"P\"",
    "\"PT\"",
    "\"P-1Y-2M-3DT-4H-5M-6.7S\"",
    "\"P99999999999999999999Y\"",
    "\"PT0.0000000000000000001S\"",
    "\"2 years 3 mons -4 days +05:06:07.89\"",
    "\"A\"",
    "\"====\"",
    "\"gAAAAAAAAAA=\"",
    "\"/////////////////////w==\"",
    "\"\\\\x\"",
    "\"\\\\xzz\"",
    "\"\\u0000\"",
    "\"\\ud83d\"",
    "\"\\ud83d\\ude00\"",
    "\"{\"",
    "\"{\\\"a\\\":{\\\"b\\\":[1]}}\"",
    "\"\\\"a\\\"=>\\\"b\"",
    "\"__debezium_unavailable_value\"",
    "\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\"",
    "[\"__debezium_unavailable_value\"]",
    "{\"scale\":2147483647,\"value\":\"AQ==\"}",
    "{\"scale\":-2147483648,\"value\":\"AQ==\"}",
    "{\"x\":1e308,\"y\":\"\",\"wkb\":\"AQEAAAAAAAAAAAAAAAAAAAAAAAAA\",\"srid\":null}",
    "{\"wkb\":\"AQMAAAD/////\"}",
    "{\"wkb\":\"AA==\"}",
    "{\"schema\":null}",
];

/// What is put into a string.
const PIECES: &[&str] = &[
    "-",
    "+",
    ":",
    ".",
    ",",
    " ",
    "/",
    "=",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    "0",
    "9",
    "99999999999",
    "e",
    "E9",
    "T",
    "Z",
    "P",
    " BC",
    "NaN",
    "infinity",
    "é",
    "€",
    "😀",
    "\u{301}",
    "\\u0000",
    "\\\"",
    "\\\\",
    "\\n",
    "=>",
    "+00",
    "\\ud83d",
];

/// What is put over a binary number.
const NUMBERS: &[u64] =
    &[0, 1, 2, 127, 255, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// Damages JSON up to four times, mostly less: what is wrong first hides the rest. `donor` gives other records.
pub(super) fn json<'d>(random: &mut Random, bytes: &mut Vec<u8>, donor: impl Fn(&mut Random) -> &'d [u8]) {
    let most = random.between(1, 4);
    for _ in 0..random.between(1, most) {
        match random.below(20) {
            0 => damage_bytes(random, bytes),
            how => {
                let other = donor(random);
                if how == 1 { splice(random, bytes, other) } else { damage_tokens(random, bytes, how, other) }
            }
        }
    }
}

/// Damages a binary message up to three times.
pub(super) fn binary(random: &mut Random, bytes: &mut Vec<u8>, donor: &[u8]) {
    for _ in 0..random.below(4) {
        match random.below(8) {
            0..5 => overwrite(random, bytes),
            5 | 6 => damage_bytes(random, bytes),
            _ => splice(random, bytes, donor),
        }
    }
}

/// A range of at most `most` bytes.
fn range(random: &mut Random, bytes: &[u8], most: usize) -> Range<usize> {
    let start = random.index(bytes.len() + 1);
    start..start + random.index(most.min(bytes.len() - start) + 1)
}

fn damage_bytes(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.index(bytes.len());
    match random.below(6) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = any_byte(random),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(range(random, bytes, 50))),
        4 => {
            let repeated = bytes[range(random, bytes, 50)].to_vec();
            bytes.splice(at..at, repeated);
        }
        _ => {
            let inserted: Vec<u8> = (0..random.between(1, 8)).map(|_| any_byte(random)).collect();
            bytes.splice(at..at, inserted);
        }
    }
}

/// Often one that JSON or UTF-8 begins or ends something with.
fn any_byte(random: &mut Random) -> u8 {
    if random.chance(50) {
        *random.pick(b"\0\x01\"\\{}[],:n\x7f\x80\xc3\xed\xff")
    } else {
        random.below(256).to_le_bytes()[0]
    }
}

/// The beginning of one, the end of the other.
fn splice(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    bytes.truncate(random.index(bytes.len() + 1));
    bytes.extend_from_slice(&other[random.index(other.len() + 1)..]);
}

/// Puts a number over some bytes, or changes the number there a little: lengths and counts stand everywhere.
fn overwrite(random: &mut Random, bytes: &mut [u8]) {
    let width = *random.pick(&[1, 2, 4, 8]);
    let Some(last) = bytes.len().checked_sub(width) else { return };
    let at = random.index(last + 1);
    let place = &mut bytes[at..at + width];
    let there = place.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let number = match random.below(3) {
        0 => there.wrapping_add(1),
        1 => there.wrapping_sub(1),
        _ => *random.pick(NUMBERS),
    };
    place.copy_from_slice(&number.to_be_bytes()[8 - width..]);
}

fn damage_tokens(random: &mut Random, bytes: &mut Vec<u8>, how: u64, donor: &[u8]) {
    let Some(token) = pick(random, bytes) else { return };
    match how {
        2..7 => {
            let new = random.pick(SCALARS).as_bytes().to_vec();
            bytes.splice(token, new);
        }
        7..10 => {
            let Some(other) = pick(random, donor) else { return };
            bytes.splice(token, donor[other].to_vec());
        }
        10 => {
            let Some(other) = pick(random, bytes) else { return };
            let (first, second) = if token.start <= other.start { (token, other) } else { (other, token) };
            if first.end <= second.start {
                let (a, b) = (bytes[first.clone()].to_vec(), bytes[second.clone()].to_vec());
                bytes.splice(second, a);
                bytes.splice(first, b);
            }
        }
        11 => {
            // With the key before it, or the comma behind it.
            let end = bytes[token.end..].iter().position(|b| matches!(b, b'"' | b'}')).unwrap_or(0);
            bytes.drain(token.start..token.end + end);
        }
        12 => {
            let mut twice = bytes[token.clone()].to_vec();
            twice.insert(0, b',');
            bytes.splice(token.end..token.end, twice);
        }
        13 => nest(random, bytes, token),
        14 => {
            let digits = "9".repeat(random.index(500) + 1);
            let new = *random.pick(&["", "-", "0.", "1e", "\"-", "\"0."]);
            let end = if new.starts_with('"') { "\"" } else { "" };
            bytes.splice(token, format!("{new}{digits}{end}").into_bytes());
        }
        15 => {
            let long = *random.pick(&["A", "\\u00e9", "9", "{", "(", "0/", "P1Y"]);
            let new = format!("\"{}\"", long.repeat(random.index(20_000) + 1));
            bytes.splice(token, new.into_bytes());
        }
        _ => damage_text(random, bytes, &token),
    }
}

fn nest(random: &mut Random, bytes: &mut Vec<u8>, token: Range<usize>) {
    let depth = *random.pick(&[1, 2, 50, 126, 127, 128, 129, 5000]);
    let (open, close) = *random.pick(&[("[", "]"), ("{\"a\":", "}"), ("[{\"items\":", "}]")]);
    let inner = String::from_utf8_lossy(&bytes[token.clone()]).into_owned();
    let nested = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
    bytes.splice(token, nested.into_bytes());
}

/// Inside a string or number: what PostgreSQL's and Java's own formats are taken apart by.
fn damage_text(random: &mut Random, bytes: &mut Vec<u8>, token: &Range<usize>) {
    let quotes = usize::from(bytes[token.start] == b'"');
    let inner = token.start + quotes..(token.end - quotes).max(token.start + quotes);
    let at = inner.start + random.index(inner.len() + 1);
    let rest = random.index((inner.end - at).min(4) + 1);
    match random.below(4) {
        0 => drop(bytes.drain(at..at + rest)),
        1 => drop(bytes.drain(at..inner.end)),
        2 => drop(bytes.splice(at..at + rest, random.pick(PIECES).bytes())),
        _ => drop(bytes.splice(at..at, random.pick(PIECES).bytes())),
    }
}

/// A value of a JSON text: mostly one of a row, which is what the columns' codecs read; sometimes one of an embedded schema,
/// which would be most of them.
fn pick(random: &mut Random, bytes: &[u8]) -> Option<Range<usize>> {
    let find = |text: &[u8]| bytes.windows(text.len()).position(|window| window == text);
    let payload = find(b"\"payload\":").unwrap_or(0);
    let (mut from, mut to) =
        if payload > 0 && random.chance(30) { (0, payload) } else { (payload, bytes.len()) };
    if random.chance(70) {
        from = find(b"\"before\":").filter(|_| from > 0 || payload == 0).map_or(from, |at| at.max(from));
        to = find(b",\"source\":").filter(|at| *at > from).unwrap_or(to);
    }
    let tokens = tokens(&bytes[from..to]);
    if tokens.is_empty() {
        return None;
    }
    let token = &tokens[random.index(tokens.len())];
    Some(token.start + from..token.end + from)
}

/// Scalars, keys, arrays and objects. Of a damaged text whatever can be told.
fn tokens(bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut found, mut open, mut at) = (Vec::new(), Vec::new(), 0);
    while at < bytes.len() {
        let start = at;
        at += 1;
        match bytes[start] {
            b'"' => {
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
                found.push(start..at);
            }
            b'{' | b'[' => open.push(start),
            b'}' | b']' => found.extend(open.pop().map(|opened| opened..at)),
            b'-' | b'0'..=b'9' | b'a'..=b'z' => {
                while at < bytes.len()
                    && matches!(bytes[at], b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
                {
                    at += 1;
                }
                found.push(start..at);
            }
            _ => {}
        }
    }
    found
}
