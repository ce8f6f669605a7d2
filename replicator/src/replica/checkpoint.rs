//! The contract schema: ownership, and how far this replica is.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio_postgres::Statement;
use tokio_postgres::types::Type;

use super::ReplicaError;
use super::copy::CopyScope;
use super::session::Session;
use super::sql;
use crate::vocabulary::fence::{Fence, Fences};
use crate::vocabulary::leader::LeaderRun;
use crate::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use crate::vocabulary::offset::{self, Offsets, PartitionIndex, PartitionNames, TopicPartitionParseError};
use crate::vocabulary::parcel::{CommitPoint, Committed, ReplicaPhase, TableCopy};
use crate::vocabulary::schema::TableName;

/// Who asks for a replica, and on which terms.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Which stream the positions belong to, e.g. `debezium:app`.
    pub source: &'a str,
    /// How the daemon names itself.
    pub owner: &'a str,
    /// How long the ownership lasts without being renewed; see [`super::lease`].
    pub lease: Duration,
}

/// Where a replica stands, as it says itself.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// This owner's epoch.
    pub epoch: i64,
    /// Whether its tables agree.
    pub phase: ReplicaPhase,
    /// Complete up to here.
    pub watermark: CommitLsn,
    /// The transaction at the watermark.
    pub xid: Option<Xid>,
    /// When the leader committed it, in milliseconds since 1970.
    pub committed_at_ms: Option<i64>,
    /// The last transaction, behind which a sign of life may have moved the watermark; none where
    /// no transaction has come since the last copy of the whole replica.
    pub last_commit: Option<Committed>,
    /// Which run of the leader's server was found to go on from here; none with a source that does not tell.
    pub leader: Option<LeaderRun>,
    /// The first offset still needed, per partition.
    pub offsets: Offsets,
    /// At which position each table's snapshot was taken.
    pub snapshots: HashMap<TableName, Lsn>,
    /// Fenced copies that the watermark has not passed.
    pub fences: Fences,
    /// What has to be copied before anything is applied.
    pub to_copy: CopyScope,
}

impl Checkpoint {
    /// Whether the replica has never shown anything: it has no commit of the leader's.
    pub fn is_new(&self) -> bool {
        self.phase != ReplicaPhase::Live && self.watermark == CommitLsn::default()
    }

    /// The position up to which the replica has everything: the watermark, or where the leader's own stream goes on behind a
    /// copy that no commit has followed yet.
    pub fn position(&self) -> CommitLsn {
        let behind_copy = self.offsets.get(&offset::wal()).map(|at| CommitLsn(offset::wal_position(*at)));
        self.watermark.max(behind_copy.unwrap_or_default())
    }
}

/// Takes the replica and reads its checkpoint. Ownership ends with the session, and when the lease runs out while somebody
/// else is waiting: an owner that does not renew it is ended here.
///
/// # Errors
/// [`ReplicaError::Owned`] when another daemon has it; [`Disposition::Pause`](super::Disposition) when the replica is paused.
pub async fn acquire(session: &Session, claim: Claim<'_>) -> Result<Checkpoint, ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "take ownership of the replica", source };
    if let Some(epoch) = claim_epoch(session, claim).await? {
        return read(session, epoch).await;
    }
    let evicted =
        session.client().query_one("SELECT replicator.evict_expired()", &[]).await.map_err(failed)?;
    if let Some(evicted) = evicted.get::<_, Option<String>>(0) {
        tracing::warn!(owner = %evicted, "ended the session of an owner whose lease had run out");
        if let Some(epoch) = claim_epoch(session, claim).await? {
            return read(session, epoch).await;
        }
    }
    let owner = session
        .client()
        .query_opt("SELECT owner FROM replicator.lease", &[])
        .await
        .map_err(failed)?
        .map_or_else(|| "unknown".to_owned(), |row| row.get(0));
    Err(ReplicaError::Owned { owner })
}

