//! What `docs/types.md` promises: the types that arrive whole.

use std::fs;

use anyhow::{Context, ensure};

use super::{Column, Family};

/// The families with those of their columns of which `docs/types.md` says that every value arrives on every path, with the
/// connector as it is shipped.
///
/// # Errors
/// When the page can't be read, or promises nothing.
pub fn promised(families: &[Family]) -> anyhow::Result<Vec<Family>> {
    let path = crate::repository().join("docs/types.md");
    let page = fs::read_to_string(path).context("read docs/types.md")?;
    // Leaked, as a family's columns live as long as the program.
    let family = |family: &Family| Family { columns: of_family(&page, family).leak(), ..*family };
    let promised: Vec<_> = families.iter().map(family).filter(|family| !family.columns.is_empty()).collect();
    let columns: usize = promised.iter().map(|family| family.columns.len()).sum();
    ensure!(columns > 50, "docs/types.md promises {columns} types");
    Ok(promised)
}

fn of_family(page: &str, family: &Family) -> Vec<Column> {
    let heading = format!("### {}", family.name);
    let section = page.lines().skip_while(|line| *line != heading).skip(1);
    let lines: Vec<_> = section.take_while(|line| !line.starts_with('#')).collect();
    let is_promised = |column: &&Column| {
        let row = format!("| `{}` | ✓ |", column.sql_type);
        lines.iter().any(|line| line.starts_with(&row))
    };
    family.columns.iter().filter(is_promised).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_tick_of_the_first_mode_in_the_family_itself_is_a_promise() {
        const COLUMN: Column = Column { sql_type: "bool", values: &[] };
        let family = Family { name: "b", columns: &[COLUMN] };
        let page = |b: &str| format!("### a\n| `bool` | ✓ | ✓ |\n### b\n| `bool` | {b} | ✓ |\n");
        assert_eq!(of_family(&page("✓"), &family).len(), 1);
        assert_eq!(of_family(&page("✗"), &family).len(), 0);
        assert_eq!(of_family(&page("✓✓~✗✓"), &family).len(), 0);
    }
}
