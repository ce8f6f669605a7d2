//! Brief reads that come at the same time share sessions; others have one each.

use anyhow::{Context as _, ensure};
use futures_util::future::join_all;
use tokio_postgres::Row;
use webapp::db::route::Preference;
use webapp::db::statement::{Params, Read};

use crate::site::{PATIENCE, Site};

/// Who answers: the process of the session. It reads posts, so a test can have it wait for a lock of theirs.
struct Process<const BRIEF: bool>;

impl<const BRIEF: bool> Read for Process<BRIEF> {
    type Output = i32;
    const SQL: &'static str = "SELECT pg_backend_pid(), count(*) FROM posts";
    const IS_BRIEF: bool = BRIEF;

    fn params(&self) -> Params<'_> {
        vec![]
    }

    fn decode(&self, rows: &[Row]) -> Result<i32, tokio_postgres::Error> {
        rows[0].try_get(0)
    }
}

/// A site whose reads go to one replica.
async fn with_one_replica(settings: &[(&str, &str)]) -> anyhow::Result<Site> {
    let site = Site::start_empty(settings).await?;
    site.replicate(&[0, 1, 2]).await?;
    site.await_rotation(3).await?;
    for replica in site.state().database().replicas().iter().skip(1) {
        replica.set_drained(true);
    }
    Ok(site)
}

/// The processes that answer so many reads, all of which have begun before the first one can end.
async fn processes<const BRIEF: bool>(site: &Site, reads: usize) -> anyhow::Result<Vec<i32>> {
    let lock = site.lock_posts(0).await?;
    let database = site.state().database();
    let read = async || database.read(&Process::<BRIEF>, Preference::Any).await;
    let release = async {
        site.await_blocked(0).await?;
        lock.batch_execute("ROLLBACK").await.context("release the lock")
    };
    let (answers, released) = tokio::join!(join_all((0..reads).map(|_| read())), release);
    released?;
    let mut found = Vec::new();
    for answer in answers {
        let answer = answer?;
        ensure!(answer.served.by == "replica-1", "{answer:?}");
        found.push(answer.value);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

#[tokio::test]
async fn brief_reads_at_the_same_time_share_sessions() -> anyhow::Result<()> {
    let site = with_one_replica(&[("WEBAPP__TIMEOUTS__READ_MS", "8000")]).await?;
    // The first one opens a session; reads that find none open one each.
    let first = processes::<true>(&site, 1).await?;
    let found = processes::<true>(&site, 8).await?;
    ensure!(found == first, "eight brief reads were on {found:?}, and not on {first:?} alone");
    let found = processes::<true>(&site, 9).await?;
    ensure!(found.len() == 2, "nine brief reads were on {found:?}");
    let found = processes::<false>(&site, 8).await?;
    ensure!(found.len() == 8, "eight reads that may take long were on {found:?}");
    Ok(())
}

#[tokio::test]
async fn a_session_that_was_late_is_left() -> anyhow::Result<()> {
    let site = with_one_replica(&[("WEBAPP__TIMEOUTS__READ_MS", "400")]).await?;
    let database = site.state().database();
    let read = async || database.read(&Process::<true>, Preference::Any).await;
    let before = read().await?.value;
    site.replica(0).pause();
    for answer in join_all((0..3).map(|_| read())).await {
        let answer = answer?;
        ensure!(answer.served.by == "leader", "a frozen replica answered: {answer:?}");
    }
    site.replica(0).restore();
    let after = e2e::wait::until("replica-1 to answer", PATIENCE, async || {
        let answer = read().await.map_err(|error| error.to_string())?;
        if answer.served.by == "replica-1" { Ok(answer.value) } else { Err(answer.served.by) }
    })
    .await?;
    ensure!(after != before, "the session that was late is in use: {after}");
    Ok(())
}
