//! One writer: who owns a replica, and what becomes of an owner that stops or is stopped.

use std::time::Duration;

use e2e::postgres::{Cluster, Kind, Role};
use e2e::proxy::ChaosProxy;
use e2e::wait::until;
use replicator::replica::checkpoint::{self, Checkpoint, Claim};
use replicator::replica::lease::Lease;
use replicator::replica::session::Session;
use replicator::replica::side::Sides;
use replicator::replica::{Disposition, ReplicaError};
use replicator::vocabulary::change::Operation;
use replicator::vocabulary::lsn::Xid;
use replicator::vocabulary::offset::{self, Offsets};
use replicator::vocabulary::parcel::{Parcel, ParcelEnd, Streamed};

use crate::apply::{Fixture, transaction};
use crate::feed::acquire;

const PATIENCE: Duration = Duration::from_secs(20);

async fn session(cluster: &Cluster) -> anyhow::Result<Session> {
    Ok(Session::connect(&cluster.url(Role::Replicator).parse()?).await?)
}

async fn claim(session: &Session, owner: &str, lease: Duration) -> Result<Checkpoint, ReplicaError> {
    checkpoint::acquire(session, Claim { source: "debezium:app", owner, lease }).await
}

/// Lets the lease run out at once, as a paused owner does slowly.
async fn expire(cluster: &Cluster) -> anyhow::Result<()> {
    let superuser = cluster.superuser().await?;
    superuser.batch_execute("UPDATE replicator.lease SET until = clock_timestamp() - interval '1 s'").await?;
    Ok(())
}

#[tokio::test]
async fn a_second_daemon_stands_by_until_the_first_is_gone() -> anyhow::Result<()> {
    let f = Fixture::new().await?;
    let second = session(&f.cluster).await?;
    let error = claim(&second, "second", Duration::from_secs(60)).await.expect_err("the first one owns it");
    assert_eq!(error.disposition(), Disposition::Yield);
    assert!(error.to_string().contains("test"), "the owner is named: {error}");
    let Fixture { cluster: _cluster, applier, .. } = f;
    drop(applier);
    let checkpoint = acquire(&second, "app").await?;
    assert_eq!(checkpoint.epoch, 2);
    Ok(())
}

#[tokio::test]
async fn a_replica_of_one_stream_is_not_fed_from_another() -> anyhow::Result<()> {
    let Fixture { cluster, applier, .. } = Fixture::new().await?;
    drop(applier);
    let first = session(&cluster).await?;
    acquire(&first, "app").await?;
    drop(first);
    let (second, wrong) = (session(&cluster).await?, "debezium:other");
    let lease = Duration::from_secs(60);
    let error = until("the replica to be free", PATIENCE, async || {
        match checkpoint::acquire(&second, Claim { source: wrong, owner: "test", lease }).await {
            Err(ReplicaError::Owned { owner }) => Err(format!("owned by {owner}")),
            Err(error) => Ok(error),
            Ok(_) => panic!("offsets of one stream mean nothing in another"),
        }
    })
    .await?;
    assert_eq!(error.disposition(), Disposition::Halt);
    assert!(error.to_string().contains("debezium:app"), "{error}");
    assert!(error.hint().contains("Empty the replica"), "{}", error.hint());
    let third = session(&cluster).await?;
    assert_eq!(claim(&third, "test", lease).await?.epoch, 3, "the refused session holds no lock");
    Ok(())
}

