//! Dates, times and timestamps into PostgreSQL's text.
//!
//! A token tells its form: a number counts days, milliseconds or microseconds (which of the two, the caller knows); a
//! string is ISO 8601; an object has a field for each part. All in the proleptic Gregorian calendar, as PostgreSQL's.

use super::ValueError;
use super::iso::{self, Moment};
use super::structured::{self, Parts};
use super::value::{integer, string};
use crate::text::push_fmt;

/// What a number of a time or timestamp counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Nanos,
    Millis,
    Micros,
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// What PostgreSQL's `date` can hold: 4714-11-24 BC to 5874897-12-31 (PostgreSQL documentation, table 8.9).
const DAYS: std::ops::RangeInclusive<i64> = -2_440_588..=2_145_042_905;

const DATE: ValueError = ValueError::OutOfRange { what: "date" };
const TIME: ValueError = ValueError::OutOfRange { what: "time of a day" };
const TIMESTAMP: ValueError = ValueError::OutOfRange { what: "timestamp" };

pub(super) fn append_date(raw: &str, out: &mut String) -> Result<(), ValueError> {
    match raw.as_bytes().first() {
        Some(b'"') => {
            let text = string(raw, "an ISO 8601 date")?;
            append_iso_date(&text, out).ok_or_else(|| ValueError::unexpected("an ISO 8601 date", raw))
        }
        Some(b'{') => append_moment(&structured::parse(raw)?, false, "", out),
        _ => append_days(integer(raw)?, out),
    }
}

fn append_days(days: i64, out: &mut String) -> Result<(), ValueError> {
    match days {
        // What Debezium makes of pgjdbc's infinity: streamed by 3.7, by 3.6, and in snapshots and arrays of 3.7 (observed).
        2_146_033_979 | -2_147_472_692 | -622_191_234 => out.push_str("infinity"),
        -2_147_472_691 | -625_821_272 => out.push_str("-infinity"),
        days if DAYS.contains(&days) => {
            let before_christ = append_civil(days, out);
            out.push_str(before_christ);
        }
        _ => return Err(DATE),
    }
    Ok(())
}

fn append_iso_date(text: &str, out: &mut String) -> Option<()> {
    match text {
        // As above, of `time.precision.mode=isostring`.
        "+5877611-06-21Z" | "-5877611-06-21Z" | "+292278994-08-16Z" | "+292278994-08-17Z" => {
            out.push_str("infinity");
        }
        "-5877611-06-22Z" | "+292269055-12-02Z" => out.push_str("-infinity"),
        _ => {
            let (date, rest) = iso::date(text)?;
            if !matches!(rest, "" | "Z") || date.year > 5_874_897 {
                return None;
            }
            let before_christ = append_year_month_day(date.year, date.month, date.day, out);
            out.push_str(before_christ);
        }
    }
    Some(())
}

pub(super) fn append_time(unit: Unit, raw: &str, out: &mut String) -> Result<(), ValueError> {
    match raw.as_bytes().first() {
        Some(b'"') => {
            let text = string(raw, "an ISO 8601 time")?;
            let clock = iso::clock(&text).filter(|(_, rest)| matches!(*rest, "" | "Z"));
            let (clock, _) = clock.ok_or_else(|| ValueError::unexpected("an ISO 8601 time", raw))?;
            append_clock(clock.micros, out);
        }
        Some(b'{') => append_clock(structured::parse(raw)?.clock()?, out),
        _ => {
            let micros = in_micros(unit, integer(raw)?).ok_or(TIME)?;
            // 24:00:00 is a legal time in PostgreSQL.
            if !(0..=MICROS_PER_DAY).contains(&micros) {
                return Err(TIME);
            }
            append_clock(micros, out);
        }
    }
    Ok(())
}

/// `timetz` of `time.precision.mode=structured`, the only form that carries the zone, or an ISO 8601 time in UTC.
pub(super) fn append_zoned_time(raw: &str, out: &mut String) -> Result<(), ValueError> {
    if !raw.starts_with('{') {
        append_time(Unit::Micros, raw, out)?;
        out.push_str("+00");
        return Ok(());
    }
    let parts = structured::parse(raw)?;
    append_clock(parts.clock()?, out);
    let offset = parts.offset_seconds()?;
    let (hours, minutes, seconds) = (offset.abs() / 3600, offset.abs() / 60 % 60, offset.abs() % 60);
    push_fmt(out, format_args!("{}{hours:02}", if offset < 0 { '-' } else { '+' }));
    if minutes != 0 || seconds != 0 {
        push_fmt(out, format_args!(":{minutes:02}"));
    }
    if seconds != 0 {
        push_fmt(out, format_args!(":{seconds:02}"));
    }
    Ok(())
}

