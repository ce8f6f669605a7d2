//! The replicas: can they be written, and are their tables the leader's?

use std::sync::Arc;

use super::Finding;
use super::broker::Topics;
use super::leader::Leader;
use crate::config::{Config, ReplicaConfig};
use crate::replica::progress::{self, Progress};
use crate::replica::session::Session;
use crate::replica::{ReplicaError, catalog, checkpoint};
use crate::vocabulary::schema::{Catalog, Table};

pub(super) async fn check(
    config: &Config,
    leader: Option<&Leader>,
    topics: Option<&Topics>,
    findings: &mut Vec<Finding>,
) {
    for replica in &config.replicas {
        if let Err(error) = look(config, replica, leader, topics, findings).await {
            let what = format!("{}: {error}", replica.name);
            findings.push(if error.disposition().halts() {
                Finding::error(what, error.hint())
            } else {
                Finding::unreachable(what, error.hint())
            });
        }
    }
}

async fn look(
    config: &Config,
    replica: &ReplicaConfig,
    leader: Option<&Leader>,
    topics: Option<&Topics>,
    findings: &mut Vec<Finding>,
) -> Result<(), ReplicaError> {
    let name = &replica.name;
    // Opening the session needs the right to silence triggers; its failure says so.
    let session = Session::connect(replica.url.config()).await?;
    let tables = catalog::load(session.client()).await?;
    let progress = progress::of(&session).await?;
    let before = findings.len();
    check_progress(name, &progress, findings);
    if let Some(topics) = topics
        && progress.phase == "live"
    {
        let offsets = checkpoint::offsets(&session).await?;
        topics.check_offsets(name, &offsets, findings).await;
    }
    if let Some(leader) = leader {
        let wanted = wanted(leader, &config.source.exclude_tables);
        check_rights(name, &session, &wanted, findings).await?;
        compare(name, &wanted, &tables, findings);
    }
    if findings.len() == before {
        let count = tables.tables().count();
        findings.push(Finding::good(format!(
            "{name}: {} at watermark {}, {count} tables as on the leader",
            progress.phase, progress.watermark
        )));
    }
    Ok(())
}

/// What the replica says against itself.
fn check_progress(name: &str, progress: &Progress, findings: &mut Vec<Finding>) {
    if progress.quarantined > 0 || !progress.diverged.is_empty() {
        findings.push(Finding::error(
            format!(
                "{name}: differs from the leader in {}, {} changes are in its quarantine",
                progress.diverged.join(", "),
                progress.quarantined
            ),
            format!(
                "replicator quarantine list {name}, then retry them; or replicator rebuild {name} --table …"
            ),
        ));
    }
    if let Some(paused) = &progress.paused {
        findings.push(Finding::warning(format!("{name}: {paused}"), format!("replicator resume {name}")));
    }
    if progress.phase != "live" {
        findings.push(Finding::warning(
            format!("{name}: is {}, so nobody should read it yet", progress.phase),
            "Start the replicator, which fills it, or wait until it has.",
        ));
    }
}

/// The role of the replica's url has to write, and better owns, what it applies to.
async fn check_rights(
    name: &str,
    session: &Session,
    wanted: &[&Arc<Table>],
    findings: &mut Vec<Finding>,
) -> Result<(), ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "read the grants", source };
    let (schemas, tables): (Vec<&str>, Vec<&str>) =
        wanted.iter().map(|table| (table.name.schema.as_str(), table.name.name.as_str())).unzip();
    let rows =
        session.client().query(include_str!("rights.sql"), &[&schemas, &tables]).await.map_err(failed)?;
    for row in rows {
        let (table, role, may_write): (&str, &str, bool) = (row.get(0), row.get(1), row.get(2));
        findings.push(if may_write {
            Finding::warning(
                format!("{name}: {role} may write {table}, but can't add the columns that the leader adds"),
                format!("ALTER TABLE {table} OWNER TO {role};"),
            )
        } else {
            Finding::error(
                format!("{name}: {role} may not write {table}"),
                format!("GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON {table} TO {role};"),
            )
        });
    }
    Ok(())
}

/// The tables whose changes come, by name.
fn wanted<'l>(leader: &'l Leader, excluded: &[String]) -> Vec<&'l Arc<Table>> {
    let mut wanted: Vec<_> =
        leader.catalog.tables().filter(|table| leader.reaches_replicas(&table.full_name, excluded)).collect();
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    wanted
}

