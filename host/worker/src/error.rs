//! Why a job failed.

use std::sync::Arc;

use serde::Serialize;
use weir_operator::Culprit;

/// What kind of thing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// the guest: its code or its limits
    Guest,
    /// a source or a sink
    Connector,
    /// no room: slots, instances
    Resources,
    /// checkpoints: their storage, or what is in them
    Checkpoint,
    /// the files of a checkpoint: an older one may be whole
    Damaged,
    /// Weir itself
    Internal,
}

/// Why a job failed: one line, and what there is besides.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// what kind of thing failed
    pub kind: FailureKind,
    /// what, where, and what to do
    pub message: String,
    /// the operator, where one is to blame
    pub operator: Option<String>,
    /// the subtask, where one is to blame
    pub subtask: Option<u16>,
    /// the guest's backtrace, innermost frame first
    pub backtrace: Vec<String>,
    /// whether another attempt would fail in the same way, because the spec or the state is wrong
    #[serde(skip)]
    pub is_final: bool,
    /// whether it is only that another task has ended, which knows why
    #[serde(skip)]
    pub is_consequence: bool,
    /// the row that is to blame, where the operator's policy is not just to fail on it
    #[serde(skip)]
    pub culprit: Option<Arc<Culprit>>,
}

impl Failure {
    /// A failure of this kind with this message.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            operator: None,
            subtask: None,
            backtrace: vec![],
            is_final: false,
            is_consequence: false,
            culprit: None,
        }
    }
}