/// The new epoch, or nothing when another session owns the replica.
async fn claim_epoch(session: &Session, claim: Claim<'_>) -> Result<Option<i64>, ReplicaError> {
    let row = session
        .client()
        .query_one(
            "SELECT replicator.acquire($1, $2, $3)",
            &[&claim.source, &claim.owner, &claim.lease.as_secs_f64()],
        )
        .await
        .map_err(|source| ReplicaError::Postgres { action: "take ownership of the replica", source })?;
    Ok(row.get(0))
}

/// Reads the checkpoint of the owner of this epoch.
///
/// # Errors
/// When the replica does not answer, or its contract schema is of another version.
pub async fn read(session: &Session, epoch: i64) -> Result<Checkpoint, ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "read the checkpoint", source };
    let row = session
        .client()
        .query_one(
            "SELECT state, watermark::text, xid, offsets::text,
                    (extract(epoch FROM committed_at) * 1000)::bigint,
                    copied_snapshot, copied_lsn::text,
                    (SELECT detail ->> 'scope' FROM replicator.control WHERE kind = 'rebuild'),
                    commit_lsn::text, history, (extract(epoch FROM leader_started_at) * 1000000)::bigint,
                    (extract(epoch FROM commit_at) * 1000)::bigint
             FROM replicator.checkpoint",
            &[],
        )
        .await
        .map_err(failed)?;
    let contract = |what: &str| ReplicaError::Contract(what.to_owned());
    let offsets = parse_offsets(row.get(3))?;
    let copies = session
        .client()
        .query(
            "SELECT table_schema, table_name, snapshot_lsn::text, snapshot FROM replicator.table_state",
            &[],
        )
        .await
        .map_err(failed)?;
    let watermark = CommitLsn(row.get::<_, &str>(1).parse().map_err(|_| contract("watermark"))?);
    let xid = row.get::<_, Option<i64>>(2).and_then(|xid| u32::try_from(xid).ok()).map(Xid);
    let commit_lsn = row.get::<_, Option<&str>>(8).map(|lsn| lsn.parse().map_err(|_| contract("commit_lsn")));
    let history = row.get::<_, Option<&str>>(9).map(|text| text.parse().map_err(|_| contract("history")));
    let started_at_us: Option<i64> = row.get(10);
    let mut snapshots = HashMap::new();
    let mut fences = Fences { whole: fence(row.get(5), row.get(6))?, ..Fences::default() };
    for copy in &copies {
        let name = TableName::new(copy.get::<_, &str>(0), copy.get::<_, &str>(1));
        let lsn = copy.get::<_, &str>(2).parse().map_err(|_| contract("snapshot_lsn"))?;
        if let Some(fence) = fence(copy.get(3), copy.get(2))? {
            fences.replaced.insert(name.clone(), fence.lsn);
            fences.tables.insert(name.clone(), fence);
        }
        snapshots.insert(name, lsn);
    }
    fences.whole.take_if(|fence| fence.is_passed_by(watermark));
    fences.tables.retain(|_, fence| !fence.is_passed_by(watermark));
    Ok(Checkpoint {
        epoch,
        phase: ReplicaPhase::from_contract(row.get(0)).ok_or_else(|| contract("state"))?,
        watermark,
        xid,
        committed_at_ms: row.get(4),
        last_commit: last_commit(xid, commit_lsn.transpose()?, row.get(11)),
        leader: history
            .transpose()?
            .zip(started_at_us)
            .map(|(history, started_at_us)| LeaderRun { history, started_at_us }),
        offsets,
        snapshots,
        fences,
        to_copy: CopyScope::from_contract(row.get(7)).ok_or_else(|| contract("control"))?,
    })
}

/// What is known of the last transaction, when all of it is.
fn last_commit(xid: Option<Xid>, lsn: Option<Lsn>, committed_at_ms: Option<i64>) -> Option<Committed> {
    Some(Committed { xid: xid?, lsn: CommitLsn(lsn?), committed_at_ms: committed_at_ms? })
}

