//! Reports: text and tables for people as Markdown, printed too, and the raw figures as JSON.

use std::fs;

use anyhow::Context;
use serde::Serialize;

use crate::environment::Environment;
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
}

impl Report {
    pub(crate) fn new(scenario: &'static str, environment: Environment) -> Self {
        let paragraphs = vec![format!("# bench: {scenario}\n"), format!("{}\n", environment.text())];
        Self { scenario, environment, paragraphs }
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.paragraphs.push(format!("{text}\n"));
    }

    pub(crate) fn table(&mut self, table: &Table) {
        self.paragraphs.push(table.markdown());
    }

    /// Prints it, and writes `SCENARIO.md` and `SCENARIO.json` into the folder for reports.
    pub(crate) fn finish(self, system: &System, figures: &impl Serialize) -> anyhow::Result<()> {
        let text = self.paragraphs.join("\n");
        println!("\n{text}");
        fs::create_dir_all(&system.reports).context("make the folder for reports")?;
        let file = |extension: &str| system.reports.join(format!("{}.{extension}", self.scenario));
        fs::write(file("md"), text).context("write the report")?;
        let all = serde_json::json!({ "environment": self.environment, "figures": figures });
        fs::write(file("json"), serde_json::to_string_pretty(&all)?).context("write the figures")?;
        println!("written: {} and {}", file("md").display(), file("json").display());
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
