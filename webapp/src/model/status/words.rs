//! Quantities as people say them.

use std::time::Duration;

/// "38 ms", "1.2 s", "4 min", "3 h": one unit that fits.
pub fn span(time: Duration) -> String {
    match time.as_millis() {
        0..10 => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
        ms @ 10..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{:.1} s", time.as_secs_f64()),
        ms @ 60_000..3_600_000 => format!("{} min", ms / 60_000),
        ms @ 3_600_000..86_400_000 => format!("{} h", ms / 3_600_000),
        ms => format!("{} days", ms / 86_400_000),
    }
}

/// "1.2 MB": powers of a thousand, as disks are sold.
pub fn bytes(count: u64) -> String {
    scaled(count, &["B", "kB", "MB", "GB", "TB"], " ")
}

/// "1.2 k", "3.4 M"; small numbers as they are.
pub fn count(number: u64) -> String {
    scaled(number, &["", "k", "M", "G", "T"], " ").trim_end().to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn scaled(number: u64, units: &[&str], space: &str) -> String {
    if number < 1000 {
        return format!("{number}{space}{}", units[0]);
    }
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1}{space}{}", units[unit])
}

/// "12", "0.3", "1.2 k": a rate per second.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are not negative")]
pub fn rate(per_second: f64) -> String {
    match per_second {
        none if none < 0.05 => "0".to_owned(),
        few if few < 10.0 => format!("{few:.1}"),
        many => count(many.round() as u64),
    }
}

/// "all 3 replicas", "2 of 3 replicas", "the one replica".
pub fn replicas(some: usize, all: usize) -> String {
    match (some, all) {
        (1, 1) => "the one replica".to_owned(),
        _ if some == all => format!("all {all} replicas"),
        _ => format!("{some} of {all} replicas"),
    }
}

/// "replica-2 is", "replica-1 and replica-2 are".
pub fn are(names: &[&str]) -> String {
    match names {
        [] => "None is".to_owned(),
        [one] => format!("{one} is"),
        [first @ .., last] => format!("{} and {last} are", first.join(", ")),
    }
}

/// "the leader can't be reached" as a sentence of its own begins.
pub fn sentence(clause: &str) -> String {
    let mut characters = clause.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_unit_that_fits() {
        let of = |ms| span(Duration::from_millis(ms));
        assert_eq!([of(3), of(38), of(1240), of(61_000)], ["3.0 ms", "38 ms", "1.2 s", "1 min"]);
        assert_eq!([of(7_200_000), of(200_000_000)], ["2 h", "2 days"]);
        assert_eq!(span(Duration::from_micros(450)), "0.5 ms");
    }

    #[test]
    fn a_clause_becomes_a_sentence() {
        assert_eq!([sentence("the leader is away"), sentence("")], ["The leader is away", ""]);
    }

    #[test]
    fn sizes_and_counts_are_scaled() {
        assert_eq!(
            [bytes(0), bytes(999), bytes(1200), bytes(4_294_967_296)],
            ["0 B", "999 B", "1.2 kB", "4.3 GB"]
        );
        assert_eq!([count(7), count(1234), count(999_999)], ["7", "1.2 k", "1.0 M"]);
        assert_eq!([rate(0.0), rate(0.34), rate(12.6), rate(45_000.0)], ["0", "0.3", "13", "45.0 k"]);
    }

    #[test]
    fn replicas_are_named_in_a_sentence() {
        assert_eq!(
            [replicas(3, 3), replicas(2, 3), replicas(1, 1)],
            ["all 3 replicas", "2 of 3 replicas", "the one replica"]
        );
        assert_eq!(
            [are(&["a"]), are(&["a", "b"]), are(&["a", "b", "c"])],
            ["a is", "a and b are", "a, b and c are"]
        );
    }
}
