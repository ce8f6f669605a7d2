//! Whether the leader's log is still the one that a replica has followed.
//!
//! A server that was restored to an older state has the same identifier, often the same timeline, and nothing is odd about its
//! positions once it has written past those of the replica. Only its transactions are others. So whenever the leader's
//! server has been started anew, the replica's last transaction is read once more: it has to end at the same position, under
//! the same id, and committed at the same time (asked to do the same again, a restored leader gives out the same ids and
//! positions); and no other one may end between there and the replica's watermark. The slot vouches for what it has
//! confirmed: it was restored with the rest.

use std::time::Duration;

use super::error::PostgresSourceError;
use super::settings::PostgresSettings;
use super::slot::{copy_slot, find_slot};
use super::{ReplicationConnection, error};
use crate::decode::pgoutput::{Decoder, Frame, Message, StatusUpdate};
use crate::vocabulary::leader::LeaderRun;
use crate::vocabulary::lsn::{Lsn, Xid};
use crate::vocabulary::parcel::Committed;
use crate::vocabulary::row::Form;

/// How far before its end a commit record is looked for at first. Most have some hundred bytes; one that drops very many
/// tables, or ends very many subtransactions, is found at the second try, from where the slot begins.
const COMMIT_RECORD_BYTES: u64 = 64 * 1024;

/// How long nothing may come before the leader is asked how far it is.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// What a replica has of the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The run of the leader's server that was last found to be the right one; none for a replica that was just copied.
    pub leader: Option<LeaderRun>,
    /// The last transaction; none when none has come since the copy.
    pub last: Option<Committed>,
    /// Everything up to here.
    pub watermark: Lsn,
}

/// What was found out about the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognised {
    /// The server as it runs now.
    pub leader: LeaderRun,
    /// Whether its log is certain to go on from where the replica stands. Not without a slot to ask; streaming fails then.
    pub is_certain: bool,
}

/// Makes sure that the leader's log goes on from where the replica stands. Costs one question while the leader's server is
/// the one that it was; after its restart the replica's last transaction is looked for through a temporary copy of the slot.
///
/// # Errors
/// [`PostgresSourceError::OtherHistory`] and [`PostgresSourceError::WentBack`] when it does not; others when the leader can't
/// be asked.
pub async fn recognise(
    settings: &PostgresSettings,
    followed: &Followed,
) -> Result<Recognised, PostgresSourceError> {
    let mut connection = settings.connect(false).await?;
    let leader = connection.leader_run().await?;
    let certain = |is_certain| Ok(Recognised { leader: leader.clone(), is_certain });
    let Some(before) = followed.leader.as_ref().filter(|before| **before != leader) else {
        connection.close().await;
        return certain(true);
    };
    if before.history.system_id != leader.history.system_id {
        let (was, is) = (before.history.system_id, leader.history.system_id);
        let what =
            format!("it is the cluster with the system identifier {is}, and the replica followed {was}");
        return Err(PostgresSourceError::OtherHistory(what));
    }
    let wal_position = connection.identify_system().await?.wal_position;
    if wal_position < followed.watermark {
        return Err(PostgresSourceError::WentBack { needed: followed.watermark, wal_position });
    }
    let slot = find_slot(&mut connection, &settings.slot).await?.filter(|slot| !slot.is_lost());
    let Some(confirmed) = slot.and_then(|slot| slot.confirmed_flush) else { return certain(false) };
    tracing::info!(leader = %leader.history, "the leader was started anew: looking whether its log goes on from here");
    let near = followed.last.map_or(Lsn(0), |last| Lsn(last.lsn.0.0.saturating_sub(COMMIT_RECORD_BYTES)));
    let mut found = look(settings, connection, near, followed, confirmed).await?;
    if found.is_err() && near > confirmed {
        found = look(settings, settings.connect(false).await?, confirmed, followed, confirmed).await?;
    }
    match found {
        Ok(()) => certain(true),
        Err(what) => Err(PostgresSourceError::OtherHistory(what)),
    }
}

