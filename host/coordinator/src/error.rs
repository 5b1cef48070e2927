//! Why the coordinator refused something.

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// change what was sent
    Invalid,
    /// it is not there
    NotFound,
    /// it is not in a state for that
    Conflict,
    /// something is used up: free it, or raise the limit
    QuotaExceeded,
    /// the server is going down, or cannot do it now: try again
    Unavailable,
    /// look at the server
    Internal,
}

/// Why the coordinator refused something. `code` is stable; `docs/errors.md` explains each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// what the caller can do
    pub kind: ErrorKind,
    /// `WEIR-<AREA>-<NUMBER>`
    pub code: &'static str,
    /// what, and what to do
    pub message: String,
}

/// The job spec is malformed.
pub const SPEC_MALFORMED: &str = "WEIR-JOB-001";
/// The job spec and its components do not fit together.
pub const SPEC_UNFIT: &str = "WEIR-JOB-002";
/// There is no such job.
pub const JOB_NOT_FOUND: &str = "WEIR-JOB-003";
/// There are not enough free slots.
pub const NO_SLOTS: &str = "WEIR-JOB-004";
/// The job has ended already.
pub const JOB_ENDED: &str = "WEIR-JOB-005";
/// The job wants a file or a connector that jobs of the API may not have.
pub const NOT_ALLOWED: &str = "WEIR-JOB-006";
/// A source or sink cannot be bound as the spec says.
pub const BINDING_WRONG: &str = "WEIR-JOB-007";
/// The job has no complete checkpoint.
pub const NO_CHECKPOINT_YET: &str = "WEIR-JOB-008";
/// The bytes are no component of a job.
pub const COMPONENT_INVALID: &str = "WEIR-COMPONENT-001";
/// There is no such component.
pub const COMPONENT_NOT_FOUND: &str = "WEIR-COMPONENT-002";
/// The component refused to describe its graph.
pub const COMPONENT_NOT_DESCRIBED: &str = "WEIR-COMPONENT-003";
/// The component is in use.
pub const COMPONENT_IN_USE: &str = "WEIR-COMPONENT-004";
/// The job has nowhere to store checkpoints.
pub const NO_CHECKPOINTS: &str = "WEIR-SAVEPOINT-001";
/// There is no such savepoint, or it is not complete.
pub const SAVEPOINT_NOT_FOUND: &str = "WEIR-SAVEPOINT-002";
/// There is a savepoint of this id already.
pub const SAVEPOINT_EXISTS: &str = "WEIR-SAVEPOINT-003";
/// The savepoint's id cannot be one, or what was asked for makes no sense.
pub const SAVEPOINT_INVALID: &str = "WEIR-SAVEPOINT-004";
/// The checkpoint came to nothing.
pub const SAVEPOINT_NOT_MADE: &str = "WEIR-SAVEPOINT-005";
/// The job cannot take the savepoint's state.
pub const STATE_UNFIT: &str = "WEIR-SAVEPOINT-006";
/// The savepoint cannot be read.
pub const SAVEPOINT_DAMAGED: &str = "WEIR-SAVEPOINT-007";
/// A job would start from the savepoint again.
pub const SAVEPOINT_IN_USE: &str = "WEIR-SAVEPOINT-008";
/// The server's disk failed.
pub const STORAGE: &str = "WEIR-SERVER-001";
/// The server is going down.
pub const STOPPING: &str = "WEIR-SERVER-002";

impl Error {
    /// An error of this kind and code.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into() }
    }

    pub(crate) fn storage(what: impl std::fmt::Display, error: &dyn std::error::Error) -> Self {
        Self::new(ErrorKind::Internal, STORAGE, format!("{what}: {error}"))
    }

    pub(crate) fn stopping() -> Self {
        Self::new(ErrorKind::Unavailable, STOPPING, "the server is going down")
    }
}
