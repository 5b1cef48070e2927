//! Why a connector could not do what it was asked.

use std::{io, iter};

/// What to do about a file that has less than was read of it.
pub(crate) const BRING_BACK: &str = "put it back as it was, or pass --fresh to begin anew";

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// the options are wrong: change the job spec
    Options,
    /// the input is malformed, and will be when it is read again: change it, or the policy for malformed input
    Malformed,
    /// what the options name is not there: change the job spec; or bring it back, if it was there before
    Missing,
    /// what a position stands for is not there any more, and does not come back: leave the position behind
    Gone,
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

    /// What is in a file cannot be read. If that is no error of the operating system, which may pass, the file itself is at fault, and will be at the next attempt,
    /// too: an error of the kind *unsupported* says itself what to do about it.
    pub fn unreadable(message: impl std::fmt::Display, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        if is_of_the_system(&source) {
            return Self::io(message, source);
        }
        let advice = match is_explained(&source) {
            true => "",
            false => "; it is damaged, or in a form that Weir does not read: put a whole one in its place",
        };
        let message = format!("{message}: {source}{advice}");
        Self { source: Some(Box::new(source)), ..Self::malformed(message) }
    }

    /// What a position stands for is not there any more.
    pub fn gone(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Gone, message: message.into(), source: None }
    }

    /// The outside failed.
    pub fn io(message: impl std::fmt::Display, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { kind: ErrorKind::Io, message: format!("{message}: {source}"), source: Some(Box::new(source)) }
    }

    /// Whether the operating system refuses this, and not for the moment: somebody has to change rights, the disk or the job spec.
    pub fn is_refused(&self) -> bool {
        let source = self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static));
        source.is_some_and(|source| io_causes(source).any(|cause| is_refusal(cause.kind())))
    }
}

/// Whether the operating system refuses something for good, until somebody changes rights, the disk or the job spec.
pub fn is_refusal(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    matches!(kind, PermissionDenied | ReadOnlyFilesystem | NotADirectory)
}

/// Whether an error comes from the operating system.
fn is_of_the_system(error: &(dyn std::error::Error + 'static)) -> bool {
    io_causes(error).any(|cause| cause.raw_os_error().is_some())
}

/// Those of an error and its causes that are of input and output.
fn io_causes<'a>(error: &'a (dyn std::error::Error + 'static)) -> impl Iterator<Item = &'a io::Error> {
    iter::successors(Some(error), |&cause| cause.source()).filter_map(|cause| cause.downcast_ref())
}

/// Whether an error says what to do: that of a reader which knows the form that it does not read.
fn is_explained(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::Unsupported)
}

#[cfg(test)]
mod tests {
    use parquet::errors::ParquetError;

    use super::*;

    #[test]
    fn errors_of_the_system_may_pass() {
        // Goal: where the operating system fails, reading is tried again, whoever tells of it; where a file is not what it should be, it is not, and what to do is
        // told.
        let failing = || io::Error::from_raw_os_error(5);
        for passing in [Error::unreadable("the file", failing()), Error::unreadable("the file", ParquetError::from(failing()))] {
            assert!(passing.kind == ErrorKind::Io && !passing.message.contains("damaged"), "{passing}");
        }
        let torn = || io::Error::new(io::ErrorKind::UnexpectedEof, "it ends early");
        for lasting in [Error::unreadable("the file", torn()), Error::unreadable("the file", ParquetError::from(torn()))] {
            assert_eq!(lasting.kind, ErrorKind::Malformed, "{lasting}");
            for part in ["the file: ", "it ends early", "put a whole one in its place"] {
                assert!(lasting.message.contains(part), "{lasting}");
            }
        }
    }
}
