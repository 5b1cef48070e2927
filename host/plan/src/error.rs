//! What can be wrong with a job spec, or between it and the components it names.

/// What is wrong, where, and what to do: one line for the user.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    /// Makes an error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}