#[tokio::test]
async fn an_owner_that_shows_no_sign_of_life_is_ended_with_all_that_it_has_open() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    let insert = f.change("accounts", Operation::Insert(f.account("1", Some("10"))?), 0)?;
    f.applier.apply_part(&Parcel::new(vec![insert], 0, ParcelEnd::Open)).await?;
    let second = session(&f.cluster).await?;
    let lease = Duration::from_secs(60);
    claim(&second, "second", lease).await.expect_err("the lease has not run out");
    expire(&f.cluster).await?;
    let checkpoint = claim(&second, "second", lease).await?;
    assert_eq!(checkpoint.epoch, 2);
    // It wakes up and commits what it believes to be its own.
    let ParcelEnd::Commit(point) = transaction(0x100, vec![]).end else { unreachable!("it commits") };
    let error = f.applier.commit_open(&point).await.expect_err("its session is gone");
    assert_eq!(error.disposition(), Disposition::Retry, "{error}");
    assert_eq!((f.sum().await?.as_str(), f.watermark().await?.as_str()), ("0", "0/0"));
    Ok(())
}

/// A side session holds locks on rows, and is not the one that the lease names.
#[tokio::test]
async fn a_new_owner_ends_what_the_old_one_applies_beside_its_own_session() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    let (url, lease) = (f.cluster.url(Role::Replicator).parse()?, Duration::from_secs(60));
    let insert = f.change("accounts", Operation::Insert(f.account("1", Some("10"))?), 0)?;
    f.applier.apply(&[&transaction(0x100, vec![insert])]).await?;
    let mut sides = Sides::new(url, 1);
    let update = f.change("accounts", Operation::Update(f.account("1", Some("20"))?), 1)?;
    let place = Streamed { xid: Xid(8), begins: true, depth: 0 };
    let part = Parcel { streamed: Some(place), ..Parcel::new(vec![update.clone()], 0, ParcelEnd::Open) };
    assert_eq!(sides.take(&part, place, &f.applier).await?, None);
    expire(&f.cluster).await?;
    let second = session(&f.cluster).await?;
    assert_eq!(claim(&second, "second", lease).await?.epoch, 2);
    // The row is free at once, whoever held it.
    let lock = "SET lock_timeout = '10ms'; SELECT FROM public.accounts WHERE id = 1 FOR UPDATE";
    second.client().batch_execute(lock).await?;
    // The old one wakes up: it can neither commit nor begin anew.
    let commit = Parcel { streamed: Some(place), ..transaction(0x200, vec![]) };
    let place = Streamed { begins: false, ..place };
    let error = sides.take(&commit, place, &f.applier).await.expect_err("its session is gone");
    assert_eq!(error.disposition(), Disposition::Retry, "{error}");
    let error = Session::connect_beside(&f.cluster.url(Role::Replicator).parse()?, 1).await;
    let error = error.expect_err("the epoch is over");
    assert_eq!(error.disposition(), Disposition::Yield, "{error}");
    assert_eq!((f.sum().await?.as_str(), f.watermark().await?.as_str()), ("10.00", "0/100"));
    // The new one's own are left alone.
    let beside = Session::connect_beside(&f.cluster.url(Role::Replicator).parse()?, 2).await?;
    beside.client().query_one("SELECT 1", &[]).await?;
    Ok(())
}

#[tokio::test]
async fn a_session_that_only_got_the_old_owners_pid_is_left_alone() -> anyhow::Result<()> {
    let f = Fixture::new().await?;
    let bystander = session(&f.cluster).await?;
    let pid: i32 = bystander.client().query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    expire(&f.cluster).await?;
    let superuser = f.cluster.superuser().await?;
    superuser.execute("UPDATE replicator.lease SET pid = $1", &[&pid]).await?;
    let second = session(&f.cluster).await?;
    claim(&second, "second", Duration::from_secs(60)).await.expect_err("nobody was ended");
    bystander.client().query_one("SELECT 1", &[]).await?;
    Ok(())
}

