//! Injects faults and heals them.

use std::cell::{Cell, RefCell};
use std::fs;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use e2e::proxy::ChaosProxy;
use e2e::wait;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use super::daemons::{Daemon, Daemons};
use super::disk::SmallDisk;
use super::fault::{Deck, Fault, Part, Tally};
use crate::system::{REPLICAS, System, script};

/// How long a part may take until it works again. A worker that lost its broker takes longest.
const RECOVERY: Duration = Duration::from_secs(180);

/// Faults at once.
const OVERLAP: usize = 3;

pub(super) struct Attack {
    pub(super) system: Rc<System>,
    pub(super) daemons: Daemons,
    pub(super) disk: Option<SmallDisk>,
    pub(super) tally: RefCell<Tally>,
    /// How often the other replicator took over while one was killed or paused.
    pub(super) takeovers: Cell<u32>,
    /// How often the connector's task had to be restarted because it had failed.
    pub(super) restarts: Cell<u32>,
    /// The longest time that a part took to work again after the end of its fault.
    pub(super) slowest: Cell<Duration>,
    parts: Vec<(Part, Arc<Mutex<()>>)>,
    started: Instant,
}

impl Attack {
    pub(super) fn new(system: Rc<System>, daemons: Daemons, disk: Option<SmallDisk>) -> Self {
        let parts = Part::all(system.source()).into_iter().map(|part| (part, Arc::default())).collect();
        Self {
            system,
            daemons,
            disk,
            tally: RefCell::default(),
            takeovers: Cell::default(),
            restarts: Cell::default(),
            slowest: Cell::default(),
            parts,
            started: Instant::now(),
        }
    }

    /// Injects faults from the seed's deck until `end`, then waits until all of them are healed.
    pub(super) async fn run(self: &Rc<Self>, seed: u64, end: Instant) -> anyhow::Result<()> {
        let mut deck = Deck::new(seed, self.system.source(), self.disk.is_some());
        let mut running: Vec<JoinHandle<anyhow::Result<()>>> = Vec::new();
        while Instant::now() < end {
            let fault = deck.draw();
            let (hold, gap) = (deck.hold_ms(fault), deck.gap_ms());
            let guard = self.reserve(fault.part()).await?;
            let attack = Rc::clone(self);
            running.push(spawn_local(async move {
                let _guard = guard;
                attack.inject(fault, Duration::from_millis(hold)).await
            }));
            sleep(Duration::from_millis(gap)).await;
            running = reap(running, OVERLAP - 1).await?;
        }
        reap(running, 0).await.map(drop)
    }

    /// Waits until the part has no fault.
    async fn reserve(&self, part: Part) -> anyhow::Result<OwnedMutexGuard<()>> {
        let lock = self.parts.iter().find(|(known, _)| *known == part).context("find the part")?;
        Ok(Arc::clone(&lock.1).lock_owned().await)
    }

    /// One fault, from its beginning until the part works again.
    async fn inject(&self, fault: Fault, hold: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        self.tally.borrow_mut().add(fault);
        let note = self.inject_and_heal(fault, hold).await.with_context(|| fault.to_string())?;
        self.slowest.set(self.slowest.get().max(began.elapsed().saturating_sub(hold)));
        println!(
            "  {:6.1} s  {fault} for {:.1} s; works again after {:.1} s{note}",
            (began - self.started).as_secs_f64(),
            hold.as_secs_f64(),
            began.elapsed().as_secs_f64()
        );
        Ok(())
    }

    async fn inject_and_heal(&self, fault: Fault, hold: Duration) -> anyhow::Result<String> {
        match fault {
            Fault::Kill(Part::Replicator) => {
                let (victim, epoch) = self.owner(&REPLICAS).await;
                self.daemons.kill(victim).await?;
                sleep(hold).await;
                let note = self.note_takeover(victim, epoch).await;
                self.daemons.launch(victim).await?;
                Ok(note)
            }
            Fault::Pause(Part::Replicator) => {
                let (victim, epoch) = self.owner(&REPLICAS).await;
                self.daemons.pause(victim)?;
                sleep(hold).await;
                let note = self.note_takeover(victim, epoch).await;
                self.daemons.resume(victim)?;
                Ok(note)
            }
            Fault::Kill(part) => {
                let service = part.service();
                self.system.service("kill", service).await?;
                self.system.await_closed(service).await?;
                sleep(hold).await;
                self.revive(service).await?;
                self.await_connector(part).await
            }
            Fault::Pause(part) => {
                self.system.service("pause", part.service()).await?;
                sleep(hold).await;
                self.system.service("resume", part.service()).await?;
                self.await_connector(part).await
            }
            Fault::Cut(part) | Fault::Freeze(part) => {
                let proxy = self.proxy(part).await?;
                if matches!(fault, Fault::Cut(_)) {
                    proxy.cut();
                } else {
                    proxy.pause();
                }
                sleep(hold).await;
                proxy.restore();
                Ok(String::new())
            }
            Fault::FillDisk => self.fill_disk(hold).await,
        }
    }

