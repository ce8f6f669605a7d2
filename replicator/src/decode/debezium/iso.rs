//! ISO 8601 as Java prints it: years of more than four digits have a sign, the year before 1 is 0, and `Z` ends it.

/// A date; the year is astronomical: 0 is 1 BC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
}

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    /// Microseconds since midnight; 24:00 is the end of the day.
    pub(super) micros: i64,
}

/// Both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) date: Date,
    pub(super) clock: Clock,
}

/// A date, and what follows it.
pub(super) fn date(text: &str) -> Option<(Date, &str)> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (year, rest) = unsigned.split_once('-')?;
    if !(4..=9).contains(&year.len()) {
        return None;
    }
    let year = number(year)?;
    let (month, rest) = two_digits(rest)?;
    let (day, rest) = two_digits(rest.strip_prefix('-')?)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some((Date { year: if negative { -year } else { year }, month, day }, rest))
}

/// A time of day with up to six digits of the second's fraction, and what follows it. More digits must be zeros.
pub(super) fn clock(text: &str) -> Option<(Clock, &str)> {
    let (hour, rest) = two_digits(text)?;
    let (minute, rest) = two_digits(rest.strip_prefix(':')?)?;
    // Java leaves seconds out that are zero, in some of its formats.
    let (second, rest) = match rest.strip_prefix(':') {
        Some(rest) => two_digits(rest)?,
        None => (0, rest),
    };
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => fraction(rest)?,
        None => (0, rest),
    };
    let micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction;
    let legal = hour <= 24 && minute < 60 && second < 60 && micros <= 86_400_000_000;
    legal.then_some((Clock { micros }, rest))
}

/// `dateTclockZ`.
pub(super) fn moment(text: &str) -> Option<Moment> {
    let (date, rest) = date(text)?;
    let (clock, rest) = clock(rest.strip_prefix('T')?)?;
    matches!(rest, "" | "Z").then_some(Moment { date, clock })
}

fn fraction(text: &str) -> Option<(i64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (fraction, rest) = text.split_at(digits);
    let (kept, cut) = fraction.split_at(digits.min(6));
    if digits == 0 || cut.bytes().any(|b| b != b'0') {
        return None;
    }
    let scale = 10i64.pow(u32::try_from(6 - kept.len()).ok()?);
    Some((number(kept)? * scale, rest))
}

fn two_digits(text: &str) -> Option<(i64, &str)> {
    Some((number(text.get(..2)?)?, &text[2..]))
}

/// Digits only: Rust's own parser takes a sign, too.
fn number(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_java_prints_is_read_and_nothing_else() {
        assert!(moment("2024-02-29T12:34:56.123456Z").is_some());
        assert_eq!(moment("2024-02-29T12:34Z").map(|m| m.clock.micros), Some(45_240_000_000));
        assert_eq!(moment("-0043-03-15T24:00:00").map(|m| m.date.year), Some(-43));
        assert!(clock("12:34:56.123456000Z").is_some(), "nanoseconds that say no more");
        for odd in [
            "",
            "x",
            "-",
            "2024",
            "2024-2-29",
            "24-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-02-29 00:00:00Z",
            "2024-02-29T00:00:00.1234567Z",
            "2024-02-29T24:00:01Z",
            "2024-02-29T00:60:00Z",
            "2024-02-29T+1:00:00Z",
            "é024-02-29T00:00:00Z",
            "2024-0é-29T00:00:00Z",
            "2024-02-29T00:00:00+02:00",
            "2024-02-29T00:00:00.Z",
        ] {
            assert_eq!(moment(odd), None, "{odd}");
        }
    }
}
