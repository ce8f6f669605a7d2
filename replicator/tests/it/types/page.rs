//! `docs/types.md`: what the test found, as a page for readers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::ensure;
use e2e::types::{BASE, MODES, Path};

use super::{Fate, Outcome, families};

/// Set to `write`, the page is written instead of compared.
const VARIABLE: &str = "TYPES_PAGE";

/// Compares the page with what was found.
pub(super) fn check(outcomes: &[Outcome]) -> anyhow::Result<()> {
    let path = e2e::repository().join("docs/types.md");
    let page = page(outcomes)?;
    if std::env::var(VARIABLE).is_ok_and(|value| value == "write") {
        std::fs::write(path, page)?;
        return Ok(());
    }
    let committed = std::fs::read_to_string(path)?;
    let lines = committed.lines().zip(page.lines()).enumerate();
    let first = lines.into_iter().find(|(_, (old, new))| old != new);
    ensure!(
        committed == page,
        "docs/types.md says otherwise, first {first:?}. If that is right: {VARIABLE}=write cargo test -p replicator --test it types"
    );
    Ok(())
}

const INTRODUCTION: &str = "\
# Types: what arrives, by handling mode and path

Written by the test `replicator/tests/it/types.rs`, which fails when this page says otherwise
(`TYPES_PAGE=write cargo test -p replicator --test it types` writes it anew). Events of the real connector (Debezium 3.7.0.Final, PostgreSQL 15)
are replayed into a real replica, and `column::text` is compared with the leader's, byte for byte. The values are in
`e2e/src/types/families.rs`; `cargo run -p e2e --example capture` captures them again.

A value of which the event shows that it was lost is **refused**: the replica halts at its event and names table, column and way out. What an
event does not carry is not written, as NULL neither. `replicator check` names the columns beforehand. Whoever lists a column in
`source.allow_lossy` accepts the loss: of a value that has lost a part, the rest is written; one that can't be had is left out (a new row gets the
column's default, an update leaves the column as it is); everything else is applied. That is how the test ran.

A few values arrive as others, or as NULL, and nothing in the event tells: this page calls them *another*. They are written as they come, so
`check` is all that stands before them. Where a setting of the connector keeps them, the column is an error, and `check` fails: `NaN` of a
`numeric(p,s)` under `decimal.handling.mode=precise` (NULL arrives; no value here is one), and 24:00 under `time.precision.mode` `isostring` (00:00) and
`structured` (NULL). Where none does, it is a warning.

Any array may hold nothing but NULLs, or have several dimensions, whatever its column declares: Debezium sends the second as an array of NULLs or of
Java's names for objects, so both are refused, and `check` warns of each column of arrays (the matrix has `int4[][]`; no value of the other arrays is
such a one). Lower bounds other than 1 are lost.

";

const LEGEND: &str = "\
## Matrix

✓ every value is the leader's, ✗ every value is refused, ~ some are refused, ! some arrive as another. One sign speaks for all five paths, five
for one each: snapshot, insert, update, update to NULL, unchanged (an update of another column). Which values they are stands below.
";

fn page(outcomes: &[Outcome]) -> anyhow::Result<String> {
    let mut page = String::from(INTRODUCTION);
    modes(&mut page, outcomes)?;
    page.push_str(LEGEND);
    for family in families() {
        let numbers: Vec<_> = (1..=MODES.len()).map(|n| n.to_string()).collect();
        writeln!(page, "\n### {}\n\n| type | {} |", heading(family.name), numbers.join(" | "))?;
        writeln!(page, "|---|{}", "---|".repeat(MODES.len()))?;
        for column in family.columns {
            let cells: Vec<_> = (0..MODES.len())
                .map(|mode| {
                    let of_cell =
                        |o: &&Outcome| (o.mode, o.family, o.column) == (mode, family.name, column.sql_type);
                    cell(&outcomes.iter().filter(of_cell).collect::<Vec<_>>())
                })
                .collect();
            writeln!(page, "| {} | {} |", code(column.sql_type), cells.join(" | "))?;
        }
    }
    losses(&mut page, outcomes)?;
    Ok(page)
}

fn heading(family: &str) -> String {
    match family {
        "large" => "large values, stored out of line".to_owned(),
        "large full" => "large values under REPLICA IDENTITY FULL".to_owned(),
        other => other.to_owned(),
    }
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|").replace('\n', "⏎").replace('\t', "⇥"))
}

