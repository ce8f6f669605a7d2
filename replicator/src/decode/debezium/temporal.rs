//! Days and microseconds into PostgreSQL's text for dates, times and timestamps.
//!
//! `time.precision.mode=microseconds`: a date is days since 1970-01-01, a time is microseconds since midnight, a
//! timestamp is microseconds since 1970-01-01 00:00 in no zone. All in the proleptic Gregorian calendar, as PostgreSQL's.

use super::ValueError;
use crate::text::push_fmt;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// What PostgreSQL's `date` can hold: 4714-11-24 BC to 5874897-12-31 (PostgreSQL documentation, table 8.9).
const DAYS: std::ops::RangeInclusive<i64> = -2_440_588..=2_145_042_905;

pub(super) fn append_date(days: i64, out: &mut String) -> Result<(), ValueError> {
    match days {
        // Debezium passes on what pgjdbc makes of infinity; 3.6 and 3.7 differ (observed).
        2_146_033_979 | -2_147_472_692 => out.push_str("infinity"),
        -2_147_472_691 => out.push_str("-infinity"),
        days if DAYS.contains(&days) => {
            let before_christ = append_civil(days, out);
            out.push_str(before_christ);
        }
        _ => {
            return Err(ValueError::OutOfRange { what: "date (days since 1970)" });
        }
    }
    Ok(())
}

pub(super) fn append_time(micros: i64, out: &mut String) -> Result<(), ValueError> {
    // 24:00:00 is a legal time in PostgreSQL.
    if !(0..=MICROS_PER_DAY).contains(&micros) {
        return Err(ValueError::OutOfRange { what: "time (microseconds of a day)" });
    }
    append_clock(micros, out);
    Ok(())
}

pub(super) fn append_timestamp(micros: i64, out: &mut String) -> Result<(), ValueError> {
    match micros {
        // The extremes in 3.7, pgjdbc's constants in 3.6 (observed).
        i64::MAX | 9_223_372_036_825_200_000 => out.push_str("infinity"),
        i64::MIN | -9_223_372_036_832_400_000 => out.push_str("-infinity"),
        micros => {
            let days = micros.div_euclid(MICROS_PER_DAY);
            if !DAYS.contains(&days) {
                return Err(ValueError::OutOfRange { what: "timestamp (microseconds since 1970)" });
            }
            let before_christ = append_civil(days, out);
            out.push(' ');
            append_clock(micros.rem_euclid(MICROS_PER_DAY), out);
            out.push_str(before_christ);
        }
    }
    Ok(())
}

/// An ISO 8601 instant into what PostgreSQL reads: it refuses the sign of years above 9999 and years before 1.
pub(super) fn append_instant(iso: &str, out: &mut String) -> Result<(), ValueError> {
    if let Some(positive) = iso.strip_prefix('+') {
        out.push_str(positive);
    } else if iso.starts_with('-') && iso != "-infinity" {
        append_bc(&iso[1..], iso, out)?;
    } else if let Some(rest) = iso.strip_prefix("0000-") {
        // Java counts a year 0, which is 1 BC.
        push_fmt(out, format_args!("0001-{rest} BC"));
    } else {
        out.push_str(iso);
    }
    Ok(())
}

fn append_bc(unsigned: &str, iso: &str, out: &mut String) -> Result<(), ValueError> {
    let year = unsigned.split_once('-').and_then(|(year, rest)| Some((year.parse::<i64>().ok()?, rest)));
    let Some((year, rest)) = year else {
        return Err(ValueError::unexpected("an ISO 8601 instant", iso));
    };
    push_fmt(out, format_args!("{:04}-{rest} BC", year + 1));
    Ok(())
}

/// Appends `year-month-day` and returns the suffix that belongs at the very end.
fn append_civil(days: i64, out: &mut String) -> &'static str {
    let (year, month, day) = civil(days);
    // Astronomical year 0 is 1 BC.
    let (year, suffix) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    push_fmt(out, format_args!("{year:04}-{month:02}-{day:02}"));
    suffix
}

fn append_clock(micros: i64, out: &mut String) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    push_fmt(out, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    if fraction != 0 {
        push_fmt(out, format_args!(".{fraction:06}"));
    }
}

/// The Gregorian date of a day number: years are counted from March in eras of 400, so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    let shifted = days + 719_468; // days from 0000-03-01 to 1970-01-01
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let day_of_era = shifted.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(days: i64) -> String {
        let mut out = String::new();
        append_date(days, &mut out).map_or_else(|e| e.to_string(), |()| out)
    }

    fn timestamp(micros: i64) -> String {
        let mut out = String::new();
        append_timestamp(micros, &mut out).map_or_else(|e| e.to_string(), |()| out)
    }

    fn instant(iso: &str) -> String {
        let mut out = String::new();
        append_instant(iso, &mut out).map_or_else(|e| e.to_string(), |()| out)
    }

    #[test]
    fn dates_as_postgresql_prints_them() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(-719_528), "0001-01-01 BC");
        assert_eq!(date(-2_440_550), "4713-01-01 BC");
        assert_eq!(date(2_145_042_905), "5874897-12-31");
        assert_eq!(date(2_146_033_979), "infinity");
        assert_eq!(date(-2_147_472_691), "-infinity");
        assert_eq!(date(2_145_042_906), "the number is no date (days since 1970)");
    }

    #[test]
    fn timestamps_before_1970_and_before_christ() {
        assert_eq!(timestamp(0), "1970-01-01 00:00:00");
        assert_eq!(timestamp(-1), "1969-12-31 23:59:59.999999");
        assert_eq!(timestamp(-62_167_219_200_000_000), "0001-01-01 00:00:00 BC");
        assert_eq!(timestamp(i64::MAX), "infinity");
        assert_eq!(timestamp(i64::MIN), "-infinity");
        assert_eq!(timestamp(i64::MIN + 1), "the number is no timestamp (microseconds since 1970)");
    }

    #[test]
    fn times_up_to_and_including_midnight() {
        let time = |micros| {
            let mut out = String::new();
            append_time(micros, &mut out).map(|()| out)
        };
        assert_eq!(time(86_400_000_000).as_deref(), Ok("24:00:00"));
        assert_eq!(time(45_296_789_012).as_deref(), Ok("12:34:56.789012"));
        assert!(time(86_400_000_001).is_err());
        assert!(time(-1).is_err());
    }

    #[test]
    fn instants_that_java_prints_and_postgresql_refuses() {
        assert_eq!(instant("2024-02-29T10:34:56.123456Z"), "2024-02-29T10:34:56.123456Z");
        assert_eq!(instant("+294276-12-31T23:59:59.999999Z"), "294276-12-31T23:59:59.999999Z");
        assert_eq!(instant("-4712-01-01T00:00:00.000000Z"), "4713-01-01T00:00:00.000000Z BC");
        assert_eq!(instant("0000-06-01T00:00:00Z"), "0001-06-01T00:00:00Z BC");
        assert_eq!(instant("-infinity"), "-infinity");
        assert!(instant("-x").contains("expected an ISO 8601 instant"));
    }
}
