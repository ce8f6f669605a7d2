//! Work that is written while nothing applies it, and then drained: what several scenarios measure, whatever the work is.
//!
//! - *drain*: from the first changes that any replica receives until all show the last transaction.
//! - *total*: from the moment at which applying is switched on again, the start of connections, workers, of the connector's
//!   task and of the replicator's process included.

use std::time::Instant;

use anyhow::Context;

use super::carrier::Carrying;
use super::servers;
use super::sight::{self, Lookouts, Wanted};
use super::stage::Stage;
use super::summary::Column;
use super::summary::Figures;
use super::usage::Usage;

/// What the figures mean, in the words of a report.
pub(super) const DESCRIPTION: &str = "Written while nothing applies. Drained: from the first page that any replica takes until \
     all show the last transaction. In total: from switching applying on (`ALTER SUBSCRIPTION ... ENABLE`, the start of the \
     replicator's process, resuming connectors). CPU: all processes from that moment on; its parts follow.";

/// What there is of each drain; CPU is per `unit`.
pub(super) const fn columns(unit: &'static str) -> [Column; 15] {
    [
        Column { name: "rate", heading: "drained", unit: "per s", decimals: 0, ratio: true },
        Column { name: "total rate", heading: "in total", unit: "per s", decimals: 0, ratio: true },
        Column { name: "drain", heading: "drain", unit: "s", decimals: 2, ratio: false },
        Column { name: "total", heading: "total", unit: "s", decimals: 2, ratio: false },
        Column { name: "all", heading: "CPU", unit, decimals: 1, ratio: true },
        Column::part("leader"),
        Column::part("walsenders"),
        Column::part("connect"),
        Column::part("broker"),
        Column::part("daemon"),
        Column::part("replicas"),
        Column { name: "peak", heading: "daemon's peak", unit: "MiB", decimals: 0, ratio: false },
        Column { name: "grouped", heading: "per target commit", unit: "", decimals: 0, ratio: false },
        Column { name: "in order", heading: "groups in source order", unit: "", decimals: 0, ratio: false },
        Column { name: "streams", heading: "streams at the end", unit: "", decimals: 0, ratio: false },
    ]
}

/// Lets a system drain what `write` writes while it is paused; `units` of work, which end with a marker's commit.
pub(super) async fn measure(
    stage: &Stage<'_>,
    lookouts: &Lookouts,
    carrying: &mut Carrying<'_>,
    units: i64,
    marker: i64,
    write: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Figures> {
    carrying.pause().await?;
    write().await.context("write the backlog")?;
    let leader = stage.leader().await?;
    leader.execute(include_str!("../../sql/probe.sql"), &[&marker]).await.context("write the marker")?;
    servers::settle(stage).await?;

    let carrier = carrying.carrier();
    let sizes = servers::sizes(stage).await?;
    let begun = sizes.into_iter().map(|bytes| Wanted::Begun { bytes, marker });
    let first = lookouts.begin_each(&begun.collect::<Vec<_>>())?;
    let last = lookouts.begin(Wanted::Row(marker))?;
    let before = Usage::now(stage, carrier, None, lookouts.backends())?;
    let started = Instant::now();
    carrying.resume().await?;
    let first = first.first(carrying).await?;
    let shown = last.last(carrying).await?;
    let after = Usage::now(stage, carrier, carrying.daemon(), lookouts.backends())?;

    #[expect(clippy::cast_precision_loss, reason = "a benchmark's work stays far below 2^53")]
    let units = units as f64;
    // Nothing is seen shorter than from one look to the next.
    let drain = shown.saturating_duration_since(first).max(sight::PAUSE).as_secs_f64();
    let total = (shown - started).as_secs_f64();
    let mut figures = after.since(&before, units);
    figures.extend([
        ("drain", drain),
        ("total", total),
        ("rate", units / drain),
        ("total rate", units / total),
    ]);
    if let Some(daemon) = carrying.daemon() {
        figures.insert("peak", daemon.peak_memory_mib()?);
    }
    // The daemon has been started for this work alone.
    if let Some(commits) = carrying.counter("replicator_groups_applied_total").await? {
        figures.insert("grouped", units / commits);
    }
    if let Some(groups) = carrying.counter("replicator_groups_in_source_order_total").await? {
        figures.insert("in order", groups);
    }
    figures.insert("streams", f64::from(servers::streams(stage).await?));
    Ok(figures)
}
