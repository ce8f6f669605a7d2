//! Fenced copies: tables straight from the leader, while everything runs and the stream stands anywhere behind.
//!
//! ```text
//! leader   BEGIN REPEATABLE READ ─ pg_current_snapshot() ─ position ─ COPY TO ───────────▶
//! replica                                                   └─ one transaction per table: old rows go, new ones come,
//!                                                               fence is stored ─▶ copying … watermark passes the fence ─▶ live
//! ```
//!
//! No slot is needed, and nothing stops on the leader. The snapshot says exactly which transactions the copy holds: their
//! changes are left out when the stream brings them. Rows that the leader deleted meanwhile are not in the copy, so they
//! are gone here afterwards. A copy that is interrupted anywhere begins again with the table that was open.

mod error;
mod leader;
mod progress;
mod shape;
mod tables;

pub use error::SnapshotError;
pub use leader::LeaderSnapshot;
pub use progress::CopyProgress;
pub use shape::Shape;

use crate::replica::checkpoint::{self, Checkpoint};
use crate::replica::copy::{self, CopyScope};
use crate::replica::session::Session;
use crate::source::postgres::PostgresSettings;
use crate::vocabulary::fence::Fence;
use crate::vocabulary::offset::{self, Offsets};
use crate::vocabulary::parcel::ReplicaPhase;
use crate::vocabulary::schema::TableName;

/// What a copy needs to know of the leader.
#[derive(Debug, Clone)]
pub struct LeaderSettings {
    /// Its address.
    pub url: tokio_postgres::Config,
    /// The publication whose tables make up a replica; all publications when none is named.
    pub publication: Option<String>,
    /// Tables, as `schema.table`, that the replicas don't get.
    pub exclude_tables: Vec<String>,
    /// How many tables are copied at the same time, at most: each takes a session on the leader and one on the replica.
    pub parallel_tables: usize,
    /// The leader's own stream, when it goes on behind a copy: the snapshot is then that of a slot.
    pub stream: Option<PostgresSettings>,
}

impl LeaderSettings {
    /// Whether the replicas don't get this table.
    fn excludes(&self, table: &TableName) -> bool {
        self.exclude_tables.contains(&table.to_string())
    }
}

/// The replica that is filled, by its owner.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The session that owns it.
    pub session: &'a Session,
    /// Its address, for sessions beside that one.
    pub url: &'a tokio_postgres::Config,
    /// The owner's epoch.
    pub epoch: i64,
    /// Whether it has never been live, so that nobody reads it.
    pub is_new: bool,
}

/// Fulfils the wish and returns the checkpoint as it is then. `prepare` gives the present ends of all partitions; it is asked
/// only for a copy of the whole replica, and before the leader's snapshot is taken, so that whatever ended before them is in
/// the copy.
///
/// # Errors
/// When leader or replica fail or refuse. Tables that were done stay done.
pub async fn fill<E: From<SnapshotError>>(
    target: Target<'_>,
    leader: &LeaderSettings,
    scope: CopyScope,
    prepare: impl AsyncFnOnce() -> Result<Offsets, E>,
    report: impl FnMut(&CopyProgress),
) -> Result<Checkpoint, E> {
    let begun = match scope {
        CopyScope::None => None,
        CopyScope::Tables => Some(LeaderSnapshot::open(leader).await?),
        CopyScope::All => {
            if leader.stream.is_none() {
                LeaderSnapshot::check_slot(leader).await?;
            }
            let mut offsets = prepare().await?;
            let snapshot = LeaderSnapshot::open(leader).await?;
            offsets.extend(snapshot.position().map(|position| (offset::wal(), offset::wal_offset(position))));
            let tables = snapshot.tables(leader).await?;
            // What the stream feeds and the copy leaves out would lack the changes in between.
            let fed = copy::fed(target.session).await.map_err(SnapshotError::from)?;
            let left_out = fed.iter().find(|name| !tables.contains(name) && !leader.excludes(name));
            if let Some(name) = left_out {
                return Err(SnapshotError::NotPublished(name.to_string()).into());
            }
            let begun = copy::begin(target.session, target.epoch, snapshot.fence(), &offsets, &tables).await;
            begun.map_err(SnapshotError::from)?;
            tracing::info!(
                tables = tables.len(),
                snapshot = %snapshot.fence().snapshot,
                lsn = %snapshot.fence().lsn,
                "copying the whole replica from the leader"
            );
            Some(snapshot)
        }
    };
    if let Some(snapshot) = begun {
        tables::copy_wanted(target, leader, &snapshot, report).await?;
    }
    Ok(checkpoint::read(target.session, target.epoch).await.map_err(SnapshotError::from)?)
}

/// What a replica that was never filled, or was asked to be filled again, has to copy first.
pub fn scope_of(checkpoint: &Checkpoint, mode: SnapshotMode) -> CopyScope {
    let is_new = checkpoint.phase == ReplicaPhase::Empty && checkpoint.offsets.is_empty();
    if is_new && mode == SnapshotMode::Copy { CopyScope::All } else { checkpoint.to_copy }
}

/// Where the first rows of a replica come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotMode {
    /// From Debezium's snapshot, through the topics.
    #[default]
    Connector,
    /// From the leader, by a fenced copy.
    Copy,
}

/// The fence of a snapshot, for those who only compare.
pub(crate) fn parse_fence(snapshot: &str, lsn: &str) -> Result<Fence, SnapshotError> {
    let unreadable = |what: String| SnapshotError::Unreadable(what);
    Ok(Fence {
        snapshot: snapshot.parse().map_err(|e| unreadable(format!("{e}")))?,
        lsn: lsn.parse().map_err(|e| unreadable(format!("{e}")))?,
    })
}
