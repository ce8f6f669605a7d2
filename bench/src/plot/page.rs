//! The file itself: title, legend, and a place for each panel below the one before.

use std::fmt::Write;

use super::scale::{Scale, short};

/// Of the whole file, in pixels. GitHub shows 830 at most.
const WIDTH: f64 = 820.0;
/// What the marks of a vertical axis take, left of it.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
/// Of a panel, its title and the text below its axis.
const PANEL: f64 = 240.0;
const PANEL_TOP: f64 = 34.0;
const PANEL_BOTTOM: f64 = 38.0;
/// About the width of a letter of the legend.
const LETTER: f64 = 7.0;

/// Colours on light pages and on dark ones; with more series than colours they begin again.
const PALETTE: [(&str, &str); 7] = [
    ("#5f6b76", "#a9b4bf"),
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff9c4a"),
    ("#007a5a", "#2fc79a"),
    ("#9c4f7f", "#e39cc6"),
    ("#8a6d00", "#f0d34a"),
    ("#7a3db8", "#c29bf0"),
];

/// A file in the making.
pub(super) struct Page<'a> {
    /// By the index of their colour.
    colours: Vec<&'a str>,
    title: &'a str,
    body: String,
    /// Where the next panel begins.
    top: f64,
}

/// The corners of what a panel draws in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl<'a> Page<'a> {
    /// With a title and a legend of `series`. Those that are `known` have the first colours, in their order.
    pub(super) fn new(title: &'a str, series: &[&'a str], known: &[&'a str]) -> Self {
        let others = series.iter().filter(|name| !known.contains(name));
        let colours = known.iter().chain(others).copied().collect();
        let mut page = Self { colours, title, body: String::new(), top: 34.0 };
        page.text(LEFT / 4.0, 24.0, "title", title);
        let mut left = LEFT / 4.0;
        page.top += 14.0;
        for name in series {
            #[expect(clippy::cast_precision_loss, reason = "names are short")]
            let width = 30.0 + LETTER * name.chars().count() as f64;
            if left + width > WIDTH {
                left = LEFT / 4.0;
                page.top += 18.0;
            }
            let class = page.class(name);
            let top = page.top - 10.0;
            page.push(&format!(
                "<rect class=\"{class} bar\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"11\" height=\"11\"/>"
            ));
            page.text(left + 16.0, page.top, "legend", name);
            left += width;
        }
        page.top += 10.0;
        page
    }

    /// Makes room for a panel, and writes its title.
    pub(super) fn panel(&mut self, title: &str) -> Area {
        let top = self.top;
        self.top += PANEL;
        self.text(LEFT / 4.0, top + 16.0, "panel", title);
        Area { left: LEFT, right: WIDTH - RIGHT, top: top + PANEL_TOP, bottom: top + PANEL - PANEL_BOTTOM }
    }

    /// Lines across the area at the marks of its vertical axis, with the values left of them.
    pub(super) fn vertical_axis(&mut self, area: Area, scale: &Scale) {
        for mark in scale.marks() {
            let y = scale.place(mark);
            let class = if mark == 0.0 { "axis" } else { "grid" };
            self.line(class, (area.left, y), (area.right, y));
            self.text(area.left - 6.0, y + 4.0, "mark right", &short(mark));
        }
    }

    /// The class that gives a series its colour.
    pub(super) fn class(&self, series: &str) -> String {
        let index = self.colours.iter().position(|&name| name == series).unwrap_or_default();
        format!("s{}", index % PALETTE.len())
    }

    pub(super) fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = escaped(text);
        self.push(&format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"));
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.push(&format!(
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    /// Elements as they are.
    pub(super) fn push(&mut self, elements: &str) {
        self.body.push_str(elements);
        self.body.push('\n');
    }

    pub(super) fn finish(self) -> String {
        let height = self.top + 6.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>{}</title>\n<style>\n{}</style>\n\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n{}</svg>\n",
            escaped(self.title),
            style(),
            self.body
        )
    }
}

/// For text between tags, and for attributes.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A background of its own: a file that is shown as a picture does not know the colour of the page around it.
fn style() -> String {
    let mut light = String::new();
    let mut dark = String::new();
    for (index, (on_light, on_dark)) in PALETTE.iter().enumerate() {
        // Writing into a string does not fail.
        writeln!(light, ".s{index} {{ fill: {on_light}; stroke: {on_light}; }}").ok();
        writeln!(dark, ".s{index} {{ fill: {on_dark}; stroke: {on_dark}; }}").ok();
    }
    format!(
        "text {{ font: 12px system-ui, sans-serif; fill: #24292f; }}\n\
         .title {{ font-size: 16px; font-weight: 600; }}\n\
         .panel {{ font-weight: 600; }}\n\
         .mark, .value {{ font-size: 11px; fill: #57606a; }}\n\
         .right {{ text-anchor: end; }}\n\
         .middle {{ text-anchor: middle; }}\n\
         .page {{ fill: #ffffff; }}\n\
         .grid {{ stroke: #d8dee4; }}\n\
         .axis {{ stroke: #57606a; }}\n\
         .whisker {{ stroke: #24292f; }}\n\
         .bar {{ stroke: none; }}\n\
         .curve {{ fill: none; stroke-width: 1.6; stroke-linejoin: round; }}\n\
         {light}\
         .s0.bar, .s1.bar, .s2.bar, .s3.bar, .s4.bar, .s5.bar, .s6.bar {{ stroke: none; }}\n\
         .s0.curve, .s1.curve, .s2.curve, .s3.curve, .s4.curve, .s5.curve, .s6.curve {{ fill: none; }}\n\
         @media (prefers-color-scheme: dark) {{\n\
         text {{ fill: #e6edf3; }}\n\
         .mark, .value {{ fill: #9da7b1; }}\n\
         .page {{ fill: #0d1117; }}\n\
         .grid {{ stroke: #30363d; }}\n\
         .axis {{ stroke: #9da7b1; }}\n\
         .whisker {{ stroke: #e6edf3; }}\n\
         {dark}\
         .s0.curve, .s1.curve, .s2.curve, .s3.curve, .s4.curve, .s5.curve, .s6.curve {{ fill: none; }}\n\
         .s0.bar, .s1.bar, .s2.bar, .s3.bar, .s4.bar, .s5.bar, .s6.bar {{ stroke: none; }}\n\
         }}\n"
    )
}
