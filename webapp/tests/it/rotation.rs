//! Who is chosen for a read, and who is not.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use webapp::db::queries::demo::WhoAnswers;
use webapp::db::route::Preference;
use webapp::db::route::strategy::{Rotation, Strategy};
use webapp::db::{ReadOptions, Served};

use crate::site::{REPLICAS, Site};

/// A strategy, and the replicas that are to look slower.
struct Run<'a>(Strategy, &'a [(String, Duration)]);

impl Run<'_> {
    /// So many reads in waves of `at_once`; how often each replica answered.
    async fn counts(&self, site: &Site, waves: usize, at_once: usize) -> anyhow::Result<Vec<usize>> {
        let rotation = Rotation::new(self.0, 1);
        let options =
            ReadOptions { preference: Preference::Any, rotation: &rotation, delays: self.1, without: None };
        let mut counts = vec![0; REPLICAS.len()];
        for _ in 0..waves {
            let database = site.state().database();
            let reads = (0..at_once).map(|_| database.read_with(&WhoAnswers, options));
            for answer in futures_util::future::try_join_all(reads).await? {
                ensure!(answer.value.name == answer.served.by, "{:?} by {:?}", answer.value, answer.served);
                counts[place(&answer.served)?] += 1;
            }
        }
        Ok(counts)
    }
}

fn place(served: &Served) -> anyhow::Result<usize> {
    REPLICAS.iter().position(|name| *name == served.by).with_context(|| format!("{served:?}"))
}

#[tokio::test]
async fn each_run_has_a_strategy_and_a_rotation_of_its_own() -> anyhow::Result<()> {
    let site = Site::start().await?;
    ensure!(Run(Strategy::RoundRobin, &[]).counts(&site, 100, 1).await? == [34, 33, 33]);
    ensure!(Run(Strategy::Sticky, &[]).counts(&site, 20, 1).await? == [20, 0, 0]);
    let random = Run(Strategy::Random, &[]).counts(&site, 60, 1).await?;
    ensure!(random.iter().all(|count| *count > 0), "{random:?}");
    // Alone, all are equally idle, and ties rotate.
    ensure!(Run(Strategy::LeastInFlight, &[]).counts(&site, 30, 1).await? == [10, 10, 10]);
    Ok(())
}

#[tokio::test]
async fn a_replica_that_is_slow_for_one_run_gets_fewer_of_its_reads() -> anyhow::Result<()> {
    let site = Site::start().await?;
    // Long beside any read of a busy machine, and below the read's own time-out.
    let slow = [("replica-2".to_owned(), Duration::from_millis(400))];
    let database = site.state().database();
    let rotation = Rotation::new(Strategy::LeastInFlight, 1);
    let options =
        ReadOptions { preference: Preference::Any, rotation: &rotation, delays: &slow, without: None };
    // Four callers share the reads, each asking again when it has an answer: who waits for the slow replica takes no further
    // part, so the shares follow from how long the replicas take.
    let left = Cell::new(200_usize);
    let caller = async || {
        let mut mine = vec![0; REPLICAS.len()];
        while let Some(rest) = left.get().checked_sub(1) {
            left.set(rest);
            let answer = database.read_with(&WhoAnswers, options).await?;
            mine[place(&answer.served)?] += 1;
        }
        anyhow::Ok(mine)
    };
    let by_caller = futures_util::future::try_join_all((0..4).map(|_| caller())).await?;
    let of = |index: usize| by_caller.iter().map(|mine| mine[index]).sum::<usize>();
    ensure!(of(0) + of(1) + of(2) == 200, "{by_caller:?}");
    ensure!(of(1) * 3 < of(0).min(of(2)), "{by_caller:?}");
    // Nobody else notices: the common rotation goes on with equal shares.
    ensure!(Run(Strategy::RoundRobin, &[]).counts(&site, 10, 3).await? == [10, 10, 10]);
    Ok(())
}

#[tokio::test]
async fn a_drained_replica_rests_until_it_is_returned() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let all = site.state().database();
    let drain = |name: &str, drained: bool| {
        all.replicas().find(name).map(|replica| replica.set_drained(drained)).context("find it")
    };
    ensure!(drain("replica-2", true)? && !drain("replica-2", true)?, "the second time changes nothing");
    ensure!(Run(Strategy::RoundRobin, &[]).counts(&site, 20, 1).await? == [10, 0, 10]);
    ensure!(site.get("/readyz").await?.text.contains("replica-2: Drained"), "it says so");
    drain("replica-1", true)?;
    drain("replica-3", true)?;
    let page = site.get("/posts").await?;
    ensure!(page.served_by() == "leader" && page.text.contains("were taken out of rotation"), "{page:?}");
    for name in REPLICAS {
        drain(name, false)?;
    }
    ensure!(Run(Strategy::RoundRobin, &[]).counts(&site, 21, 1).await? == [7, 7, 7]);
    Ok(())
}