/// Notes that this run of the leader's server goes on from where the replica stands.
///
/// # Errors
/// When another daemon has taken over, or the replica does not answer.
pub async fn recognise(session: &Session, epoch: i64, leader: &LeaderRun) -> Result<(), ReplicaError> {
    let sql =
        "SELECT replicator.recognise($1, $2, timestamptz 'epoch' + $3::bigint * interval '1 microsecond')";
    let history = leader.history.to_string();
    let noted = session.client().execute(sql, &[&epoch, &history, &leader.started_at_us]).await;
    noted
        .map(drop)
        .map_err(|source| ReplicaError::Postgres { action: "note which leader it follows", source })
}

/// The first offsets still needed, as anybody may ask who does not own the replica. The owner's last commits may be lost with
/// a crash of the server, and these offsets with them.
///
/// # Errors
/// When the replica does not answer, or its contract schema is of another version.
pub async fn offsets(session: &Session) -> Result<Offsets, ReplicaError> {
    let row = session.client().query_one("SELECT offsets::text FROM replicator.checkpoint", &[]).await;
    let row = row.map_err(|source| ReplicaError::Postgres { action: "read the checkpoint", source })?;
    parse_offsets(row.get(0))
}

/// The same as [`offsets`], of what no crash of the server takes back: everything that is committed is put on disk first.
///
/// # Errors
/// When the replica does not answer, or its contract schema is of another version.
pub async fn kept_offsets(session: &Session) -> Result<Offsets, ReplicaError> {
    let offsets = offsets(session).await?;
    // A commit that waits for the disk, of a transaction that has written something nobody reads: one that has written nothing
    // would not wait.
    let flush = "BEGIN; SET LOCAL synchronous_commit = local;
        SELECT pg_logical_emit_message(true, 'replicator', 'flush'); COMMIT";
    session
        .client()
        .batch_execute(flush)
        .await
        .map_err(|source| ReplicaError::Postgres { action: "flush the replica's commits", source })?;
    Ok(offsets)
}

fn parse_offsets(json: &str) -> Result<Offsets, ReplicaError> {
    let offsets: HashMap<String, i64> =
        serde_json::from_str(json).map_err(|e| ReplicaError::Contract(format!("offsets: {e}")))?;
    let offsets = offsets.into_iter().map(|(partition, offset)| Ok((partition.parse()?, offset)));
    let offsets: Result<Offsets, TopicPartitionParseError> = offsets.collect();
    offsets.map_err(|e| ReplicaError::Contract(e.to_string()))
}

/// The fence of a copy, if it has one.
fn fence(snapshot: Option<&str>, lsn: Option<&str>) -> Result<Option<Fence>, ReplicaError> {
    let Some((snapshot, lsn)) = snapshot.zip(lsn) else { return Ok(None) };
    let snapshot = snapshot.parse().map_err(|e| ReplicaError::Contract(format!("{e}")))?;
    let lsn = lsn.parse().map_err(|e| ReplicaError::Contract(format!("{e}")))?;
    Ok(Some(Fence { snapshot, lsn }))
}

/// Writes checkpoints: the last statement of every apply transaction.
#[derive(Debug)]
pub struct CheckpointWriter {
    epoch: i64,
    advance: Statement,
    copied: Statement,
}

/// What a group of parcels adds to the checkpoint.
#[derive(Debug, Default)]
pub struct Advance {
    phase: ReplicaPhase,
    watermark: Option<CommitLsn>,
    committed_at_ms: Option<i64>,
    offsets: BTreeMap<PartitionIndex, i64>,
    transactions: i64,
    changes: i64,
    last_commit: Option<Committed>,
    copies: Vec<TableCopy>,
}

