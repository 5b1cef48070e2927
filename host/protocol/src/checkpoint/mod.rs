//! Checkpoints of a job: consistent snapshots of all its tasks, and the commits of sinks that follow them.
//!
//! ```text
//!           Trigger         last Acked            Stored           Committed
//!   idle ─────────▶ collecting ─────▶ Store ─▶ storing ─▶ Commit ─▶ committing ─▶
//!                       │                         │        └▶ idle: the next one may be triggered
//!                       └───────▶ Abandon ◀───────┘
//!        timed out, declined              certainly not stored
//! ```
//!
//! Barriers flow from the sources with the data (Chandy and Lamport, in the form of Carbone et al., "Lightweight Asynchronous
//! Snapshots"). At a barrier a task sends its snapshot, and a sink ends its transaction, which is *pending* from then on and listed in
//! the sink's snapshots until it is committed. Once all snapshots are there, a manifest goes into the job's [log](crate::claim). That
//! put is the decision: from then on the transactions that the manifest lists will be committed, by this attempt or, if it fails, by
//! the one that starts from it.
//!
//! [`Coordinator`] decides. Whoever drives it carries out its [`Command`]s in their order, tells it what happens as [`Event`]s, and
//! owes it this:
//! - Messages of one task arrive in their order. They may come late, twice, or from another attempt.
//! - To a task, an input that has ended counts as one at which the barrier has arrived.
//! - [`Event::StoreFailed`] is told only of what is certainly not in the log, and will not be (see [`Settled`](crate::claim::Settled)).
//! - A sink commits what its snapshot for the checkpoint listed; committing a second time changes nothing.
//! - A task that has ended can still commit. What it left pending at its end belongs to every checkpoint after the last one that it acked.
//! - A restored sink has pending what its snapshot listed, and aborts all other transactions of *older* generations. Those of newer ones
//!   it leaves alone: it may be fenced and not know it.
//! - Files and transactions are named by generation and checkpoint, for only the ids of stored checkpoints are never used again.

mod coordinator;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::coordinator::Coordinator;
use crate::claim::Generation;

/// Names a checkpoint. Later ones of a job have greater ids, over all its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckpointId(pub u64);

impl CheckpointId {
    /// A job's first checkpoint: every other one is later.
    pub const FIRST: Self = Self(1);
}

/// Names a task of a job: a subtask of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// the vertex
    pub vertex: u32,
    /// which of its subtasks
    pub subtask: u16,
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.vertex, self.subtask)
    }
}

/// Names somebody's wish for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a checkpoint is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// to recover from; Weir's own
    Checkpoint,
    /// to start from later; belongs to who asked for it
    Savepoint,
    /// a savepoint with which the job ends: tasks stop at the barrier
    StopWithSavepoint {
        /// whether sources send the end of time before the barrier, so that all windows are emitted
        drain: bool,
    },
}

impl Kind {
    /// Whether the job ends with it.
    pub fn stops(self) -> bool {
        matches!(self, Self::StopWithSavepoint { .. })
    }
}

/// How a job is checkpointed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// whether there is anywhere to store to; without, sinks commit once, at the end
    pub store: bool,
    /// from the start of a checkpoint to the start of the next periodic one; without, they are made only on request
    pub interval_ms: Option<u64>,
    /// from the end of a checkpoint to the start of the next periodic one, at least
    pub min_pause_ms: u64,
    /// how long a checkpoint may take until it is handed to the store
    pub timeout_ms: u64,
    /// how many checkpoints may fail one after the other
    pub tolerated_failures: u32,
}

