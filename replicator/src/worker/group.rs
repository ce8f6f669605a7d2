//! Which transactions share a commit on the replica.

use std::time::Duration;

use tokio::time::Instant;

use super::course::Course;
use crate::lane::Sealed;
use crate::vocabulary::lsn::CommitLsn;
use crate::vocabulary::parcel::{Parcel, ParcelEnd};

/// From how many transactions in a group on there is a backlog: more come while a group is committed than go out with it.
const BACKLOG: usize = 8;

/// How long the next group of a backlog is waited for beyond what has come. A commit costs the replica as much as twenty rows
/// do, so in a backlog a larger group is worth more than an earlier one; alone a transaction never waits.
const LINGER: Duration = Duration::from_millis(4);

/// Whole transactions, to be applied together: alone one goes out at once, in a backlog many share a commit, and a few
/// milliseconds are waited for more.
#[derive(Debug)]
pub(super) struct Group {
    sealed: Vec<Sealed>,
    /// Changes that share a commit at most, and transactions without any.
    limit: usize,
    /// Whether the last group was one of many that waited.
    is_backlog: bool,
}

impl Group {
    /// An empty one, for so many changes.
    pub(super) fn new(limit: usize) -> Self {
        Group { sealed: Vec::new(), limit, is_backlog: false }
    }

    /// What is to be applied.
    pub(super) fn parcels(&self) -> Vec<&Parcel> {
        self.sealed.iter().map(|sealed| &**sealed).collect()
    }

    /// Forgets what was applied. Gives the last parcel.
    pub(super) fn clear(&mut self) -> Option<Sealed> {
        let last = self.sealed.pop();
        self.sealed.clear();
        last
    }

    /// Begins with a whole transaction and adds what has come already, or comes soon in a backlog. Returns the first parcel that
    /// doesn't belong to the group.
    pub(super) async fn form(&mut self, first: Sealed, course: &mut Course) -> Option<Sealed> {
        let until = self.is_backlog.then(|| Instant::now() + LINGER);
        self.sealed.push(first);
        let next = self.fill(course, until).await;
        self.is_backlog = self.sealed.len() >= BACKLOG;
        next
    }

    async fn fill(&mut self, course: &mut Course, until: Option<Instant>) -> Option<Sealed> {
        let mut changes: usize = self.sealed.iter().map(|sealed| sealed.changes.len()).sum();
        // A transaction without changes moves the watermark only; many of them still are one update of one row.
        while changes < self.limit && self.sealed.len() < self.limit {
            let turning_point = course.turning_point();
            if turning_point.is_some_and(|point| self.sealed.last().is_some_and(|last| turns_at(last, point)))
            {
                return None;
            }
            let sealed = match (course.try_recv(), until) {
                (Some(sealed), _) => sealed,
                (None, Some(until)) => tokio::time::timeout_at(until, course.recv()).await.ok()??,
                (None, None) => return None,
            };
            if sealed.streamed.is_some() || !matches!(sealed.end, ParcelEnd::Commit(_)) {
                return Some(sealed);
            }
            changes += sealed.changes.len();
            self.sealed.push(sealed);
        }
        None
    }
}

/// Whether a parcel reaches the commit point at which another lane takes over.
fn turns_at(parcel: &Parcel, turning_point: CommitLsn) -> bool {
    match &parcel.end {
        ParcelEnd::Commit(point) => point.transaction.is_some_and(|t| t.lsn >= turning_point),
        ParcelEnd::Open | ParcelEnd::Discard => false,
    }
}