/// The modes with their settings and the numbers of values.
fn modes(page: &mut String, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let base: Vec<_> = BASE
        .iter()
        .filter(|(key, _)| {
            key.contains(".handling.mode") || key.contains("precision") || key.contains("unknown")
        })
        .map(|(key, value)| format!("`{key}={value}`"))
        .collect();
    writeln!(page, "## Modes\n\n1 is what `debezium/register-postgres.json` sets: {}.\n", base.join(", "))?;
    page.push_str("| | mode | what differs from 1 | values | equal | refused | another |\n|---|---|---|---|---|---|---|\n");
    for (number, mode) in MODES.iter().enumerate() {
        let settings: Vec<_> = mode.settings.iter().map(|(key, value)| format!("`{key}={value}`")).collect();
        let of_mode: Vec<_> = outcomes.iter().filter(|o| o.mode == number).collect();
        let count = |is: fn(&Fate) -> bool| of_mode.iter().filter(|o| is(&o.fate)).count();
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} |",
            number + 1,
            mode.name,
            settings.join(", "),
            of_mode.len(),
            count(|fate| *fate == Fate::Equal),
            count(|fate| matches!(fate, Fate::Refused(_))),
            count(|fate| matches!(fate, Fate::Different(_))),
        )?;
    }
    page.push('\n');
    Ok(())
}

/// One type in one mode.
fn cell(outcomes: &[&Outcome]) -> String {
    let marks = Path::ALL.map(|path| mark(&outcomes.iter().filter(|o| o.path == path).collect::<Vec<_>>()));
    match marks.iter().find(|mark| **mark != marks[0]) {
        None => marks[0].to_string(),
        Some(_) => marks.iter().collect(),
    }
}

/// One type in one mode on one path.
fn mark(outcomes: &[&&Outcome]) -> char {
    let refused = |o: &&&&Outcome| matches!(o.fate, Fate::Refused(_));
    if outcomes.iter().any(|o| matches!(o.fate, Fate::Different(_))) {
        return '!';
    }
    if outcomes.iter().all(|o| o.fate == Fate::Equal) {
        return '✓';
    }
    // A type that loses every value may still carry NULL; of a path that ends with NULL, that is all there is.
    let values = outcomes.iter().filter(|o| o.value.is_some()).count();
    let of_interest = outcomes.iter().filter(|o| o.value.is_some() || values == 0);
    if of_interest.clone().filter(refused).count() == of_interest.count() { '✗' } else { '~' }
}

/// What became of a value, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Loss<'a> {
    family: usize,
    column: &'a str,
    result: &'static str,
    why: &'a str,
}

/// Values with their paths, in the order of the capture.
type Values = BTreeSet<(usize, Path, String)>;

/// Each loss with its values, paths and modes.
fn losses(page: &mut String, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let names: Vec<_> = families().map(|family| family.name).collect();
    // By mode first: modes that lose the same share a line.
    let mut found: BTreeMap<Loss<'_>, BTreeMap<usize, Values>> = BTreeMap::new();
    for (position, outcome) in outcomes.iter().enumerate() {
        let (result, why, value) = match &outcome.fate {
            Fate::Equal => continue,
            Fate::Refused(reason) => ("refused", reason.as_str(), text(outcome.value.as_deref())),
            Fate::Different(what) => {
                let arrow =
                    format!("{} → {}", text(outcome.value.as_deref()), text(outcome.found.as_deref()));
                ("another", *what, arrow)
            }
        };
        let family = names.iter().position(|name| *name == outcome.family).unwrap_or_default();
        let loss = Loss { family, column: outcome.column, result, why };
        // The values' order is the capture's, whatever the mode.
        let order = position % (outcomes.len() / MODES.len());
        found.entry(loss).or_default().entry(outcome.mode).or_default().insert((order, outcome.path, value));
    }
    for (number, name) in names.iter().enumerate() {
        let of_family: Vec<_> = found.iter().filter(|(loss, _)| loss.family == number).collect();
        if of_family.is_empty() {
            continue;
        }
        writeln!(page, "\n## Lost: {}\n", heading(name))?;
        page.push_str("| type | result | why | values | paths | modes |\n|---|---|---|---|---|---|\n");
        for (loss, by_mode) in of_family {
            let mut rows: BTreeMap<&Values, Vec<String>> = BTreeMap::new();
            for (mode, values) in by_mode {
                rows.entry(values).or_default().push((mode + 1).to_string());
            }
            for (values, modes) in rows {
                let paths: BTreeSet<Path> = values.iter().map(|(_, path, _)| *path).collect();
                let paths: Vec<_> = paths.into_iter().map(Path::name).collect();
                writeln!(
                    page,
                    "| {} | {} | {} | {} | {} | {} |",
                    code(loss.column),
                    loss.result,
                    loss.why,
                    listed(values),
                    if paths.len() == Path::ALL.len() { "all".to_owned() } else { paths.join(", ") },
                    if modes.len() == MODES.len() { "all".to_owned() } else { modes.join(", ") },
                )?;
            }
        }
    }
    Ok(())
}

fn text(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".to_owned(), code)
}

/// The values, each once, and not more than a reader wants.
fn listed(values: &Values) -> String {
    const MOST: usize = 6;
    let mut shown: Vec<&str> = Vec::new();
    for (_, _, value) in values {
        if !shown.contains(&value.as_str()) {
            shown.push(value);
        }
    }
    let more = shown.len().saturating_sub(MOST);
    shown.truncate(MOST);
    let listed = shown.join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}
