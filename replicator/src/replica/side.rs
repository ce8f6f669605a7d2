//! Transactions that are applied while they still run on the leader.
//!
//! Each has a session of its own and stays open there, invisible, until the leader's commit has come; the transactions that
//! commit in between go through the owner's session as ever. Its own commit writes the checkpoint, as every other one does,
//! after those before it and before those behind it: the watermark says nothing that is not so (promise P4).
//!
//! Rows that two of them change are kept apart by the leader's locks. Where the replica's differ, because of an index that the
//! leader lacks or of equal rows without a key, one would wait for another for ever: all of them wait for a second only, and
//! then the replica does without (`LaneError::Unstreamable`).

use std::collections::HashMap;

use super::ReplicaError;
use super::apply::{Applied, Applier};
use super::checkpoint::CheckpointWriter;
use super::session::Session;
use crate::vocabulary::lsn::Xid;
use crate::vocabulary::parcel::{Parcel, ParcelEnd, Streamed};

/// A replica's open side transactions, and sessions for more.
#[derive(Debug)]
pub struct Sides {
    url: tokio_postgres::Config,
    epoch: i64,
    open: HashMap<Xid, Applier>,
    /// Kept for the next transaction: connecting takes longer than many a part of one.
    idle: Option<Applier>,
}

impl Sides {
    /// No side transaction is open. They will be those of the owner of this epoch.
    pub fn new(url: tokio_postgres::Config, epoch: i64) -> Self {
        Sides { url, epoch, open: HashMap::new(), idle: None }
    }

    /// One of the open ones; none when there is none.
    pub fn any(&self) -> Option<Xid> {
        self.open.keys().next().copied()
    }

    /// Does what a parcel says of the streamed transaction it belongs to. `main` is the applier of all others, and has
    /// committed everything before. Gives what was committed, if it was.
    ///
    /// # Errors
    /// As [`Applier::apply_part`] and [`Applier::commit_open`]; the transaction is lost with it. Nothing is kept in the
    /// quarantine, and no row is fetched from the leader, which has not committed it.
    pub async fn take(
        &mut self,
        parcel: &Parcel,
        streamed: Streamed,
        main: &Applier,
    ) -> Result<Option<Applied>, ReplicaError> {
        let Streamed { xid, begins, depth } = streamed;
        if begins {
            self.begin(xid, main).await?;
        }
        let side = self.open.get_mut(&xid);
        let side = side.ok_or(ReplicaError::Plan("a part of a transaction that has not begun"))?;
        if !parcel.changes.is_empty() {
            side.apply_part(parcel).await?;
        }
        let applied = match &parcel.end {
            ParcelEnd::Open => return Ok(None),
            ParcelEnd::Discard if depth > 0 => return side.take_back(depth).await.map(|()| None),
            ParcelEnd::Discard => {
                side.take_back(0).await?;
                self.open.remove(&xid);
                None
            }
            ParcelEnd::Commit(point) => {
                let applied = side.commit_open(point).await?;
                self.idle = self.open.remove(&xid);
                Some(applied)
            }
        };
        if self.open.is_empty() {
            main.session().expect_rivals(false).await?;
        }
        Ok(applied)
    }

    /// Rolls all of them back: the replica goes on where none has begun.
    ///
    /// # Errors
    /// When the replica does not answer; then it rolls them back.
    pub async fn discard(&mut self, main: &Applier) -> Result<(), ReplicaError> {
        if self.open.is_empty() {
            return Ok(());
        }
        for (_, mut side) in self.open.drain() {
            side.take_back(0).await?;
        }
        main.session().expect_rivals(false).await
    }

    async fn begin(&mut self, xid: Xid, main: &Applier) -> Result<(), ReplicaError> {
        if self.open.is_empty() {
            main.session().expect_rivals(true).await?;
        }
        let side = match self.idle.take() {
            Some(mut side) => {
                side.renumber(main.names().clone());
                side
            }
            None => {
                let session = Session::connect_beside(&self.url, self.epoch).await?;
                let writer = CheckpointWriter::prepare(&session, self.epoch).await?;
                main.beside(session, writer)
            }
        };
        self.open.insert(xid, side);
        Ok(())
    }
}