#[tokio::test]
async fn a_renewed_lease_outlasts_a_long_transaction() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    expire(&f.cluster).await?;
    let term = Duration::from_secs(2);
    let _lease = Lease::keep(&f.cluster.url(Role::Replicator).parse()?, 1, term, |_| {}).await?;
    let insert = f.change("accounts", Operation::Insert(f.account("1", Some("10"))?), 0)?;
    f.applier.apply_part(&Parcel::new(vec![insert], 0, ParcelEnd::Open)).await?;
    let second = session(&f.cluster).await?;
    until("more time to pass than a lease lasts", PATIENCE, async || {
        let refused = claim(&second, "second", term).await;
        assert!(matches!(refused, Err(ReplicaError::Owned { .. })), "the owner lives: {refused:?}");
        let sql =
            "SELECT renewed_at - owned_since > interval '4 s' FROM replicator.lease, replicator.checkpoint";
        let row = f.reader.query_one(sql, &[]).await.map_err(|error| error.to_string())?;
        if row.get(0) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await?;
    let ParcelEnd::Commit(point) = transaction(0x100, vec![]).end else { unreachable!("it commits") };
    f.applier.commit_open(&point).await?;
    assert_eq!(f.sum().await?, "10.00");
    Ok(())
}

#[tokio::test]
async fn an_owner_that_can_not_renew_gives_up_by_itself() -> anyhow::Result<()> {
    let f = Fixture::new().await?;
    let proxy = ChaosProxy::start(f.cluster.port()).await?;
    let url = f.cluster.url_through(Role::Replicator, proxy.port()).parse()?;
    let mut lease = Lease::keep(&url, 1, Duration::from_secs(2), |_| {}).await?;
    proxy.pause();
    let error = tokio::time::timeout(PATIENCE, lease.lost()).await?;
    assert!(matches!(error, ReplicaError::LeaseLost { seconds: 2, .. }), "{error}");
    assert_eq!(error.disposition(), Disposition::Retry);
    Ok(())
}

#[tokio::test]
async fn an_owner_learns_from_its_lease_that_another_one_took_over() -> anyhow::Result<()> {
    let f = Fixture::new().await?;
    let mut lease =
        Lease::keep(&f.cluster.url(Role::Replicator).parse()?, 1, Duration::from_secs(2), |_| {}).await?;
    let superuser = f.cluster.superuser().await?;
    superuser.batch_execute("UPDATE replicator.lease SET epoch = 2, owner = 'another'").await?;
    let error = tokio::time::timeout(PATIENCE, lease.lost()).await?;
    assert_eq!(error.disposition(), Disposition::Yield, "{error}");
    assert!(error.to_string().contains("another"), "{error}");
    Ok(())
}

/// Commits of an owner don't wait for the replica's disk. What the leader is told to forget has to be there all the same.
#[tokio::test]
async fn what_a_renewal_or_a_standby_tells_outlasts_a_crash_of_the_server() -> anyhow::Result<()> {
    // Nothing is written by the way, so that only what is asked for gets to the disk.
    let settings = [("wal_writer_delay", "10s")];
    let mut cluster = Cluster::with_settings(Kind::Replica, "replica-1", &settings).await?;
    let url = cluster.url(Role::Replicator).parse()?;
    for (round, is_standby) in [(1, false), (2, true)] {
        let owner = session(&cluster).await?;
        let epoch = acquire(&owner, "app").await?.epoch;
        let stored = format!("UPDATE replicator.checkpoint SET offsets = '{{\"wal/0\": {round}}}'");
        owner.client().batch_execute(&stored).await?;
        let told = if is_standby {
            checkpoint::kept_offsets(&session(&cluster).await?).await?
        } else {
            let (tell, hear) = std::sync::mpsc::channel();
            let kept = move |offsets: &Offsets| drop(tell.send(offsets.clone()));
            let lease = Lease::keep(&url, epoch, Duration::from_secs(60), kept).await?;
            drop(lease);
            hear.recv()?
        };
        assert_eq!(told.get(&offset::wal()), Some(&round));
        cluster.kill()?;
        cluster.start().await?;
        assert_eq!(checkpoint::offsets(&session(&cluster).await?).await?, told);
    }
    Ok(())
}
