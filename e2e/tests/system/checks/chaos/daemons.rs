//! Two replicators for the same replicas: one applies, the other one stands by. Each reaches replicas and broker or leader
//! through proxies of its own, so that one can be cut off while the other one takes over.

use std::cell::RefCell;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::proxy::ChaosProxy;
use rustix::process::{Pid, Signal, kill_process};

use crate::settings::Source;
use crate::system::{Login, REPLICAS, System, script};

/// What a daemon's connections go through.
pub(super) struct Proxies {
    /// The broker, or the leader when changes come from there.
    pub(super) upstream: ChaosProxy,
    pub(super) replicas: Vec<ChaosProxy>,
}

impl Proxies {
    async fn start(system: &System) -> anyhow::Result<Self> {
        let upstream = match system.source() {
            Source::Kafka => ChaosProxy::start_for_broker(system.port("broker")?).await?,
            Source::Direct => ChaosProxy::start(system.port("leader")?).await?,
        };
        let mut replicas = Vec::new();
        for name in REPLICAS {
            replicas.push(ChaosProxy::start(system.port(name)?).await?);
        }
        Ok(Self { upstream, replicas })
    }

    /// The settings that lead a daemon through them.
    fn environment(&self, source: Source, password: &str) -> Vec<(String, String)> {
        let address = format!("127.0.0.1:{}", self.upstream.port());
        let upstream = match source {
            Source::Kafka => ("REPLICATOR__SOURCE__BROKERS", address),
            Source::Direct => {
                ("REPLICATOR__LEADER__URL", format!("postgres://replicator:{password}@{address}/app"))
            }
        };
        // A fault that was taken for one of the data would be kept aside, and be found there in the end.
        let keep = ("REPLICATOR__FAILURE__DATA".to_owned(), "quarantine".to_owned());
        let mut environment = vec![(upstream.0.to_owned(), upstream.1), keep];
        if source == Source::Direct {
            // The least that the leader takes, so that as many transactions as can be are applied while they run.
            let streaming = ("REPLICATOR__SOURCE__STREAMING_WORK_MEM".to_owned(), "64kB".to_owned());
            environment.push(streaming);
        }
        for (index, proxy) in self.replicas.iter().enumerate() {
            let url = format!("postgres://replicator:{password}@127.0.0.1:{}/app", proxy.port());
            environment.push((format!("REPLICATOR__REPLICAS__{index}__URL"), url));
        }
        environment
    }
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Daemon {
    First,
    Second,
}

pub(super) struct Daemons {
    system: Rc<System>,
    /// By [`Daemon`].
    proxies: [Proxies; 2],
    second: RefCell<Option<Child>>,
}

impl Daemons {
    /// Ends the system's replicator and starts both.
    pub(super) async fn start(system: &Rc<System>) -> anyhow::Result<Self> {
        let proxies = [Proxies::start(system).await?, Proxies::start(system).await?];
        let daemons = Self { system: Rc::clone(system), proxies, second: RefCell::new(None) };
        system.service("stop", "replicator").await?;
        daemons.launch(Daemon::First).await?;
        daemons.launch(Daemon::Second).await?;
        Ok(daemons)
    }

    pub(super) fn proxies(&self, daemon: Daemon) -> &Proxies {
        &self.proxies[daemon as usize]
    }

    /// Ends both and starts the system's own replicator again.
    pub(super) async fn stop(&self) -> anyhow::Result<()> {
        self.kill(Daemon::Second).await?;
        self.system.restart("replicator").await
    }

    pub(super) async fn launch(&self, daemon: Daemon) -> anyhow::Result<()> {
        let password = self.system.password("REPLICATOR_PASSWORD")?;
        let environment = self.proxies(daemon).environment(self.system.source(), password);
        if daemon == Daemon::First {
            let mut start = self.system.command("service.sh");
            start.args(["start", "replicator", "--no-wait"]);
            start.envs(environment);
            return script(&mut start).await;
        }
        let state = self.system.state();
        let log = state.join("logs/replicator-second.log");
        let log = File::options().create(true).append(true).open(log).context("open the second log")?;
        let address = format!("127.0.0.1:{}", self.system.port("replicator")? + 1);
        let child = Command::new(self.system.program("replicator")?)
            .arg("--config")
            .arg(state.join("replicator/replicator.toml"))
            .envs(environment)
            .env("REPLICATOR__HTTP__BIND", address)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start the second replicator")?;
        *self.second.borrow_mut() = Some(child);
        Ok(())
    }

    /// SIGKILL.
    pub(super) async fn kill(&self, daemon: Daemon) -> anyhow::Result<()> {
        if daemon == Daemon::First {
            return self.system.service("kill", "replicator").await;
        }
        let child = self.second.borrow_mut().take();
        let mut child = child.context("find the second replicator")?;
        child.kill().context("kill the second replicator")?;
        tokio::task::spawn_blocking(move || child.wait()).await?.context("wait for the second replicator")?;
        Ok(())
    }

    pub(super) fn pause(&self, daemon: Daemon) -> anyhow::Result<()> {
        self.signal(daemon, Signal::STOP)
    }

    pub(super) fn resume(&self, daemon: Daemon) -> anyhow::Result<()> {
        self.signal(daemon, Signal::CONT)
    }

    fn signal(&self, daemon: Daemon, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid(daemon)?;
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("read the pid")?;
        kill_process(pid, signal).with_context(|| format!("signal the replicator {daemon:?}"))
    }

    fn pid(&self, daemon: Daemon) -> anyhow::Result<u32> {
        if daemon == Daemon::Second {
            return self.second.borrow().as_ref().map(Child::id).context("find the second replicator");
        }
        self.system.pid("replicator")
    }

    /// Fails when one of them has ended by itself.
    pub(super) async fn demand_both(&self) -> anyhow::Result<()> {
        self.system.service("status", "replicator").await.context("the first replicator ended by itself")?;
        let mut second = self.second.borrow_mut();
        let ended = second.as_mut().context("find the second replicator")?.try_wait()?;
        ensure!(ended.is_none(), "the second replicator ended by itself: {ended:?}");
        Ok(())
    }

    /// Which of the two applies to the first of these replicas that answers, and under which epoch.
    pub(super) async fn owner(&self, replicas: &[&str]) -> Option<(Daemon, i64)> {
        for name in replicas {
            let asked = tokio::time::timeout(Duration::from_secs(2), self.owner_of(name)).await;
            if let Ok(Ok((owner, epoch))) = asked {
                let second = self.pid(Daemon::Second).ok()?;
                let is_second = owner.split(':').any(|part| part == second.to_string());
                return Some((if is_second { Daemon::Second } else { Daemon::First }, epoch));
            }
        }
        None
    }

    async fn owner_of(&self, replica: &str) -> anyhow::Result<(String, i64)> {
        let client = self.system.connect(replica, Login::Reader).await?;
        let row = client.query_one("SELECT coalesce(owner, ''), epoch FROM replicator.progress", &[]).await?;
        Ok((row.get(0), row.get(1)))
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        if let Some(mut child) = self.second.borrow_mut().take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
