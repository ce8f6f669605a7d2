//! Options that let the connector change values or drop events on purpose, which nothing in an event shows.

use std::collections::HashMap;

use super::Finding;
use super::connector::{entries, plain_names};
use crate::config::Config;

/// Transforms that leave an event as it is, and only choose its topic or add headers.
const HARMLESS: &[&str] = &[
    "io.debezium.transforms.ByLogicalTableRouter",
    "org.apache.kafka.connect.transforms.InsertHeader",
    "org.apache.kafka.connect.transforms.RegexRouter",
];

/// What the transforms do that no replica survives, by the class's name without its package.
const HARMFUL: &[(&str, &str)] = &[
    ("EventRouter", "takes the envelope away, in which operation and transaction stand"),
    ("ExtractNewRecordState", "takes the envelope away, in which operation and transaction stand"),
    ("Filter", "drops events"),
    ("UnwrapFromEnvelope", "takes the envelope away, in which operation and transaction stand"),
];

pub(super) fn check(settings: &HashMap<String, String>, config: &Config, findings: &mut Vec<Finding>) {
    check_masks(settings, &config.source.allow_lossy, findings);
    check_transforms(settings, findings);
    let converters: Vec<_> = entries(settings, "converters").collect();
    if !converters.is_empty() {
        findings.push(Finding::warning(
            format!(
                "connector: converters has {}, and what they make of values is not known here",
                converters.join(", ")
            ),
            "Remove it from converters, unless the values of its columns are what the types on the replicas read as the \
             leader's.",
        ));
    }
}

/// Columns whose values are cut or replaced.
fn check_masks(settings: &HashMap<String, String>, allow_lossy: &[String], findings: &mut Vec<Finding>) {
    let mut options: Vec<_> = settings
        .keys()
        .filter(|key| key.starts_with("column.mask.") || key.starts_with("column.truncate."))
        .filter(|key| entries(settings, key).next().is_some())
        .collect();
    options.sort();
    for option in options {
        // The salt of a hash stands in the option's name, and is as secret as what it hides.
        let shown = option.split_once(".with.salt.").map_or(option.as_str(), |(shown, _)| shown);
        let columns = plain_names(settings, option);
        let are_all_names = columns.len() == entries(settings, option).count();
        if are_all_names && columns.iter().all(|column| allow_lossy.contains(column)) {
            findings.push(Finding::good(format!(
                "connector: what {shown} makes of {} is accepted",
                columns.join(", ")
            )));
            continue;
        }
        findings.push(Finding::error(
            format!(
                "connector: {shown} changes values before they are sent, and no event shows it: {}",
                entries(settings, option).collect::<Vec<_>>().join(", ")
            ),
            "Remove it from the connector, or leave the columns out with column.exclude.list and on the replica. To accept it, \
             name each column in full, there and in source.allow_lossy.",
        ));
    }
}