/// Reads from `from` on, or from `confirmed` if that is later, until past the replica's watermark.
async fn look(
    settings: &PostgresSettings,
    mut connection: ReplicationConnection,
    from: Lsn,
    followed: &Followed,
    confirmed: Lsn,
) -> Result<Verdict, PostgresSourceError> {
    let mut search = Search::new(followed, confirmed);
    if let Some(verdict) = search.reached(confirmed) {
        connection.close().await;
        return Ok(verdict);
    }
    let name = settings.temporary_slot();
    copy_slot(&mut connection, &settings.slot, &name).await?;
    // Not while they run: what has not committed is of no interest.
    let options = settings.stream_options(false, Form::Text);
    let mut stream = connection.start(&name, from, &options).await?;
    let mut decoder = Decoder::new();
    loop {
        let verdict = match stream.try_next()? {
            Some(Frame::Data(data)) => search.accept(&decoder.decode(data.payload)?),
            Some(Frame::Keepalive(keepalive)) => search.reached(keepalive.wal_end),
            None => {
                if let Ok(more) = tokio::time::timeout(ASK_AFTER, stream.ready()).await {
                    more?;
                } else {
                    // A leader that has nothing to send says so when it is asked.
                    let ask = StatusUpdate { reply_requested: true, ..StatusUpdate::default() };
                    stream.send_status(ask)?;
                }
                None
            }
        };
        if let Some(verdict) = verdict {
            return Ok(verdict);
        }
    }
}

/// Nothing, or what is wrong in words.
type Verdict = Result<(), String>;

/// What has been seen of the log around a replica's position.
#[derive(Debug)]
struct Search {
    /// The transaction that has to come.
    awaited: Option<Committed>,
    /// Above this and up to the watermark nothing may end.
    nothing_after: Lsn,
    watermark: Lsn,
    open: Option<Xid>,
}

impl Search {
    fn new(followed: &Followed, confirmed: Lsn) -> Self {
        let last = followed.last.map_or(Lsn(0), |last| last.lsn.0);
        Search {
            awaited: followed.last.filter(|last| last.lsn.0 > confirmed),
            nothing_after: last.max(confirmed),
            watermark: followed.watermark,
            open: None,
        }
    }

    fn accept(&mut self, message: &Message<'_>) -> Option<Verdict> {
        match message {
            Message::Begin { commit_record, xid, .. } => {
                // What comes may be long, and says no more than this.
                if *commit_record >= self.watermark {
                    return self.reached(*commit_record);
                }
                self.open = Some(*xid);
                None
            }
            Message::Commit { lsn, committed_at_ms, .. } => {
                let xid = self.open.take()?;
                let committed = Committed { xid, lsn: *lsn, committed_at_ms: *committed_at_ms };
                if self.awaited == Some(committed) {
                    self.awaited = None;
                    return self.reached(lsn.0);
                }
                if lsn.0 > self.nothing_after && lsn.0 <= self.watermark && self.awaited.is_none() {
                    return Some(Err(format!(
                        "transaction {xid} ends at {lsn}, and the replica, complete up to {}, does not have it",
                        self.watermark
                    )));
                }
                self.reached(lsn.0)
            }
            _ => None,
        }
    }

    /// Everything that ends up to here has come.
    fn reached(&self, position: Lsn) -> Option<Verdict> {
        match self.awaited {
            _ if self.open.is_some() => None,
            Some(Committed { xid, lsn, .. }) if position >= lsn.0 => Some(Err(format!(
                "the replica has transaction {xid}, which ended at {lsn}, and the leader does not"
            ))),
            None if position >= self.watermark => Some(Ok(())),
            _ => None,
        }
    }
}

