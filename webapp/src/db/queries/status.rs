//! What the status page asks the databases once a second. Constant work on each: statistics, settings and one row of the
//! contract; the publication's tables are catalogs. The application's own logins may see all of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::PgLsn;

use crate::db::position;
use crate::db::statement::{Params, Read};
use crate::model::status::facts::{LeaderFacts, ReplicaFacts, SlotFacts};
use crate::model::status::topics::Partition;

/// How the leader is, its slots excepted.
pub struct LeaderState;

impl Read for LeaderState {
    type Output = LeaderFacts;
    const SQL: &'static str = "
        SELECT pg_is_in_recovery() AS in_recovery,
               CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END AS position,
               current_setting('wal_level') AS wal_level,
               (SELECT tup_inserted + tup_updated + tup_deleted FROM pg_stat_database WHERE datname = current_database())
                   AS row_changes,
               (SELECT min(pubname)::text FROM pg_publication) AS publication,
               ARRAY(SELECT n.nspname || '.' || c.relname
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
                       AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
                       AND NOT EXISTS (SELECT FROM pg_publication_tables t
                                       WHERE t.schemaname = n.nspname AND t.tablename = c.relname)
                     ORDER BY 1) AS unpublished,
               (SELECT NULLIF(setting::bigint, -1) * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size')
                   AS keep_bytes";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<LeaderFacts, tokio_postgres::Error> {
        // A SELECT without FROM has exactly one row.
        let row = &rows[0];
        Ok(LeaderFacts {
            position: position(row.try_get::<_, PgLsn>("position")?),
            in_recovery: row.try_get("in_recovery")?,
            wal_level: row.try_get("wal_level")?,
            row_changes: row.try_get("row_changes")?,
            unpublished: row.try_get("unpublished")?,
            publication: row.try_get("publication")?,
            keep_bytes: row.try_get("keep_bytes")?,
            slots: vec![],
        })
    }
}

/// The leader's lasting logical slots. Temporary ones end with their session and are nobody's concern.
pub struct Slots;

impl Read for Slots {
    type Output = Vec<SlotFacts>;
    const SQL: &'static str = "
        SELECT slot_name::text AS name, active, coalesce(wal_status, 'lost') AS wal_status, safe_wal_size AS safe,
               CASE WHEN NOT pg_is_in_recovery()
                    THEN pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)::bigint END AS retained
        FROM pg_replication_slots
        WHERE slot_type = 'logical' AND NOT temporary AND database = current_database()
        ORDER BY 1";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<Vec<SlotFacts>, tokio_postgres::Error> {
        let slot = |row: &Row| {
            Ok(SlotFacts {
                name: row.try_get("name")?,
                active: row.try_get("active")?,
                wal_status: row.try_get("wal_status")?,
                retained: row.try_get("retained")?,
                safe: row.try_get("safe")?,
            })
        };
        rows.iter().map(slot).collect()
    }
}

/// How a replica is, by its contract schema.
pub struct ReplicaState {
    /// When it is asked, to compare the clocks.
    pub asked_at: Timestamp,
}

impl Read for ReplicaState {
    type Output = ReplicaFacts;
    const SQL: &'static str = "
        SELECT state, watermark, committed_at, applied_at, transactions, changes, owner, paused_since, paused_by,
               quarantined, diverged, clock_timestamp() AS clock,
               (SELECT offsets FROM replicator.checkpoint) AS offsets,
               coalesce((SELECT until > clock_timestamp() FROM replicator.lease), false) AS owner_lives
        FROM replicator.progress";

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<ReplicaFacts, tokio_postgres::Error> {
        // The contract's view always has one row.
        let row = &rows[0];
        let paused_since: Option<Timestamp> = row.try_get("paused_since")?;
        let paused_by: Option<String> = row.try_get("paused_by")?;
        let clock: Timestamp = row.try_get("clock")?;
        let clock_ahead = clock.duration_since(self.asked_at);
        Ok(ReplicaFacts {
            state: row.try_get("state")?,
            watermark: position(row.try_get::<_, PgLsn>("watermark")?),
            committed_at: row.try_get("committed_at")?,
            applied_at: row.try_get("applied_at")?,
            transactions: row.try_get("transactions")?,
            changes: row.try_get("changes")?,
            owner: row.try_get("owner")?,
            owner_lives: row.try_get("owner_lives")?,
            paused: paused_since.zip(paused_by),
            quarantined: row.try_get("quarantined")?,
            diverged: row.try_get("diverged")?,
            offsets: offsets(&row.try_get("offsets")?),
            clock_ahead_ms: i64::try_from(clock_ahead.as_millis()).unwrap_or(i64::MAX),
        })
    }
}

/// The checkpoint's positions in topics. What is no position in a topic is left out: it must not cost the rest of the answer.
fn offsets(stored: &Value) -> BTreeMap<Partition, i64> {
    let entries = stored.as_object().into_iter().flatten();
    entries.filter_map(|(name, offset)| Some((Partition::parse(name)?, offset.as_i64()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positions_in_topics_are_taken() {
        let stored =
            serde_json::json!({ "app.public.posts/1": 5, "wal/0": 33_554_432, "app.x/0": "5", "y": 1 });
        let posts = Partition { topic: "app.public.posts".to_owned(), number: 1 };
        assert_eq!(offsets(&stored), BTreeMap::from([(posts, 5)]));
        assert!(offsets(&Value::Null).is_empty(), "nothing is stored");
    }
}
