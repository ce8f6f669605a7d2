//! The leader: can its changes be read, and do they carry what is needed?

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::Finding;
use crate::config::LeaderConfig;
use crate::replica::catalog;
use crate::vocabulary::schema::{Catalog, Column, Table};

/// A table of the publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// As `schema.table`.
    pub name: String,
    /// Whether updates bring the whole old row (`REPLICA IDENTITY FULL`).
    pub old_rows: bool,
}

/// What the other checks need to know of the leader.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) client: Client,
    /// Its tables.
    pub(super) catalog: Catalog,
    /// Those of them, as `schema.table`, whose changes reach the replicas; none when that could not be found out.
    pub(super) captured: Option<HashSet<String>>,
}

pub(super) async fn check(config: &LeaderConfig, findings: &mut Vec<Finding>) -> Option<Leader> {
    match look(config, findings).await {
        Ok(leader) => Some(leader),
        Err(error) => {
            findings.push(Finding::unreachable(
                format!("leader {}: {error:#}", config.url),
                "Start the leader, or correct leader.url.",
            ));
            None
        }
    }
}

async fn look(config: &LeaderConfig, findings: &mut Vec<Finding>) -> anyhow::Result<Leader> {
    let mut url = config.url.config().clone();
    url.application_name("replicator check").connect_timeout(Duration::from_secs(5));
    let (client, connection) = url.connect(NoTls).await?;
    // Ends with the client.
    let _connection = tokio::spawn(connection);
    // As the sessions of the replicas, or types of other schemas would be named differently.
    client.batch_execute("SET search_path = pg_catalog").await?;
    let row = client
        .query_one(
            "SELECT current_setting('wal_level'), current_setting('max_slot_wal_keep_size'),
                    current_setting('server_version')",
            &[],
        )
        .await?;
    let (wal_level, keep, version): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
    findings.push(if wal_level == "logical" {
        Finding::good(format!("leader {}: PostgreSQL {version}, wal_level is logical", config.url))
    } else {
        Finding::error(
            format!("leader: wal_level is {wal_level}, so no change can be decoded"),
            "ALTER SYSTEM SET wal_level = logical;  -- then restart the leader",
        )
    });
    if keep == "-1" {
        findings.push(Finding::warning(
            "leader: a slot that nobody reads keeps WAL without limit (max_slot_wal_keep_size = -1)",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();",
        ));
    }
    let catalog = catalog::load(&client).await?;
    Ok(Leader { client, catalog, captured: None })
}

impl Leader {
    /// Forgets columns, as `schema.table.column`, that the connector leaves out: replicas don't have them either.
    pub(super) fn leave_out(&mut self, columns: &[String]) {
        if columns.is_empty() {
            return;
        }
        let without = |table: &Arc<Table>| {
            let stays = |column: &Column| !columns.contains(&format!("{}.{}", table.full_name, column.name));
            let kept: Vec<Column> = table.columns.iter().filter(|column| stays(column)).cloned().collect();
            let key = table
                .key
                .iter()
                .filter_map(|&i| kept.iter().position(|column| column.name == table.columns[i].name));
            let key = key.collect();
            Table::new(table.name.clone(), kept, key)
        };
        self.catalog = Catalog::new(self.catalog.tables().map(without));
    }

    /// Remembers which tables' changes reach the replicas, and says which don't without being left out on purpose.
    pub(super) async fn capture(
        &mut self,
        captured: HashSet<String>,
        excluded: &[String],
        findings: &mut Vec<Finding>,
    ) -> anyhow::Result<()> {
        let known: Vec<&String> = captured.iter().collect();
        let rows = self.client.query(include_str!("uncaptured.sql"), &[&known, &excluded]).await?;
        if !rows.is_empty() {
            let names: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
            findings.push(Finding::warning(
                format!("leader: no change of {} reaches a replica", names.join(", ")),
                "Add them to the publication, and to the connector's table.include.list; or say that this is meant: source.exclude_tables",
            ));
        }
        self.captured = Some(captured);
        Ok(())
    }

    /// Whether a replica has to have this table.
    pub(super) fn reaches_replicas(&self, table: &str, excluded: &[String]) -> bool {
        match &self.captured {
            Some(captured) => captured.contains(table),
            None => !excluded.iter().any(|name| name == table),
        }
    }