impl Advance {
    /// Adds a commit point. Points are added in source order.
    pub fn add(&mut self, point: &CommitPoint, changes: usize) {
        self.phase = point.state;
        if let Some(transaction) = point.transaction {
            self.watermark = Some(transaction.lsn);
            self.last_commit = Some(transaction);
            self.committed_at_ms = Some(transaction.committed_at_ms);
            self.transactions += 1;
        } else if let Some(reached) = point.reached {
            self.watermark = Some(reached.lsn);
            self.committed_at_ms = Some(reached.at_ms);
        }
        self.changes += i64::try_from(changes).unwrap_or(i64::MAX);
        self.offsets.extend(point.offsets.iter().copied());
        self.copies.extend(point.copies.iter().cloned());
    }

    /// Whether it takes one statement, which may be sent without waiting for what comes before.
    pub fn is_one_statement(&self) -> bool {
        self.copies.is_empty()
    }
}

impl CheckpointWriter {
    /// Prepares the statements.
    ///
    /// # Errors
    /// When the replica has no contract schema, or an older one.
    pub async fn prepare(session: &Session, epoch: i64) -> Result<Self, ReplicaError> {
        let failed = |source| ReplicaError::Postgres { action: "prepare the checkpoint", source };
        let advance = session
            .client()
            .prepare_typed(
                &format!("SELECT {}", sql::advance(1)),
                &[const { Type::TEXT }; sql::ADVANCE_PARAMETERS],
            )
            .await
            .map_err(failed)?;
        let copied = session
            .client()
            .prepare_typed(
                "INSERT INTO replicator.table_state AS s VALUES ($1, $2, $3, $4::text::pg_lsn, $5)
                 ON CONFLICT (table_schema, table_name) DO UPDATE
                 SET state = excluded.state, snapshot_lsn = excluded.snapshot_lsn,
                     snapshot = CASE WHEN s.snapshot_lsn = excluded.snapshot_lsn THEN s.snapshot END,
                     rows_copied = excluded.rows_copied
                         + CASE WHEN s.snapshot_lsn = excluded.snapshot_lsn THEN s.rows_copied ELSE 0 END",
                &[Type::TEXT, Type::TEXT, Type::TEXT, Type::TEXT, Type::INT8],
            )
            .await
            .map_err(failed)?;
        Ok(CheckpointWriter { epoch, advance, copied })
    }

    /// Moves the checkpoint within the open transaction.
    ///
    /// # Errors
    /// When another daemon has taken over (SQLSTATE RP001), the watermark would go back (RP002), the replica was paused
    /// (RP004), or a rebuild was asked for (RP005).
    pub async fn write(
        &self,
        session: &Session,
        advance: &Advance,
        names: &PartitionNames,
    ) -> Result<(), tokio_postgres::Error> {
        let client = session.client();
        for copy in &advance.copies {
            let state = if copy.done { "live" } else { "copying" };
            let rows = i64::try_from(copy.rows).unwrap_or(i64::MAX);
            let lsn = copy.snapshot_lsn.to_string();
            client
                .execute(&self.copied, &[&copy.table.schema, &copy.table.name, &state, &lsn, &rows])
                .await?;
        }
        client.execute_raw(&self.advance, &self.parameters(advance, names)).await?;
        Ok(())
    }

    /// The parameters of [`sql::advance`].
    pub(super) fn parameters(
        &self,
        advance: &Advance,
        names: &PartitionNames,
    ) -> [Option<String>; sql::ADVANCE_PARAMETERS] {
        let last = advance.last_commit;
        let offsets: Offsets =
            advance.offsets.iter().map(|(partition, offset)| (names.get(*partition), *offset)).collect();
        [
            Some(self.epoch.to_string()),
            Some(advance.phase.as_str().to_owned()),
            advance.watermark.map(|lsn| lsn.to_string()),
            last.map(|last| last.xid.0.to_string()),
            advance.committed_at_ms.map(|ms| ms.to_string()),
            Some(offset::to_json(&offsets)),
            Some(advance.transactions.to_string()),
            Some(advance.changes.to_string()),
            last.map(|last| last.lsn.to_string()),
            last.map(|last| last.committed_at_ms.to_string()),
        ]
    }
}
