//! Grouped bars: medians, with a whisker from the least to the greatest measurement.

use super::page::{Page, escaped};
use super::scale::{Scale, short};
use crate::stats::Spread;

/// Bars in groups beside each other.
#[derive(Debug, Clone)]
pub(crate) struct Bars {
    pub(crate) title: String,
    pub(crate) unit: String,
    pub(crate) groups: Vec<Group>,
}

/// Bars that are compared with each other.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) label: String,
    pub(crate) bars: Vec<Bar>,
}

/// What was measured of one series.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) series: String,
    pub(crate) value: Spread,
}

impl Bar {
    /// What was measured once.
    pub(crate) fn one(series: &str, value: f64) -> Self {
        Self { series: series.to_owned(), value: Spread { median: value, min: value, max: value } }
    }
}

/// Bars don't get wider, however few there are.
const WIDEST: f64 = 54.0;
/// A bar narrower than this has its value in a tool tip only.
const ROOM_FOR_VALUE: f64 = 27.0;
/// Of a group's width, what stays empty.
const GAP: f64 = 0.2;

impl Bars {
    pub(super) fn draw(&self, page: &mut Page<'_>) {
        if self.groups.is_empty() {
            return;
        }
        let area = page.panel(&format!("{} [{}]", self.title, self.unit));
        let highest = self.groups.iter().flat_map(|group| &group.bars).map(|bar| bar.value.max);
        let scale = Scale::new(highest, 4.0, area.bottom, area.top);
        page.vertical_axis(area, &scale);
        #[expect(clippy::cast_precision_loss, reason = "there are but a few groups and bars")]
        let (groups, most) = (
            self.groups.len() as f64,
            self.groups.iter().map(|group| group.bars.len()).max().unwrap_or(1).max(1) as f64,
        );
        let room = (area.right - area.left) / groups;
        let width = (room * (1.0 - GAP) / most).min(WIDEST);
        let mut middle = area.left + room / 2.0;
        for group in &self.groups {
            #[expect(clippy::cast_precision_loss, reason = "there are but a few bars")]
            let mut left = middle - width * group.bars.len() as f64 / 2.0;
            for bar in &group.bars {
                draw(page, &scale, bar, left, width, &group.label);
                left += width;
            }
            page.text(middle, area.bottom + 16.0, "mark middle", &group.label);
            middle += room;
        }
    }
}

fn draw(page: &mut Page<'_>, scale: &Scale, bar: &Bar, left: f64, width: f64, label: &str) {
    let Spread { median, min, max } = bar.value;
    let (zero, top) = (scale.place(0.0), scale.place(median));
    let class = page.class(&bar.series);
    let (y, height) = (top.min(zero), (zero - top).abs());
    let tip = escaped(&format!("{label}, {}: {}", bar.series, bar.value.text(3)));
    page.push(&format!(
        "<g><title>{tip}</title><rect class=\"{class} bar\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" \
         height=\"{height:.1}\"/></g>",
        left + 1.0,
        width - 2.0
    ));
    let middle = left + width / 2.0;
    if max > min {
        let (low, high) = (scale.place(min), scale.place(max));
        page.line("whisker", (middle, low), (middle, high));
        for y in [low, high] {
            page.line("whisker", (middle - 3.0, y), (middle + 3.0, y));
        }
    }
    if width >= ROOM_FOR_VALUE {
        page.text(middle, scale.place(max.max(median)) - 4.0, "value middle", &short(median));
    }
}