    /// The publication that the connector reads, and the slot that it reads through. Returns the published tables.
    pub(super) async fn check_stream(
        &self,
        publication: &str,
        slot: &str,
        tables: &[String],
        findings: &mut Vec<Finding>,
    ) -> anyhow::Result<Vec<Published>> {
        let published = self.check_publication(publication, tables, findings).await?;
        let row = self
            .client
            .query_opt(
                "SELECT active, coalesce(wal_status, 'unknown') FROM pg_replication_slots WHERE slot_name = $1",
                &[&slot],
            )
            .await?;
        findings.push(match row.as_ref().map(|r| (r.get::<_, bool>(0), r.get::<_, &str>(1))) {
            None => Finding::error(
                format!("leader: there is no slot {slot}"),
                "The connector makes it when it starts: register it, or look at its status.",
            ),
            Some((_, "lost")) => Finding::error(
                format!("leader: slot {slot} was invalidated, changes are lost"),
                format!("SELECT pg_drop_replication_slot('{slot}');  -- then register the connector anew and copy the replicas afresh"),
            ),
            Some((false, _)) => Finding::warning(
                format!("leader: nobody reads slot {slot}, the leader keeps its WAL meanwhile"),
                "Start Kafka Connect, or look at the connector's status.",
            ),
            Some((true, status)) => Finding::good(format!("leader: slot {slot} is being read, WAL {status}")),
        });
        Ok(published)
    }

    pub(super) async fn check_publication(
        &self,
        publication: &str,
        tables: &[String],
        findings: &mut Vec<Finding>,
    ) -> anyhow::Result<Vec<Published>> {
        let row = self
            .client
            .query_opt(
                "SELECT p.pubinsert AND p.pubupdate AND p.pubdelete, p.pubtruncate,
                        ARRAY(SELECT t.schemaname || '.' || t.tablename FROM pg_publication_tables t
                              WHERE t.pubname = p.pubname)::text[]
                 FROM pg_publication p WHERE p.pubname = $1",
                &[&publication],
            )
            .await?;
        let Some(row) = row else {
            findings.push(Finding::error(
                format!("leader: there is no publication {publication}"),
                format!("CREATE PUBLICATION {publication} FOR TABLE {};", tables.join(", ")),
            ));
            return Ok(Vec::new());
        };
        let published: Vec<String> = row.get(2);
        let all_operations = row.get::<_, bool>(0) && row.get::<_, bool>(1);
        if !all_operations {
            findings.push(Finding::error(
                format!("leader: publication {publication} leaves operations out"),
                format!(
                    "ALTER PUBLICATION {publication} SET (publish = 'insert, update, delete, truncate');"
                ),
            ));
        }
        let missing: Vec<_> = tables.iter().filter(|t| !published.contains(t)).cloned().collect();
        if !missing.is_empty() {
            findings.push(Finding::error(
                format!("leader: publication {publication} lacks {}", missing.join(", ")),
                format!("ALTER PUBLICATION {publication} ADD TABLE {};", missing.join(", ")),
            ));
        } else if all_operations {
            findings.push(Finding::good(format!(
                "leader: publication {publication} publishes every operation on {} tables",
                published.len()
            )));
        }
        self.check_identities(&published, findings).await
    }

    /// Without a key in the WAL an update or delete can't be applied anywhere.
    async fn check_identities(
        &self,
        published: &[String],
        findings: &mut Vec<Finding>,
    ) -> anyhow::Result<Vec<Published>> {
        let rows = self
            .client
            .query(
                "SELECT n.nspname || '.' || c.relname, c.relreplident = 'f',
                        c.relreplident = 'n'
                        OR c.relreplident = 'd'
                           AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname || '.' || c.relname = ANY ($1)
                 ORDER BY 1",
                &[&published],
            )
            .await?;
        findings.extend(rows.iter().filter(|row| row.get::<_, bool>(2)).map(|row| {
            let table: &str = row.get(0);
            Finding::error(
                format!("leader: {table} has no key in the WAL, its updates and deletes can't be applied"),
                format!("ALTER TABLE {table} REPLICA IDENTITY FULL;  -- or give it a primary key"),
            )
        }));
        Ok(rows.iter().map(|row| Published { name: row.get(0), old_rows: row.get(1) }).collect())
    }
}
