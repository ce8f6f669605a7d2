//! Values: do the connector's settings carry every column whole, and are they what `source.modes` says?

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::Finding;
use super::leader::Published;
use crate::config::Config;
use crate::decode::debezium::{
    DecimalMode, Extent, IntervalMode, LossyColumn, Modes, TimeMode, lossy_columns,
};
use crate::vocabulary::schema::Catalog;

/// The connector's name of each of `source.modes`, and whether an embedded schema tells it, too.
const MODES: &[(&str, &str, bool)] = &[
    ("decimal", "decimal.handling.mode", true),
    ("time_precision", "time.precision.mode", true),
    ("binary", "binary.handling.mode", false),
    ("interval", "interval.handling.mode", true),
    ("unknown_types", "include.unknown.datatypes", false),
];

/// Compares the connector's handling modes with `source.modes`, and refuses those that lose information whatever the
/// columns. Returns them; none when one is unknown.
pub(super) fn check_modes(
    settings: &HashMap<String, String>,
    config: &Config,
    findings: &mut Vec<Finding>,
) -> Option<Modes> {
    let modes = match Modes::of_connector(|key| settings.get(key).map(String::as_str)) {
        Ok(modes) => modes,
        Err(key) => {
            let value = settings.get(key).map(String::as_str).unwrap_or_default();
            findings.push(Finding::error(
                format!("connector: {key} is \"{value}\", which this version does not know"),
                "Set it to a value that docs/types.md lists.",
            ));
            return None;
        }
    };
    let mut refuse = |what: &str, fix: &str| findings.push(Finding::error(what, fix));
    if modes.decimal == DecimalMode::Double {
        refuse("connector: decimal.handling.mode is double: numbers are rounded", DECIMAL);
    }
    let lost = match modes.time_precision {
        TimeMode::Connect => Some("is connect: microseconds are cut off"),
        TimeMode::Nanoseconds => {
            Some("is nanoseconds: timestamps outside the years 1677 to 2262 arrive as NULL")
        }
        _ => None,
    };
    if let Some(lost) = lost {
        refuse(&format!("connector: time.precision.mode {lost}"), TIME);
    }
    // Structured intervals are structures, whatever the other setting says.
    if modes.interval == IntervalMode::Numeric && modes.time_precision != TimeMode::Structured {
        refuse("connector: interval.handling.mode is numeric: months become 30.4375 days", INTERVAL);
    }
    compare(settings, modes, config, findings);
    Some(modes)
}

const DECIMAL: &str = r#""decimal.handling.mode": "string""#;
const TIME: &str = r#""time.precision.mode": "microseconds""#;
const INTERVAL: &str = r#""interval.handling.mode": "string""#;

fn compare(settings: &HashMap<String, String>, theirs: Modes, config: &Config, findings: &mut Vec<Finding>) {
    // The converter's own default is true.
    let schemas = settings.get("value.converter.schemas.enable").is_none_or(|value| value != "false");
    let value = |modes: Modes, key: &str| {
        serde_json::to_value(modes)
            .ok()
            .and_then(|modes| modes.get(key).and_then(Value::as_str).map(str::to_owned))
    };
    for (key, setting, told_by_schema) in MODES {
        let (ours, theirs) = (value(config.source.modes, key), value(theirs, key));
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != theirs
            && !(schemas && *told_by_schema)
        {
            findings.push(Finding::error(
                format!(
                    "connector: {setting} means source.modes.{key} = \"{theirs}\", and here it is \"{ours}\""
                ),
                format!("Set source.modes.{key} = \"{theirs}\"."),
            ));
        }
    }
}

