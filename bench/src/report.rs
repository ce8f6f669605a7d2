//! Reports: a table for people, the same as Markdown and the raw figures as JSON in files.

use std::fs;

use anyhow::Context;
use serde::Serialize;

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

/// Writes `NAME.md` and `NAME.json` into the folder for reports.
pub(crate) fn write(
    system: &System,
    name: &str,
    figures: &impl Serialize,
    table: &Table,
) -> anyhow::Result<()> {
    fs::create_dir_all(&system.reports).context("make the folder for reports")?;
    let file = |extension: &str| system.reports.join(format!("{name}.{extension}"));
    fs::write(file("md"), table.markdown()).context("write the report")?;
    fs::write(file("json"), serde_json::to_string_pretty(figures)?).context("write the figures")?;
    println!("written: {} and {}", file("md").display(), file("json").display());
    Ok(())
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
