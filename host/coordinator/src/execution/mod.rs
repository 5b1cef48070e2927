//! Runs one job to its end, over as many attempts as that takes.
//!
//! ```text
//!             ┌──────────── restart: after a failure, as the strategy says ───────────┐
//!             ▼                                                                       │
//!   claim the log ─▶ choose what to start from ─▶ attempt: deploy, checkpoint, commit ┴─▶ finished, cancelled, failed
//! ```
//!
//! What is decided, `weir-protocol` decides: [`claim`](weir_protocol::claim) who owns the job and what it starts from,
//! [`checkpoint`](weir_protocol::checkpoint) when barriers go out and sinks commit, [`restart`](weir_protocol::restart) whether it goes on after a failure.
//! A failure that is a row's fault, where the spec says to try it again or to go on without it, is no failure of the job's: the next attempt is told of the row.
//! After any other failure, a job that was asked to stop does not start again. It has failed, for what it has read is not finished; a later start goes on from
//! its newest checkpoint, and commits what stands there.
//! Where the log lacks what the job [is known to have had](Start::expected), no attempt begins: that is a failure like that of a storage which is away.
//! Nor does one where the log has had checkpoints of which none can be used: the job waits until one can be, or [gives up](Start::gives_up).
//! Here it is carried out: [`origin`] reads and claims the log, [`attempt`] drives the tasks.

mod attempt;
mod culprits;
mod history;
mod origin;
mod pending;
mod settings;
mod uncommitted;
mod unusable;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use weir_protocol::checkpoint::{Kind, Refusal};
use weir_protocol::restart::Restarts;
use weir_worker::job::Commander;
use weir_worker::metrics::JobMetrics;
use weir_worker::{Command, Deployment, Failure, FailureKind, Outcome, Worker};

pub use history::History;
pub use origin::newest;
pub use settings::{Checkpoints, Start};
pub use uncommitted::uncommitted_of;

/// A job that runs. It does not outlive this: where it is dropped, the job is cancelled.
pub struct Execution {
    controls: Controls,
    events: mpsc::UnboundedReceiver<Event>,
    driver: Option<JoinHandle<()>>,
}

/// What happens to a running job.
#[derive(Clone)]
pub enum Event {
    /// an attempt is on its worker; what it does is counted here
    Deployed(Arc<JobMetrics>),
    /// rows flow
    Running,
    /// something that a user may want to know
    Note(String),
    /// something that a user has to know, also one who wants to hear little
    Warning(String),
    /// a checkpoint was completed, or given up
    Checkpoint(CheckpointReport),
    /// an attempt has failed, and the next one starts after a while
    Restarts {
        /// why
        failure: Failure,
        /// after how long
        delay: Duration,
    },
    /// the job has ended
    Ended(Outcome),
}

/// After how long an attempt follows one that has failed, for people: `at once`, `in 100ms`.
pub fn when(delay: Duration) -> String {
    if delay.is_zero() { "at once".to_owned() } else { format!("in {delay:?}") }
}

/// How a checkpoint went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckpointReport {
    /// its number
    pub checkpoint: u64,
    /// what it was made for
    pub kind: Kind,
    /// when it began, milliseconds since 1970
    pub started_ms: i64,
    /// from its barriers' start until it was stored, or given up
    pub duration_ms: u64,
    /// the longest that barriers of a task's inputs waited for each other
    pub alignment_ms: u64,
    /// the longest that a task did nothing but copy its state
    pub copying_ms: u64,
    /// the bytes of all its files
    pub bytes_total: u64,
    /// the bytes of those that were stored for it
    pub bytes_new: u64,
    /// whether it was made after the end of all input, when it holds nothing up
    pub at_end: bool,
    /// why it was given up; none = it is complete
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A wish for a checkpoint.
pub(crate) struct Request {
    kind: Kind,
    /// the id of the savepoint to make of it
    savepoint: Option<String>,
    reply: oneshot::Sender<Result<Made, Unmade>>,
}

impl Request {
    /// Whether it is for the job's end alone. Whoever wants a savepoint of it does not want an end without one.
    fn is_for_end(&self) -> bool {
        self.kind.stops() && self.savepoint.is_none()
    }
}

