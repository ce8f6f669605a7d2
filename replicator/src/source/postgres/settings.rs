//! What it takes to read the leader's stream.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use super::stream::StreamOptions;
use super::{
    Lifetime, PostgresSourceError, PublishedTables, ReplicationConnection, SlotSnapshot, create_publication,
    create_slot, drop_lost_slot, find_publication, find_slot,
};
use crate::vocabulary::row::Form;

/// How long the name of the durable slot may be: PostgreSQL's limit of 63, less what the names of copies have behind it.
pub const SLOT_NAME_MAX: usize = 46;

/// What it takes to read the leader's stream.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// The leader's address. The user needs REPLICATION.
    pub url: tokio_postgres::Config,
    /// The durable slot's name.
    pub slot: String,
    /// The publication of what the replicas get.
    pub publication: String,
    /// `logical_decoding_work_mem` of a session that gets transactions whole: what the leader may keep in memory of those that
    /// have not ended. What is above goes to its disk.
    pub work_mem: String,
    /// Whether large transactions are read while they run.
    pub streaming: bool,
    /// `logical_decoding_work_mem` of a session that does so: from where on they come early.
    pub streaming_work_mem: String,
    /// Whether values may come in binary, where all tables have types for which that is possible.
    pub binary: bool,
    /// Tables, as `schema.table`, that are published and the replicas don't get.
    pub exclude_tables: Vec<String>,
}

impl PostgresSettings {
    /// What the stream carries. `streaming`: also of transactions that still run.
    pub fn stream_options(&self, streaming: bool, values: Form) -> StreamOptions {
        StreamOptions { publications: vec![self.publication.clone()], values, streaming, messages: false }
    }

    /// A session that may stream; with `streaming`, also transactions that still run.
    ///
    /// # Errors
    /// As [`ReplicationConnection::connect`].
    pub async fn connect(&self, streaming: bool) -> Result<ReplicationConnection, PostgresSourceError> {
        let work_mem = if streaming { &self.streaming_work_mem } else { &self.work_mem };
        ReplicationConnection::connect(&self.url, &[("logical_decoding_work_mem", work_mem)]).await
    }

    /// A name for a slot that lives as long as its session, and that no other one has.
    pub fn temporary_slot(&self) -> String {
        // The standard library's seeds are good enough where a clash is refused and tried again.
        let random = RandomState::new().build_hasher().finish();
        format!("{}_{random:016x}", self.slot)
    }
}

/// Makes the publication and the durable slot if they are not there yet, in this order: a change older than its publication
/// can't be decoded. A slot that is lost is made anew: what it held is gone, and a copy does without.
///
/// # Errors
/// When the leader does not answer, or its user may not make them.
pub async fn ensure_source(settings: &PostgresSettings) -> Result<(), PostgresSourceError> {
    let mut connection = ReplicationConnection::connect(&settings.url, &[]).await?;
    if find_publication(&mut connection, &settings.publication).await?.is_none() {
        create_publication(&mut connection, &settings.publication, PublishedTables::All).await?;
        tracing::info!(publication = %settings.publication, "made a publication of all tables on the leader");
    }
    drop_lost_slot(&mut connection, &settings.slot).await?;
    match find_slot(&mut connection, &settings.slot).await? {
        Some(slot) if slot.confirmed_flush.is_none() && !slot.is_lost() => {
            return Err(PostgresSourceError::SlotUnfinished(slot.name));
        }
        Some(_) => {}
        None => {
            let made =
                create_slot(&mut connection, &settings.slot, Lifetime::Permanent, SlotSnapshot::Discard);
            let made = made.await?;
            tracing::info!(slot = %settings.slot, from = %made.consistent_point, "made a slot on the leader");
        }
    }
    connection.close().await;
    Ok(())
}
