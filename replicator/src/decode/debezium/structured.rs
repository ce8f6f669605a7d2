//! `time.precision.mode=structured`: an object with a field for each part.

use std::borrow::Cow;

use serde::Deserialize;

use super::ValueError;
use crate::text::push_fmt;

/// The parts of any of the structured types; those of other types are none.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parts<'a> {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    hour: Option<i64>,
    minute: Option<i64>,
    second: Option<i64>,
    nanos: Option<i64>,
    offset_seconds: Option<i64>,
    #[serde(borrow)]
    special_value: Option<Cow<'a, str>>,
    years: Option<i64>,
    months: Option<i64>,
    days: Option<i64>,
    hours: Option<i64>,
    minutes: Option<i64>,
    seconds: Option<i64>,
}

const INCOMPLETE: ValueError =
    ValueError::Unexpected { expected: "the parts of a date or time", found: "an object" };

pub(super) fn parse(raw: &str) -> Result<Parts<'_>, ValueError> {
    serde_json::from_str(raw).map_err(|_| INCOMPLETE)
}

fn within(part: Option<i64>, range: std::ops::RangeInclusive<i64>) -> Result<i64, ValueError> {
    part.filter(|p| range.contains(p)).ok_or(INCOMPLETE)
}

impl Parts<'_> {
    /// The word for an infinite date or timestamp.
    pub(super) fn infinity(&self) -> Result<Option<&'static str>, ValueError> {
        match self.special_value.as_deref() {
            None => Ok(None),
            Some("POSITIVE_INFINITY") => Ok(Some("infinity")),
            Some("NEGATIVE_INFINITY") => Ok(Some("-infinity")),
            Some(_) => Err(INCOMPLETE),
        }
    }

    /// Year (0 is 1 BC), month and day.
    pub(super) fn date(&self) -> Result<(i64, i64, i64), ValueError> {
        // From what PostgreSQL's date can hold.
        Ok((within(self.year, -4713..=5_874_897)?, within(self.month, 1..=12)?, within(self.day, 1..=31)?))
    }

    /// Microseconds since midnight.
    pub(super) fn clock(&self) -> Result<i64, ValueError> {
        let (hour, minute) = (within(self.hour, 0..=24)?, within(self.minute, 0..=59)?);
        let (second, nanos) = (within(self.second, 0..=59)?, within(self.nanos, 0..=999_999_999)?);
        let micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + nanos / 1000;
        if micros > 86_400_000_000 || nanos % 1000 != 0 { Err(INCOMPLETE) } else { Ok(micros) }
    }

    /// Seconds east of UTC.
    pub(super) fn offset_seconds(&self) -> Result<i64, ValueError> {
        // PostgreSQL's limit is below 16 hours.
        within(self.offset_seconds, -57_599..=57_599)
    }

    /// An interval in ISO 8601, each field with its sign.
    pub(super) fn append_interval(&self, out: &mut String) -> Result<(), ValueError> {
        let any = i64::from(i32::MIN)..=i64::from(i32::MAX);
        let field = |part| within(part, any.clone());
        let (seconds, nanos) = (field(self.seconds)?, within(self.nanos, -999_999_999..=999_999_999)?);
        push_fmt(
            out,
            format_args!(
                "P{}Y{}M{}DT{}H{}M",
                field(self.years)?,
                field(self.months)?,
                field(self.days)?,
                within(self.hours, -9_999_999_999..=9_999_999_999)?,
                field(self.minutes)?
            ),
        );
        let micros = seconds * 1_000_000 + nanos / 1000;
        let (whole, fraction) = (micros.abs() / 1_000_000, micros.abs() % 1_000_000);
        push_fmt(out, format_args!("{}{whole}", if micros < 0 { "-" } else { "" }));
        if fraction != 0 {
            push_fmt(out, format_args!(".{fraction:06}"));
            out.truncate(out.trim_end_matches('0').len());
        }
        out.push('S');
        Ok(())
    }
}