pub(super) fn append_timestamp(unit: Unit, raw: &str, out: &mut String) -> Result<(), ValueError> {
    match raw.as_bytes().first() {
        Some(b'"') => append_iso(raw, "", out),
        Some(b'{') => append_moment(&structured::parse(raw)?, true, "", out),
        _ => append_instant_number(unit, integer(raw)?, out),
    }
}

fn append_instant_number(unit: Unit, number: i64, out: &mut String) -> Result<(), ValueError> {
    match number {
        // pgjdbc's constants in milliseconds; 3.6 sends them as microseconds, too, 3.7 the extremes (observed).
        9_223_372_036_825_200_000 => out.push_str("infinity"),
        -9_223_372_036_832_400_000 => out.push_str("-infinity"),
        i64::MAX if unit == Unit::Micros => out.push_str("infinity"),
        i64::MIN if unit == Unit::Micros => out.push_str("-infinity"),
        number => {
            let per_day = match unit {
                Unit::Millis => MICROS_PER_DAY / 1000,
                Unit::Micros => MICROS_PER_DAY,
                // Out of range these come as NULL: they are refused before anything is read.
                Unit::Nanos => return Err(TIMESTAMP),
            };
            let days = number.div_euclid(per_day);
            // The last day of PostgreSQL's timestamps is 294276-12-31.
            if days < *DAYS.start() || days > 106_751_991 + 30 * 366 {
                return Err(TIMESTAMP);
            }
            let before_christ = append_civil(days, out);
            out.push(' ');
            append_clock(number.rem_euclid(per_day) * (MICROS_PER_DAY / per_day), out);
            out.push_str(before_christ);
        }
    }
    Ok(())
}

/// `timestamptz`: in UTC, whatever the form.
pub(super) fn append_instant(raw: &str, out: &mut String) -> Result<(), ValueError> {
    match raw.as_bytes().first() {
        Some(b'{') => append_moment(&structured::parse(raw)?, true, "+00", out),
        _ => append_iso(raw, "+00", out),
    }
}

/// An ISO 8601 date and time. `zone` is what PostgreSQL prints behind it.
fn append_iso(raw: &str, zone: &str, out: &mut String) -> Result<(), ValueError> {
    let expected = "an ISO 8601 timestamp";
    let text = string(raw, expected)?;
    match text.as_ref() {
        "infinity" | "-infinity" => out.push_str(&text),
        // What pgjdbc's infinity becomes in `isostring` and in arrays (observed).
        infinity if infinity.starts_with("+292278994-08-1") => out.push_str("infinity"),
        infinity if infinity.starts_with("-292275055-05-1") || infinity.starts_with("+292269055-12-02") => {
            out.push_str("-infinity");
        }
        text => {
            let Moment { date, clock } =
                iso::moment(text).ok_or_else(|| ValueError::unexpected(expected, raw))?;
            if date.year > 294_276 {
                return Err(TIMESTAMP);
            }
            let before_christ = append_year_month_day(date.year, date.month, date.day, out);
            out.push(' ');
            append_clock(clock.micros, out);
            out.push_str(zone);
            out.push_str(before_christ);
        }
    }
    Ok(())
}

/// A date, with its time of day or without, from its parts.
fn append_moment(
    parts: &Parts<'_>,
    with_clock: bool,
    zone: &str,
    out: &mut String,
) -> Result<(), ValueError> {
    if let Some(infinity) = parts.infinity()? {
        out.push_str(infinity);
        return Ok(());
    }
    let (year, month, day) = parts.date()?;
    let before_christ = append_year_month_day(year, month, day, out);
    if with_clock {
        out.push(' ');
        append_clock(parts.clock()?, out);
        out.push_str(zone);
    }
    out.push_str(before_christ);
    Ok(())
}

/// An interval as ISO 8601 text, or from its parts. A number has counted a month as 30.4375 days.
pub(super) fn append_interval(raw: &str, out: &mut String) -> Result<(), ValueError> {
    match raw.as_bytes().first() {
        Some(b'"') => out.push_str(&string(raw, "an interval")?),
        Some(b'{') => structured::parse(raw)?.append_interval(out)?,
        _ => {
            return Err(ValueError::Lossy {
                reason: "an interval as a number has lost its months and days",
                setting: "Set interval.handling.mode=string in the connector.",
            });
        }
    }
    Ok(())
}

fn in_micros(unit: Unit, number: i64) -> Option<i64> {
    match unit {
        Unit::Nanos => (number % 1000 == 0).then_some(number / 1000),
        Unit::Millis => number.checked_mul(1000),
        Unit::Micros => Some(number),
    }
}

/// Appends `year-month-day` and returns the suffix that belongs at the very end.
fn append_civil(days: i64, out: &mut String) -> &'static str {
    let (year, month, day) = civil(days);
    append_year_month_day(year, month, day, out)
}

fn append_year_month_day(year: i64, month: i64, day: i64, out: &mut String) -> &'static str {
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
        out.truncate(out.trim_end_matches('0').len());
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
mod tests;
