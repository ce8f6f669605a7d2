//! Demo runs: many reads, one after another or some at a time, through the router that every page uses, with a rotation of their own.
//!
//! The rotation is the run's own because other traffic would move a shared one, and 1000 reads would no longer be
//! 334/333/333. A run belongs to nobody: it goes on when its page is closed, and everybody may look at it.

mod experiment;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::db::leader::Leader;
use crate::model::demo::away::Away;
use crate::model::demo::plan::Plan;
use crate::model::demo::{Sample, Summary, words};
use crate::state::AppState;

/// A run that takes longer is ended.
const MAX_DURATION: Duration = Duration::from_secs(30);
/// Runs kept; older ones are forgotten.
const KEPT: usize = 20;
/// Progress is told this often: 40 times in a run of 1000, which the eye takes for continuous.
const TELL_EVERY: usize = 25;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All reads were made.
    Complete,
    /// Somebody stopped it, or the application is stopping.
    Stopped,
    /// It took longer than 30 seconds.
    TooLong,
}

impl Ending {
    /// As a word for programs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Stopped => "stopped",
            Self::TooLong => "too_long",
        }
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Reads made.
    pub done: usize,
    /// Time since the start.
    pub elapsed: Duration,
    /// Set when the run is over.
    pub ending: Option<Ending>,
}

/// One run.
pub struct Run {
    /// Names it in its address.
    pub id: Uuid,
    /// When it was started.
    pub started_at: Timestamp,
    /// What it shall do.
    pub plan: Plan,
    /// The servers that a sample's index means: the replicas, and the leader after them.
    pub names: Vec<String>,
    samples: Mutex<Vec<Sample>>,
    away: Mutex<Away>,
    progress: watch::Sender<Progress>,
    stop: CancellationToken,
}

impl Run {
    /// How far it is.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Tells when it gets on.
    pub fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Returns when it is over, or the time is up.
    pub async fn finished(&self, patience: Duration) {
        let mut changes = self.subscribe();
        let over = changes.wait_for(|progress| progress.ending.is_some());
        // In both cases the caller looks at the progress.
        drop(tokio::time::timeout(patience, over).await);
    }

    /// Ends it.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// The reads made so far, from the one with this index on.
    pub fn samples_from(&self, first: usize) -> Vec<Sample> {
        self.lock().get(first..).unwrap_or_default().to_vec()
    }

    /// The figures so far.
    pub fn summary(&self) -> Summary {
        Summary::of(&self.lock(), self.names.len())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a read found, and tells of it now and then.
    fn add(&self, sample: Sample, started: Instant) {
        let mut samples = self.lock();
        samples.push(sample);
        let done = samples.len();
        drop(samples);
        if done.is_multiple_of(TELL_EVERY) && done < self.plan.reads {
            self.progress.send_replace(Progress { done, elapsed: started.elapsed(), ending: None });
        }
    }

    async fn perform(&self, state: &AppState) {
        let started = Instant::now();
        let ending = tokio::select! {
            biased;
            () = self.stop.cancelled() => Ending::Stopped,
            () = tokio::time::sleep(MAX_DURATION) => Ending::TooLong,
            () = experiment::perform(self, state, started) => Ending::Complete,
        };
        let done = self.lock().len();
        self.progress.send_replace(Progress { done, elapsed: started.elapsed(), ending: Some(ending) });
    }

    /// From now on the run does without the replica of this name; none: with all of them. False when there is none such.
    pub fn do_without(&self, replica: Option<&str>) -> bool {
        let server = match replica {
            None => None,
            Some(name) => {
                // The leader, the last one, is in no rotation.
                let replicas = self.names.split_last().map_or(&[][..], |(_, replicas)| replicas);
                let Some(found) = replicas.iter().position(|known| known == name) else { return false };
                Some(found)
            }
        };
        let done = self.lock().len();
        self.away().change(server, done);
        true
    }

    /// Who is away now.
    pub fn without(&self) -> Option<&str> {
        self.away().now().map(|server| self.names[server].as_str())
    }

    fn away(&self) -> MutexGuard<'_, Away> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened, in a few sentences.
    pub fn verdict(&self) -> String {
        let verdict = words::verdict(&self.plan, &self.summary(), &self.names, self.progress().elapsed);
        match self.away().words(&self.lock(), &self.names) {
            Some(away) => format!("{away} {verdict}"),
            None => verdict,
        }
    }
}

/// The runs of this process: at most one goes on, the last twenty are kept.
#[derive(Default)]
pub struct Runs(Mutex<VecDeque<Arc<Run>>>);

/// Another run goes on; two at a time would measure each other.
#[derive(Debug, thiserror::Error)]
#[error("another run is going on")]
pub struct RunGoingOn;

impl Runs {
    /// Starts a run.
    ///
    /// # Errors
    /// When another one goes on.
    pub fn start(&self, state: &AppState, plan: Plan) -> Result<Arc<Run>, RunGoingOn> {
        let mut runs = self.lock();
        if runs.front().is_some_and(|run| run.progress().ending.is_none()) {
            return Err(RunGoingOn);
        }
        let set = state.database().replicas();
        let replicas = set.iter().map(|replica| replica.name().to_owned());
        let run = Arc::new(Run {
            id: Uuid::now_v7(),
            started_at: Timestamp::now(),
            names: replicas.chain([Leader::NAME.to_owned()]).collect(),
            samples: Mutex::new(Vec::with_capacity(plan.reads)),
            away: Mutex::default(),
            plan,
            progress: watch::Sender::new(Progress::default()),
            stop: state.shutdown().child_token(),
        });
        runs.push_front(Arc::clone(&run));
        runs.truncate(KEPT);
        let (task, state) = (Arc::clone(&run), state.clone());
        tokio::spawn(async move { task.perform(&state).await });
        Ok(run)
    }

    /// The run of this id, if it is still kept.
    pub fn find(&self, id: Uuid) -> Option<Arc<Run>> {
        self.lock().iter().find(|run| run.id == id).cloned()
    }

    /// The runs kept, the latest first.
    pub fn all(&self) -> Vec<Arc<Run>> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Run>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