/// Every table whose changes come has to exist with the leader's columns and types. The replica may have more tables and other
/// indexes.
fn compare(replica: &str, wanted: &[&Arc<Table>], tables: &Catalog, findings: &mut Vec<Finding>) {
    for table in wanted {
        match tables.table(&table.name.schema, &table.name.name) {
            None => findings.push(Finding::error(
                format!("{replica}: table {} is missing", table.name),
                format!(
                    "Create it as it is on the leader: pg_dump --schema-only --table='{0}' …; or leave it out: \
                     source.exclude_tables = [\"{0}\"]",
                    table.name
                ),
            )),
            Some(own) => compare_columns(replica, table, own, findings),
        }
    }
}

fn compare_columns(replica: &str, wanted: &Table, own: &Table, findings: &mut Vec<Finding>) {
    let table = &wanted.name;
    for column in &wanted.columns {
        let (name, type_name) = (&column.name, &column.type_name);
        match own.column(name).map(|i| &own.columns[i]) {
            None => findings.push(Finding::error(
                format!("{replica}: {table} lacks column {name}"),
                format!("ALTER TABLE {table} ADD COLUMN \"{name}\" {type_name};"),
            )),
            Some(other) if other.type_name != *type_name => findings.push(Finding::error(
                format!("{replica}: {table}.{name} is {}, on the leader it is {type_name}", other.type_name),
                format!("ALTER TABLE {table} ALTER COLUMN \"{name}\" TYPE {type_name};"),
            )),
            Some(_) => {}
        }
    }
    let always = own.columns.iter().enumerate().filter(|(i, c)| c.identity_always && !own.key.contains(i));
    for (_, column) in always {
        findings.push(Finding::error(
            format!("{replica}: {table}.{} is GENERATED ALWAYS, so no update can write it", column.name),
            format!("ALTER TABLE {table} ALTER COLUMN \"{}\" SET GENERATED BY DEFAULT;", column.name),
        ));
    }
    for column in own.columns.iter().filter(|c| !c.generated && wanted.column(&c.name).is_none()) {
        findings.push(Finding::error(
            format!("{replica}: {table} has column {}, which the leader lacks", column.name),
            format!("ALTER TABLE {table} DROP COLUMN \"{}\";", column.name),
        ));
    }
    if wanted.key_names() != own.key_names() {
        findings.push(Finding::error(
            format!(
                "{replica}: the key of {table} is ({}), on the leader it is ({})",
                own.key_names(),
                wanted.key_names()
            ),
            if own.has_key() && wanted.identity_index {
                format!(
                    "ALTER TABLE {table} REPLICA IDENTITY USING INDEX …; with a unique index on ({}).",
                    wanted.key_names()
                )
            } else {
                format!("ALTER TABLE {table} ADD PRIMARY KEY ({});", wanted.key_names())
            },
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Severity;

    fn progress() -> Progress {
        Progress {
            phase: "live".to_owned(),
            watermark: "0/10".to_owned(),
            lag_ms: None,
            transactions: 1,
            changes: 1,
            owner: None,
            paused: None,
            quarantined: 0,
            diverged: Vec::new(),
        }
    }

    #[test]
    fn a_replica_that_differs_breaks_the_promise_and_one_that_is_not_ready_is_told() {
        let found = |progress: Progress| {
            let mut findings = Vec::new();
            check_progress("replica-1", &progress, &mut findings);
            findings.into_iter().map(|finding| (finding.severity, finding.what)).collect::<Vec<_>>()
        };
        assert_eq!(found(progress()), []);
        let [(severity, what)] =
            &found(Progress { quarantined: 2, diverged: vec!["public.t".to_owned()], ..progress() })[..]
        else {
            panic!("one finding")
        };
        assert_eq!(*severity, Severity::Error);
        assert!(what.contains("public.t") && what.contains('2'), "{what}");
        // What was skipped leaves the quarantine, and the table different.
        assert_eq!(
            found(Progress { diverged: vec!["public.t".to_owned()], ..progress() })[0].0,
            Severity::Error
        );
        for unready in [
            Progress { phase: "copying".to_owned(), ..progress() },
            Progress { paused: Some("paused by ops".to_owned()), ..progress() },
        ] {
            assert_eq!(found(unready)[0].0, Severity::Warning);
        }
    }
}
