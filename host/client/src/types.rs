//! What is sent and received. Fields that a newer server adds are passed over, or kept where a type says so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A component on the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Component {
    /// `sha256:…`
    pub id: String,
    /// bytes
    pub size: u64,
    /// its graph in short
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<Value>,
    /// why there is no graph
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// A job in short.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// `job_…`
    pub id: String,
    /// whose it is
    pub tenant: String,
    /// its name
    pub name: String,
    /// `created`, `deploying`, `running`, `draining`, `cancelling`, `finished`, `cancelled` or `failed`
    pub state: String,
    /// the slots that it holds, or held
    pub slots: u16,
    /// when it was accepted (RFC 3339)
    pub created: String,
    /// when it ended
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// why it failed
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl Job {
    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        matches!(self.state.as_str(), "finished" | "cancelled" | "failed")
    }
}

/// Why a job failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// what kind of thing failed
    pub kind: String,
    /// what, where, and what to do
    pub message: String,
    /// the operator, where one is to blame
    #[serde(default)]
    pub operator: Option<String>,
    /// the subtask, where one is to blame
    #[serde(default)]
    pub subtask: Option<u16>,
    /// the guest's backtrace, innermost frame first
    #[serde(default)]
    pub backtrace: Vec<String>,
}

/// All that is known of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobDetail {
    /// in short
    #[serde(flatten)]
    pub job: Job,
    /// what it has done so far
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Value>,
    /// how often it has started again
    #[serde(default)]
    pub restarts: u64,
    /// its last checkpoints, oldest first
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<Checkpoint>,
    /// the checkpoints that are being made, or copied to savepoints
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints_under_way: Vec<CheckpointUnderWay>,
    /// its spec, with defaults
    pub spec: Value,
    /// its plan as text
    pub plan: String,
}

/// A checkpoint that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpointed {
    /// its number
    pub checkpoint: u64,
}

/// How a checkpoint went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// its number
    pub checkpoint: u64,
    /// what it was made for
    pub kind: Value,
    /// when it began, ms since 1970
    pub started_ms: i64,
    /// until it was stored, or given up
    pub duration_ms: u64,
    /// the longest that barriers of a task's inputs waited for each other
    pub alignment_ms: u64,
    /// the longest that a task did nothing but copy its state
    pub copying_ms: u64,
    /// the bytes of all its files
    pub bytes_total: u64,
    /// the bytes of those that were stored for it
    pub bytes_new: u64,
    /// why it was given up; none = it is complete
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A checkpoint that is being made, or that is complete and being copied to a savepoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointUnderWay {
    /// its number
    pub checkpoint: u64,
    /// what it is made for
    pub kind: Value,
    /// the id of the savepoint that it is being copied to; none = it is being made
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
    /// when it began, or its copy did, ms since 1970
    pub started_ms: i64,
    /// how many tasks the job has
    pub tasks: u64,
    /// how many of them have acked it, or ended before
    pub acked: u64,
    /// what was uploaded for it, or copied, bytes
    pub bytes_uploaded: u64,
    /// what that will be as far as is known, bytes
    pub bytes_to_upload: u64,
}

/// A savepoint that is wanted of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavepointWish {
    /// its id; none = the server names it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// whether the job ends with it
    pub stop: bool,
    /// with `stop`: whether all windows are emitted before, as at the end of the input
    pub drain: bool,
}

/// A savepoint that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavepointWritten {
    /// the checkpoint that it is a copy of
    pub checkpoint: u64,
    /// its id
    pub savepoint: String,
    /// where it lies
    pub url: String,
}

/// A savepoint in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Savepoint {
    /// its id
    pub id: String,
    /// what it comprises; none if it cannot be used
    #[serde(flatten)]
    pub content: Option<SavepointContent>,
    /// why it cannot be used
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A savepoint in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavepointContent {
    /// the name of the job that made it
    pub job: String,
    /// the number of its checkpoint
    pub checkpoint: u64,
    /// what the checkpoint is
    pub kind: String,
    /// when it was complete (RFC 3339)
    pub made: String,
    /// the bytes of its files
    pub bytes: u64,
    /// whether its job was drained or had finished: time begins anew for a job that starts from it
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_end: bool,
}

/// All that is told about a savepoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavepointDetail {
    /// its id
    pub id: String,
    /// where it lies
    pub url: String,
    /// in short
    #[serde(flatten)]
    pub content: SavepointContent,
    /// how many key groups its job has
    pub max_parallelism: u16,
    /// how many files it has
    pub files: u64,
    /// the operators that have state in it
    pub operators: Vec<OperatorState>,
    /// how far sources had read
    pub sources: Vec<SourceState>,
    /// how many batches of rows are in flight in it
    #[serde(default, skip_serializing_if = "is_zero")]
    pub batches_in_flight: u64,
    /// files that are missing or have another length, and those with other bytes if they were read, with what is wrong
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub broken: BTreeMap<String, String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The state of an operator in a savepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    /// the operator's id
    pub id: String,
    /// what its state is
    pub schema: String,
    /// how many subtasks wrote it
    pub subtasks: u16,
    /// its bytes
    pub bytes: u64,
}

/// How far a source had read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceState {
    /// the source's name
    pub name: String,
    /// where a reader of each split goes on, as its connector says it; `done` where there is nothing more to read
    pub splits: BTreeMap<String, Value>,
}

/// What becomes of state if a job starts from a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDiff {
    /// what was compared with: the URL of the savepoint, or of the job's checkpoints
    pub with: String,
    /// the checkpoint
    pub checkpoint: u64,
    /// whether it is that of a savepoint whose job was drained or had finished: time begins anew for a job that starts from it
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_end: bool,
    /// whether the job would start
    pub starts: bool,
    /// why it would not, whatever its operators' state is
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// the job's operators that keep state, in their order, then those that it has not any more
    pub operators: Vec<OperatorDiff>,
    /// the job's sources, then those that it has not any more and of which the checkpoint has positions
    #[serde(default)]
    pub sources: Vec<BindingDiff>,
    /// the job's sinks, then those that it has not any more
    #[serde(default)]
    pub sinks: Vec<BindingDiff>,
}

/// What becomes of the positions of one source, or of one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingDiff {
    /// its name
    pub name: String,
    /// `kept`, `new` or `lost`
    pub state: String,
    /// what is in the way
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// what to do; none if it does not keep the job from starting
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What becomes of the state of one operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorDiff {
    /// the operator's id
    pub operator: String,
    /// `kept`, `new`, `migrated`, `lost` or `unreadable`
    pub state: String,
    /// what the state is in the checkpoint, where that matters
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// what it would be in the job
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
    /// why it cannot be read
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// what to do; none if it does not keep the job from starting
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What a job starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartFrom {
    /// the id of a savepoint; none = the beginning
    pub savepoint: Option<String>,
    /// whether state of operators that the job has not any more is left behind
    pub drops_unmatched: bool,
}

/// Which lines of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// what its `stdout` sinks wrote
    Output,
    /// what its components logged
    Logs,
}

impl Lines {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Logs => "logs",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// its number
    pub seq: u64,
    /// when it was written, ms since 1970
    pub time_ms: i64,
    /// how grave it is; lines of output have no level
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// the line, without its end
    pub text: String,
}

/// Some lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// lines, oldest first
    pub lines: Vec<Line>,
    /// how many lines before them are gone
    pub missed: u64,
    /// no line will come after these
    pub ended: bool,
}
