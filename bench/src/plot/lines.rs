//! Lines: a value over time.

use super::page::Page;
use super::scale::{Scale, short};

/// Lines over the same axis.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    pub(crate) title: String,
    /// What the horizontal axis counts, with its unit.
    pub(crate) x: String,
    /// The unit of the vertical axis.
    pub(crate) y: String,
    pub(crate) lines: Vec<Line>,
}

/// One line, from the left to the right.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) series: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Lines {
    pub(super) fn draw(&self, page: &mut Page<'_>) {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        if points().next().is_none() {
            return;
        }
        let area = page.panel(&format!("{} [{}]", self.title, self.y));
        let down = Scale::new(points().map(|point| point.1), 4.0, area.bottom, area.top);
        let across = Scale::new(points().map(|point| point.0), 10.0, area.left, area.right);
        page.vertical_axis(area, &down);
        for mark in across.marks() {
            page.text(across.place(mark), area.bottom + 16.0, "mark middle", &short(mark));
        }
        page.text(f64::midpoint(area.left, area.right), area.bottom + 31.0, "mark middle", &self.x);
        for line in self.lines.iter().filter(|line| !line.points.is_empty()) {
            let places =
                line.points.iter().map(|&(x, y)| format!("{:.1},{:.1}", across.place(x), down.place(y)));
            let places = places.collect::<Vec<_>>().join(" ");
            let class = page.class(&line.series);
            page.push(&format!("<polyline class=\"{class} curve\" points=\"{places}\"/>"));
        }
    }
}