impl ReplicationConnection {
    /// The leader's server as it runs now.
    ///
    /// # Errors
    /// When the leader does not answer, or not as documented.
    pub async fn leader_run(&mut self) -> Result<LeaderRun, PostgresSourceError> {
        let identity = self.identify_system().await?;
        let sql = "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint";
        let rows = self.simple_query("ask when the leader was started", sql).await?;
        let started_at_us = rows.first().and_then(|row| row.first()?.as_ref()?.parse().ok());
        let started_at_us = started_at_us.ok_or_else(|| error::unreadable("pg_postmaster_start_time"))?;
        Ok(LeaderRun { history: identity.history, started_at_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::lsn::CommitLsn;

    /// When everything here was committed.
    const AT: i64 = 1_700_000_000_000;

    fn search(last: Option<(u32, u64)>, watermark: u64, confirmed: u64) -> Search {
        let last =
            last.map(|(xid, lsn)| Committed { xid: Xid(xid), lsn: CommitLsn(Lsn(lsn)), committed_at_ms: AT });
        Search::new(&Followed { leader: None, last, watermark: Lsn(watermark) }, Lsn(confirmed))
    }

    /// A transaction whose commit record has eight bytes.
    fn transaction(search: &mut Search, xid: u32, lsn: u64) -> Option<Verdict> {
        let commit_record = Lsn(lsn - 8);
        let begin = Message::Begin { commit_record, committed_at_ms: 0, xid: Xid(xid) };
        search.accept(&begin).or_else(|| {
            assert_eq!(
                search.reached(Lsn(u64::MAX)),
                None,
                "a sign of life within a transaction says nothing"
            );
            search.accept(&Message::Commit { commit_record, lsn: CommitLsn(Lsn(lsn)), committed_at_ms: AT })
        })
    }

    fn wrong(verdict: Option<Verdict>) -> String {
        verdict.unwrap().unwrap_err()
    }

    #[test]
    fn the_last_transaction_has_to_come_again() {
        let mut same = search(Some((7, 100)), 100, 20);
        assert_eq!(transaction(&mut same, 6, 90), None);
        assert_eq!(transaction(&mut same, 7, 100), Some(Ok(())));

        let missing = "the replica has transaction 7, which ended at 0/64, and the leader does not";
        assert_eq!(wrong(transaction(&mut search(Some((7, 100)), 100, 20), 8, 108)), missing);
        assert_eq!(wrong(transaction(&mut search(Some((7, 100)), 100, 20), 8, 104)), missing);
        assert_eq!(wrong(transaction(&mut search(Some((7, 100)), 100, 20), 8, 100)), missing, "another id");
        assert_eq!(wrong(search(Some((7, 100)), 100, 20).reached(Lsn(100))), missing);
        assert_eq!(search(Some((7, 100)), 100, 20).reached(Lsn(99)), None);
    }

    /// A restored leader that is asked to do the same as before gives it the same ids and positions.
    #[test]
    fn the_same_id_at_the_same_position_is_another_transaction_when_it_was_committed_later() {
        let mut restored = search(Some((7, 100)), 100, 20);
        let begin = Message::Begin { commit_record: Lsn(92), committed_at_ms: 0, xid: Xid(7) };
        assert_eq!(restored.accept(&begin), None);
        let lsn = CommitLsn(Lsn(100));
        let commit = Message::Commit { commit_record: Lsn(92), lsn, committed_at_ms: AT + 1 };
        assert!(wrong(restored.accept(&commit)).ends_with("and the leader does not"));
    }

    #[test]
    fn nothing_may_end_between_the_last_transaction_and_the_watermark() {
        let mut same = search(Some((7, 100)), 150, 20);
        assert_eq!(transaction(&mut same, 7, 100), None);
        assert_eq!(same.reached(Lsn(149)), None);
        assert_eq!(same.reached(Lsn(150)), Some(Ok(())));

        let mut other = search(Some((7, 100)), 150, 20);
        assert_eq!(transaction(&mut other, 7, 100), None);
        let lacking = "transaction 9 ends at 0/82, and the replica, complete up to 0/96, does not have it";
        assert_eq!(wrong(transaction(&mut other, 9, 130)), lacking);

        let mut behind = search(Some((7, 100)), 150, 20);
        assert_eq!(transaction(&mut behind, 7, 100), None);
        assert_eq!(transaction(&mut behind, 9, 158), Some(Ok(())));
    }

    #[test]
    fn what_the_slot_has_confirmed_needs_no_proof() {
        assert_eq!(search(Some((7, 100)), 150, 150).reached(Lsn(150)), Some(Ok(())));
        let mut partly = search(Some((7, 100)), 150, 120);
        assert_eq!(partly.reached(Lsn(120)), None);
        assert!(wrong(transaction(&mut partly, 9, 130)).starts_with("transaction 9 ends at"));
        let mut copied = search(None, 150, 120);
        assert_eq!(copied.reached(Lsn(149)), None);
        assert_eq!(transaction(&mut copied, 9, 160), Some(Ok(())));
    }
}
