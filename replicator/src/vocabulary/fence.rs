//! What a fenced copy holds: which of the leader's transactions are in it, and up to where that has to be asked.
//!
//! A table that is copied while its changes stream by would get some of them twice: in the copy, and again from the
//! stream, where they would travel back in time. The leader's own snapshot tells them apart exactly.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::lsn::{CommitLsn, Lsn, Xid};
use super::schema::TableName;

/// Which transactions one snapshot of the leader sees, as `pg_current_snapshot()` prints it: `xmin:xmax:running`.
///
/// The leader decides visibility by this and not by LSN: a commit record may lie before the snapshot's position in the WAL
/// while its transaction was still running for the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Every transaction below it had ended.
    xmin: u64,
    /// Every transaction from it on had not begun.
    xmax: u64,
    /// Those in between that were running, in ascending order.
    running: Box<[u64]>,
}

impl Snapshot {
    /// Whether the snapshot sees what this transaction did. `xid` is a top-level transaction's, which is what a stream
    /// carries, and it committed, or it would not be in the stream.
    pub fn sees(&self, xid: Xid) -> bool {
        let xid = self.widen(xid);
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// The 64-bit id that a 32-bit one stands for: the one nearest to the snapshot. PostgreSQL itself keeps all ids in
    /// use within two billion of each other.
    fn widen(&self, xid: Xid) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "the low half is what is compared")]
        let low = self.xmax as u32;
        let distance = xid.0.wrapping_sub(low).cast_signed();
        self.xmax.saturating_add_signed(i64::from(distance))
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (i, xid) in self.running.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{xid}")?;
        }
        Ok(())
    }
}

/// The text was not `xmin:xmax:xid,xid` as PostgreSQL prints a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a snapshot such as 795:798:796")]
pub struct SnapshotParseError(String);

impl FromStr for Snapshot {
    type Err = SnapshotParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.split(':');
            let (xmin, xmax, running) = (parts.next()?, parts.next()?, parts.next()?);
            let (xmin, xmax) = (xmin.parse().ok()?, xmax.parse().ok()?);
            let running = running.split(',').filter(|xid| !xid.is_empty());
            let running: Box<[u64]> = running.map(str::parse).collect::<Result<_, _>>().ok()?;
            let is_ordered = xmin <= xmax && running.is_sorted();
            (parts.next().is_none() && is_ordered).then_some(Snapshot { xmin, xmax, running })
        };
        parse().ok_or_else(|| SnapshotParseError(text.to_owned()))
    }
}

/// A copy's place in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// What the copy holds.
    pub snapshot: Snapshot,
    /// The leader's insert position after the snapshot was taken: no commit above it is in the copy, so that nobody needs
    /// to look at `snapshot` any more once the watermark is here.
    pub lsn: Lsn,
}

impl Fence {
    /// Whether the copy holds what this transaction did.
    pub fn covers(&self, xid: Xid) -> bool {
        self.snapshot.sees(xid)
    }

    /// Whether a replica with this watermark can forget the fence.
    pub fn is_passed_by(&self, watermark: CommitLsn) -> bool {
        watermark.0 >= self.lsn
    }
}

/// The fences that one replica still has to pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fences {
    /// Of the copy that gave the replica all its tables and the offsets to go on from. Transactions that it covers are
    /// left out whole: their first records may lie before those offsets.
    pub whole: Option<Fence>,
    /// Of each table's copy.
    pub tables: HashMap<TableName, Fence>,
    /// The tables whose newest copy was a fenced one, passed or not, with its position: rows of an older snapshot may still
    /// stand ahead in the topics.
    pub replaced: HashMap<TableName, Lsn>,
}

impl Fences {
    /// Whether there are none: the usual case, in which nothing has to be asked.
    pub fn is_empty(&self) -> bool {
        self.whole.is_none() && self.tables.is_empty()
    }

    /// The watermark at which all fences are passed and the tables agree again.
    pub fn end(&self) -> Option<Lsn> {
        self.whole.iter().chain(self.tables.values()).map(|fence| fence.lsn).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn sees_what_had_ended_and_nothing_that_was_running_or_came_later() {
        let snapshot = snapshot("795:800:796,798");
        let seen: Vec<u32> = (790..805).filter(|xid| snapshot.sees(Xid(*xid))).collect();
        assert_eq!(seen, [790, 791, 792, 793, 794, 795, 797, 799]);
    }

    #[test]
    fn sees_the_same_when_the_32_bits_have_come_round() {
        // 2^32 + 2 is the next id; the stream calls it 2.
        let snapshot = snapshot("4294967290:4294967298:4294967295,4294967297");
        for seen in [5_000, u32::MAX - 10, u32::MAX - 1, 0, u32::MAX - 2_000_000_000] {
            let is_near = seen > u32::MAX / 2 || seen == 0;
            assert_eq!(snapshot.sees(Xid(seen)), is_near, "{seen}");
        }
        for unseen in [u32::MAX, 1, 2, 3, 2_000_000_000] {
            assert!(!snapshot.sees(Xid(unseen)), "{unseen}");
        }
    }

    #[test]
    fn a_young_cluster_has_no_ids_below_zero() {
        assert!(snapshot("700:700:").sees(Xid(699)));
        assert!(!snapshot("700:700:").sees(Xid(700)));
        assert!(snapshot("700:700:").sees(Xid(u32::MAX)), "older than the cluster's first is older still");
    }

    #[test]
    fn prints_and_parses_as_postgresql_does() {
        for text in ["795:800:796,798", "795:795:", "4294967290:4294967298:4294967295"] {
            assert_eq!(snapshot(text).to_string(), text);
        }
        for wrong in ["", "1", "1:2", "2:1:", "1:2:x", "1:2:3:4", "1:9:5,3", ":2:", "-1:2:"] {
            assert!(wrong.parse::<Snapshot>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fence_is_passed_at_its_position() {
        let fence = Fence { snapshot: snapshot("5:5:"), lsn: Lsn(100) };
        assert!(!fence.is_passed_by(CommitLsn(Lsn(99))));
        assert!(fence.is_passed_by(CommitLsn(Lsn(100))));
        let tables = [("a", 100), ("b", 300)]
            .map(|(name, lsn)| (TableName::new("public", name), Fence { lsn: Lsn(lsn), ..fence.clone() }));
        let fences = Fences { whole: Some(fence), tables: tables.into(), replaced: HashMap::new() };
        assert_eq!((fences.end(), fences.is_empty()), (Some(Lsn(300)), false));
        assert_eq!((Fences::default().end(), Fences::default().is_empty()), (None, true));
    }
}
