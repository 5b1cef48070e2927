//! Why a connector could not do what it was asked.

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// the options are wrong: change the job spec
    Options,
    /// the input is malformed, and will be when it is read again: change it, or the policy for malformed input
    Malformed,
    /// what the options name is not there: change the job spec; or bring it back, if it was there before
    Missing,
    /// the outside (a file, a disk, a server) failed: try again
    Io,
}

/// Why a connector could not do what it was asked: what, where, and what to do, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// what the caller can do
    pub kind: ErrorKind,
    /// one line for the user
    pub message: String,
    /// the cause underneath
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// The job spec is wrong.
    pub fn options(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Options, message: message.into(), source: None }
    }

    /// The input is malformed.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Malformed, message: message.into(), source: None }
    }

    /// What the options name is not there.
    pub fn missing(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Missing, message: message.into(), source: None }
    }

    /// The outside failed.
    pub fn io(message: impl std::fmt::Display, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { kind: ErrorKind::Io, message: format!("{message}: {source}"), source: Some(Box::new(source)) }
    }
}
