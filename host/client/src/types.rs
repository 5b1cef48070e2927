//! What is sent and received. Fields that a newer server adds are passed over, or kept where a type says so.

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
    /// its spec, with defaults
    pub spec: Value,
    /// its plan as text
    pub plan: String,
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
