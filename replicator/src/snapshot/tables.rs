//! Several tables at once, all as the leader had them at one moment.
//!
//! Each table goes through a pair of sessions of its own: one on the leader, in a transaction with the same snapshot as all
//! others, and one on the replica, in the transaction that replaces the table's rows. The largest tables go first, so
//! that no large one is left for the end.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::BytesMut;
use futures_util::TryStreamExt as _;
use futures_util::future::try_join_all;

use super::progress::{Extent, Meter};
use super::shape::Shape;
use super::{CopyProgress, LeaderSettings, LeaderSnapshot, SnapshotError, Target};
use crate::replica::copy::{self, Replacement};
use crate::replica::session::Session;
use crate::vocabulary::schema::TableName;

/// Rows are sent on in pieces of this size. The leader's driver gives one message per row, far too small to pass on singly.
const PIECE_BYTES: usize = 128 << 10;

/// What all pairs of sessions share.
struct Work<'a, R> {
    left: Mutex<VecDeque<(TableName, Extent)>>,
    meter: Mutex<(Meter, R)>,
    began: Instant,
    target: Target<'a>,
}

/// Copies the tables that are wanted. A failure ends all that are being copied; those that were done stay done.
pub(super) async fn copy_wanted<R: FnMut(&CopyProgress)>(
    target: Target<'_>,
    leader: &LeaderSettings,
    snapshot: &LeaderSnapshot,
    report: R,
) -> Result<(), SnapshotError> {
    let tables = copy::wanted(target.session).await?;
    let mut tables = snapshot.extents(tables).await?;
    tables.sort_by_key(|(_, extent)| std::cmp::Reverse(extent.bytes));
    let meter = Meter::new(tables.iter().map(|(_, extent)| extent));
    let beside = leader.parallel_tables.min(tables.len()).saturating_sub(1);
    let work = Work {
        left: Mutex::new(tables.into()),
        meter: Mutex::new((meter, report)),
        began: Instant::now(),
        target,
    };
    let shared = if beside > 0 { Some(snapshot.share().await?) } else { None };
    let beside = try_join_all((0..beside).map(async |_| {
        let Some(shared) = &shared else { return Ok(()) };
        let snapshot = LeaderSnapshot::open_shared(leader, shared).await?;
        let session = Session::connect_beside(target.url, target.epoch).await?;
        work.copy(&snapshot, &session).await
    }));
    futures_util::future::try_join(work.copy(snapshot, target.session), beside).await.map(drop)
}

impl<R: FnMut(&CopyProgress)> Work<'_, R> {
    /// Copies tables through this pair of sessions until none is left.
    async fn copy(&self, snapshot: &LeaderSnapshot, session: &Session) -> Result<(), SnapshotError> {
        while let Some((table, extent)) = self.next() {
            self.note(|meter| meter.begin(&table, extent));
            let shape = snapshot.shape(session, &table).await?;
            let rows = self.replace(snapshot, session, &table, &shape).await?;
            self.note(|meter| meter.end(&table));
            tracing::info!(table = %table, rows, "a table was copied from the leader");
        }
        Ok(())
    }

    fn next(&self) -> Option<(TableName, Extent)> {
        lock(&self.left).pop_front()
    }

    /// Replaces one table's rows, in one transaction of the replica.
    async fn replace(
        &self,
        snapshot: &LeaderSnapshot,
        session: &Session,
        table: &TableName,
        shape: &Shape,
    ) -> Result<u64, SnapshotError> {
        let Target { epoch, is_new, .. } = self.target;
        let copy_in = |options: &str| shape.copy_in(table, options);
        let mut replacement = Replacement::begin(session, epoch, table, is_new, copy_in).await?;
        let mut rows = std::pin::pin!(snapshot.copy_out(&shape.copy_out(table)).await?);
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        let mut count = 0;
        while let Some(row) = rows.try_next().await.map_err(LeaderSnapshot::interrupted)? {
            piece.extend_from_slice(&row);
            count += 1;
            if piece.len() >= PIECE_BYTES {
                let bytes = piece.len() as u64;
                replacement.send(piece.split().freeze()).await?;
                self.note(|meter| meter.add(table, count, bytes));
                count = 0;
            }
        }
        let bytes = piece.len() as u64;
        replacement.send(piece.freeze()).await?;
        self.note(|meter| meter.add(table, count, bytes));
        Ok(replacement.commit(snapshot.fence()).await?)
    }

    fn note(&self, what: impl FnOnce(&mut Meter)) {
        let (meter, report) = &mut *lock(&self.meter);
        what(meter);
        report(&meter.read(self.began.elapsed()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
