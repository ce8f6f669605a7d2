//! Whether a leader that was started anew is recognised as the one that was followed, or as another.

use anyhow::Context as _;
use replicator::decode::pgoutput::{Decoder, Frame, Message};
use replicator::source::postgres::{Followed, PostgresSettings, PostgresSourceError, Recognised, recognise};
use replicator::vocabulary::leader::LeaderRun;
use replicator::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use replicator::vocabulary::parcel::Committed;

use super::{Leader, PATIENCE, SLOT};

/// Ends more subtransactions than fit into 64 KiB of a commit record, at four bytes each.
const LARGE_COMMIT: &str = "DO $$ BEGIN
    FOR i IN 1..17000 LOOP
        BEGIN INSERT INTO items VALUES (1000 + i); EXCEPTION WHEN unique_violation THEN NULL; END;
    END LOOP;
END $$";

/// A replica that has just applied the leader's last transaction.
struct Replica<'a> {
    leader: &'a Leader,
    settings: PostgresSettings,
    followed: Followed,
}

impl<'a> Replica<'a> {
    /// What `statement`, the leader's first transaction, leaves behind.
    async fn behind(leader: &'a Leader, statement: &str) -> anyhow::Result<Self> {
        leader.sql.batch_execute("BEGIN").await?;
        let xid = leader.text("SELECT pg_current_xact_id()::text").await?.parse()?;
        leader.sql.batch_execute(&format!("{statement}; COMMIT")).await?;
        let (mut stream, mut decoder) = (leader.stream().await?.stream, Decoder::new());
        let last = loop {
            if let Frame::Data(data) = stream.next().await?
                && let Message::Commit { lsn, committed_at_ms, .. } = decoder.decode(data.payload)?
            {
                break Committed { xid: Xid(xid), lsn, committed_at_ms };
            }
        };
        stream.stop().await?.close().await;
        let settings = PostgresSettings {
            url: leader.config()?,
            slot: SLOT.to_owned(),
            publication: "everything".to_owned(),
            work_mem: "64MB".to_owned(),
            streaming: true,
            streaming_work_mem: "64kB".to_owned(),
            binary: true,
            exclude_tables: Vec::new(),
        };
        let none = Followed { leader: None, last: Some(last), watermark: last.lsn.0 };
        let new = recognise(&settings, &none).await?;
        assert!(new.is_certain, "a replica that was just copied follows whatever there is");
        Ok(Replica { leader, settings, followed: Followed { leader: Some(new.leader), ..none } })
    }

    /// As after a restart of the leader, with which its data may have changed.
    fn after_a_restart(&self) -> Followed {
        let leader = self.followed.leader.as_ref();
        let earlier = leader.map(|run| LeaderRun { started_at_us: run.started_at_us - 1, ..run.clone() });
        Followed { leader: earlier, ..self.followed.clone() }
    }

    async fn recognise(&self, followed: &Followed) -> Result<Recognised, PostgresSourceError> {
        recognise(&self.settings, followed).await
    }

    async fn refusal(&self, followed: Followed) -> String {
        let error = self.recognise(&followed).await.expect_err("it is another history");
        assert!(!error.is_outage() && error.hint().contains("rebuild"), "{error}");
        error.to_string()
    }

    async fn wal_position(&self) -> anyhow::Result<Lsn> {
        Ok(self.leader.connect(&[]).await?.identify_system().await?.wal_position)
    }
}

#[tokio::test]
async fn a_leader_that_was_only_restarted_is_the_same() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    let replica = Replica::behind(&leader, "INSERT INTO items VALUES (1)").await?;
    let same = replica.recognise(&replica.followed).await?;
    assert_eq!((Some(same.leader), same.is_certain), (replica.followed.leader.clone(), true));
    // Later transactions are none of its business, and neither is a watermark that a sign of life has moved.
    leader.sql.batch_execute("VACUUM items").await?;
    let moved = Followed { watermark: replica.wal_position().await?, ..replica.after_a_restart() };
    leader.sql.batch_execute("INSERT INTO items VALUES (2)").await?;
    for followed in [replica.after_a_restart(), moved] {
        let after = replica.recognise(&followed).await?;
        assert_eq!((Some(after.leader), after.is_certain), (replica.followed.leader.clone(), true));
    }
    // A session ends soon after its connection.
    e2e::wait::until("the copies to be gone", PATIENCE, async || {
        let slots = "SELECT string_agg(slot_name, ' ') FROM pg_replication_slots";
        let slots = leader.text(slots).await.map_err(|error| error.to_string())?;
        if slots == SLOT { Ok(()) } else { Err(slots) }
    })
    .await
}

#[tokio::test]
async fn a_commit_record_of_many_pages_is_found() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    let replica = Replica::behind(&leader, LARGE_COMMIT).await?;
    assert!(replica.recognise(&replica.after_a_restart()).await?.is_certain);
    Ok(())
}

#[tokio::test]
async fn another_history_is_told_from_its_transactions() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    let replica = Replica::behind(&leader, "INSERT INTO items VALUES (1)").await?;
    let last = replica.followed.last.context("no commit")?;
    let Committed { xid, lsn, committed_at_ms } = last;
    leader.sql.batch_execute("INSERT INTO items VALUES (2)").await?;
    let past = replica.wal_position().await?;

    let other_xid =
        Followed { last: Some(Committed { xid: Xid(xid.0 + 9), ..last }), ..replica.after_a_restart() };
    assert!(replica.refusal(other_xid).await.ends_with("and the leader does not"));
    let at_another_time = Committed { committed_at_ms: committed_at_ms - 1, ..last };
    let repeated = Followed { last: Some(at_another_time), ..replica.after_a_restart() };
    assert!(replica.refusal(repeated).await.ends_with("and the leader does not"));
    let nothing_there = CommitLsn(Lsn(lsn.0.0 + 8));
    let elsewhere = Followed {
        last: Some(Committed { lsn: nothing_there, ..last }),
        watermark: nothing_there.0,
        ..replica.after_a_restart()
    };
    assert!(replica.refusal(elsewhere).await.contains(&format!("transaction {xid}, which ended at")));
    let lacking = Followed { watermark: past, ..replica.after_a_restart() };
    assert!(replica.refusal(lacking).await.ends_with("does not have it"));
    let ahead = Followed { watermark: Lsn(past.0 + (1 << 30)), ..replica.after_a_restart() };
    assert!(replica.refusal(ahead).await.starts_with("the leader's WAL ends at"));
    let mut cluster = replica.after_a_restart();
    cluster.leader.as_mut().context("no leader")?.history.system_id += 1;
    assert!(replica.refusal(cluster).await.contains("system identifier"));
    Ok(())
}

#[tokio::test]
async fn without_a_slot_nothing_is_certain() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    let replica = Replica::behind(&leader, "INSERT INTO items VALUES (1)").await?;
    leader.sql.execute("SELECT pg_drop_replication_slot($1)", &[&SLOT]).await?;
    assert!(!replica.recognise(&replica.after_a_restart()).await?.is_certain);
    Ok(())
}
