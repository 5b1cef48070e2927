//! A job on a worker: the messages in and out, and the handle that holds both ends.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::deploy::panicked;
use crate::error::Failure;
use crate::metrics::JobMetrics;

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

/// What a job's tasks tell the coordinator.
#[derive(Clone, Debug)]
pub enum Event {
    /// all tasks are open: rows flow
    Running,
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
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    pub(crate) metrics: Arc<JobMetrics>,
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

    /// A sender of commands that can be kept apart from the handle.
    pub fn commander(&self) -> Commander {
        Commander(self.commands.clone())
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
                Some(Event::Running) => {}
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
