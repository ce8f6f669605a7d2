//! Lines of charts as SVG paths. A gap in what is known is a gap in the line.

use std::fmt::Write;

/// The path of `values` in a box of `width` × `height`, the first at the left edge and the last at the right one; the top
/// is `max`. Two digits after the point are finer than any screen.
#[expect(clippy::cast_precision_loss, reason = "there are a few thousand values at most")]
pub fn path(values: &[Option<f64>], width: f64, height: f64, max: f64) -> String {
    let step = width / values.len().saturating_sub(1).max(1) as f64;
    let mut path = String::new();
    let mut drawing = false;
    for (index, value) in values.iter().enumerate() {
        let Some(value) = value else {
            drawing = false;
            continue;
        };
        let (x, y) = (index as f64 * step, height * (1.0 - (value / max.max(f64::EPSILON)).clamp(0.0, 1.0)));
        let verb = if drawing { 'L' } else { 'M' };
        // Writing into a string can't fail.
        write!(path, "{verb}{x:.2} {y:.2}").ok();
        if !drawing && values.get(index + 1).is_none_or(Option::is_none) {
            // A lone value would be a line without length, which nobody sees.
            path.push_str("h.01");
        }
        drawing = true;
    }
    path
}

/// A round number at or above `value`: 1, 2 or 5 times a power of ten.
pub fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-3).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value).unwrap_or(10.0 * power)
}

/// At most `count` values: the greatest of each stretch, so that no peak is lost.
pub fn thin_out(values: &[Option<f64>], count: usize) -> Vec<Option<f64>> {
    let stretch = values.len().div_ceil(count.max(1)).max(1);
    let greatest = |part: &[Option<f64>]| part.iter().flatten().copied().reduce(f64::max);
    values.chunks(stretch).map(greatest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_point_per_value_and_a_gap_where_nothing_is_known() {
        let values = [Some(0.0), Some(10.0), None, Some(5.0), Some(20.0)];
        assert_eq!(path(&values, 40.0, 10.0, 10.0), "M0.00 10.00L10.00 0.00M30.00 5.00L40.00 0.00");
        assert_eq!(path(&[Some(1.0)], 40.0, 10.0, 2.0), "M0.00 5.00h.01");
        assert_eq!(path(&[None, None], 40.0, 10.0, 2.0), "");
        assert_eq!(path(&[Some(0.0)], 40.0, 10.0, 0.0), "M0.00 10.00h.01", "a flat line is at the bottom");
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.7, 1.0, 3.0, 12.0, 501.0].map(round_up), [1.0, 1.0, 5.0, 20.0, 1000.0]);
    }

    #[test]
    fn peaks_survive_thinning_out() {
        let mut values = vec![Some(1.0); 1000];
        values[377] = Some(9.0);
        let thin = thin_out(&values, 100);
        assert_eq!((thin.len(), thin[37]), (100, Some(9.0)));
        assert_eq!(thin_out(&[None, None, Some(2.0)], 10), [None, None, Some(2.0)]);
        assert_eq!(thin_out(&[], 10), []);
    }
}