/// What became of a wish for a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// the checkpoint
    pub checkpoint: u64,
    /// where the savepoint lies, if it is one
    pub savepoint: Option<String>,
}

/// Why a wish for a checkpoint came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Unmade {
    /// the job had ended
    #[error("the job has ended")]
    Ended,
    /// its attempt came to an end meanwhile
    #[error("the job has ended, or starts again after a failure; ask once more if it runs")]
    Interrupted,
    /// it was not made
    #[error("{0}")]
    Refused(Refusal),
    /// it is complete, but could not be copied to a savepoint
    #[error("checkpoint {checkpoint} is complete, but no savepoint of it: {error}")]
    NotCopied {
        /// the checkpoint
        checkpoint: u64,
        /// why
        error: weir_checkpoint::Error,
    },
}

/// Commands to a running job. Cheap to clone.
#[derive(Clone)]
pub struct Controls {
    commander: Commander,
    requests: mpsc::UnboundedSender<Request>,
}

impl Controls {
    /// Sends a command. A job that was cancelled stays so.
    pub fn send(&self, command: Command) {
        self.commander.send(command);
    }

    /// Makes a checkpoint, and of it a savepoint if it has an id. With a kind that stops, the job ends when it is committed.
    ///
    /// # Errors
    /// If the job has no storage for checkpoints or ends first, or the checkpoint fails.
    pub async fn checkpoint(&self, kind: Kind, savepoint: Option<String>) -> Result<Made, Unmade> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { kind, savepoint, reply }).map_err(|_| Unmade::Ended)?;
        // Only who has ended leaves a request without an answer.
        answer.await.map_err(|_| Unmade::Ended)?
    }
}

impl Execution {
    /// Starts a job on a worker. The `deployment` says neither storage nor what to start from: `checkpoints` and `start` do. What it calls the job in
    /// `context.attempt` tells the job's attempts from those of all others, wherever its sinks write.
    pub fn start(worker: Worker, deployment: Deployment, checkpoints: Option<Checkpoints>, start: Start) -> Self {
        let (commander, command_receiver) = Commander::channel();
        let (requests, request_receiver) = mpsc::unbounded_channel();
        let (event_sender, events) = mpsc::unbounded_channel();
        let runs = Runs {
            worker,
            deployment,
            checkpoints,
            start,
            commands: command_receiver,
            requests: request_receiver,
            waiting: vec![],
            has_run: false,
            events: event_sender.clone(),
        };
        let driver = tokio::spawn(async move {
            let outcome = runs.run().await;
            let _ = event_sender.send(Event::Ended(outcome));
        });
        Self { controls: Controls { commander, requests }, events, driver: Some(driver) }
    }

    /// What commands the job, and can be kept apart.
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// What happens next; none once the job has ended and that was told.
    pub async fn event(&mut self) -> Option<Event> {
        match self.events.recv().await {
            Some(event) => Some(event),
            // The driver ends with an event, unless it panicked.
            None => match self.driver.take()?.await {
                Err(error) if error.is_panic() => Some(Event::Ended(Outcome::Failed { failure: weir_worker::panicked(error) })),
                Ok(()) | Err(_) => None,
            },
        }
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.controls.send(Command::Cancel);
    }
}

/// All attempts of a job.
pub(crate) struct Runs {
    worker: Worker,
    deployment: Deployment,
    checkpoints: Option<Checkpoints>,
    start: Start,
    commands: watch::Receiver<Command>,
    requests: mpsc::UnboundedReceiver<Request>,
    /// those that the next attempt is to carry out
    waiting: Vec<Request>,
    /// whether all tasks of an attempt have been at work
    has_run: bool,
    events: mpsc::UnboundedSender<Event>,
}

/// How an attempt ended.
enum End {
    Job(Outcome),
    /// the job belongs to somebody else now
    Fenced,
}

