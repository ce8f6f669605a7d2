//! What happened lately: where the leader's log was when, and how fast the replicas are. Bounded: an hour at one sample
//! per second.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::lsn::Lsn;

/// Samples kept: an hour at one per second.
pub const KEPT: usize = 3600;

/// Rates are over this many samples: one alone jumps, since the leader's statistics come in lumps.
const SMOOTHED: usize = 5;

/// A replica that shows what the leader had this long ago counts as caught up. The heartbeat of an idle leader comes once
/// a second, and so does our look at it.
pub const FRESH: Duration = Duration::from_millis(2500);

/// How far a replica is behind the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The time since the leader was where the replica is now, as exact as the samples are frequent.
    pub time: Duration,
    /// Row changes of the leader since then, about; `None` when it was too long ago to tell.
    pub changes: Option<i64>,
    /// The leader's log since then, in bytes.
    pub bytes: u64,
}

impl Behind {
    /// Whether it shows everything of a moment ago.
    pub fn is_caught_up(&self) -> bool {
        self.time <= FRESH
    }
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Timestamp,
    position: Lsn,
    row_changes: i64,
}

/// Where the leader's log was when.
#[derive(Debug, Default)]
pub struct LeaderTrack(VecDeque<Mark>);

impl LeaderTrack {
    /// Notes where the log ends. A leader that was set up anew, whose log begins again, begins a new track.
    pub fn note(&mut self, at: Timestamp, position: Lsn, row_changes: i64) {
        if self.0.back().is_some_and(|last| position < last.position || row_changes < last.row_changes) {
            self.0.clear();
        }
        self.0.push_back(Mark { at, position, row_changes });
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// How far a replica with this watermark is behind at the time `now`.
    pub fn behind(&self, watermark: Lsn, now: Timestamp) -> Option<Behind> {
        let last = self.0.back()?;
        let passed = self.0.partition_point(|mark| mark.position <= watermark);
        let since = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        let bytes = last.position.0.saturating_sub(watermark.0);
        match passed.checked_sub(1) {
            // It has everything that we know of.
            Some(index) if index + 1 == self.0.len() => {
                Some(Behind { time: Duration::ZERO, changes: Some(0), bytes: 0 })
            }
            Some(index) => {
                let mark = self.0[index];
                let changes = Some(last.row_changes - mark.row_changes);
                Some(Behind { time: since(mark.at), changes, bytes })
            }
            // From before our first look: at least as long.
            None => Some(Behind { time: since(self.0.front()?.at), changes: None, bytes }),
        }
    }

    /// Row changes per second of late.
    pub fn rate(&self) -> Option<f64> {
        let first = self.0.iter().rev().nth(SMOOTHED)?;
        let last = self.0.back()?;
        per_second(last.row_changes - first.row_changes, last.at.duration_since(first.at))
    }
}

/// One look at a replica; nothing in it when it did not answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// How far it was behind.
    pub lag: Option<Duration>,
    /// Changes per second.
    pub rate: Option<f64>,
}

/// What one replica did lately.
#[derive(Debug, Default)]
pub struct ReplicaTrack {
    counts: VecDeque<(Timestamp, Option<i64>)>,
    points: VecDeque<Point>,
}

impl ReplicaTrack {
    /// Notes how many changes the replica has applied in all, and how far it is behind; returns its rate.
    pub fn note(&mut self, at: Timestamp, changes: Option<i64>, lag: Option<Duration>) -> Option<f64> {
        self.counts.push_back((at, changes));
        if self.counts.len() > SMOOTHED + 1 {
            self.counts.pop_front();
        }
        let rate = self.rate();
        self.points.push_back(Point { at, lag, rate });
        if self.points.len() > KEPT {
            self.points.pop_front();
        }
        rate
    }

    fn rate(&self) -> Option<f64> {
        let (until, last) = *self.counts.back()?;
        let (from, first) = *self.counts.iter().find(|(_, changes)| changes.is_some())?;
        // A replica that was copied afresh counts from the beginning.
        let changes = last? - first?;
        (changes >= 0).then(|| per_second(changes, until.duration_since(from)))?
    }

    /// The newest `count` rates, the newest last.
    pub fn rates(&self, count: usize) -> Vec<Option<f64>> {
        self.points.iter().skip(self.points.len().saturating_sub(count)).map(|point| point.rate).collect()
    }

    /// All that is kept, the newest last.
    pub fn points(&self) -> Vec<Point> {
        self.points.iter().copied().collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
fn per_second(count: i64, over: jiff::SignedDuration) -> Option<f64> {
    let seconds = over.as_secs_f64();
    (seconds > 0.0).then(|| count as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: i64) -> Timestamp {
        Timestamp::from_second(n).unwrap()
    }

    fn track() -> LeaderTrack {
        let mut track = LeaderTrack::default();
        for n in 0..10 {
            track.note(second(n), Lsn(100 + u64::try_from(n).unwrap() * 10), n * 3);
        }
        track
    }

    #[test]
    fn a_replica_is_as_far_behind_as_the_leader_has_moved_on() {
        let behind = track().behind(Lsn(165), second(10)).unwrap();
        assert_eq!(behind, Behind { time: Duration::from_secs(4), changes: Some(9), bytes: 25 });
        assert!(!behind.is_caught_up());
        let caught_up = track().behind(Lsn(190), second(10)).unwrap();
        assert_eq!(caught_up, Behind { time: Duration::ZERO, changes: Some(0), bytes: 0 });
    }

    #[test]
    fn what_is_older_than_the_first_look_is_not_counted() {
        let behind = track().behind(Lsn(50), second(10)).unwrap();
        assert_eq!(behind, Behind { time: Duration::from_secs(10), changes: None, bytes: 140 });
        assert_eq!(
            LeaderTrack::default().behind(Lsn(50), second(10)),
            None,
            "nothing is known of the leader"
        );
    }

    #[test]
    fn a_leader_that_begins_again_begins_a_new_track() {
        let mut track = track();
        track.note(second(11), Lsn(5), 0);
        assert_eq!(track.behind(Lsn(5), second(12)).unwrap().bytes, 0);
        assert_eq!(track.rate(), None, "one look is no rate");
    }

    #[test]
    fn rates_are_per_second_and_unknown_is_not_zero() {
        assert_eq!(track().rate(), Some(3.0));
        let mut replica = ReplicaTrack::default();
        assert_eq!(replica.note(second(0), Some(100), None), None, "one look is no rate");
        assert_eq!(replica.note(second(1), Some(150), None), Some(50.0));
        assert_eq!(replica.note(second(2), None, None), None, "no answer, no rate");
        assert_eq!(replica.note(second(4), Some(300), None), Some(50.0));
        assert_eq!(replica.note(second(5), Some(0), None), None, "copied afresh");
        assert_eq!(replica.rates(2), vec![Some(50.0), None]);
    }

    #[test]
    fn nothing_grows_without_end() {
        let mut replica = ReplicaTrack::default();
        let mut leader = LeaderTrack::default();
        for n in 0..2 * i64::try_from(KEPT).unwrap() {
            replica.note(second(n), Some(n), None);
            leader.note(second(n), Lsn(n.unsigned_abs()), n);
        }
        assert_eq!((replica.points().len(), leader.0.len()), (KEPT, KEPT));
    }
}
