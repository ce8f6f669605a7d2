//! What a lane reads from.

use crate::lane::LaneError;
use crate::vocabulary::offset::PartitionNames;
use crate::vocabulary::parcel::Parcel;

/// A position in a source, from which parcels are read in the leader's commit order.
pub(super) trait Reader {
    /// The names of the places that parcels refer to; shared, and growing.
    fn names(&self) -> PartitionNames;

    /// Whether the position where it begins is a commit's, which every lane comes by, and not any other.
    fn begins_at_commit(&self) -> bool;

    /// The next parcel of what has come; none when more has to come first. Not to be cancelled.
    ///
    /// # Errors
    /// When the source fails, or what it gives can't be understood. What was given out before is complete and may be applied.
    async fn next(&mut self) -> Result<Option<Parcel>, LaneError>;

    /// Returns when more may have come. May be cancelled.
    async fn ready(&mut self) -> Result<(), LaneError>;

    /// Once a second, also while the lane waits for slow replicas. `is_idle` tells that nothing has come for now.
    ///
    /// # Errors
    /// When the source fails.
    async fn tick(&mut self, is_idle: bool) -> Result<(), LaneError>;

    /// What is waited for, in words.
    fn waiting_for(&self) -> Option<String>;

    /// Repeated events dropped so far.
    fn duplicates(&self) -> u64;

    /// Lets go of the source.
    fn close(self);
}
