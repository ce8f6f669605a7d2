//! Figures out of many measurements.

use std::time::Instant;

use serde::Serialize;

/// Percentiles of some measurements, in their unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: usize,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    /// `None` without measurements.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let max = *values.last()?;
        // The nearest rank: the smallest value that so many percent of all do not exceed.
        let at = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        Some(Self { count: values.len(), p50: at(50), p90: at(90), p99: at(99), max })
    }
}

/// What was measured several times: the median, and how far apart the measurements were.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without measurements. Of an even number, the lower one in the middle.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        Some(Self { median: values[(values.len() - 1) / 2], min, max })
    }

    /// The median, and the range when it is one.
    pub(crate) fn text(&self, decimals: usize) -> String {
        let Self { median, min, max } = self;
        if min == max {
            format!("{median:.decimals$}")
        } else {
            format!("{median:.decimals$} ({min:.decimals$} to {max:.decimals$})")
        }
    }
}

/// Milliseconds from one moment to another: negative when the second came first.
pub(crate) fn milliseconds(from: Instant, to: Instant) -> f64 {
    let forward = to.saturating_duration_since(from).as_secs_f64();
    let backward = from.saturating_duration_since(to).as_secs_f64();
    (forward - backward) * 1e3
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let found = Percentiles::of((1..=200).rev().map(f64::from)).unwrap();
        assert_eq!(found, Percentiles { count: 200, p50: 100.0, p90: 180.0, p99: 198.0, max: 200.0 });
        assert_eq!(Percentiles::of([7.0]).unwrap().p50, 7.0);
        assert_eq!(Percentiles::of([]), None);
    }

    #[test]
    fn a_spread_has_the_median_and_both_ends() {
        let found = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(found, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(found.text(1), "2.0 (1.0 to 3.0)");
        assert_eq!(Spread::of([1.0, 2.0]).unwrap().median, 1.0);
        assert_eq!(Spread::of([5.0]).unwrap().text(0), "5");
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn what_came_first_is_a_negative_distance_away() {
        let now = Instant::now();
        let later = now + Duration::from_millis(20);
        assert_eq!(milliseconds(now, later), 20.0);
        assert_eq!(milliseconds(later, now), -20.0);
    }
}
