//! Plots as SVG text: pure, by hand, and readable on light and on dark pages.
//!
//! A [`Figure`] is one file: panels below each other that share a legend. Colours are those of Okabe and Ito, which people
//! with any colour vision tell apart; a file carries both palettes and lets the viewer's preference choose.

mod bars;
mod lines;
mod page;
mod scale;

pub(crate) use bars::{Bar, Bars, Group};
pub(crate) use lines::{Line, Lines};

use page::Page;

/// One SVG file.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// What it shows, in a line.
    pub(crate) title: String,
    /// Series that have the same colour in every figure; others take the colours that follow.
    pub(crate) known: &'static [&'static str],
    pub(crate) panels: Vec<Panel>,
}

/// One plot with axes of its own.
#[derive(Debug, Clone)]
pub(crate) enum Panel {
    Bars(Bars),
    Lines(Lines),
}

impl Figure {
    /// The file's text; `None` when no panel has anything to show.
    pub(crate) fn svg(&self) -> Option<String> {
        let mut series: Vec<&str> = Vec::new();
        for name in self.panels.iter().flat_map(Panel::series) {
            if !series.contains(&name) {
                series.push(name);
            }
        }
        if series.is_empty() {
            return None;
        }
        let mut page = Page::new(&self.title, &series, self.known);
        for panel in &self.panels {
            match panel {
                Panel::Bars(bars) => bars.draw(&mut page),
                Panel::Lines(lines) => lines.draw(&mut page),
            }
        }
        Some(page.finish())
    }
}

impl Panel {
    /// The names of what is compared, in the order of their first appearance.
    fn series(&self) -> Vec<&str> {
        match self {
            Self::Bars(bars) => {
                bars.groups.iter().flat_map(|group| &group.bars).map(|bar| bar.series.as_str()).collect()
            }
            Self::Lines(lines) => lines
                .lines
                .iter()
                .filter(|line| !line.points.is_empty())
                .map(|line| line.series.as_str())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Spread;

    fn bars(values: &[(&str, &str, f64)]) -> Panel {
        let groups = values.iter().map(|&(label, series, median)| Group {
            label: label.to_owned(),
            bars: vec![Bar {
                series: series.to_owned(),
                value: Spread { median, min: median / 2.0, max: median * 2.0 },
            }],
        });
        Panel::Bars(Bars { title: "wall".to_owned(), unit: "s".to_owned(), groups: groups.collect() })
    }

    #[test]
    fn a_figure_without_values_is_no_file() {
        let empty =
            Panel::Lines(Lines { title: String::new(), x: String::new(), y: String::new(), lines: vec![] });
        assert_eq!(
            Figure { title: "none".to_owned(), known: &[], panels: vec![empty, bars(&[])] }.svg(),
            None
        );
    }

    #[test]
    fn each_series_has_one_colour_and_one_entry_in_the_legend() {
        let panels =
            vec![bars(&[("insert", "native", 4.0), ("insert", "a<b", 2.0)]), bars(&[("x", "a<b", 1.0)])];
        let svg = Figure { title: "bulk & more".to_owned(), known: &[], panels }.svg().unwrap();
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
        assert!(svg.ends_with("</svg>\n"));
        assert!(svg.contains("bulk &amp; more"));
        // Twice as a bar, once in the legend.
        assert_eq!(svg.matches("class=\"s1 ").count(), 3, "{svg}");
        assert_eq!(svg.matches(">a&lt;b</text>").count(), 1, "{svg}");
        assert!(svg.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn known_series_keep_their_colour() {
        let known: &[&str] = &["native", "direct"];
        let panels = vec![bars(&[("a", "other", 1.0), ("b", "direct", 1.0)])];
        let svg = Figure { title: "t".to_owned(), known, panels }.svg().unwrap();
        assert!(svg.contains("b, direct: 1.000 (0.500 to 2.000)</title><rect class=\"s1 "), "{svg}");
        assert!(svg.contains("a, other: 1.000 (0.500 to 2.000)</title><rect class=\"s2 "), "{svg}");
    }

    #[test]
    fn every_element_is_closed() {
        let line = Line { series: "native".to_owned(), points: vec![(0.0, 1.0), (1.0, 3.0)] };
        let lines =
            Lines { title: "lag".to_owned(), x: "seconds".to_owned(), y: "ms".to_owned(), lines: vec![line] };
        let panels = vec![Panel::Lines(lines), bars(&[("a", "native", 1.0)])];
        let svg = Figure { title: "t".to_owned(), known: &[], panels }.svg().unwrap();
        for name in ["svg", "g", "text", "style", "title"] {
            let opened =
                svg.matches(&format!("<{name}>")).count() + svg.matches(&format!("<{name} ")).count();
            assert_eq!(opened, svg.matches(&format!("</{name}>")).count(), "{name}: {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