impl Runs {
    async fn run(mut self) -> Outcome {
        let began = Instant::now();
        let spec = &self.deployment.plan.spec;
        let mut restarts = Restarts::new(settings::strategy(&spec.restart, self.checkpoints.is_some()));
        let mut origins = origin::Origins::new(self.deployment.plan.name.clone(), self.checkpoints.clone(), self.start.clone());
        loop {
            let mut commands = self.commands.clone();
            let cancelled = commands.wait_for(|command| *command == Command::Cancel);
            let origin = tokio::select! {
                origin = origins.next(&self.events) => origin,
                _ = cancelled => return Outcome::Cancelled,
            };
            let ended = match origin {
                Ok(origin) => attempt::run(&mut self, origin).await,
                Err(failure) => End::Job(Outcome::Failed { failure }),
            };
            let mut failure = match ended {
                End::Job(Outcome::Failed { failure }) => failure,
                End::Job(outcome) => return outcome,
                End::Fenced => return Outcome::Failed { failure: fenced(&self.deployment.plan.name) },
            };
            let goes_back = origins.failed(&mut failure, &self.events);
            let other_checkpoint = (goes_back && !self.is_stopping()).then_some(Duration::ZERO);
            if let Some(delay) = self.told_of_row(&failure).or(other_checkpoint) {
                let _ = self.events.send(Event::Restarts { failure, delay });
                // Whatever else the job is asked for meanwhile, the next attempt does: the pause is what helps a row that fails for a while only.
                match self.pause(delay, false).await {
                    Command::Run | Command::Drain => continue,
                    Command::Cancel => return Outcome::Cancelled,
                }
            }
            let now_ms = began.elapsed().as_millis() as u64;
            let Some(delay) = restarts.failed(now_ms).filter(|_| is_transient(&failure)) else {
                return Outcome::Failed { failure };
            };
            if self.is_stopping() {
                return Outcome::Failed { failure: stopped(failure) };
            }
            let delay = Duration::from_millis(delay);
            let _ = self.events.send(Event::Restarts { failure: failure.clone(), delay });
            match self.pause(delay, true).await {
                Command::Run => {}
                Command::Drain => return Outcome::Failed { failure: stopped(failure) },
                Command::Cancel => return Outcome::Cancelled,
            }
        }
    }

    /// Whether the job was asked to stop: to drain, or to end at a checkpoint.
    fn is_stopping(&self) -> bool {
        *self.commands.borrow() == Command::Drain || self.waiting.iter().any(Request::is_for_end)
    }

    /// Waits before the next attempt, unless the job is cancelled, or asked to stop where that ends a pause, too: that is what it returns then.
    async fn pause(&mut self, delay: Duration, stop_ends_it: bool) -> Command {
        let ends = |command: &Command| *command == Command::Cancel || stop_ends_it && *command != Command::Run;
        let mut commands = self.commands.clone();
        let mut over = std::pin::pin!(tokio::time::sleep(delay));
        loop {
            tokio::select! {
                () = &mut over => return Command::Run,
                told = commands.wait_for(ends) => return told.map_or(Command::Cancel, |told| *told),
                Some(request) = self.requests.recv() => {
                    let is_for_end = stop_ends_it && request.is_for_end();
                    self.waiting.push(request);
                    if is_for_end {
                        return Command::Drain;
                    }
                }
            }
        }
    }

    /// After how long the next attempt starts, if it is told of a row that an operator has failed on, and so does better. Not without checkpoints, without which
    /// all would begin anew.
    fn told_of_row(&mut self, failure: &Failure) -> Option<Duration> {
        let row = failure.culprit.as_ref().filter(|_| self.checkpoints.is_some())?;
        culprits::count(&mut self.deployment.culprits, row)
    }
}

/// Whether another attempt may end otherwise: not where the spec or the state is wrong.
fn is_transient(failure: &Failure) -> bool {
    !failure.is_final
}

/// The failure of a job that would start again, had it not been asked to stop.
fn stopped(mut failure: Failure) -> Failure {
    failure.message.push_str(" (the job was asked to stop, so it does not start again)");
    failure
}

fn fenced(job: &str) -> Failure {
    let message = format!(
        "another process runs the job \"{job}\" by now, with the same checkpoint storage; stop one of them, or give this job another name or storage"
    );
    Failure::new(FailureKind::Checkpoint, message)
}
