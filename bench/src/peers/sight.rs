//! When did each replica show something? A thread per replica looks, with a connection and a prepared statement of its own.
//!
//! Threads and no tasks: an answer need not pass from one thread to another before it is seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::carrier::Carrying;
use super::stage::Stage;
use crate::system::{System, server_name};

/// How long something may take to become visible.
const PATIENCE: Duration = Duration::from_secs(600);

/// Time between two looks. Three replicas are looked at 600 times per second together, which takes some hundredths of a core (`System::connect_to_look`);
/// what it costs the replicas is not counted as theirs.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// A row with this key.
    Row(i64),
    /// The row with this key after the update.
    Updated(i64),
    /// No row with this key.
    NoRow(i64),
    /// More than this many bytes in the measured tables: the first changes have arrived, even when nobody may see them yet. Or the
    /// row with this key: they all have, and found room in pages that were there.
    Begun { bytes: i64, marker: i64 },
}

impl Wanted {
    fn query(self) -> (&'static str, Vec<i64>) {
        match self {
            Self::Row(key) => ("SELECT EXISTS (SELECT FROM bench.accounts WHERE id = $1)", vec![key]),
            Self::Updated(key) => (
                "SELECT EXISTS (SELECT FROM bench.accounts WHERE id = $1 AND note LIKE 'updated %')",
                vec![key],
            ),
            Self::NoRow(key) => ("SELECT NOT EXISTS (SELECT FROM bench.accounts WHERE id = $1)", vec![key]),
            Self::Begun { bytes, marker } => (include_str!("../../sql/grown.sql"), vec![bytes, marker]),
        }
    }
}

/// Something to look for, and where to tell when it was seen.
struct Order {
    wanted: Wanted,
    tell: oneshot::Sender<anyhow::Result<Instant>>,
}

/// Somebody at each replica who looks.
pub(crate) struct Lookouts {
    orders: Vec<mpsc::Sender<Order>>,
    backends: Vec<u32>,
    stop: Arc<AtomicBool>,
}

impl Lookouts {
    /// Connects to every replica.
    pub(crate) async fn start(stage: &Stage<'_>) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut orders, mut backends) = (Vec::new(), Vec::new());
        for replica in 1..=stage.replicas {
            let (order, ordered) = mpsc::channel();
            let (ready, connected) = oneshot::channel();
            let (system, stop) = (stage.system.clone(), Arc::clone(&stop));
            std::thread::spawn(move || match connect(&system, replica) {
                Ok((runtime, client, backend)) => {
                    if ready.send(Ok(backend)).is_ok() {
                        look_out(&runtime, &client, &ordered, &stop);
                    }
                }
                Err(error) => drop(ready.send(Err(error))),
            });
            orders.push(order);
            backends.push(connected.await??);
        }
        Ok(Self { orders, backends, stop })
    }

    /// The backends that are looked with.
    pub(crate) fn backends(&self) -> &[u32] {
        &self.backends
    }

    /// Begins to look on every replica. What was begun before is looked for first.
    pub(crate) fn begin(&self, wanted: Wanted) -> anyhow::Result<Sights> {
        self.begin_each(&vec![wanted; self.orders.len()])
    }

    /// The same with something else for each replica, of which there are as many.
    pub(crate) fn begin_each(&self, wanted: &[Wanted]) -> anyhow::Result<Sights> {
        let mut told = Vec::new();
        for (order, &wanted) in self.orders.iter().zip(wanted) {
            let (tell, seen) = oneshot::channel();
            order.send(Order { wanted, tell }).context("look at a replica: its connection has ended")?;
            told.push((wanted, seen));
        }
        Ok(Sights { told })
    }
}

impl Drop for Lookouts {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn connect(system: &System, replica: usize) -> anyhow::Result<(Runtime, Client, u32)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (client, backend) = runtime.block_on(async {
        let client = system.connect_replica_to_look(replica).await?;
        let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
        anyhow::Ok((client, u32::try_from(backend)?))
    })?;
    Ok((runtime, client, backend))
}

/// Works off orders until nobody can give any.
fn look_out(runtime: &Runtime, client: &Client, orders: &mpsc::Receiver<Order>, stop: &AtomicBool) {
    for Order { wanted, tell } in orders {
        let (sql, values) = wanted.query();
        let values: Vec<_> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let seen = runtime.block_on(client.prepare(sql)).context("prepare to look").and_then(|statement| {
            while !stop.load(Ordering::Relaxed) {
                let row = runtime.block_on(client.query_one(&statement, &values)).context("look")?;
                if row.get(0) {
                    return Ok(Instant::now());
                }
                std::thread::sleep(PAUSE);
            }
            bail!("nobody waits any more")
        });
        // Who ordered may have given up.
        drop(tell.send(seen));
    }
}

/// What is being looked for on every replica.
pub(crate) struct Sights {
    told: Vec<(Wanted, oneshot::Receiver<anyhow::Result<Instant>>)>,
}

impl Sights {
    /// When each replica showed it. An error when what carries has ended.
    pub(crate) async fn all(self, carrying: &mut Carrying<'_>) -> anyhow::Result<Vec<Instant>> {
        let end = tokio::time::Instant::now() + PATIENCE;
        let mut moments = Vec::new();
        for (index, (wanted, mut told)) in self.told.into_iter().enumerate() {
            let moment = loop {
                tokio::select! {
                    seen = &mut told => break seen?,
                    () = tokio::time::sleep(Duration::from_secs(2)) => carrying.ensure_runs().await?,
                    () = tokio::time::sleep_until(end) => {
                        bail!("{} did not show {wanted:?} within {PATIENCE:?}", server_name(index + 1))
                    }
                }
            };
            moments.push(moment.with_context(|| format!("look at {}", server_name(index + 1)))?);
        }
        Ok(moments)
    }

    /// When the last replica showed it.
    pub(crate) async fn last(self, carrying: &mut Carrying<'_>) -> anyhow::Result<Instant> {
        self.all(carrying).await?.into_iter().max().context("look at one replica at least")
    }

    /// When the first replica showed it.
    pub(crate) async fn first(self, carrying: &mut Carrying<'_>) -> anyhow::Result<Instant> {
        self.all(carrying).await?.into_iter().min().context("look at one replica at least")
    }
}