/// What happens to an attempt. `S` is what a task's snapshot is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event<S> {
    /// time has passed
    Tick {
        /// by a clock that does not go back
        now_ms: u64,
    },
    /// somebody wants a checkpoint
    Requested {
        /// what the answer will name
        request: RequestId,
        /// what for
        kind: Kind,
    },
    /// a task has passed the barrier
    Acked {
        /// of the attempt that the task belongs to
        generation: Generation,
        /// the barrier's checkpoint
        checkpoint: CheckpointId,
        /// the task
        task: TaskId,
        /// what it gives to it
        snapshot: S,
    },
    /// a task cannot give its snapshot
    Declined {
        /// of the attempt that the task belongs to
        generation: Generation,
        /// the barrier's checkpoint
        checkpoint: CheckpointId,
        /// the task
        task: TaskId,
        /// why
        reason: String,
    },
    /// a task's input is over, and no barrier will reach it any more
    Ended {
        /// of the attempt that the task belongs to
        generation: Generation,
        /// the task
        task: TaskId,
        /// what it gives to the checkpoint that it has not acked, if one is in flight, and to all later ones
        snapshot: S,
    },
    /// the manifest is in the log
    Stored {
        /// whose
        checkpoint: CheckpointId,
    },
    /// the manifest is not in the log, and will not be
    StoreFailed {
        /// whose
        checkpoint: CheckpointId,
        /// why
        reason: String,
    },
    /// another attempt has claimed the job
    Fenced,
    /// all sinks have committed
    Committed {
        /// what they were told to commit
        checkpoint: CheckpointId,
    },
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command<S> {
    /// send the barrier from all sources that have not ended
    Trigger {
        /// the barrier's checkpoint
        checkpoint: CheckpointId,
        /// what for
        kind: Kind,
    },
    /// append the manifest to the log
    Store {
        /// whose
        checkpoint: CheckpointId,
        /// what for
        kind: Kind,
        /// one for each task
        snapshots: BTreeMap<TaskId, S>,
    },
    /// have all sinks commit what they have pending for it
    Commit {
        /// a checkpoint that is in the log
        checkpoint: CheckpointId,
    },
    /// give up a checkpoint: its files are garbage, and what sinks have pending for it goes into the next one
    Abandon {
        /// a checkpoint that is not in the log
        checkpoint: CheckpointId,
        /// why
        reason: Cause,
    },
    /// tell who asked
    Answer {
        /// what was asked
        request: RequestId,
        /// the checkpoint that is in the log (and, if the job was to stop, committed)
        outcome: Result<CheckpointId, Refusal>,
    },
    /// the job has ended, and all it wrote is committed: close the tasks
    Finish,
    /// the attempt has failed: close the tasks, commit nothing
    Fail {
        /// why
        reason: Failure,
    },
}

/// Why a checkpoint was given up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Cause {
    /// not all tasks have acked in time, or the sinks are still committing the one before
    #[error("it took longer than checkpoint.timeout ({timeout_ms}ms)")]
    TimedOut {
        /// how long it may take
        timeout_ms: u64,
    },
    /// a task could not give its snapshot
    #[error("task {task} declined: {reason}")]
    Declined {
        /// the task
        task: TaskId,
        /// why
        reason: String,
    },
    /// the log did not take it
    #[error("it could not be stored: {reason}")]
    NotStored {
        /// why
        reason: String,
    },
}

/// Why a request gets no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// there is nowhere to store to
    #[error("the job has no checkpoint storage")]
    NoStorage,
    /// too many wait already
    #[error("{REQUESTS_MAX} requests wait already")]
    Busy,
    /// it was tried
    #[error("the checkpoint failed: {0}")]
    Failed(Cause),
    /// the attempt has ended first
    #[error("the job has ended, or is being restarted")]
    Over,
}

/// Why an attempt has failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Failure {
    /// the job belongs to another attempt, so this one must not be restarted
    #[error("another attempt runs the job")]
    Fenced,
    /// more than are tolerated
    #[error("{count} checkpoints in a row failed, the last because {last}")]
    Checkpoints {
        /// how many
        count: u32,
        /// why the last one did
        last: Cause,
    },
    /// tasks that have stopped at a barrier do not go on
    #[error("the savepoint to stop with failed: {0}")]
    Stop(Cause),
}

/// How many requests may wait.
pub const REQUESTS_MAX: usize = 64;
