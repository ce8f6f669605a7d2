//! Another configuration takes over without a request being lost; limits on age and on what the leader takes over.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::ensure;
use webapp::db::queries::demo::WhoAnswers;

use crate::site::{PATIENCE, Site};

#[tokio::test]
async fn replicas_come_and_go_under_load_and_no_request_fails() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let (done, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = async || {
        while !done.load(Ordering::Relaxed) {
            let reply = site.get("/posts").await?;
            ensure!(reply.code() == 200, "{reply:?}");
            // On a busy machine one may be slow at a time when there is no other.
            if reply.served_by().starts_with("replica") {
                reads.fetch_add(1, Ordering::Relaxed);
            }
        }
        anyhow::Ok(())
    };
    let changes = async {
        site.state().database().replicas().get(0).set_drained(true);
        for replicas in [&[0, 1][..], &[1], &[2, 1], &[0, 1, 2]] {
            site.reload(replicas, &[]).await?;
            let set = site.state().database().replicas();
            ensure!(set.len() == replicas.len());
            for replica in set.iter() {
                ensure!(replica.view().in_rotation, "{} takes part at once", replica.name());
            }
            let status = site.get("/").await?;
            ensure!(status.code() == 200, "{status:?}");
            // Some reads with each set.
            let before = reads.load(Ordering::Relaxed);
            e2e::wait::until("reads from replicas", PATIENCE, async || {
                let now = reads.load(Ordering::Relaxed);
                if now > before + 5 { Ok(()) } else { Err(format!("{now} after {before}")) }
            })
            .await?;
        }
        // It was gone in between, so it is another one now; the second was there all the time.
        ensure!(!site.state().database().replicas().get(0).is_drained());
        done.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (first, second, third, changes) = tokio::join!(load(), load(), load(), changes);
    done.store(true, Ordering::Relaxed);
    changes?;
    [first, second, third].into_iter().collect::<anyhow::Result<()>>()?;
    let bad = site.reload(&[0], &[("WEBAPP__REPLICAS__0__URL", "postgres://u@host:port/app")]).await;
    ensure!(bad.is_err() && site.state().database().replicas().len() == 3, "a wrong one changes nothing");
    Ok(())
}

#[tokio::test]
async fn replicas_that_are_too_old_get_no_reads_while_there_is_something_newer() -> anyhow::Result<()> {
    let site = Site::start_empty(&[("WEBAPP__HEALTH__LAG_MAX_MS", "1500")]).await?;
    site.replicate(&[0, 1, 2]).await?;
    site.await_rotation(3).await?;
    // Only the third one goes on.
    e2e::wait::until("the others to be too old", PATIENCE, async || {
        site.replicate(&[2]).await.map_err(|error| error.to_string())?;
        let set = site.state().database().replicas();
        let old = set.iter().filter(|replica| replica.view().lagging).count();
        if old == 2 { Ok(()) } else { Err(format!("{old} are")) }
    })
    .await?;
    for _ in 0..4 {
        let reply = site.get("/posts").await?;
        ensure!(reply.served_by() == "replica-3", "{reply:?}");
    }
    site.replica(2).cut();
    site.await_rotation(2).await?;
    let page = site.get("/posts").await?;
    ensure!(page.served_by() == "leader" && page.text.contains("too far behind"), "{page:?}");
    // Without the leader nothing is newer than what they have; and they say how old it is.
    site.leader().cut();
    let page = site.get("/posts").await?;
    ensure!(page.code() == 200 && page.served_by().starts_with("replica"), "{page:?}");
    ensure!(page.header("x-replica-lag-ms").parse::<u64>()? > 1500, "{page:?}");
    Ok(())
}

#[tokio::test]
async fn the_leader_takes_over_so_many_reads_and_no_more() -> anyhow::Result<()> {
    let settings = [
        ("WEBAPP__LEADER__READ_POOL", "1"),
        ("WEBAPP__TIMEOUTS__CONNECT_MS", "1000"),
        ("WEBAPP__TIMEOUTS__READ_MS", "9000"),
    ];
    let site = Site::start_empty(&settings).await?;
    let lock = site.lock_leader_posts().await?;
    // The first one waits for the lock on the leader's only connection for readers.
    let database = site.state().database();
    let first = database.read(&WhoAnswers, None.into());
    let others = async {
        site.await_leader_blocked().await?;
        let refused = site.get("/posts").await?;
        ensure!(refused.code() == 503 && refused.header("retry-after") == "1", "{refused:?}");
        ensure!(refused.text.contains("takes over only so many"), "{refused:?}");
        let api = site.get("/api/posts").await?;
        ensure!(api.body()["error"]["code"] == "leader_busy", "{api:?}");
        drop(lock);
        Ok(())
    };
    let (first, others) = tokio::join!(first, others);
    others?;
    ensure!(first?.served.by == "leader", "the budget is one, and not none");
    // With the leader away, who waits for an own write is told so.
    let written = site.post("mine").await?;
    site.replicate(&[0, 1, 2]).await?;
    site.await_rotation(3).await?;
    let later = site.post("later").await?;
    ensure!(written.code() == 201 && later.code() == 201);
    site.leader().cut();
    let token = later.header("x-consistency-token");
    let request = site.request(reqwest::Method::GET, "/api/posts").header("x-consistency-token", token);
    let reply = crate::site::Reply::of(request).await?;
    ensure!(reply.code() == 503 && reply.body()["error"]["code"] == "not_there_yet", "{reply:?}");
    ensure!(site.get("/api/posts").await?.code() == 200, "others read on");
    Ok(())
}
