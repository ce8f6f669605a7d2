//! Axes: from values to places, and round numbers to write beside them.

/// An axis from a lower to an upper value, drawn from one place to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
    step: f64,
}

impl Scale {
    /// Holds all `values`, which are finite, begins with the least of them or 0, and ends with a round number. About `wanted`
    /// marks lie on it.
    pub(super) fn new(values: impl IntoIterator<Item = f64>, wanted: f64, start: f64, end: f64) -> Self {
        let (low, high) = values.into_iter().fold((0.0_f64, 0.0_f64), |(l, h), v| (l.min(v), h.max(v)));
        let range = if high > low { high - low } else { 1.0 };
        let step = round_step(range / wanted);
        let to = (high / step).ceil() * step;
        Self { from: (low / step).floor() * step, to: if to > low { to } else { step }, start, end, step }
    }

    /// Where a value is drawn.
    pub(super) fn place(&self, value: f64) -> f64 {
        self.start + (value - self.from) / (self.to - self.from) * (self.end - self.start)
    }

    /// The values that are written beside the axis.
    pub(super) fn marks(&self) -> Vec<f64> {
        let mut marks = Vec::new();
        let mut index = 0.0;
        // Multiplied, not summed up: no error grows.
        while self.from + index * self.step <= self.to + self.step / 2.0 {
            marks.push(self.from + index * self.step);
            index += 1.0;
        }
        marks
    }
}

/// The round number (1, 2 or 5 times a power of ten) that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10.0_f64.powf(least.log10().floor());
    let found = [1.0, 2.0, 5.0].into_iter().map(|factor| factor * power).find(|step| *step >= least * 0.999);
    found.unwrap_or(10.0 * power)
}

/// A value with three significant digits, thousands as `k` and millions as `M`.
pub(super) fn short(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let decimals = match scaled.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{scaled:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_with_a_round_number_above_all_values() {
        let scale = Scale::new([3.0, 8.34, 4.9], 4.0, 200.0, 0.0);
        assert_eq!(scale.marks(), [0.0, 5.0, 10.0]);
        assert_eq!((scale.place(0.0), scale.place(10.0)), (200.0, 0.0));
        assert_eq!(Scale::new([0.7], 4.0, 0.0, 1.0).marks().last(), Some(&0.8));
        assert_eq!(Scale::new([-3.0, 4.0], 4.0, 0.0, 1.0).marks(), [-4.0, -2.0, 0.0, 2.0, 4.0]);
    }

    #[test]
    fn an_axis_without_a_range_is_one_all_the_same() {
        for values in [vec![], vec![0.0]] {
            let scale = Scale::new(values, 4.0, 0.0, 100.0);
            assert!(scale.place(0.0).is_finite());
            assert!(scale.marks().len() >= 2);
        }
    }

    #[test]
    fn numbers_are_short() {
        let pairs = [(0.0, "0"), (0.05, "0.05"), (4.9, "4.9"), (12.6, "12.6"), (8340.0, "8340")];
        for (value, text) in pairs.into_iter().chain([(48_500.0, "48.5k"), (1e6, "1M"), (100.0, "100")]) {
            assert_eq!(short(value), text);
        }
    }
}
