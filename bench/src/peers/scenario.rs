//! What all scenarios of this kind share: their options, the turns of the systems, and the report.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::carrier::Carrier;
use super::stage::Stage;
use super::summary::{self, Column, Run};
use crate::environment::Environment;
use crate::report::Report;
use crate::system::System;

/// What all scenarios take.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Who carries changes.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "native,direct")]
    systems: Vec<Carrier>,
    /// Times that everything is measured; reports have the median and the range.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// The replicator's program.
    #[arg(long, env = "BENCH_REPLICATOR")]
    replicator: PathBuf,
}

impl Common {
    /// Those that take part.
    pub(super) fn systems(&self) -> &[Carrier] {
        &self.systems
    }

    /// An error when a sink is to do what it can't.
    pub(super) fn refuse_sinks(&self, why: &str) -> anyhow::Result<()> {
        match self.systems.iter().find(|carrier| carrier.is_sink()) {
            Some(sink) => bail!("--systems {}: {why}; leave it out here", sink.name()),
            None => Ok(()),
        }
    }
}

/// Work that every system is given in turn.
pub(crate) trait Scenario {
    /// Of the report's files.
    fn name(&self) -> &'static str;

    /// Of the plot: what is done.
    fn title(&self) -> &'static str;

    fn common(&self) -> &Common;

    /// An error when options contradict each other or name nothing.
    fn check(&self) -> anyhow::Result<()>;

    /// What the report has of each run.
    fn columns(&self) -> &'static [Column];

    /// What is measured, from when until when, in the words of the report.
    fn describe(&self) -> String;

    /// One turn: everything through one system, from empty servers on.
    async fn through(&self, stage: &Stage<'_>, carrier: Carrier) -> anyhow::Result<Vec<Run>>;
}

/// Runs a scenario and writes its report.
pub(crate) async fn run(system: &System, scenario: &impl Scenario) -> anyhow::Result<()> {
    let Common { systems, repeat, replicator } = scenario.common();
    ensure!(*repeat > 0 && !systems.is_empty(), "--repeat and --systems must name something");
    scenario.check()?;
    let environment = match systems.iter().any(|carrier| carrier.uses_broker()) {
        true => Environment::of(system, replicator).await?,
        false => Environment::without_broker(system, replicator).await?,
    };
    let stage = Stage::new(system, replicator);
    let mut runs = Vec::new();
    for carrier in systems.repeat(*repeat) {
        let done = scenario.through(&stage, carrier).await;
        for run in done.with_context(|| format!("measure {}", carrier.name()))? {
            println!("{}", summary::line(&run, scenario.columns()));
            runs.push(run);
        }
    }
    let mut report = Report::new(scenario.name(), environment);
    report.text(&format!(
        "{} Median (range) of the runs; ratios are of medians, to native replication.",
        scenario.describe()
    ));
    report.table(&summary::table(&runs, scenario.columns()));
    let title = format!("{}: {}", scenario.name(), scenario.title());
    report.plot(&summary::figure(title, &runs, scenario.columns()));
    report.finish(system, &runs)
}
