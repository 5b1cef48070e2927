//! What can go wrong: with the sandbox and a component ([`Error`]), and with a guest at work ([`GuestError`]).

/// Why a sandbox could not be made or a component could not be loaded.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// who has to do something about it
    pub kind: ErrorKind,
    /// one line: what is wrong and what to do
    pub message: String,
}

/// Who has to do something about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// the author of the component
    Invalid,
    /// whoever runs this process: a setting, or the machine
    Internal,
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Invalid, message: message.into() }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Internal, message: message.into() }
    }
}

/// A failed call of a guest. The guest's error is data: it never harms the host, and the job's policy says what follows.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct GuestError {
    /// what sort of failure
    pub kind: GuestErrorKind,
    /// one line for the user: where, what, and what to do
    pub message: String,
    /// the guest's functions that were active, innermost first; empty unless it was stopped while it ran
    pub backtrace: Vec<String>,
}

/// The sorts of [`GuestError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuestErrorKind {
    /// the guest crashed (a panic, an access out of bounds, …); the instance is gone
    Trap,
    /// the call ran for longer than its deadline; the instance is gone
    Deadline,
    /// the guest wanted more memory than its limit; the instance is gone
    Memory,
    /// the guest returned something that breaks the rules of the boundary
    Contract,
    /// the guest returned an error: the user's code says that it cannot do it
    Returned,
    /// the instance could not be started
    Start,
}

impl GuestErrorKind {
    /// Whether the instance is gone, and its slots with it.
    pub fn ends_instance(self) -> bool {
        matches!(self, Self::Trap | Self::Deadline | Self::Memory | Self::Start)
    }
}

impl GuestError {
    /// An error without a backtrace.
    pub fn new(kind: GuestErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), backtrace: vec![] }
    }
}
