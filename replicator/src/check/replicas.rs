//! The replicas: can they be written, and are their tables the leader's?

use super::Finding;
use super::leader::Leader;
use crate::config::{Config, ReplicaConfig};
use crate::replica::progress;
use crate::replica::session::Session;
use crate::replica::{ReplicaError, catalog};
use crate::vocabulary::schema::{Catalog, Table};

pub(super) async fn check(config: &Config, leader: Option<&Leader>, findings: &mut Vec<Finding>) {
    for replica in &config.replicas {
        if let Err(error) = look(replica, leader, findings).await {
            findings.push(Finding::unreachable(format!("{}: {error}", replica.name), error.hint()));
        }
    }
}

async fn look(
    replica: &ReplicaConfig,
    leader: Option<&Leader>,
    findings: &mut Vec<Finding>,
) -> Result<(), ReplicaError> {
    let name = &replica.name;
    // Opening the session needs the right to silence triggers; its failure says so.
    let session = Session::connect(replica.url.config()).await?;
    let tables = catalog::load(session.client()).await?;
    let progress = progress::read(replica.url.config()).await?;
    let before = findings.len();
    if let Some(leader) = leader {
        compare(name, &leader.catalog, &tables, findings);
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

/// Every table of the leader has to exist with the same columns and types. The replica may have more tables and other
/// indexes.
fn compare(replica: &str, leader: &Catalog, tables: &Catalog, findings: &mut Vec<Finding>) {
    let mut wanted: Vec<_> = leader.tables().collect();
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    for table in wanted {
        match tables.table(&table.name.schema, &table.name.name) {
            None => findings.push(Finding::error(
                format!("{replica}: table {} is missing", table.name),
                format!("Create it as it is on the leader: pg_dump --schema-only --table='{}' …", table.name),
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
            format!("ALTER TABLE {table} ADD PRIMARY KEY ({});", wanted.key_names()),
        ));
    }
}