fn check_transforms(settings: &HashMap<String, String>, findings: &mut Vec<Finding>) {
    for name in entries(settings, "transforms") {
        let class = settings.get(&format!("transforms.{name}.type")).map_or("no type", String::as_str);
        // `…$Key` and `…$Value` are one class for either part of a record.
        let (class, _) = class.split_once('$').unwrap_or((class, ""));
        let short = class.rsplit('.').next().unwrap_or(class);
        if let Some((_, harm)) = HARMFUL.iter().find(|(harmful, _)| *harmful == short) {
            findings.push(Finding::error(
                format!("connector: transforms has {name} ({class}), which {harm}"),
                format!(
                    "Remove {name} from transforms. A table is left out with table.exclude.list, or here with source.exclude_tables."
                ),
            ));
        } else if !HARMLESS.contains(&class) {
            findings.push(Finding::warning(
                format!("connector: transforms has {name} ({class}), and what it makes of events is not known here"),
                format!("Remove {name} from transforms, unless it leaves each event's value and each row's event as they are."),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Severity;
    use crate::check::connector::tests::{config, registered};

    /// What the shipped connector with these changes is told.
    fn found(changes: &[(&str, &str)], allow_lossy: &[&str]) -> Vec<Finding> {
        let (mut settings, mut config) = (registered(), config());
        settings.extend(changes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        config.source.allow_lossy = allow_lossy.iter().map(|&name| name.to_owned()).collect();
        let mut findings = Vec::new();
        crate::check::connector::check_settings(&settings, &config, &mut findings);
        findings
    }

    fn severities(findings: &[Finding]) -> Vec<Severity> {
        findings.iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn columns_that_are_masked_or_cut_are_errors_until_each_is_accepted() {
        for option in [
            "column.mask.with.5.chars",
            "column.truncate.to.20.chars",
            "column.mask.hash.SHA-256.with.salt.S3cret",
        ] {
            let listed = [(option, "public\\.users\\.mail, public.users.name")];
            for allow_lossy in [&[][..], &["public.users.mail"]] {
                let findings = found(&listed, allow_lossy);
                assert_eq!(severities(&findings), [Severity::Error], "{findings:?}");
                let (what, fix) = (&findings[0].what, findings[0].fix.as_deref().unwrap());
                let shown = option.trim_end_matches(".with.salt.S3cret");
                assert!(what.contains(shown) && what.contains("public.users.name"), "{what}");
                assert!(fix.contains("Remove it") && fix.contains("source.allow_lossy"), "{fix}");
                assert!(!format!("{findings:?}").contains("S3cret"), "a salt is shown: {findings:?}");
            }
            let findings = found(&listed, &["public.users.mail", "public.users.name"]);
            assert_eq!(severities(&findings), [Severity::Good], "{findings:?}");
            let findings = found(&[(option, "public\\.users\\..*")], &["public.users.mail"]);
            assert_eq!(
                severities(&findings),
                [Severity::Error],
                "whom an expression means is not known: {findings:?}"
            );
            assert_eq!(severities(&found(&[(option, "")], &[])), [Severity::Good]);
        }
    }

    #[test]
    fn transforms_that_drop_or_unwrap_events_are_errors_and_unknown_ones_warnings() {
        for (class, severity) in [
            ("io.debezium.transforms.ExtractNewRecordState", Severity::Error),
            ("io.debezium.transforms.Filter", Severity::Error),
            ("org.apache.kafka.connect.transforms.Filter", Severity::Error),
            ("io.debezium.transforms.outbox.EventRouter", Severity::Error),
            ("org.apache.kafka.connect.transforms.MaskField$Value", Severity::Warning),
            ("com.example.RegexRouter", Severity::Warning),
            ("org.apache.kafka.connect.transforms.RegexRouter", Severity::Good),
            ("io.debezium.transforms.ByLogicalTableRouter", Severity::Good),
        ] {
            let findings = found(
                &[
                    ("transforms", "route, x"),
                    ("transforms.x.type", class),
                    ("transforms.route.type", HARMLESS[0]),
                ],
                &[],
            );
            assert_eq!(severities(&findings), [severity], "{class}: {findings:?}");
            if severity != Severity::Good {
                let (class, _) = class.split_once('$').unwrap_or((class, ""));
                assert!(findings[0].what.contains(&format!("x ({class})")), "{findings:?}");
            }
        }
        assert_eq!(
            severities(&found(&[("transforms", "x")], &[])),
            [Severity::Warning],
            "one without a type"
        );
    }

    #[test]
    fn converters_of_ones_own_are_a_warning_that_names_them() {
        let findings = found(&[("converters", "isbn")], &[]);
        assert_eq!(severities(&findings), [Severity::Warning]);
        assert!(findings[0].what.contains("isbn"), "{findings:?}");
    }

    #[test]
    fn a_connector_that_skips_what_it_can_not_read_is_an_error() {
        for (option, value) in [
            ("errors.tolerance", "all"),
            ("event.processing.failure.handling.mode", "warn"),
            ("event.processing.failure.handling.mode", "skip"),
        ] {
            let findings = found(&[(option, value)], &[]);
            assert_eq!(severities(&findings), [Severity::Error]);
            assert!(
                findings[0].what.contains(option) && findings[0].what.contains("dropped"),
                "{findings:?}"
            );
        }
    }
}
