//! Why storage could not do what it was asked.

use std::error::Error as StdError;
use std::io;

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// a URL, option or name is wrong: change it
    Invalid,
    /// what was asked for is not there
    NotFound,
    /// something else is there under this name
    Conflict,
    /// the storage does not let us: change credentials or rights
    Denied,
    /// the storage lacks what checkpoints need: use another one
    Unsupported,
    /// the storage failed or did not answer: try again. What was asked for may have been done all the same
    Unavailable,
    /// the storage returned other bytes than were stored: use an older checkpoint
    Corrupt,
    /// a newer Weir has written there: use that one, or another storage
    Newer,
    /// this machine's own disk failed
    Local,
}

/// Why storage could not do what it was asked: what, where, and what to do, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// what the caller can do
    pub kind: ErrorKind,
    /// one line for the user
    pub message: String,
    /// the cause underneath
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// A file or directory of this machine failed.
    pub(crate) fn local(what: impl std::fmt::Display, source: io::Error) -> Self {
        Self { kind: ErrorKind::Local, message: format!("{what}: {source}"), source: Some(Box::new(source)) }
    }

    /// The storage refused or failed at `what`, which names the object.
    pub(crate) fn storage(what: impl std::fmt::Display, source: object_store::Error) -> Self {
        use object_store::Error as S;
        let (kind, hint) = match &source {
            S::NotFound { .. } => (ErrorKind::NotFound, ""),
            S::AlreadyExists { .. } | S::Precondition { .. } => (ErrorKind::Conflict, ""),
            S::PermissionDenied { .. } => {
                (ErrorKind::Denied, "; check the credentials, and that they may get, put, list and delete there")
            }
            S::Unauthenticated { .. } => (ErrorKind::Denied, "; check the credentials in the options or in AWS_* variables"),
            S::InvalidPath { .. } | S::UnknownConfigurationKey { .. } => (ErrorKind::Invalid, ""),
            _ if is_unsupported(&source) => (ErrorKind::Unsupported, ""),
            _ if is_refused(&source) => {
                (ErrorKind::Denied, "; check that Weir's user may read and write there, and that it is not mounted read-only")
            }
            _ => (ErrorKind::Unavailable, ""),
        };
        Self { kind, message: format!("{what}: {source}{hint}"), source: Some(Box::new(source)) }
    }
}

/// Whether the storage says that it cannot do this at all. S3 servers say it by a status that `object_store` has no kind for.
fn is_unsupported(error: &object_store::Error) -> bool {
    use object_store::Error as S;
    match error {
        S::NotImplemented { .. } | S::NotSupported { .. } => true,
        S::Generic { source, .. } => {
            let text = source.to_string();
            text.contains("501 Not Implemented") || text.contains("<Code>NotImplemented</Code>")
        }
        _ => false,
    }
}

/// Whether the operating system refuses this, and not for the moment. `object_store` has no kind for it where a store is a directory.
fn is_refused(error: &object_store::Error) -> bool {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| matches!(cause.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem))
}

/// A stored document that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// it is torn, or its bytes are others than were written: the one before it may serve
    #[error("{0}")]
    Damaged(String),
    /// a newer Weir wrote it: to go back to the one before it would lose what that Weir has done
    #[error("it has format {found}, and this Weir reads up to format {known}; use a newer Weir")]
    Newer {
        /// the document's format
        found: u32,
        /// the newest format that is known here
        known: u32,
    },
}

impl Corrupt {
    pub(crate) fn damaged(message: impl Into<String>) -> Self {
        Self::Damaged(message.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl StdError + Send + Sync + 'static) -> object_store::Error {
        object_store::Error::Generic { store: "a directory", source: Box::new(source) }
    }

    /// What the operating system refuses is refused, however deep an error says so; what it fails at for another reason is unavailable.
    #[test]
    fn refusals_of_the_operating_system_are_known() {
        let cases = [
            (io::ErrorKind::PermissionDenied, ErrorKind::Denied),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::Denied),
            (io::ErrorKind::StorageFull, ErrorKind::Unavailable),
            (io::ErrorKind::TimedOut, ErrorKind::Unavailable),
        ];
        for (cause, expected) in cases {
            for source in [generic(io::Error::from(cause)), generic(generic(io::Error::from(cause)))] {
                let error = Error::storage("cannot write a trial object", source);
                assert_eq!(error.kind, expected, "{error}");
                assert_eq!(error.message.contains("not mounted read-only"), expected == ErrorKind::Denied, "{error}");
            }
        }
    }
}
