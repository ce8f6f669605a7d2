//! Which lane a worker takes its parcels from, and when it changes over to another.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::lane::hub::{Asked, Candidate, Feed, Hub};
use crate::lane::{LaneError, LaneStart, Sealed};
use crate::status::StatusCell;
use crate::vocabulary::lsn::CommitLsn;
use crate::vocabulary::offset::PartitionNames;
use crate::vocabulary::parcel::{CommitPoint, ReplicaPhase};
use crate::vocabulary::schema::Catalog;

/// How often it is looked whether there is a better lane. A replica that has reached, now, where that lane stood this long
/// ago is behind by no more than it reads in this time: far less than its queue there will hold.
const LOOK: Duration = Duration::from_millis(250);

/// How long the answer of a better lane is waited for before the replica goes on by itself. A lane that stands where the replica
/// does answers at once; seen after the next commit only, its answer would be about a place that is passed already, and two
/// lanes in step would never become one while there are commits.
const ANSWER: Duration = Duration::from_millis(20);

/// How often a replica's tables are read again, at most, while another one has other tables; where they turn out the same, half as
/// often the next time, down to [`LONGEST_DOUBT`].
const DOUBT: Duration = Duration::from_secs(10);

/// Replicas may have tables of their own for good.
const LONGEST_DOUBT: Duration = Duration::from_secs(300);

/// A worker's way through the lanes.
#[derive(Debug)]
pub(super) struct Course {
    hub: Arc<Hub>,
    status: StatusCell,
    /// Where the attempt began; brought up to date to ask another lane.
    start: LaneStart,
    feed: Feed,
    change: Change,
    looked_at: Instant,
    /// When it is looked next whether the replica's tables had better be read again.
    doubts_at: Instant,
    /// How long after that the next time.
    doubt: Duration,
}

/// How far a change of lanes is.
#[derive(Debug)]
enum Change {
    None,
    /// There is a better lane; it is asked when this replica has come to where it stood.
    Seen(Candidate),
    /// It has been asked.
    Asked(Asked),
    /// It keeps what comes after a commit point that this replica has yet to reach.
    Promised(Feed),
}

impl Course {
    /// The replica's tables, as the lanes know them.
    pub(super) fn catalog(&self) -> &Arc<Catalog> {
        &self.start.catalog
    }

    /// Begins from where the replica stands.
    ///
    /// # Errors
    /// When the source is not there, or has lost what is needed.
    pub(super) async fn begin(
        hub: Arc<Hub>,
        start: LaneStart,
        status: StatusCell,
    ) -> Result<Self, LaneError> {
        let feed = hub.feed(start.clone(), &status).await?;
        Ok(Course {
            hub,
            status,
            start,
            feed,
            change: Change::None,
            looked_at: Instant::now(),
            doubts_at: Instant::now() + DOUBT,
            doubt: DOUBT,
        })
    }

    /// The partitions of the present lane.
    pub(super) fn names(&self) -> &PartitionNames {
        self.feed.names()
    }

    /// Whether the present lane may give transactions out while they run on the leader.
    pub(super) fn streams(&self) -> bool {
        self.feed.streams()
    }

    /// The next parcel; none when the lane has ended, or has let this replica go.
    pub(super) async fn recv(&mut self) -> Option<Sealed> {
        self.feed.recv().await
    }

    /// The next parcel, if it has come.
    pub(super) fn try_recv(&mut self) -> Option<Sealed> {
        self.feed.try_recv()
    }

    /// Why there are no more parcels.
    ///
    /// # Errors
    /// What the lane ended with.
    pub(super) async fn ended(&self) -> Result<(), LaneError> {
        self.feed.ended().await
    }

    /// Whether a lane runs for a replica with other tables. Then this replica's may be others now, too: nobody tells when a table
    /// is made on replicas, or dropped there, that the leader does not know. Seldom true, so that replicas whose tables do differ
    /// cost little, and those on which tables come and go don't begin anew all the time.
    pub(super) fn doubts_tables(&mut self) -> bool {
        let now = Instant::now();
        if now < self.doubts_at || self.start.phase != ReplicaPhase::Live {
            return false;
        }
        let doubts = self.hub.has_other_tables(&self.feed);
        if doubts {
            self.doubts_at = now + self.doubt;
            self.doubt = (self.doubt * 2).min(LONGEST_DOUBT);
        } else {
            (self.doubts_at, self.doubt) = (now + LOOK, DOUBT);
        }
        doubts
    }

    /// The commit point that must not be passed in one go, because another lane takes over there.
    pub(super) fn turning_point(&self) -> Option<CommitLsn> {
        match &self.change {
            Change::Promised(feed) => Some(feed.at()),
            Change::None | Change::Seen(_) | Change::Asked(_) => None,
        }
    }

    /// A commit point has been applied. True when the lane was changed: what came from the old one is not to be applied,
    /// and partitions have other numbers.
    pub(super) async fn passed(&mut self, point: &CommitPoint) -> bool {
        self.start.watermark = point.watermark().unwrap_or(self.start.watermark);
        self.start.phase = point.state;
        if self.start.phase != ReplicaPhase::Live {
            return false;
        }
        self.advance().await;
        self.change_over()
    }

    /// Looks for a better lane, asks it, takes its answer: whatever is next.
    async fn advance(&mut self) {
        let watermark = self.start.watermark;
        self.change = match std::mem::replace(&mut self.change, Change::None) {
            Change::None if self.looked_at.elapsed() >= LOOK => {
                self.looked_at = Instant::now();
                self.hub.better_than(&self.feed).map_or(Change::None, Change::Seen)
            }
            Change::Seen(candidate) if watermark >= candidate.position => {
                let mut asked = candidate.ask(self.start.clone(), &self.status).await;
                match asked.answer_within(ANSWER).await {
                    Some(answer) => promised(answer, watermark),
                    None => Change::Asked(asked),
                }
            }
            // It moves on: where it stood is to be known as of a moment ago, not as of the beginning of a long chase.
            Change::Seen(_) if self.looked_at.elapsed() >= LOOK => Change::None,
            Change::Asked(mut asked) => match asked.try_answer() {
                Some(answer) => promised(answer, watermark),
                None => Change::Asked(asked),
            },
            same => same,
        };
    }

    fn change_over(&mut self) -> bool {
        if self.turning_point() != Some(self.start.watermark) {
            return false;
        }
        if let Change::Promised(feed) = std::mem::replace(&mut self.change, Change::None) {
            tracing::info!(watermark = %self.start.watermark, "caught up; reading with the other replicas");
            self.feed = feed;
        }
        true
    }
}

/// A feed is of use as long as this replica has not passed the point at which it begins.
fn promised(answer: Option<Feed>, watermark: CommitLsn) -> Change {
    match answer {
        Some(feed) if feed.at() >= watermark => Change::Promised(feed),
        _ => Change::None,
    }
}