    /// The way from the replicator that applies now to a part.
    async fn proxy(&self, part: Part) -> anyhow::Result<&ChaosProxy> {
        match part {
            Part::Broker | Part::Leader => Ok(&self.daemons.proxies(self.owner(&REPLICAS).await.0).upstream),
            Part::Replica(index) => {
                let (owner, _) = self.owner(&[REPLICAS[index]]).await;
                Ok(&self.daemons.proxies(owner).replicas[index])
            }
            _ => bail!("there is no proxy in front of {part:?}"),
        }
    }

    /// Which replicator applies to these replicas, and under which epoch; the first one when none of them answers.
    async fn owner(&self, replicas: &[&str]) -> (Daemon, i64) {
        self.daemons.owner(replicas).await.unwrap_or((Daemon::First, 0))
    }

    /// Says whether the other replicator owns the replicas now.
    async fn note_takeover(&self, victim: Daemon, epoch: i64) -> String {
        match self.daemons.owner(&REPLICAS).await {
            Some((owner, now)) if owner != victim && now > epoch => {
                self.takeovers.set(self.takeovers.get() + 1);
                "; the other one had taken over".to_owned()
            }
            _ => String::new(),
        }
    }

    /// Starts a killed service. Another one that it needs may be down as well, so a start that fails is tried again.
    async fn revive(&self, service: &str) -> anyhow::Result<()> {
        let end = Instant::now() + RECOVERY;
        while let Err(error) = self.system.service("start", service).await {
            if Instant::now() > end {
                return Err(error);
            }
            sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    /// After a fault of the connector's worker or its broker: waits until the connector runs. A task that has failed stays
    /// so, and somebody has to restart it.
    async fn await_connector(&self, part: Part) -> anyhow::Result<String> {
        if !matches!(part, Part::Connect | Part::Broker) {
            return Ok(String::new());
        }
        let mut restarted = 0;
        wait::until("the connector to run", RECOVERY, async || {
            match self.system.connector_state().await.as_deref() {
                Ok("RUNNING") => return Ok(()),
                Ok("FAILED") => {}
                Ok(state) => return Err(state.to_owned()),
                Err(error) => return Err(format!("{error:#}")),
            }
            restarted += 1;
            let mut restart = self.system.command("register-connector.sh");
            restart.args(["--quiet", "--restart-failed", "--file"]);
            restart.arg(self.system.state().join("connect/wider.json"));
            script(&mut restart).await.map_err(|error| format!("{error:#}"))
        })
        .await?;
        self.restarts.set(self.restarts.get() + restarted);
        Ok(if restarted > 0 { "; its task had failed and was restarted".to_owned() } else { String::new() })
    }

    /// Fills the disk of the last replica's tables. Its server's log says whether it was felt.
    async fn fill_disk(&self, hold: Duration) -> anyhow::Result<String> {
        const COMPLAINT: &str = "No space left on device";
        let log = self.system.state().join(format!("logs/{}.log", Fault::FillDisk.part().service()));
        let complaints =
            || fs::read_to_string(&log).map(|text| text.matches(COMPLAINT).count()).unwrap_or_default();
        let before = complaints();
        let (filler, filled) = self.disk.as_ref().context("find the small disk")?.fill()?;
        sleep(hold).await;
        drop(filler);
        let felt = complaints().saturating_sub(before);
        Ok(format!("; {} MiB were taken, and the server complained {felt} times", filled >> 20))
    }
}

/// Waits until at most `limit` faults are left.
async fn reap(
    running: Vec<JoinHandle<anyhow::Result<()>>>,
    limit: usize,
) -> anyhow::Result<Vec<JoinHandle<anyhow::Result<()>>>> {
    let mut left = Vec::new();
    let mut surplus = running.len().saturating_sub(limit);
    for task in running {
        if task.is_finished() || surplus > 0 {
            surplus = surplus.saturating_sub(1);
            task.await.context("join the fault")??;
        } else {
            left.push(task);
        }
    }
    Ok(left)
}
