//! A job on a worker: the messages in and out, and the handle that holds both ends.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use weir_checkpoint::TaskSnapshot;
use weir_connector::Transaction;
use weir_exchange::Barrier;
use weir_protocol::checkpoint::{CheckpointId, Kind, TaskId};

use crate::deploy::{connector_failure, panicked};
use crate::error::{Failure, FailureKind};
use crate::metrics::JobMetrics;
use crate::snapshot::Effort;

/// What the coordinator asks of a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// run
    Run,
    /// read nothing more, finish what was read, and end as if the input had ended
    Drain,
    /// end now
    Cancel,
}

/// A checkpoint that sources are to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trigger {
    pub barrier: Barrier,
    /// whether the end of time goes before it
    pub drains: bool,
}

/// What a job's tasks tell the coordinator. Of one task, in the order in which it happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// all tasks are open: rows flow
    Running,
    /// a task has passed a barrier, and its part of the checkpoint is stored
    Acked {
        /// the barrier's checkpoint
        checkpoint: CheckpointId,
        /// the task
        task: TaskId,
        /// its part
        snapshot: Arc<TaskSnapshot>,
        /// how long it took
        effort: Effort,
    },
    /// a task's part of a checkpoint could not be stored
    Declined {
        /// the barrier's checkpoint
        checkpoint: CheckpointId,
        /// the task
        task: TaskId,
        /// why
        reason: String,
    },
    /// a task's input is over: no barrier will reach it any more
    TaskEnded {
        /// the task
        task: TaskId,
        /// its part of all checkpoints to come
        snapshot: Arc<TaskSnapshot>,
    },
    /// all tasks ended
    Ended(Outcome),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// its input ended, or it was drained
    Finished,
    /// it was told to end
    Cancelled,
    /// it failed
    Failed {
        /// why
        failure: Failure,
    },
}

/// Both ends of a job on a worker. A job does not outlive its handle: where that is dropped, it is cancelled.
pub struct JobHandle {
    pub(crate) commands: watch::Sender<Command>,
    pub(crate) triggers: watch::Sender<Option<Trigger>>,
    pub(crate) stored: watch::Sender<CheckpointId>,
    pub(crate) tasks: Vec<TaskId>,
    /// whether barriers may overtake rows
    pub(crate) overtakes: bool,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    pub(crate) metrics: Arc<JobMetrics>,
    pub(crate) notes: Vec<String>,
    /// waits for the job's tasks; it tells their end by `events`
    pub(crate) supervisor: Option<JoinHandle<()>>,
}

impl JobHandle {
    /// Reads nothing more, and ends when all that was read is through.
    pub fn drain(&self) {
        self.commander().send(Command::Drain);
    }

    /// Ends now.
    pub fn cancel(&self) {
        self.commander().send(Command::Cancel);
    }

    /// The job's tasks.
    pub fn tasks(&self) -> &[TaskId] {
        &self.tasks
    }

    /// Begins a checkpoint: its barrier goes out from all sources that have not ended. Later ones have greater ids.
    pub fn trigger(&self, checkpoint: CheckpointId, kind: Kind) {
        // What somebody else may start from, at any parallelism, has no rows in flight.
        let overtakes = self.overtakes && kind == Kind::Checkpoint;
        let barrier = Barrier { checkpoint: checkpoint.0, stops: kind.stops(), overtakes };
        self.triggers.send_replace(Some(Trigger { barrier, drains: kind == Kind::StopWithSavepoint { drain: true } }));
    }

    /// A checkpoint is complete: what sinks have prepared up to it is in the hands of the coordinator, and not told again.
    pub fn stored(&self, checkpoint: CheckpointId) {
        self.stored.send_replace(checkpoint);
    }

    /// Commits transactions of sinks, which are given with the sinks' names. May take long; what was committed before stays so.
    ///
    /// # Errors
    /// If a sink fails; some of them may be committed then.
    pub fn commit(&self, transactions: Vec<(String, Vec<Transaction>)>) -> impl Future<Output = Result<(), Failure>> + use<> {
        let metrics = Arc::clone(&self.metrics);
        // Connectors are synchronous.
        let committed = tokio::task::spawn_blocking(move || {
            for (name, transactions) in transactions.iter().filter(|(_, transactions)| !transactions.is_empty()) {
                let sink = metrics.sinks.iter().find(|(sink, _)| sink == name).map(|(_, sink)| sink);
                let sink = sink.ok_or_else(|| {
                    let message = format!("a checkpoint has rows for the sink \"{name}\", which the job has not any more");
                    Failure::new(FailureKind::Checkpoint, message)
                })?;
                sink.commit(transactions).map_err(|e| connector_failure("sink", name, &e))?;
            }
            Ok(())
        });
        async move {
            match committed.await {
                Ok(result) => result,
                Err(error) if error.is_panic() => Err(panicked(error)),
                Err(error) => Err(Failure::new(FailureKind::Internal, format!("a commit was broken off: {error}"))),
            }
        }
    }

    /// A sender of commands that can be kept apart from the handle.
    pub fn commander(&self) -> Commander {
        Commander(self.commands.clone())
    }

    /// What its user may want to know of how it goes on from a checkpoint: what begins anew, and what is left behind.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the job has done so far; live.
    pub fn metrics(&self) -> &Arc<JobMetrics> {
        &self.metrics
    }

    /// The next message of the job; none once it has ended and that was told.
    pub async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Waits until the job has ended.
    pub async fn wait(&mut self) -> Outcome {
        loop {
            match self.event().await {
                Some(Event::Ended(outcome)) => return outcome,
                Some(Event::Running | Event::Acked { .. } | Event::Declined { .. } | Event::TaskEnded { .. }) => {}
                None => break,
            }
        }
        // The end was told before, or never will be.
        match self.supervisor.take() {
            Some(supervisor) => match supervisor.await {
                Err(error) if error.is_panic() => Outcome::Failed { failure: panicked(error) },
                Ok(()) | Err(_) => Outcome::Cancelled,
            },
            None => Outcome::Cancelled,
        }
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Sends commands to a job.
#[derive(Clone)]
pub struct Commander(watch::Sender<Command>);

impl Commander {
    /// A sender of commands, and where they arrive.
    pub fn channel() -> (Self, watch::Receiver<Command>) {
        let (sender, receiver) = watch::channel(Command::Run);
        (Self(sender), receiver)
    }

    /// Sends a command. A job that was cancelled stays so.
    pub fn send(&self, command: Command) {
        self.0.send_if_modified(|current| {
            let changes = *current != command && *current != Command::Cancel;
            if changes {
                *current = command;
            }
            changes
        });
    }
}
