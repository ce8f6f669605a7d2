//! Reports: text, tables and plots for people as Markdown, printed too, and the raw figures as JSON.

use std::fs;

use anyhow::Context;
use serde::Serialize;

use crate::environment::Environment;
use crate::plot::Figure;
use crate::system::System;

/// Rows of text under a heading.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Columns are as wide as their widest cell, so that it can be read as it is.
    pub(crate) fn markdown(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..columns).map(width).collect();
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
        };
        let rule: Vec<_> = widths.iter().map(|&width| "-".repeat(width)).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            text.push_str(&line(row));
            if index == 0 {
                text.push_str(&line(&rule));
            }
        }
        text
    }
}

/// One scenario's report.
#[derive(Debug)]
pub(crate) struct Report {
    scenario: &'static str,
    environment: Environment,
    paragraphs: Vec<String>,
    /// Name and text of each plot's file.
    plots: Vec<(String, String)>,
}

impl Report {
    pub(crate) fn new(scenario: &'static str, environment: Environment) -> Self {
        let paragraphs = vec![format!("# bench: {scenario}\n"), format!("{}\n", environment.text())];
        Self { scenario, environment, paragraphs, plots: Vec::new() }
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.paragraphs.push(format!("{text}\n"));
    }

    pub(crate) fn table(&mut self, table: &Table) {
        self.paragraphs.push(table.markdown());
    }

    /// Shows a figure, in a file beside the report. Nothing when it has no values.
    pub(crate) fn plot(&mut self, figure: &Figure) {
        let Some(svg) = figure.svg() else { return };
        let number = self.plots.len() + 1;
        let name = match number {
            1 => format!("{}.svg", self.scenario),
            _ => format!("{}-{number}.svg", self.scenario),
        };
        self.paragraphs.push(format!("![{}]({name})\n", figure.title));
        self.plots.push((name, svg));
    }

    /// Prints it, and writes `SCENARIO.md`, `SCENARIO.json` and the plots into the folder for reports.
    pub(crate) fn finish(self, system: &System, figures: &impl Serialize) -> anyhow::Result<()> {
        let text = self.paragraphs.join("\n");
        println!("\n{text}");
        let folder = &system.reports;
        fs::create_dir_all(folder).context("make the folder for reports")?;
        let file = |extension: &str| folder.join(format!("{}.{extension}", self.scenario));
        fs::write(file("md"), text).context("write the report")?;
        let all = serde_json::json!({ "environment": self.environment, "figures": figures });
        fs::write(file("json"), serde_json::to_string_pretty(&all)? + "\n").context("write the figures")?;
        for (name, svg) in &self.plots {
            fs::write(folder.join(name), svg).context("write a plot")?;
        }
        println!(
            "written: {}, {} and {} plots",
            file("md").display(),
            file("json").display(),
            self.plots.len()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["a", "long"]);
        table.row(vec!["value".to_owned(), "1".to_owned()]);
        assert_eq!(table.markdown(), "| a     | long |\n| ----- | ---- |\n| value | 1    |\n");
    }
}