/// Names every captured column that the wire does not carry whole. What would halt a replica, or be lost in silence only
/// because of a setting, is an error unless `allow_lossy` accepts it. What is lost of a few values whatever the settings
/// is a warning.
pub(super) fn check_columns(
    catalog: &Catalog,
    modes: Modes,
    captured: &[Published],
    allow_lossy: &[String],
    findings: &mut Vec<Finding>,
) {
    let before = findings.len();
    let full_name = |lossy: &LossyColumn| format!("{}.{}", lossy.table, lossy.column);
    let matters = |lossy: &LossyColumn| {
        let table = captured.iter().find(|table| table.name == lossy.table.to_string());
        table.is_some_and(|table| lossy.extent != Extent::Unchanged || !table.old_rows)
    };
    let lossy: Vec<_> = lossy_columns(catalog, modes).into_iter().filter(matters).collect();
    let mut accepted: Vec<String> = Vec::new();
    let mut groups: BTreeMap<(Extent, &str, &str), Vec<String>> = BTreeMap::new();
    for column in &lossy {
        let name = full_name(column);
        if allow_lossy.contains(&name) {
            if !accepted.contains(&name) {
                accepted.push(name);
            }
        } else {
            groups.entry((column.extent, column.what, &column.way_out)).or_default().push(name);
        }
    }
    for ((extent, what, way_out), columns) in groups {
        let finding = match extent {
            Extent::Every | Extent::Unchanged | Extent::Null | Extent::Avoidable => Finding::error,
            Extent::Rare => Finding::warning,
        };
        findings.push(finding(
            format!("values: {what}: {}", columns.join(", ")),
            format!("{way_out} To accept it: source.allow_lossy = {}", Value::from(columns)),
        ));
    }
    let is_known = |name: &String| {
        catalog
            .tables()
            .any(|table| table.columns.iter().any(|c| format!("{}.{}", table.full_name, c.name) == *name))
    };
    for name in allow_lossy.iter().filter(|name| !is_known(name)) {
        findings.push(Finding::warning(
            format!("values: source.allow_lossy names {name}, and the leader has no such column"),
            "Correct it, as schema.table.column without quotes, or remove it.",
        ));
    }
    if !accepted.is_empty() {
        findings.push(Finding::good(format!("values: what is lost of {} is accepted", accepted.join(", "))));
    } else if findings.len() == before {
        findings.push(Finding::good(format!(
            "values: every column of {} captured tables arrives whole",
            captured.len()
        )));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Severity;
    use crate::check::connector::tests::{config, registered};
    use crate::vocabulary::schema::{ArrayKind, Column, ColumnKind, Table, TableName};

    fn errors_with(changes: &[(&str, &str)]) -> Vec<String> {
        let mut settings = registered();
        settings.extend(changes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let mut findings = Vec::new();
        check_modes(&settings, &config(), &mut findings);
        findings.into_iter().map(|f| format!("{} | {}", f.what, f.fix.unwrap_or_default())).collect()
    }

    #[test]
    fn the_shipped_modes_are_those_that_are_read_by_default() {
        assert_eq!(errors_with(&[]), [""; 0]);
    }

    #[test]
    fn lossy_settings_are_refused_with_the_setting_that_mends_them() {
        for (key, value, what, fix) in [
            ("decimal.handling.mode", "double", "rounded", DECIMAL),
            ("time.precision.mode", "connect", "cut off", TIME),
            ("interval.handling.mode", "numeric", "30.4375", INTERVAL),
        ] {
            let errors = errors_with(&[(key, value), ("value.converter.schemas.enable", "true")]);
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(errors[0].contains(what) && errors[0].ends_with(fix), "{errors:?}");
        }
    }

    #[test]
    fn modes_have_to_agree_where_no_schema_tells_them() {
        let changes = [("time.precision.mode", "isostring"), ("binary.handling.mode", "base64-url-safe")];
        let errors = errors_with(&changes);
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].ends_with("Set source.modes.time_precision = \"isostring\"."), "{errors:?}");
        assert!(errors[1].ends_with("Set source.modes.binary = \"base64-url-safe\"."), "{errors:?}");
        let errors = errors_with(&[changes[0], changes[1], ("value.converter.schemas.enable", "true")]);
        assert_eq!(errors.len(), 1, "a schema does not tell in what way bytes are a string: {errors:?}");
        assert_eq!(errors_with(&[("time.precision.mode", "fortnights")]).len(), 1);
    }

    fn findings(old_rows: bool, allow_lossy: &[&str]) -> Vec<Finding> {
        let column = |name, kind| Column::of_type(name, name, kind);
        let flags = ArrayKind { element: ColumnKind::Boolean, has_placeholder: false };
        let columns = vec![
            column("id", ColumnKind::Integer),
            column("opens", ColumnKind::TimeTz),
            column("closes", ColumnKind::TimeTz),
            column("flags", ColumnKind::Array(Box::new(flags))),
        ];
        let table = |name: &str| Table::new(TableName::new("public", name), columns.clone(), vec![0]);
        let catalog = Catalog::new([table("shops"), table("elsewhere")]);
        let captured = [Published { name: "public.shops".to_owned(), old_rows }];
        let allow_lossy: Vec<_> = allow_lossy.iter().map(|&name| name.to_owned()).collect();
        let mut findings = Vec::new();
        check_columns(&catalog, Modes::default(), &captured, &allow_lossy, &mut findings);
        findings
    }

    /// The findings about a table that has one column beside its key.
    fn about(kind: ColumnKind, changes: &[(&str, &str)], allow_lossy: &[&str]) -> Vec<Finding> {
        let mut settings = registered();
        settings.extend(changes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let modes = Modes::of_connector(|key| settings.get(key).map(String::as_str)).unwrap();
        let columns =
            vec![Column::of_type("id", "int4", ColumnKind::Integer), Column::of_type("c", "c", kind)];
        let catalog = Catalog::new([Table::new(TableName::new("public", "t"), columns, vec![0])]);
        let captured = [Published { name: "public.t".to_owned(), old_rows: false }];
        let allow_lossy: Vec<_> = allow_lossy.iter().map(|&name| name.to_owned()).collect();
        let mut findings = Vec::new();
        check_columns(&catalog, modes, &captured, &allow_lossy, &mut findings);
        findings
    }

    /// NaN that became NULL and 24:00 that became 00:00 look like data in the event: nothing stops at them later.
    #[test]
    fn what_a_setting_alone_loses_in_silence_is_an_error_that_names_the_setting() {
        let (precise, isostring, structured) = (
            ("decimal.handling.mode", "precise"),
            ("time.precision.mode", "isostring"),
            ("time.precision.mode", "structured"),
        );
        for (kind, setting, what, fix) in [
            (
                ColumnKind::Numeric(Some(2)),
                precise,
                "NaN as NULL: public.t.c",
                "Set decimal.handling.mode=string ",
            ),
            (
                ColumnKind::Time(6),
                isostring,
                "24:00 into 00:00: public.t.c",
                "Set time.precision.mode=microseconds ",
            ),
            (
                ColumnKind::Time(0),
                structured,
                "24:00 as NULL: public.t.c",
                "Set time.precision.mode=microseconds ",
            ),
        ] {
            let found = about(kind.clone(), &[setting], &[]);
            assert_eq!(found.iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::Error], "{found:?}");
            let way_out = found[0].fix.as_deref().unwrap();
            assert!(found[0].what.ends_with(what) && way_out.starts_with(fix), "{found:?}");
            assert!(way_out.ends_with(r#"source.allow_lossy = ["public.t.c"]"#), "{way_out}");
            for found in [about(kind.clone(), &[setting], &["public.t.c"]), about(kind, &[], &[])] {
                assert_eq!(
                    found.iter().map(|f| f.severity).collect::<Vec<_>>(),
                    [Severity::Good],
                    "{found:?}"
                );
            }
        }
    }

    /// The shipped connector loses something of these, too: no setting mends it, so it must not stand in the way.
    #[test]
    fn what_is_lost_whatever_the_settings_is_a_warning() {
        for kind in [ColumnKind::Date, ColumnKind::Timestamp(6)] {
            let found = about(kind, &[], &[]);
            assert_eq!(
                found.iter().map(|f| f.severity).collect::<Vec<_>>(),
                [Severity::Warning],
                "{found:?}"
            );
        }
    }

    #[test]
    fn lost_columns_are_errors_until_they_are_accepted_and_rare_losses_are_warnings() {
        let found = findings(false, &[]);
        let severities: Vec<_> = found.iter().map(|f| f.severity).collect();
        let [error, warning] = [Severity::Error, Severity::Warning];
        assert_eq!(severities, [error, error, warning, warning], "{found:?}");
        assert!(found[0].what.ends_with("public.shops.opens, public.shops.closes"), "{found:?}");
        let fix = found[0].fix.as_deref().unwrap();
        assert!(
            fix.ends_with(r#"source.allow_lossy = ["public.shops.opens","public.shops.closes"]"#),
            "{fix}"
        );
        assert!(found[1].fix.as_deref().unwrap().contains("REPLICA IDENTITY FULL"), "{found:?}");

        let names = ["public.shops.opens", "public.shops.closes", "public.shops.flags", "public.shop.flags"];
        let found = findings(false, &names);
        let severities: Vec<_> = found.iter().map(|f| f.severity).collect();
        assert_eq!(severities, [Severity::Warning, Severity::Good], "{found:?}");
        assert!(found[0].what.contains("public.shop.flags"), "the name that is none: {found:?}");
    }

    #[test]
    fn whole_old_rows_tell_unchanged_values_from_null() {
        let found = findings(true, &["public.shops.opens", "public.shops.closes"]);
        let severities: Vec<_> = found.iter().map(|f| f.severity).collect();
        assert_eq!(severities, [Severity::Warning, Severity::Warning, Severity::Good], "{found:?}");
        for loss in ["lower bounds", "several dimensions"] {
            let named = |f: &&Finding| f.what.contains(loss) && f.what.ends_with(": public.shops.flags");
            assert_eq!(found.iter().filter(named).count(), 1, "{loss}: {found:?}");
        }
    }
}
